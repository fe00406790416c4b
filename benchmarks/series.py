"""How good are forecasts and alarms of series?

    python benchmarks/series.py etth1 [--budget 5m] [--past 336]    DLinear beside it
    python benchmarks/series.py linear                             its linear part alone, in seconds
    python benchmarks/series.py nab                                  a moving z-score beside it
    python benchmarks/series.py reading [--rows 1000000]           how long so many rows are read

etth1: seven columns by the hour, horizon 96, the standard split of 12, 4 and 4 months, every window
of the test split, none dropped. One `flow_matching` model learns all columns as series of their own
(`modality.apart`). Columns are scaled by mean and deviation of the training rows, as published
scores are; the forecast is E[x | past], which the model tells where its path is nothing but noise,
and beside it, for every fifth window, the mean of the draws, which has the noise of so few draws in
it, and how much of the truth lies in their band of 80 %. Beside both the linear part of the same
model alone.

nab: 20 real series with windows in which something was wrong. One model of all learns from the
first 40 % of each, then scores every step after it, given the steps before, as the task `anomaly`
does. An alarm is a step above a threshold, the same for all files. A window
with an alarm is found, an alarm outside of all (those within a day's worth of steps of each other
are one) is false: F1 over windows, at the best threshold of each method. The moving z-score has the
best of several lengths as well.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.bands import band
from morphogen.core.bundle import Bundle
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec
from morphogen.data.dataset import Data, load
from morphogen.families._linear_given import LinearGiven
from morphogen.metrics.forecasts import crps
from morphogen.modalities.series.scale import squeezed, stretched
from morphogen.tasks.anomaly import anomaly
from morphogen.training.loop import PREPARE_ITEMS

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data"

HORIZON, TRAIN_ROWS, LOOKS = 96, 8640, 4
SPLITS = {
    "test": {"train_until": "2017-06-26", "test_from": "2017-10-24", "test_until": "2018-02-21"},
    "validation": {
        "train_until": "2017-06-26", "test_from": "2017-06-26", "test_until": "2017-10-24",
    },
}  # fmt: skip


def main() -> None:
    """Run what is asked for; JSON, a line for each model."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=("etth1", "linear", "nab", "reading"))
    options.add_argument("--budget", default="4m")
    options.add_argument("--past", type=int, default=None)
    options.add_argument("--draws", type=int, default=19)
    options.add_argument("--split", choices=SPLITS, default="test", help="what etth1 is scored on")
    options.add_argument("--every", type=int, default=5, help="draws for every so many windows")
    options.add_argument("--peer", type=int, default=1, help="0: without DLinear")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    options.add_argument("--rows", type=int, default=1_000_000, help="of reading")
    given = options.parse_args()
    does = {"etth1": etth1, "linear": linear, "nab": nab, "reading": reading}
    does[given.what](given)


def tell(**facts: Any) -> None:
    """One line."""
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
    print(json.dumps(rounded, default=int), flush=True)


def trained(data: Data, given: argparse.Namespace, name: str) -> Bundle:
    """A model for what it was asked."""
    settings = [f"train.seed={given.seed}", *given.set]
    out = Path(tempfile.mkdtemp(prefix=f"morphogen-{name}-")) / "bundle"
    return mg.train(data, "flow_matching", budget=given.budget, out=out, settings=settings)


# -- reading ---------------------------------------------------------------------------------------


def reading(given: argparse.Namespace) -> None:
    """Rows of a stamp and seven columns, by the hour, as CSV: read and encoded."""
    draw, file = (
        np.random.default_rng(0),
        Path(tempfile.mkdtemp(prefix="morphogen-rows-")) / "a.csv",
    )
    first = np.datetime64("1900-01-01T00", "h")
    waves = np.sin(np.arange(given.rows) / 24)[:, None]
    values = (waves + 0.1 * draw.standard_normal((given.rows, 7))).round(4)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["date", *"abcdefg"])
        for hour, row in enumerate(values.tolist()):
            writer.writerow([str((first + hour).astype("datetime64[s]")).replace("T", " "), *row])
    begun, cpu = time.perf_counter(), time.process_time()
    data = load(file, "series")
    tell(
        rows=given.rows, windows=len(data.train) + len(data.test),
        seconds=time.perf_counter() - begun, cpu_s=time.process_time() - cpu, digest=data.digest,
    )  # fmt: skip


# -- ETTh1 -----------------------------------------------------------------------------------------


def etth1(given: argparse.Namespace) -> None:
    """MSE, MAE, CRPS and coverage of the test split."""
    source, begun = SHARED / "etth1" / "ETTh1.csv", time.perf_counter()
    if given.peer:
        peer = [sys.executable, str(HERE / "peers" / "dlinear.py"), "--data", str(source)]
        print(subprocess.run(peer, check=True, capture_output=True, text=True).stdout.strip())
    past = given.past or 336
    split: Any = SPLITS[given.split]
    data = load(source, "series", length=HORIZON, past=past, apart=True, stride=1, **split)
    tell(read_seconds=time.perf_counter() - begun, train=len(data.train), test=len(data.test))
    bundle = trained(data, given, "etth1")
    scale, begun = _Units(source, data), time.perf_counter()
    model: Any = bundle.family
    linear = np.concatenate([_linear(model, batch.cond) for batch in data.test.batches(2000)])
    told: dict[str, list[np.ndarray]] = {}
    draw = generator(given.seed)
    with torch.no_grad():
        for batch in data.test.batches(500):
            gap = scale(_expected(model, batch.cond, draw), batch.cond) - scale(batch.x, batch.cond)
            told.setdefault("mse", []).append(np.square(gap).reshape(len(gap), -1).mean(1))
            told.setdefault("mae", []).append(np.abs(gap).reshape(len(gap), -1).mean(1))
            some = batch.rows(slice(None, None, given.every))
            draws = _draws(model, some.cond, given.draws, draw)  # (N, S, 1, L)
            for name, part in _scores(draws, some, scale).items():
                told.setdefault(name, []).append(part)
    x = np.concatenate([scale(batch.x, batch.cond) for batch in data.test.batches(2000)])
    linear = np.concatenate([
        scale(torch.from_numpy(rows), batch.cond)
        for rows, batch in zip(np.split(linear, range(2000, len(linear), 2000)),
                               data.test.batches(2000), strict=True)
    ])  # fmt: skip
    tell(model="linear part alone", mse=float(np.square(linear - x).mean()),
         mae=float(np.abs(linear - x).mean()))  # fmt: skip
    means = {name: float(np.concatenate(parts).mean()) for name, parts in told.items()}
    tell(model="flow_matching", past=past, draws=given.draws, windows=len(x) // 7, **means,
         steps=bundle.run.get("steps"), seconds=time.perf_counter() - begun)  # fmt: skip


def linear(given: argparse.Namespace) -> None:
    """The linear part as a model begins with it: from as many windows as it is shown."""
    with (SHARED / "etth1" / "ETTh1.csv").open() as file:
        values = np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])
    train = values[:TRAIN_ROWS]
    rows = torch.from_numpy((values - train.mean(0)) / train.std(0))
    for past in [given.past] if given.past else [336, 512, 720]:
        spec, before = (TensorSpec("real", (1, n), layout="vector") for n in (HORIZON, past))
        part = LinearGiven(spec, before)
        known, told = _windows(rows[:TRAIN_ROWS], past), _windows(rows[11520 - past : 14400], past)
        some = torch.randperm(len(known), generator=generator(given.seed))[:PREPARE_ITEMS]
        part.fit(known[some][..., past:].float(), known[some][..., :past].float())
        gaps = []
        for each in told.split(2000):
            drawn = stretched(part(each[..., :past].float()))
            gaps.append(drawn - stretched(each[..., past:]))
        gap = np.concatenate(gaps)
        tell(model="linear part alone", past=past, windows=len(told) // 7,
             mse=float(np.square(gap).mean()), mae=float(np.abs(gap).mean()))  # fmt: skip


def _windows(rows: Tensor, past: int) -> Tensor:
    """(N, C) in deviations -> every window of every column, as the codec has it: (M, 1, P + L)."""
    every = rows.unfold(0, past + HORIZON, 1).flatten(0, 1)[:, None]
    return squeezed(every.numpy())


class _Units:
    """Encoded windows in deviations of the training rows, as published scores have them."""

    def __init__(self, source: Path, data: Data) -> None:
        with source.open() as file:
            header, *rows = list(csv.reader(file))
        values = np.array([[float(cell) for cell in row[1:]] for row in rows])[:TRAIN_ROWS]
        names = list(data.codec.class_names("label"))
        order = [header[1:].index(name) for name in names]
        own = [data.codec.scale.known[name]["value"] for name in names]  # type: ignore[attr-defined]
        self.mean, self.dev = (np.array(part) for part in zip(*own, strict=True))
        self.to_mean, self.to_dev = values.mean(0)[order], values.std(0)[order]

    def __call__(self, x: Tensor, cond: dict[str, Tensor]) -> np.ndarray:
        """(N, *) -> (N, *)."""
        which = cond["label"].numpy()
        wide = (-1, *(1,) * (x.dim() - 1))
        mean, dev, to_mean, to_dev = (
            part[which].reshape(wide) for part in (self.mean, self.dev, self.to_mean, self.to_dev)
        )
        return (stretched(x) * dev + mean - to_mean) / to_dev


def _linear(model: Any, cond: dict[str, Tensor]) -> np.ndarray:
    with torch.no_grad():
        return model.from_alike(cond["past"]).numpy()  # type: ignore[no-any-return]


def _draws(model: Any, cond: dict[str, Tensor], num: int, draw: torch.Generator) -> Tensor:
    known = {name: value for name, value in cond.items() if name in model.conditions}
    each = {name: value.repeat_interleave(num, 0) for name, value in known.items()}
    count = len(next(iter(each.values())))
    return model.sample(count, cond=each, generator=draw).unflatten(0, (-1, num))  # type: ignore[no-any-return]


def _expected(model: Any, cond: dict[str, Tensor], draw: torch.Generator) -> Tensor:
    """E[x | past] (N, *): the same whatever the noise, so that a few looks do away with what a
    network makes of it."""
    known = {name: value for name, value in cond.items() if name in model.conditions}
    num = len(next(iter(known.values())))
    looks = [
        model.denoise(randn((num, *model.spec.shape), draw), torch.ones(num), known)
        for _ in range(LOOKS)
    ]
    return torch.stack(looks).mean(0)


def _scores(draws: Tensor, batch: Any, scale: _Units) -> dict[str, np.ndarray]:
    y = scale(batch.x, batch.cond)
    low, high = band(draws, 0.8)
    inside = ((batch.x >= low) & (batch.x <= high)).double().numpy()
    num = draws.shape[1]
    each = {name: value.repeat_interleave(num, 0) for name, value in batch.cond.items()}
    x = scale(draws.flatten(0, 1), each).reshape(*draws.shape)
    gap = x.mean(1) - y
    found = {"mse_of_draws": np.square(gap), "coverage": inside}
    found["mae_of_draws"] = np.abs(np.median(x, 1) - y)
    found["crps"] = crps(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    return {name: part.reshape(len(part), -1).mean(1) for name, part in found.items()}


# -- NAB -------------------------------------------------------------------------------------------

LEARNED, NEXT, PAST = 0.4, 1, 48
LENGTHS = (12, 24, 48, 96, 288)


def nab(given: argparse.Namespace) -> None:
    """F1 over windows, of the model and of moving z-scores."""
    files = {}
    for path in sorted((SHARED / "nab" / "data").glob("*/*.csv")):
        with path.open() as file:
            rows = list(csv.reader(file))[1:]
        values = np.array([float(row[1]) for row in rows])
        files[path] = (np.array([row[0][:19] for row in rows], dtype="datetime64[s]"), values)
    known = json.loads((SHARED / "nab" / "labels" / "combined_windows.json").read_text())
    scored = {f"z-score of {length}": {} for length in LENGTHS}
    ours: dict[Path, np.ndarray] = {}
    bundle, per_file = _nab_model(given, files)
    for path, (_, values) in files.items():
        for length in LENGTHS:
            scored[f"z-score of {length}"][path] = _z_scores(values, length)
        ours[path] = per_file[path]
    scored["flow_matching"] = ours
    for name, scores in scored.items():
        tell(model=name, **_best_f1(scores, files, known))
    tell(steps=bundle.run.get("steps"))


def _z_scores(values: np.ndarray, length: int) -> np.ndarray:
    found = np.zeros(len(values))
    for i in range(2, len(values)):
        before = values[max(0, i - length) : i]
        found[i] = abs(values[i] - before.mean()) / (
            before.std() + 1e-9 + 1e-3 * abs(before.mean())
        )
    return found


def _nab_model(
    given: argparse.Namespace, files: dict[Path, Any]
) -> tuple[Bundle, dict[Path, np.ndarray]]:
    rows = [
        {"time": str(stamp), "file": path.name, "value": value}
        for path, (stamps, values) in files.items()
        for stamp, value in zip(stamps, values, strict=True)
    ]
    past = given.past or PAST
    data = load(rows, "series", length=NEXT, past=past, test=1 - LEARNED, divide="each",
                even="rows", conditions="past")  # fmt: skip
    bundle = trained(data, given, "nab")
    model: Any = bundle.family
    draw, found = generator(given.seed), {}
    scale = data.codec.scale  # type: ignore[attr-defined]
    reader = data.codec.condition_codecs["past"]
    for path, (_, values) in files.items():
        mean, dev = scale.known[path.name]["value"]
        own = reader.scale.known[path.name]["value"]  # type: ignore[attr-defined]
        first = max(past, int(LEARNED * len(values)))
        pasts = np.lib.stride_tricks.sliding_window_view(values, past)[first - past : -1]
        c = squeezed((pasts - own[0]) / own[1])[:, None]
        x = squeezed((values[first:] - mean) / dev)[:, None, None]
        scored = anomaly(model, x, cond={"past": c}, generator=draw).values["score"]
        found[path] = np.concatenate([np.full(first, -np.inf), scored])
    return bundle, found


def _best_f1(
    scores: dict[Path, np.ndarray], files: dict[Path, Any], known: dict[str, Any]
) -> dict[str, float]:
    every = np.concatenate([s[int(LEARNED * len(s)) :] for s in scores.values()])
    best: dict[str, float] = {"f1": 0.0}
    for threshold in np.quantile(every, 1 - np.geomspace(1e-4, 0.1, 60)):
        right = false = missed = 0
        for path, own in scores.items():
            stamps, _ = files[path]
            first = int(LEARNED * len(own))
            windows = [
                tuple(np.datetime64(end[:19]) for end in each)
                for each in known[f"{path.parent.name}/{path.name}"]
            ]
            windows = [each for each in windows if each[1] >= stamps[first]]
            at = stamps[first:][own[first:] > threshold]
            hit = [((at >= start) & (at <= end)).any() for start, end in windows]
            right, missed = right + sum(hit), missed + len(hit) - sum(hit)
            outside = np.ones(len(at), bool)
            for start, end in windows:
                outside &= (at < start) | (at > end)
            left = at[outside]
            gaps = np.diff(left) > np.timedelta64(1, "D")
            false += int(len(left) > 0) + int(gaps.sum())
        f1 = 2 * right / max(2 * right + false + missed, 1)
        if f1 > best["f1"]:
            best = {"f1": f1, "found": right, "false": false, "missed": missed,
                    "threshold": float(threshold)}  # fmt: skip
    return best


if __name__ == "__main__":
    main()

"""Damaged and absurd files: does every verb end in one plain error?

    python benchmarks/fuzz.py --cases 2000 --seed 0

A tiny bundle, a stopped run, a stopped chain, a recipe and data (pictures, .npy, .npz, .csv) are
made once. Each case damages one file in one way, all of it drawn from the case's seed, and runs the
verbs that read it, in this process: JSON values replaced by absurd ones, keys removed, nesting,
bytes flipped, cut short, or put in; half the time the hashes are made to fit again, so that what
lies behind them is reached. What may come of a verb is a result or a `MorphogenError`. Everything
else is counted: tracebacks, hangs (over `LIMIT` seconds), and memory (over `MEMORY` more).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import random
import resource
import shutil
import signal
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import morphogen as mg
from morphogen.cli.cite import keys_of, references
from morphogen.cli.show import bundle_facts
from morphogen.core.bundle import Bundle
from morphogen.core.config import read_config
from morphogen.core.errors import MorphogenError
from morphogen.core.storage import sha256
from morphogen.data.inspect import inspect
from morphogen.evaluation.card import write_card
from morphogen.evaluation.pack import pack
from morphogen.training.run import prepare

LIMIT = 20  # seconds of a verb
MEMORY = 1 << 30  # bytes that a case may add to what the process holds
TINY = [
    "backbone.name=mlp", "backbone.model_dim=8", "backbone.num_layers=1", "train.num_previews=0",
    "train.batch_size=8",
]  # fmt: skip
ABSURD: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 1e99, -1e300, float("nan"), float("inf"),
    "", "x", "\x1b[31m", "../../etc", "evil:Evil", "\ud800", "1" * 5000, [], {}, [[]], [-1], ["x"],
    [10**12] * 3, {"parts": {}}, {"a": {"b": []}}, 0.5, "none", "auto", [None], [1e9, 1e9],
]  # fmt: skip
RECIPE = """
[family]
name = "flow_matching"
cond_dim = 16
num_steps = 3
sampler = "heun"
[backbone]
name = "mlp"
model_dim = 8
num_layers = 1
[train]
budget = "2steps"
batch_size = 8
lr = 0.001
num_previews = 0
"""


class Hang(BaseException):
    """A verb took too long; nothing that catches exceptions may catch it."""


@dataclass(frozen=True)
class Target:
    """One file to damage, the folder that it is copied with, and the verbs that read it."""

    name: str
    folder: Path
    file: str
    verbs: tuple[Callable[[Path], object], ...]
    weight: int = 1  # how often it is chosen


@dataclass
class Finding:
    """What came of a verb that should not have."""

    kind: str  # traceback, hang, memory
    target: str
    seed: int
    verb: str
    what: str


# -- what is damaged -----------------------------------------------------------------------------


def make(folder: Path) -> list[Target]:
    """Everything that there is to damage."""
    photos = folder / "photos"
    draw = np.random.default_rng(0)
    for label in ("dark", "light"):
        (photos / label).mkdir(parents=True)
        for i in range(8):
            picture = draw.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(picture).save(photos / label / f"{i}.png")
    bundle, stopped, chain = (folder / name for name in ("bundle", "stopped", "chain"))
    mg.train(photos, "flow_matching", out=bundle, budget="2steps", settings=TINY)
    for name, family in ((stopped, "flow_matching"), (chain, "autoencoder+flow_matching")):
        session = prepare(photos, family, out=name, budget="3steps", settings=TINY)
        session.run.stop = True
        session.train(lambda log: None)
    shutil.copytree(photos, stopped / "photos")
    (folder / "recipe").mkdir()
    (folder / "recipe" / "recipe.toml").write_text(RECIPE)
    data = mg.load(photos)
    arrays = folder / "arrays"
    arrays.mkdir()
    images = draw.integers(0, 255, (12, 8, 8), dtype=np.uint8)
    np.save(arrays / "images.npy", images)
    np.savez(arrays / "images.npz", images=images, labels=np.arange(12) % 2)
    table = folder / "table"
    shutil.copytree(photos, table)
    rows = [f"{label}/{i}.png,{label}" for label in ("dark", "light") for i in range(8)]
    (table / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    opened = (use, show, card, cite, packed, reproduced)

    def resumed(at: Path) -> object:
        return prepare(data, out=at, resume=True)

    def recipe(at: Path) -> object:
        return prepare(data, recipe=at / "recipe.toml", out=at / "out")

    targets = [
        Target("config.json", bundle, "config.json", opened, 6),
        Target("metrics.json", bundle, "metrics.json", (card, show, packed), 2),
        Target("log.jsonl", bundle, "log.jsonl", (card,)),
        Target("model.safetensors", bundle, "model.safetensors", (use, show)),
        Target("data_files.json.gz", bundle, "data_files.json.gz", (packed, reproduced)),
        Target("log.jsonl of a run", stopped, "log.jsonl", (resumed,)),
        Target("chain.json", chain, "chain.json", (resumed,)),
        Target("recipe.toml", folder / "recipe", "recipe.toml", (recipe,), 2),
        Target("images.npy", arrays, "images.npy", (lambda at: inspect(at / "images.npy"),)),
        Target("images.npz", arrays, "images.npz", (lambda at: inspect(at / "images.npz"),)),
        Target("labels.csv", table, "labels.csv", (inspect,)),
    ]
    for name, weight in (("run.json", 4), ("state.safetensors", 2)):
        file = next((stopped / "checkpoint").rglob(name))
        targets.append(Target(name, stopped, str(file.relative_to(stopped)), (resumed,), weight))
    return targets


def use(at: Path) -> object:
    """Open, list the tasks, sample, run one task."""
    bundle = Bundle.open(at)
    bundle.tasks()
    bundle.sample(2, num_steps=1)
    return bundle.task("interpolate", torch.zeros(2, *bundle.family.spec.shape), num=2, num_steps=1)


def show(at: Path) -> object:
    """`morphogen show BUNDLE`."""
    return bundle_facts(str(at))


def card(at: Path) -> object:
    """`morphogen card BUNDLE`."""
    return write_card(at)


def cite(at: Path) -> object:
    """`morphogen cite BUNDLE`."""
    return keys_of(read_config(at), references())


def packed(at: Path) -> object:
    """`morphogen pack BUNDLE`."""
    return pack(at, at / "out.zip").text()


def reproduced(at: Path) -> object:
    """`morphogen reproduce BUNDLE --dry-run`."""
    return mg.reproduce(at, dry_run=True, out=at / "again")


# -- how -----------------------------------------------------------------------------------------


def damage(file: Path, draw: random.Random) -> str:
    """Damage a file; returns how."""
    data = file.read_bytes()
    ways = [flipped, cut, filled]
    if file.suffix == ".json":
        ways = [replaced, replaced, replaced, removed, nested, *ways]
    if file.suffix == ".safetensors":
        ways = [header_changed, header_changed, *ways]
    if file.suffix == ".toml":
        ways = [line_changed, line_changed, line_changed, *ways]
    if file.suffix in (".npy", ".npz"):
        ways = [numpy_header_changed, *ways]
    way = draw.choice(ways)
    file.write_bytes(way(data, draw))
    return way.__name__


def flipped(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, near the start more often."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        at = int(len(changed) * draw.random() ** 2)
        changed[min(at, len(changed) - 1)] = draw.randrange(256)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """The first part only."""
    return data[: draw.randrange(len(data))]


def filled(data: bytes, draw: random.Random) -> bytes:
    """Something put in."""
    at = draw.randrange(len(data))
    return data[:at] + draw.choice([b"\0" * 100, b"[" * 3000, b"\xff\xfe", b"9" * 6000]) + data[at:]


def replaced(data: bytes, draw: random.Random) -> bytes:
    """A value of JSON replaced by an absurd one, a few at once now and then."""
    value = json.loads(data)
    for _ in range(draw.choice([1, 1, 1, 3])):
        *path, last = draw.choice(list(places(value)))
        inside(value, path)[last] = copy.deepcopy(draw.choice(ABSURD))
    return json.dumps(value).encode()


def removed(data: bytes, draw: random.Random) -> bytes:
    """A key removed."""
    value = json.loads(data)
    *path, last = draw.choice(list(places(value)))
    del inside(value, path)[last]
    return json.dumps(value).encode()


def nested(data: bytes, draw: random.Random) -> bytes:
    """A value nested without reason."""
    value = json.loads(data)
    *path, last = draw.choice(list(places(value)))
    for _ in range(draw.choice([2, 90, 500])):
        inside(value, path)[last] = {"state": inside(value, path)[last], "parts": {}}
    return json.dumps(value).encode()


def header_changed(data: bytes, draw: random.Random) -> bytes:
    """The header of a safetensors file: its length, a shape, a type, an offset."""
    size = struct.unpack("<Q", data[:8])[0]
    if draw.random() < 0.2:
        return struct.pack("<Q", draw.choice([0, 1, 2**40, 2**63])) + data[8:]
    header = replaced(data[8 : 8 + size], draw)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def numpy_header_changed(data: bytes, draw: random.Random) -> bytes:
    """The shape or the type in the header of an array."""
    shape = draw.choice([b"(99999999999, 9, 9)", b"(-1, 8, 8)", b"(((", b"(12, 8, 8, 8)", b"()"])
    kind = draw.choice([b"'|O'", b"'<f8'", b"'<U9'", b"'x'", b"[('a', '<f4')]"])
    old, new = draw.choice([(b"(12, 8, 8)", shape), (b"'|u1'", kind)])
    return data.replace(old, new[: len(old)].ljust(len(old)), 1)


def line_changed(data: bytes, draw: random.Random) -> bytes:
    """A value of TOML replaced by an absurd one."""
    lines = data.decode().splitlines()
    chosen = draw.choice([i for i, line in enumerate(lines) if "=" in line])
    values = ["true", "-1", "0", "1e99", "inf", "nan", "''", "[]", "{}", "99999999999999", "'x:y'"]
    lines[chosen] = f"{lines[chosen].partition('=')[0]}= {draw.choice(values)}"
    return "\n".join(lines).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside some JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        yield (*path, key)
        if isinstance(each, (dict, list)):
            yield from places(each, (*path, key))


def inside(value: Any, path: list[Any]) -> Any:
    """The mapping or list at a path."""
    for key in path:
        value = value[key]
    return value


def seal(folder: Path, file: Path) -> None:
    """Make the hash that is kept of a file fit what it is now."""
    config, run = folder / "config.json", file.with_name("run.json")
    if file.suffix == ".safetensors" and file.parent == folder:
        about = json.loads(config.read_text())
        about["files"][file.name] = sha256(file)
        config.write_text(json.dumps(about))
    elif file.suffix == ".safetensors":
        run.write_text(json.dumps(json.loads(run.read_text()) | {"sha256": sha256(file)}))


# -- what comes of it ----------------------------------------------------------------------------


def run_case(seed: int, targets: list[Target], work: Path) -> tuple[Counter[str], list[Finding]]:
    """Damage one file and run what reads it."""
    draw = random.Random(seed)
    target = draw.choices(targets, [each.weight for each in targets])[0]
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    place = work / "case"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(target.folder, place)
    how = damage(place / target.file, draw)
    if draw.random() < 0.7:
        seal(place, place / target.file)
    for verb in target.verbs:
        kind, what = outcome(lambda verb=verb: verb(place))  # type: ignore[misc]
        counts[kind] += 1
        if kind not in ("result", "refused"):
            name = getattr(verb, "__name__", "verb")
            findings.append(Finding(kind, f"{target.name}, {how}", seed, name, what))
    counts[f"target {target.name}"] += 1
    return counts, findings


def outcome(act: Callable[[], object]) -> tuple[str, str]:
    """What comes of a verb: result, refused, traceback, hang or memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            act()
        kind, what = "result", ""
    except MorphogenError as error:
        kind, what = "refused", str(error)
    except Hang:
        kind, what = "hang", traceback.format_exc(limit=-3)
    except Exception:
        kind, what = "traceback", traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return ("memory", f"{grown / 2**30:.1f} GiB") if grown > MEMORY else (kind, what)


def on_alarm(number: int, frame: object) -> None:
    """The time of a verb is up."""
    raise Hang


def fuzz(cases: range, folder: Path) -> tuple[Counter[str], list[Finding]]:
    """All cases, in a folder of their own."""
    signal.signal(signal.SIGALRM, on_alarm)
    targets, counts, findings = make(folder), Counter[str](), []
    for seed in cases:
        told, found = run_case(seed, targets, folder)
        counts += told
        findings += found
    return counts, findings


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = range(arguments.seed, arguments.seed + arguments.cases)
        counts, findings = fuzz(cases, Path(folder))
    for name, count in sorted(counts.items()):
        print(f"{name:<32}{count:>7,}")
    for each in findings:
        print(f"\n{each.kind}: case {each.seed}, {each.target}, {each.verb}\n{each.what}")


if __name__ == "__main__":
    main()

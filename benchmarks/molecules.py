"""ZINC250k under a clock: valid, unique, novel, FCD; beside a SMILES LSTM in MOSES' setting.

    python benchmarks/molecules.py                       10 minutes each, 10,000 molecules of each
    python benchmarks/molecules.py --minutes 2 --num 2000 --threads 1
    python benchmarks/molecules.py --reading             how long reading and encoding takes

Nothing that is drawn is left out before `valid` is counted. FCD is of the valid ones, to as many
held-out molecules; its floor is that of as many training molecules. Both sides learn the same
training split for the same time on the same threads, one after the other; processor time is told,
since a machine that is shared gives less than it has.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.spec import TensorSpec
from morphogen.metrics._molecules import Molecules, all_known
from morphogen.metrics.frechet_chemnet import chemnet, chemnet_distance
from morphogen.metrics.molecular import molecular

HERE = Path(__file__).parent
PEER = HERE / "peers" / "smiles_lstm.py"
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/zinc250k"
MOST_COMPARED = 2_000  # molecules whose nearest held-out one is looked for


def main() -> None:
    """Ours, then the peer; a line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, default=DATA / "zinc250k.csv.gz")
    options.add_argument("--minutes", type=float, default=10.0, help="training of each")
    options.add_argument("--num", type=int, default=10_000, help="molecules that are drawn")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", choices=["ours", "peer", "floor"])
    options.add_argument("--family", default="autoregressive")
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    options.add_argument("--out", type=Path, help="folder for the bundle and what is drawn")
    options.add_argument("--reading", action="store_true", help="reading and encoding alone")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    begun = time.perf_counter()
    data = mg.load(given.data)
    if given.reading:
        told = {"seconds": round(time.perf_counter() - begun, 1), "cpu_s": _cpu(),
                "items": len(data.train) + len(data.test), "peak_mib": _peak_mib()}  # fmt: skip
        print(json.dumps(told))
        return
    train, test = (data.codec.decode_many(s.batch(torch.arange(len(s))).x)
                   for s in (data.train, data.test))  # fmt: skip
    reference = test[: given.num]
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if given.only in (None, "floor"):
        print(json.dumps({"name": "training molecules", **judged(train[: given.num], reference)}))
    if given.only in (None, "ours"):
        facts, drawn = ours(given, folder)
        print(json.dumps({"name": given.family, **facts, **judged(drawn, reference, train)}))
    if given.only in (None, "peer"):
        facts, drawn = peer(given, folder, train)
        print(json.dumps({"name": "CharRNN", **facts, **judged(drawn, reference, train)}))


def ours(given: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Train by the command that a user types, and draw."""
    command = [
        sys.executable, "-m", "morphogen.cli.app", "train", str(given.data), "--family",
        given.family, "--budget", f"{60 * given.minutes:g}s", "--out", str(folder / "bundle"),
        *(part for each in given.set for part in ("--set", each)),
    ]  # fmt: skip
    subprocess.run(command, check=True, env=_environment(given), stdout=sys.stderr)
    cpu = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)
    bundle = Bundle.open(folder / "bundle")
    begun = time.process_time()
    drawn: list[str] = []
    for seed in range(-(-given.num // 1000)):
        result = bundle.sample(min(1000, given.num - len(drawn)), seed=seed)
        drawn += bundle.codec.decode_many(result.x)
    (folder / "ours.smi").write_text("".join(f"{each}\n" for each in drawn))
    return {"cpu_s": cpu, "sampling_s": round(time.process_time() - begun)}, drawn


def peer(
    given: argparse.Namespace, folder: Path, train: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """The LSTM, in a process of its own."""
    lines, out = folder / "train.smi", folder / "peer.smi"
    lines.write_text("".join(f"{each}\n" for each in train))
    command = [
        sys.executable, str(PEER), "--train", str(lines), "--out", str(out), "--seconds",
        str(60 * given.minutes), "--num", str(given.num), "--threads", str(given.threads),
    ]  # fmt: skip
    subprocess.run(command, check=True, env=_environment(given))
    return json.loads(out.with_suffix(".json").read_text()), out.read_text().split("\n")[:-1]


def judged(
    drawn: list[str], reference: list[str], train: list[str] | None = None
) -> dict[str, float]:
    """Every score of molecules, over all that was drawn; likeness over some."""
    valid = [each.canonical for each in all_known(drawn)]
    real = [each.canonical for each in all_known(reference)]
    some = _sets(drawn[:MOST_COMPARED], reference[:MOST_COMPARED])
    found = dict(molecular(some))
    found |= {"valid": len(valid) / len(drawn), "unique": len(set(valid)) / max(len(valid), 1)}
    if train is not None:
        seen = set(train)
        found["novel"] = sum(each not in seen for each in set(valid)) / max(len(set(valid)), 1)
    if len(valid) > 1:
        found["fcd"] = chemnet_distance(chemnet(valid), chemnet(real))
    return {name: round(value, 4) for name, value in found.items()}


def _sets(generated: list[str], reference: list[str]) -> Molecules:
    every = [*generated, *reference]
    places = torch.arange(len(every))[:, None]
    cut = len(generated)
    spec = TensorSpec.tokens(1, len(every))
    return Molecules(
        spec, places[:cut], places[cut:], None, lambda x: [every[int(i)] for i in x], list
    )


def _environment(given: argparse.Namespace) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(given.threads)}


def _cpu() -> int:
    return round(time.process_time())


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()

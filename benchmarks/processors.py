"""Does one record give the same numbers on another processor?

    python benchmarks/processors.py --steps 300

Each family is trained and evaluated here. Then, in processes that are told to leave this
processor's vector instructions alone, as an older one would (PyTorch, oneDNN, MKL, OpenBLAS and
NumPy choose other kernels, whose sums are rounded in another order),

    the same bundle is evaluated again    how far off is the worst of its scores, relative to it?
    the record is trained again           how far off are weights and scores? what is the verdict?

The goal: a bundle's scores agree to 0.001; a model that was trained again is called the same or its
scores lie within their intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import morphogen as mg

FAMILIES = ("flow_matching", "diffusion", "vae", "autoencoder", "gan", "rbm")
OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
}


def main() -> None:
    """Train, evaluate and reproduce every family; print a line for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--only", nargs="*", default=list(FAMILIES))
    options.add_argument("--out", type=Path, help="keep the bundles here")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        digits = load_digits()
        source = folder / "digits.npz"
        np.savez(source, images=np.uint8(digits.images * (255 / 16)), labels=digits.target)
        for family in given.only:
            print(json.dumps({"family": family, **compare(source, family, folder, given.steps)}))
            sys.stdout.flush()


def compare(source: Path, family: str, folder: Path, steps: int) -> dict[str, Any]:
    """One family here and on the older processor."""
    here, there = folder / family, folder / f"{family}-there"
    bundle = mg.train(
        source, family, budget=f"{steps}steps", out=here, settings=["train.num_previews=0"]
    )
    before = values(mg.evaluate(bundle))
    shutil.copytree(here, there)
    now = values(json.loads(older("evaluate", there, "--json")))
    lacking = before.keys() ^ now.keys()
    assert not lacking, lacking
    off = {name: abs(now[name] - value) / max(abs(value), 1e-9) for name, value in before.items()}
    worst = max(off, key=lambda name: off[name])
    told = json.loads(older("reproduce", here, "--json"))
    scores = [score["verdict"] for score in told["scores"]]
    return {
        "hardware": [change["now"] for change in told["changes"] if change["fact"] == "hardware"],
        "worst_score": worst,
        "off": off[worst],
        "others_at_most": sorted(off.values())[-2],
        "weights_off": max(told["tensors"].values(), default=0.0),
        "scores_again": {verdict: scores.count(verdict) for verdict in sorted(set(scores))},
        "verdict": told["verdict"],
    }


def values(record: dict[str, Any]) -> dict[str, float]:
    """The scores of an evaluation."""
    return {name: score["value"] for name, score in record["scores"].items()}


def older(verb: str, *arguments: object) -> str:
    """What a command prints when it is run as on the older processor."""
    command = [sys.executable, "-m", "morphogen.cli.app", verb, *map(str, arguments)]
    done = subprocess.run(
        command, env=os.environ | OLDER, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.stdout, command
    return done.stdout


if __name__ == "__main__":
    main()

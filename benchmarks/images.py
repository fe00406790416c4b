"""Fashion-MNIST under a clock: every family, and the peers, with one judge.

    python benchmarks/images.py                          every entrant, 10 minutes each (hours)
    python benchmarks/images.py --only flow_matching vae peer_pythae_vae
    python benchmarks/images.py --table                  the table from what has been measured

Each entrant trains for the same wall-clock on the same machine, alone, and draws 10,000 samples.
The judges are those of an evaluation: a classifier trained on the training split, and whole items
described without training; the distance is the Frechet distance of features to those of the 10,000
test images, as a multiple of the floor: the distance of 10,000 training images. Nothing is chosen
by that number: recipes were chosen on held-out training images.

The peers live in an environment of their own (`--peer-python`, made with `pip install torch numpy
scipy scikit-learn imageio pydantic tqdm cloudpickle` and `pip install --no-deps pythae torchcfm
pot`). Results are kept in benchmarks/results/images, one JSON file and one picture each; `--keep`
keeps bundles and samples too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import morphogen as mg
from morphogen.core.capability import has_normalised_log_prob
from morphogen.core.likelihood import bits_per_dim
from morphogen.evaluation._samples import features_of
from morphogen.evaluation.features import feature_extractor
from morphogen.evaluation.whole import WholeItem
from morphogen.metrics.frechet import frechet_distance
from morphogen.training.chain import stage_folders

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "images"
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/fashion-mnist"
NUM = 10_000

# Each entrant is a training of one family, or of a chain that shares the time.
FAMILIES: dict[str, list[str]] = {
    "flow_matching": ["--family", "flow_matching"],
    "flow_matching_unconditional": [
        "--family", "flow_matching", "--set", "train.unconditional=yes",
    ],
    "diffusion": ["--family", "diffusion"],
    "gan": ["--family", "gan"],
    "vae": ["--family", "vae"],
    "autoencoder": ["--family", "autoencoder"],
    "vq_autoregressive": ["--family", "vq_vae+autoregressive"],
    "latent_flow": ["--family", "vae+flow_matching"],
    "autoregressive": ["--family", "autoregressive"],
    "rbm": ["--family", "rbm"],
    "dbn": ["--family", "dbn"],
}  # fmt: skip
PEERS = {
    "peer_pythae_vae": ["pythae_model.py", "--model", "vae"],
    "peer_pythae_rae": ["pythae_model.py", "--model", "rae"],
    "peer_torchcfm": ["torchcfm_unet.py"],
}
# 10,000 would take these most of an hour; fewer add at most 6 to a distance of hundreds.
FEWER = {"autoregressive": 2000, "peer_torchcfm": 2000}


def main() -> None:
    """Run what is asked for and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*FAMILIES, *PEERS], help="these entrants")
    parser.add_argument("--minutes", type=float, default=10.0, help="training of each")
    parser.add_argument("--peer-python", default="peer-env/bin/python")
    parser.add_argument("--keep", type=Path, help="folder for bundles and samples")
    parser.add_argument("--redo", action="store_true", help="measure again what is there")
    parser.add_argument("--table", action="store_true", help="only print the table")
    given = parser.parse_args()
    if not given.table:
        judge = Judge(mg.load(DATA))
        for name in given.only or [*FAMILIES, *PEERS]:
            file = RESULTS / f"{name}-{given.minutes:g}m.json"
            if file.exists() and not given.redo:
                continue
            print(f"== {name}, {given.minutes:g} minutes", flush=True)
            if name in PEERS:
                record, samples = run_peer(name, given.minutes, given.peer_python)
            else:
                record, samples = run_family(name, given.minutes, given.keep)
            command = f"python benchmarks/images.py --only {name} --minutes {given.minutes:g}"
            record |= judge.score(samples) | {"command": command, **machine()}
            for folder in filter(None, (RESULTS, given.keep)):
                folder.mkdir(parents=True, exist_ok=True)
            judge.picture(samples, file.with_suffix(".png"))
            if given.keep:
                np.savez_compressed(given.keep / f"{name}.npz", x=samples.byte().numpy())
            file.write_text(json.dumps({"entrant": name, **record}, indent=2) + "\n")
            print(json.dumps(record), flush=True)
    print(table())


class Judge:
    """Two judges, as in every evaluation; each with one reference and one floor."""

    def __init__(self, data: mg.Data) -> None:
        self.data, self.extractor = data, feature_extractor(data)
        self.whole = WholeItem.of(data)
        shuffled = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        self.seen = [self.extractor.features, self.whole.features]
        self.references = [features_of(by, data.test, torch.arange(NUM)) for by in self.seen]
        self.floors = [
            frechet_distance(features_of(by, data.train, shuffled[:NUM]), reference)
            for by, reference in zip(self.seen, self.references, strict=True)
        ]

    def score(self, samples: Tensor) -> dict[str, Any]:
        """Level indices (N, C, H, W) -> distances and ratios."""
        x = self.data.spec.dequantise(samples)
        classifier, whole = (
            frechet_distance(by(x), reference)
            for by, reference in zip(self.seen, self.references, strict=True)
        )
        return {
            "distance": classifier,
            "floor": self.floors[0],
            "ratio": classifier / self.floors[0],
            "whole_item_distance": whole,
            "whole_item_floor": self.floors[1],
            "whole_item_ratio": whole / self.floors[1],
            "num": len(samples),
            "judge_accuracy": self.extractor.accuracy,
            "judge_sha256": self.extractor.weights_hash,
            "whole_item_sha256": self.whole.weights_hash,
        }

    def picture(self, samples: Tensor, path: Path) -> None:
        """The first 100 samples as a sheet."""
        values = self.data.codec.decode_many(self.data.spec.dequantise(samples[:100]))
        self.data.codec.write(values, path, 10)


def run_family(name: str, minutes: float, keep: Path | None) -> tuple[dict[str, Any], Tensor]:
    """Train with the command line, as a user would, and sample."""
    work = keep / name if keep else Path(tempfile.mkdtemp(prefix="morphogen-images-"))
    budget = ["--budget", f"{60 * minutes:g}s", "--out", str(work)]
    morphogen("train", str(DATA), *FAMILIES[name], *budget)
    logs = [(stage / "log.jsonl").read_text().splitlines()[-1] for stage in stage_folders(work)]
    stages = [json.loads(log) for log in logs]
    bundle = mg.open(str(work))
    started = time.perf_counter()
    x = bundle.sample(FEWER.get(name, NUM), seed=0).x
    sampling = time.perf_counter() - started
    assert x is not None
    if bundle.family.spec != bundle.codec.spec or bundle.family.spec.levels is None:
        x = torch.stack([as_levels(value) for value in bundle.codec.decode_many(x)])
    else:
        x = bundle.family.spec.quantise(x)
    record = {
        **likelihood(bundle),
        "seconds": sum(stage["seconds"] for stage in stages),
        "steps": stages[-1]["step"],
        "sampling_seconds": sampling,
        "num_parameters": sum(p.numel() for p in bundle.family.parameters()),
        "recipe": bundle.recipe.to_json(),
    }
    if not keep:
        shutil.rmtree(work)
    return record, x


def likelihood(bundle: mg.Bundle) -> dict[str, float]:
    """Bits per dimension of 2,000 test images, where the model has a likelihood of pictures."""
    model: Any = bundle.family
    if not has_normalised_log_prob(model) or model.spec.levels is None:
        return {}
    draw = torch.Generator().manual_seed(0)
    found = []
    test = mg.load(DATA, codec=bundle.codec).test
    for index in torch.arange(2000).split(250):
        batch = test.batch(index)
        cond = {name: value for name, value in batch.cond.items() if name in model.conditions}
        with torch.no_grad():
            found.append(model.log_prob(batch.x, cond=cond, generator=draw))
    return {"bits_per_dim": float(bits_per_dim(torch.cat(found), model.spec).mean())}


def as_levels(picture: Any) -> Tensor:
    """A grey picture -> (1, H, W) level indices."""
    return torch.from_numpy(np.asarray(picture, dtype=np.int64))[None]


def morphogen(*arguments: str) -> None:
    """Run the command line of this environment."""
    subprocess.run([sys.executable, "-m", "morphogen.cli.app", *arguments], check=True)


def run_peer(name: str, minutes: float, python: str) -> tuple[dict[str, Any], Tensor]:
    """Train a peer in its own environment; it leaves its samples in a file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "samples.npz")
        script, *options = PEERS[name]
        command: Sequence[str] = [
            python, str(HERE / "peers" / script), "--data", str(DATA),
            "--seconds", f"{60 * minutes:g}", "--num", str(FEWER.get(name, NUM)),
            "--out", str(out), *options,
        ]  # fmt: skip
        subprocess.run(command, check=True)
        content = np.load(out)
        facts = json.loads(str(content["facts"]))
        return facts, torch.from_numpy(content["x"].astype(np.int64))[:, None]


def machine() -> dict[str, Any]:
    """What a table says of where and when."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
    }


def table() -> str:
    """What has been measured, best first, as Markdown."""
    records = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    best_peer: dict[int, float] = {}  # minutes of training -> ratio
    for r in records:
        if r["entrant"] in PEERS:
            minutes = round(r["seconds"] / 60)
            best_peer[minutes] = min(r["ratio"], best_peer.get(minutes, r["ratio"]))
    lines = [
        "| entrant | training | steps | times the floor | of the best peer in that time "
        "| by whole items | bits/dim | sampling |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in sorted(records, key=lambda record: record["ratio"]):
        peer = best_peer.get(round(r["seconds"] / 60))
        against = f"{r['ratio'] / peer:.3f}" if peer else ""
        sampling = f"{r['sampling_seconds']:.0f} s" if "sampling_seconds" in r else ""
        bits = f"{r['bits_per_dim']:.2f}" if "bits_per_dim" in r else ""
        whole = f"{r['whole_item_ratio']:.1f}" if "whole_item_ratio" in r else ""
        lines.append(
            f"| {r['entrant']} | {r['seconds']:.0f} s | {r['steps']:,} | {r['ratio']:.1f} "
            f"| {against} | {whole} | {bits} | {sampling} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

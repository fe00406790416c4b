"""What computing blocks again costs, and what memory it leaves: steps of a text model, both ways.

python benchmarks/recompute.py SOURCE
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from morphogen.core.amounts import size
from morphogen.training.memory import kept_bytes
from morphogen.training.run import prepare

SETTINGS = [
    "backbone.num_layers=6", "backbone.model_dim=192", "modality.length=256",
    "modality.tokenizer=byte", "modality.form=windows", "train.batch_size=8",
]  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("source")
    arguments.add_argument("--steps", type=int, default=4)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            answer: prepare(
                given.source, "autoregressive", budget="100steps", out=Path(folder, answer),
                settings=[*SETTINGS, f"train.recompute={answer}"],
            ).run
            for answer in ("no", "yes")
        }  # fmt: skip
    times: dict[str, list[float]] = {answer: [] for answer in runs}
    for _ in range(given.steps + 1):  # in turns, so that both meet the same machine
        for answer, run in runs.items():
            begun = time.process_time()
            run.step()
            times[answer].append(time.process_time() - begun)
    for answer, run in runs.items():
        step = statistics.median(times[answer][1:])
        kept = kept_bytes(run, "all", 8)
        print(f"recompute={answer}: {step:.2f} s of a processor a step, {size(kept)} kept")


if __name__ == "__main__":
    main()

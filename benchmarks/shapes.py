"""What does a canvas for pictures of several shapes cost, beside a canvas of each shape alone?

    python benchmarks/shapes.py [--shapes 40x24,24x40,32x32] [--set train.batch_size=16]

Pictures of emoji, resized to the shapes in turn. One model learns all of them on one canvas
(`modality.shapes`), and one each of the shapes; all have the same network. Steps are taken in turn.
What a step costs on the canvas, divided by the mean of what it costs on the shapes alone, is the
most that batches of one shape each could gain.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow

from morphogen.training.loop import Run
from morphogen.training.run import prepare

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data"
NETWORK = ["backbone.name=unet", "backbone.num_levels=2", "backbone.patch_size=2"]
PICTURES, STEPS, FIRST = 300, 12, 2  # the first steps are not counted


def main() -> None:
    """A line of JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--shapes", default="40x24,24x40,32x32")
    options.add_argument("--set", nargs="*", default=["train.batch_size=16"])
    given = options.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    files = sorted((SHARED / "emoji-noto" / "images").rglob("*.png"))[:PICTURES]
    sizes = given.shapes.split(",")
    sets = {"canvas": sizes} | {size: [size] for size in sizes}
    runs = {name: run_on(files, own, given.set) for name, own in sets.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(STEPS):
        for name, run in runs.items():
            begun = time.perf_counter()
            run.step()
            seconds[name].append(time.perf_counter() - begun)
            run.schedule.advance(run.state)
    ms = {name: 1000 * float(np.median(each[FIRST:])) for name, each in seconds.items()}
    alone = float(np.mean([ms[size] for size in sizes]))
    told = {name: round(each, 1) for name, each in ms.items()}
    print(json.dumps({"ms": told, "at most": round(ms["canvas"] / alone, 3)}))


def run_on(files: Sequence[Path], sizes: Sequence[str], settings: Sequence[str]) -> Run:
    """A run that is about to begin, on pictures of these sizes in turn."""
    folder = Path(tempfile.mkdtemp(prefix="morphogen-shapes-"))
    for number, file in enumerate(files):
        width, height = map(int, sizes[number % len(sizes)].split("x"))
        picture = Pillow.open(file).convert("RGBA")
        white = Pillow.new("RGBA", picture.size, "white")
        shown = Pillow.alpha_composite(white, picture).convert("RGB")
        (folder / "data").mkdir(exist_ok=True)
        shown.resize((width, height), Pillow.Resampling.LANCZOS).save(
            folder / "data" / f"{number:04}.png"
        )
    asked = [*NETWORK, f"modality.shapes={','.join(sizes)}", *settings]
    if len(sizes) == 1:
        asked = [*NETWORK, f"modality.size={min(map(int, sizes[0].split('x')))}", *settings]
    run = prepare(
        folder / "data", "flow_matching", settings=asked, budget="1000steps", out=folder / "run"
    ).run
    run.prepare()
    return run


if __name__ == "__main__":
    main()

"""How long `inspect` takes for many small pictures: `python benchmarks/inspecting.py [COUNT]`.

COUNT (70,000) grey PNGs of 28x28 pixels, a blob and noise each, in ten class folders of a temporary
folder; wall-clock and processor seconds of one `inspect`, with an empty cache: where something was
generated before, the first look at new items compares them with it, which takes longer.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from morphogen.data.inspect import inspect

SIDE, CLASSES = 28, 10


def make(folder: Path, count: int) -> None:
    """Write `count` pictures; the class says where the blob is."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(count):
        kind = number % CLASSES
        place = folder / f"class{kind}"
        place.mkdir(exist_ok=True)
        cx, cy = rng.normal((6 + kind, 20 - kind), 1.5)
        blob = 255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(15, 40))
        noisy = np.clip(blob + rng.integers(0, 12, (SIDE, SIDE)), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Pillow.fromarray(noisy).save(stream, "PNG")
        (place / f"{number:06d}.png").write_bytes(stream.getvalue())


def measured(folder: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of one `inspect`, its processes included."""

    def spent() -> float:
        return sum(
            used.ru_utime + used.ru_stime
            for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    began, before = time.perf_counter(), spent()
    found = inspect(folder)
    assert found.error is None, found.error
    return time.perf_counter() - began, spent() - before


def main() -> None:
    """Make the pictures, inspect them, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=70_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as cache:
        os.environ["MORPHOGEN_CACHE"] = cache  # where nothing was generated to compare items with
        folder = Path(name)
        make(folder, count)
        inspect(folder / "class0")
        wall, processor = measured(folder)
        print(f"{count:,} pictures: {wall:.1f} s, {processor:.1f} s of processors")


if __name__ == "__main__":
    main()

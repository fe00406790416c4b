"""A small clean source of pictures: two classes of 8x8 grey PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write(folder: Path) -> Path:
    """Two folders of four pictures each."""
    draw = np.random.default_rng(0)
    for name in ("dark", "light"):
        place = folder / "pictures" / name
        place.mkdir(parents=True)
        for i in range(4):
            pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return folder / "pictures"

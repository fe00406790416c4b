"""Write scikit-learn's handwritten digits as pictures: OUT/<digit>/<number>.png.

1,797 grey 8x8 pictures of real handwriting (Alpaydin & Kaynak 1998) that ship inside scikit-learn,
so that a demonstration on real data needs no download.

    python scripts/export_digits.py demo/digits [LARGEST_NUMBER_PER_CLASS]
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


def export_digits(out: Path, most_per_class: int | None = None) -> int:
    """Write the pictures; return how many."""
    digits = load_digits()
    written: Counter[int] = Counter()
    for picture, digit in zip(digits.images, digits.target, strict=True):
        if most_per_class is not None and written[digit] >= most_per_class:
            continue
        folder = out / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        grey = (picture * (255 / 16)).round().astype("uint8")
        Image.fromarray(grey).save(folder / f"{written[digit]:03d}.png")
        written[digit] += 1
    return sum(written.values())


if __name__ == "__main__":
    out = Path(sys.argv[1])
    most = int(sys.argv[2]) if len(sys.argv) > 2 else None
    print(f"{export_digits(out, most)} pictures in {out}")

"""Pictures for a person to look at: a grid, a folder of files, a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from torch import Tensor

from morphogen.core.errors import DataError
from morphogen.core.storage import write_atomic

GAP = 2  # pixels between the pictures of a grid
WIDTH = 400  # a grid narrower than this is enlarged
MAP_SIDE = 1200


def write_pictures(pictures: Sequence[Pillow.Image], path: Path, columns: int | None) -> Path:
    """`path` with a suffix: one grid. Without: a folder of numbered PNG files."""
    if not pictures:
        raise DataError("there are no pictures to write", where=str(path))
    if path.suffix:
        return _save(grid(pictures, columns), path)
    return write_folder(pictures, path, 0, len(pictures))


def write_folder(pictures: Sequence[Pillow.Image], folder: Path, first: int, total: int) -> Path:
    """PNG files that are numbered from `first` on, of `total` in the end."""
    digits = max(5, len(str(total - 1)))
    for number, picture in enumerate(pictures, first):
        _save(picture, folder / f"{number:0{digits}d}.png")
    return folder


def grid(pictures: Sequence[Pillow.Image], columns: int | None = None) -> Pillow.Image:
    """Pictures in rows on white, near-square unless `columns` says otherwise.

    Small ones are enlarged by a whole factor, so that every pixel stays a sharp square.
    """
    columns = min(columns or math.ceil(math.sqrt(len(pictures))), len(pictures))
    rows = math.ceil(len(pictures) / columns)
    width, height = (max(side) for side in zip(*(each.size for each in pictures), strict=True))
    factor = max(1, math.ceil((WIDTH - GAP * (columns + 1)) / (columns * width)))
    step_x, step_y = factor * width + GAP, factor * height + GAP
    canvas = Pillow.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        shown = visible(picture).resize(
            (factor * picture.width, factor * picture.height), Pillow.Resampling.NEAREST
        )
        _paste(canvas, shown, GAP + column * step_x, GAP + row * step_y)
    return canvas


def draw_map(pictures: Sequence[Pillow.Image], positions: Tensor, path: Path) -> Path:
    """Thumbnails centred at `positions` (N, 2) on a white square; the second axis points up."""
    if len(pictures) != len(positions) or positions.dim() != 2 or positions.shape[1] != 2:
        raise DataError(
            "a map needs one position per picture",
            found=tuple(positions.shape),
            expected=f"({len(pictures)}, 2)",
        )
    low, high = positions.min(0).values, positions.max(0).values
    unit = (positions - low) / (high - low).clamp_min(1e-12)
    # Thumbnails cover about half of the square together, between readable and overlapping.
    side = int(min(96, max(16, MAP_SIDE * math.sqrt(0.5 / max(len(pictures), 1)))))
    canvas = Pillow.new("RGB", (MAP_SIDE, MAP_SIDE), "white")
    for picture, (x, y) in zip(pictures, unit.tolist(), strict=True):
        scale = side / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        how = Pillow.Resampling.NEAREST if scale >= 1 else Pillow.Resampling.LANCZOS
        left = round(x * (MAP_SIDE - size[0]))
        top = round((1 - y) * (MAP_SIDE - size[1]))
        _paste(canvas, visible(picture).resize(size, how), left, top)
    return _save(canvas, path)


def visible(picture: Pillow.Image) -> Pillow.Image:
    """16 bits shown as 8."""
    if picture.mode != "I;16":
        return picture
    return Pillow.fromarray((np.asarray(picture) // 257).astype(np.uint8))


def _paste(canvas: Pillow.Image, picture: Pillow.Image, left: int, top: int) -> None:
    canvas.paste(picture, (left, top), picture if picture.mode == "RGBA" else None)


def _save(picture: Pillow.Image, path: Path) -> Path:
    known = Pillow.registered_extensions()
    kind = known.get(path.suffix.lower())
    if kind is None or kind not in Pillow.SAVE:
        raise DataError(
            f"pictures cannot be written as {path.suffix}",
            expected=".png, .jpg, .webp, or no suffix for a folder of PNG files",
            where=str(path),
        )
    return write_atomic(path, lambda temporary: picture.save(temporary, format=kind))

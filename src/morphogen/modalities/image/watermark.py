r"""A mark that is not seen, in the brightness of a picture: keyed waves that repeat each 64 pixels.

    Y' = Y + a(x) w(x),    w = sum over k of cos(2 pi k x / 64 + phi_k),   4 <= |k| <= 16

The waves are 4 to 16 pixels long: shorter ones are lost to JPEG and to resizing, longer ones would
be seen. `a` follows how rough the picture is there (Kutter & Winkler 2002 on such masks). To find
it, what is smooth is taken away, the picture is folded onto one tile of 64 pixels, and the phases
of its spectrum are compared with those of the key (see `provenance.phases`): at every shift, so
that a piece will do, and at sizes from a half to twice. Turned and mirrored pictures are not
looked for.

Legend: H height, W width, C channels, P = 64 the tile.
"""

from __future__ import annotations

import io
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from morphogen.core.storage import write_atomic
from morphogen.modalities.image.convert import TOP, pixels, raw, squeezed
from morphogen.provenance.phases import chance, phases, unit

TILE = 64
SHORTEST, LONGEST = 16, 4  # waves on a tile, of the shortest and of the longest
STRENGTH, LEAST, MOST = 0.22, 1.0, 5.0  # of 255: per unit of roughness, and its bounds
ROUGH = 7  # pixels over which roughness is taken
AREA = 384  # pixels of a side that are looked at, in the middle
SCALES = np.exp(np.linspace(np.log(0.5), np.log(2.0), 176))  # a step is 0.8 %
LUMA = np.array([0.299, 0.587, 0.114])
QUALITY = 95  # of JPEG files that are written anew


def watermarked(value: Any, key: bytes) -> Any:
    """A picture with the mark of a key: an array of its own shape and kind."""
    array = pixels(raw(value))
    top = TOP[array.dtype]
    colour = array[..., None] if array.ndim == 2 else array  # (H, W, C)
    num = min(colour.shape[2], 3)  # what is transparent stays as it is
    added = _added(_luma(colour) * (255.0 / top), key) * (top / 255.0)
    marked = colour.astype(np.float64)
    marked[..., :num] = np.clip(marked[..., :num] + added[..., None], 0, top)
    if top > 1:
        marked = np.rint(marked)
    done = squeezed(marked.astype(array.dtype)) if array.ndim == 2 else marked.astype(array.dtype)
    return Pillow.fromarray(done) if isinstance(value, Pillow.Image) else done


def mark_file(path: Path, key: bytes) -> None:
    """Mark a picture file as a whole, and write it as it was written; one that holds no such
    picture, such as a page, is left as it is."""
    if path.suffix.lower() not in Pillow.registered_extensions():
        return
    with Pillow.open(path) as picture:
        picture.load()
        kind, mode = picture.format, picture.mode
        plain = picture if mode in ("L", "RGB", "RGBA", "I;16") else picture.convert("RGB")
    made = watermarked(plain, key)
    options = {"quality": QUALITY} if kind in ("JPEG", "WEBP") else {}
    stream = io.BytesIO()
    made.save(stream, kind, **options)
    write_atomic(path, partial(_write, stream.getvalue()))


def chance_of(value: Any, key: bytes) -> float:
    """How probable it is that a picture without the mark would look as marked as this."""
    array = pixels(raw(value))
    colour = array[..., None] if array.ndim == 2 else array
    rough = _whitened(_middle(_luma(colour) * (255.0 / TOP[array.dtype]), AREA * 2))
    as_it_is = _evidence(_middle(rough, AREA), key)
    found = chance(as_it_is, _num_waves(), 2 * TILE * TILE)  # half of the doubt is spent on this
    for scale in SCALES if found > 1e-12 else ():
        part = _middle(rough, math.ceil(AREA * scale))
        evidence = _evidence(_resized(part, scale), key)
        found = min(found, chance(evidence, _num_waves(), 2 * TILE * TILE * len(SCALES)))
    return found


def _added(luma: np.ndarray, key: bytes) -> np.ndarray:
    """What is added to a brightness (H, W) of 0 to 255: (H, W)."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    mean = uniform_filter(luma, ROUGH)
    rough = np.sqrt(np.maximum(uniform_filter(luma**2, ROUGH) - mean**2, 0))
    height, width = luma.shape
    tile = _tile(key)
    waves = np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width]
    return np.clip(STRENGTH * rough, LEAST, MOST) * waves


def _whitened(luma: np.ndarray) -> np.ndarray:
    """What is rough of a brightness (H, W), everywhere about as much: (H, W)."""
    from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

    fine = luma - uniform_filter(luma, 2 * ROUGH + 1)
    size = np.sqrt(np.maximum(uniform_filter(fine**2, 2 * ROUGH + 1), 0))
    return np.clip(fine / (size + 2.0), -3, 3)


def _evidence(rough: np.ndarray, key: bytes) -> float:
    """How well the phases of a brightness (H, W) agree with the key's at the best shift."""
    folded = np.zeros((TILE, TILE))
    padded = np.pad(rough, [(0, -size % TILE) for size in rough.shape])
    height, width = padded.shape
    folded = padded.reshape(height // TILE, TILE, width // TILE, TILE).sum((0, 2))
    rows, columns = _waves()
    own = unit(np.fft.fft2(folded)[rows, columns])  # (K,)
    agree = np.zeros((TILE, TILE), complex)
    agree[rows, columns] = own * np.exp(-1j * _phases(key))
    return float(np.fft.ifft2(agree).real.max() * TILE * TILE)


@cache
def _waves() -> tuple[np.ndarray, np.ndarray]:
    """The frequencies of the waves, one of each pair that is the same: rows and columns (K,)."""
    row, column = np.meshgrid(np.fft.fftfreq(TILE, 1 / TILE), np.arange(TILE // 2), indexing="ij")
    radius = np.hypot(row, column)
    chosen = (radius >= LONGEST) & (radius <= SHORTEST) & (column >= 1)
    rows, columns = np.nonzero(chosen)
    return rows, columns


def _num_waves() -> int:
    return len(_waves()[0])


def _phases(key: bytes) -> np.ndarray:
    return phases(key, "waves in pictures", _num_waves())


def _tile(key: bytes) -> np.ndarray:
    """The waves of a key on one tile, (P, P), of mean square 1."""
    spectrum = np.zeros((TILE, TILE), complex)
    rows, columns = _waves()
    spectrum[rows, columns] = np.exp(1j * _phases(key))
    tile = np.fft.ifft2(spectrum).real
    return tile / tile.std()


def _luma(colour: np.ndarray) -> np.ndarray:
    """(H, W, C) -> its brightness (H, W)."""
    return colour[..., 0].astype(float) if colour.shape[2] == 1 else colour[..., :3] @ LUMA


def _middle(array: np.ndarray, most: int) -> np.ndarray:
    top, left = (max(size - most, 0) // 2 for size in array.shape)
    return array[top : top + most, left : left + most]


def _resized(array: np.ndarray, scale: float) -> np.ndarray:
    """As it would be, were the picture so many times larger."""
    height, width = array.shape
    size = (max(round(width / scale), 1), max(round(height / scale), 1))
    picture = Pillow.fromarray(array.astype(np.float32))
    return np.asarray(picture.resize(size, Pillow.Resampling.BICUBIC), np.float64)


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)

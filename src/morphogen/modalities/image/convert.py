"""Between raw pictures and arrays of one size, one mode and one depth.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from morphogen.core.errors import DataError

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
MODES = {channels: mode for mode, channels in CHANNELS.items()}
DEPTHS = {np.dtype(name): name for name in ("uint8", "uint16", "float32")}
FEW_LEVELS = 16  # whole numbers up to here count levels (scikit-learn's digits run from 0 to 16)
TOP = {np.dtype("uint8"): 255.0, np.dtype("uint16"): 65535.0, np.dtype("float32"): 1.0}  # white


@dataclass(frozen=True)
class Form:
    """What a raw picture is: size, mode, and depth ("uint8", "uint16" or "float32")."""

    height: int
    width: int
    mode: str
    depth: str

    @classmethod
    def of(cls, value: Any) -> Form:
        """Read it off a Pillow picture or an array (H, W) or (H, W, C)."""
        if isinstance(value, Pillow.Image):
            depth = "uint16" if value.mode == "I;16" else "uint8"
            mode = value.mode if value.mode in CHANNELS else "L" if depth == "uint16" else "RGB"
            return cls(value.height, value.width, mode, depth)
        channels = value.shape[2] if value.ndim == 3 else 1
        return cls(value.shape[0], value.shape[1], MODES[channels], DEPTHS[value.dtype])


def raw(value: Any) -> Any:
    """Accept any Pillow mode and any array of pictures; raises `DataError` for other things."""
    if isinstance(value, Pillow.Image):
        if value.mode in ("L", "RGB", "RGBA", "I;16"):
            return value
        return plain_mode(value)
    known = isinstance(value, np.ndarray) and value.dtype in TOP
    if known and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in MODES)):
        return value
    raise DataError(
        "not a picture",
        found=f"{type(value).__name__} {getattr(value, 'shape', '')}".strip(),
        expected="a Pillow picture, or an array (H, W) or (H, W, C) of uint8, uint16 or float32",
    )


def to_array(value: Any, height: int, width: int, mode: str, resize: str) -> np.ndarray:
    """A raw picture -> (H, W, C) of the wanted size and mode, in its own depth."""
    value = raw(value)
    form = Form.of(value)
    fits = (form.height, form.width) == (height, width)
    if form.depth == "uint8" and not (fits and form.mode == mode):
        picture = value if isinstance(value, Pillow.Image) else Pillow.fromarray(squeezed(value))
        array = pixels(_resized(in_mode(picture, mode), height, width, resize))
    else:
        array = np.asarray(value)
        if not fits:
            array = _resized_deep(array, height, width, resize)
        if form.mode != mode:  # 16-bit or float, whose modes Pillow does not convert
            array = deep_in_mode(array, mode)
    return array[..., None] if array.ndim == 2 else array  # (H, W, C)


def in_mode(picture: Pillow.Image, mode: str) -> Pillow.Image:
    """Change the mode; transparent pixels are laid on white where the new mode has no alpha."""
    if picture.mode == "RGBA" and mode != "RGBA":
        white = Pillow.new("RGBA", picture.size, "white")
        picture = Pillow.alpha_composite(white, picture).convert("RGB")
    return picture.convert(mode)


def _resized(picture: Pillow.Image, height: int, width: int, resize: str) -> Pillow.Image:
    """Crop: short side to size, then the centre. Pad: long side, then white. Stretch: neither."""
    size, how = (width, height), Pillow.Resampling.LANCZOS
    if picture.size == size:
        return picture
    if resize == "stretch":
        return picture.resize(size, how)
    if resize == "pad":
        white = {"L": 255, "I;16": 65535, "F": 1.0}.get(picture.mode, (255,) * len(picture.mode))
        return ImageOps.pad(picture, size, how, color=white)  # type: ignore[arg-type]
    return ImageOps.fit(picture, size, how)


def _resized_deep(array: np.ndarray, height: int, width: int, resize: str) -> np.ndarray:
    """The same for 16-bit and float arrays, channel by channel."""
    top = TOP[array.dtype]
    channels = array[..., None] if array.ndim == 2 else array
    planes = np.moveaxis(channels.astype(np.float32) / top, 2, 0)  # (C, H, W)
    scaled = [
        np.asarray(_resized(Pillow.fromarray(plane), height, width, resize)) for plane in planes
    ]
    values = np.clip(np.stack(scaled, axis=2), 0, 1) * top
    values = np.rint(values) if top > 1 else values
    return squeezed(values.astype(array.dtype))


def deep_in_mode(array: np.ndarray, mode: str) -> np.ndarray:
    """Change the channels of a 16-bit or float array."""
    top = TOP[array.dtype]
    colour = array[..., None] if array.ndim == 2 else array
    if colour.shape[2] == 4 and mode != "RGBA":
        alpha = colour[..., 3:].astype(np.float64) / top
        colour = (colour[..., :3] * alpha + top * (1 - alpha)).astype(array.dtype)
    if mode == "L":
        weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow does
        return (colour[..., :3] @ weights).astype(array.dtype)
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    if mode == "RGBA":
        opaque = np.full((*colour.shape[:2], 1), top, dtype=array.dtype)
        colour = np.concatenate([colour, opaque], axis=2)
    return colour


def squeezed(array: np.ndarray) -> np.ndarray:
    """(H, W, 1) -> (H, W); colour as it is."""
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def white_of(largest: int, depths: list[str]) -> int | None:
    """Which value is white where no picture uses its depth: masks of 0 and 1, a few levels; 8 bits
    in 16, or a camera's 10, 12 or 14. None where the depth is used."""
    if depths not in (["uint8"], ["uint16"]) or not largest:
        return None
    if largest <= FEW_LEVELS:
        return largest
    narrower = (8, 10, 12, 14) if depths == ["uint16"] else ()
    return next((2**bits - 1 for bits in narrower if largest < 2**bits), None)


def filled(value: Any, white: int | None) -> Any:
    """A raw picture, stretched to its whole depth where its white is a smaller value."""
    value = raw(value)
    if white is None:
        return value
    array = np.asarray(value)
    if array.dtype == np.float32 or not 0 < int(array.max(initial=0)) <= white:
        return value  # written by this codec, at its whole depth already
    return np.rint(array * (TOP[array.dtype] / white)).astype(array.dtype)


def unscaled(index: np.ndarray) -> Pillow.Image:
    """(H, W, C) level indices -> a picture with these values, as in data that leave depth free."""
    deep = index.max(initial=0) > 255
    return Pillow.fromarray(squeezed(index.astype(np.uint16 if deep else np.uint8)))


def to_levels(array: np.ndarray, levels: int | None) -> np.ndarray:
    """Values in their own depth -> level indices 0 .. levels-1; continuous -> float32 in [0, 1]."""
    top = TOP[array.dtype]
    if levels is None:
        return array.astype(np.float32) / np.float32(top)
    if top == levels - 1:
        return array
    index = np.rint(array.astype(np.float64) * ((levels - 1) / top))
    return index.astype(np.uint8 if levels <= 256 else np.uint16)


def from_levels(index: np.ndarray, levels: int | None) -> Pillow.Image:
    """(H, W, C) level indices, or float in [0, 1] -> a Pillow picture of 8 bits, or 16 if grey."""
    if levels is not None and levels > 256 and index.shape[2] == 1:
        return Pillow.fromarray(squeezed(index).astype(np.uint16))
    top = 1.0 if levels is None else levels - 1.0
    if top != 255:
        index = np.rint(np.clip(index, 0, top) * (255.0 / top))
    return Pillow.fromarray(squeezed(index.astype(np.uint8)))


class Lattice:
    """Finds equally spaced values in float pictures: 256 levels, fewer, or none."""

    def __init__(self) -> None:
        self.values = np.empty(0, np.float32)

    def see(self, picture: np.ndarray) -> None:
        """Add a picture's values, until there are too many to be levels."""
        if len(self.values) <= 256:
            self.values = np.union1d(self.values, picture)

    def levels(self) -> int | None:
        """The smallest number of levels in [0, 1] that hold all values; None when continuous."""
        if len(self.values) > 256:
            return None
        gap = float(np.diff(self.values).min()) if len(self.values) > 1 else 1.0
        for levels in (256, round(1 / gap) + 1):
            steps = self.values * (levels - 1)
            if levels <= 256 and np.abs(steps - np.rint(steps)).max() < 1e-3:
                return levels
        return None


def beyond(low: float, high: float) -> DataError:
    """The error for a picture of numbers whose scale nobody knows."""
    return DataError(
        f"values {low:g} to {high:g}, whose scale is not known",
        hint="divide by what is white and save values in [0, 1], or save 16-bit whole numbers",
    )


def pixels(picture: Any) -> np.ndarray:
    """A plain picture, or an array, as an array. NumPy would ask Pillow for the bytes twice."""
    mode = getattr(picture, "mode", "")
    if mode not in CHANNELS:
        return np.asarray(picture)
    shape = (picture.height, picture.width, *((CHANNELS[mode],) if mode != "L" else ()))
    return np.frombuffer(picture.tobytes(), np.uint8).reshape(shape)


def plain_mode(picture: Pillow.Image) -> Any:
    """Any Pillow mode -> L, RGB, RGBA or I;16; a float picture -> a float32 array in [0, 1]."""
    mode = picture.mode
    if mode in ("L", "RGB", "RGBA", "I;16"):
        return picture
    if mode in ("LA", "La", "PA", "RGBa") or (mode == "P" and "transparency" in picture.info):
        return picture.convert("RGBA")
    if mode == "1":
        return picture.convert("L")
    if mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise beyond(float(values.min()), float(values.max()))
        return Pillow.fromarray(values.astype(np.uint16))
    if mode == "F":
        values = np.asarray(picture, dtype=np.float32)
        if not (values.min() >= 0 and values.max() <= 1):
            raise beyond(float(values.min()), float(values.max()))
        return values
    return picture.convert("RGB")

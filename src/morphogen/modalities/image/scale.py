"""The scale of arrays of pictures: which value is black, which is white.

Legend: N items, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from morphogen.core.codec import Report
from morphogen.core.errors import DataError

SMALL = 8  # pixels: (64, 64, 3) is one picture in colour, not 64 pictures of 64x3


def is_image_shape(shape: Sequence[int]) -> bool:
    """True for (N, H, W), (N, H, W, C) and (N, C, H, W) with 1, 3 or 4 channels."""
    if len(shape) == 4:
        return shape[-1] in (1, 3, 4) or shape[1] in (1, 3, 4)
    return len(shape) == 3 and not (shape[2] in (3, 4) and min(shape[:2]) >= SMALL)


def channels_last(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) or (N, H, W, 1) -> (N, H, W, C) or (N, H, W)."""
    if not is_image_shape(images.shape) or images.dtype.kind not in "uifb":
        raise DataError(
            "the array does not have the shape of pictures",
            found=f"{images.dtype} {images.shape}",
            expected="numbers (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels",
        )
    if images.ndim == 4 and images.shape[-1] not in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)  # (N, H, W, C)
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images


@dataclass(frozen=True)
class Scale:
    """value -> (value - low) / span in [0, 1], or kept as whole numbers of `dtype`."""

    low: float = 0.0
    span: float = 1.0
    dtype: str = "float32"

    @classmethod
    def of(cls, images: np.ndarray, report: Report, alone: bool = False) -> Scale:
        """The scale of an array: 8 or 16 bits, [0, 1], [-1, 1], or its own range. Which of few
        levels is white, all pictures together say (`convert.white_of`); what is `alone`, one of
        many in arrays of their own, does not say how many bits the others have."""
        grey = images.ndim == 3
        if images.dtype in (np.uint8, np.uint16):
            if images.dtype == np.uint16 and not grey:
                report.facts["colour_16_bit"] = "16-bit colour is read as 8-bit colour"
                return cls(0, 65535 / 255, "uint8")
            return cls(dtype=images.dtype.name)
        if images.dtype == np.bool_:
            return cls(0, 1 / 255, "uint8")
        finite = images[np.isfinite(images)] if images.dtype.kind == "f" else images
        if not finite.size:
            raise DataError("the array has no finite values", found=f"shape {images.shape}")
        low, high = float(finite.min()), float(finite.max())
        integers = images.dtype.kind in "iu"
        whole = integers or bool(np.all(np.mod(finite[:1_000_000], 1) == 0))
        if low >= 0 and high <= 1 and not integers:
            return cls()
        if -1 <= low < 0 and high <= 1:
            report.facts["range"] = (
                f"values {low:g} to {high:g}: -1 is taken for black, 1 for white"
            )
            return cls(-1, 2)
        if whole and low >= 0 and high <= 65535 and (high <= 255 or grey):
            return cls(dtype="uint16" if high > 255 or (alone and grey) else "uint8")
        report.facts["range"] = f"values {low:g} to {high:g} are scaled to [-1, 1]"
        return cls(low, max(high - low, 1e-12))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """One picture on this scale, clipped to it."""
        if image.dtype == self.dtype and self.dtype != "float32":
            return image
        values = (image.astype(np.float64) - self.low) / self.span
        if self.dtype == "float32":
            return np.clip(values, 0, 1).astype(np.float32)
        top = np.iinfo(self.dtype).max
        return np.clip(np.rint(values), 0, top).astype(self.dtype)

"""What of an item is to be drawn anew, as people show it: painted over a picture, marked in a text.

    {"file": BASE64, "suffix": ".png"}    a picture like the one that is worked on: what is
                                          transparent in it is hidden; what is black, if nothing is
    {"spans": [[12, 20], ..]}             characters of the text that is worked on, from and before

A painted picture goes the way of the other one through the codec (cropped, resized), so that what
was painted stays where it was. Of a latent codec, a cell is hidden of which any part is.

Legend: C channels, H height, W width, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, RefusedPair
from morphogen.modalities.image import Image
from morphogen.modalities.image.convert import TOP
from morphogen.modalities.text import Text
from morphogen.modalities.text.page import END
from morphogen.serve.worker.results import given


def known_of(
    bundle: Bundle, hidden: Mapping[str, Any], inputs: Sequence[Any], folder: Path
) -> Tensor:
    """True where items are to be kept, for `tasks.fill`. Raises `MorphogenError`."""
    if "file" in hidden:
        place = folder / "hidden"
        place.mkdir()
        (file,) = given([hidden], place, bundle.codec)
        return _of_picture(bundle, file)
    if len(inputs) != 1 or not isinstance(inputs[0], Item):
        raise DataError("a place in a text is of one text", found=f"{len(inputs)} inputs")
    return _of_text(bundle, inputs[0], hidden.get("spans", ()))


def _of_picture(bundle: Bundle, file: Path) -> Tensor:
    """(1, 1, H, W) of the model's own size."""
    reader, space = bundle.codec.innermost, bundle.family.spec.space
    if not isinstance(reader, Image) or len(space) != 2:
        raise RefusedPair("this model draws no pictures that a mask could be painted over",
                          found=str(bundle.family.spec), expected="pictures")  # fmt: skip
    (painted,) = reader.read_inputs(file)
    shown = np.asarray(painted.value)  # (H, W), or (H, W, C) with 3 or 4 channels
    if shown.ndim == 3:
        is_cut_out = shown.shape[2] == 4 and shown[..., 3].min() < TOP[shown.dtype]
        shown = shown[..., 3] if is_cut_out else shown[..., :3].max(2)
    kept = np.where(shown > TOP[shown.dtype] / 2, 255, 0).astype(np.uint8)
    known = reader.encode_many([Item(kept)])[:, :1] > 0  # (1, 1, H, W)
    if known.shape[2:] == space:
        return known
    return F.adaptive_max_pool2d((~known).float(), space) == 0


def _of_text(bundle: Bundle, item: Item, spans: Sequence[Sequence[int]]) -> Tensor:
    """(1, L): tokens of which no byte is hidden."""
    codec = bundle.codec
    if not isinstance(codec, Text) or not isinstance(item.value, str):
        raise RefusedPair("no text is worked on, of which a place could be hidden",
                          found=str(bundle.family.spec), expected="a model of texts")  # fmt: skip
    tokens = codec.encode(item)  # (L,)
    sizes = torch.from_numpy(codec.tokenizer.byte_lengths)[tokens].long()
    after = sizes.cumsum(0)
    before = after - sizes
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    for span in spans:
        start, end = _bytes_of(item.value, span)
        hidden |= (before < end) & (after > start) & (sizes > 0)
    if not hidden.any():
        raise DataError(
            "nothing of the text is hidden", found=f"{list(spans)}",
            expected=f"characters from 0 to {len(item.value)}, in the first {len(tokens)} tokens",
        )  # fmt: skip
    return ~hidden[None]


def _bytes_of(text: str, span: Sequence[int]) -> tuple[int, int]:
    """Where characters from and before two places lie among the bytes of a text."""
    if len(span) != 2 or not 0 <= span[0] < span[1]:
        raise DataError("this is no place in a text", found=f"{list(span)}",
                        expected="[from, before], such as [12, 20]")  # fmt: skip
    start, end = (
        len(text[:place].replace(END, "").encode(errors="surrogateescape")) for place in span
    )
    return start, end

"""What a benchmark makes of draws before it measures them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.data.dataset import Data


def read_again(bundle: Bundle, data: Data, x: Any) -> Tensor:
    """Draws as the data's own codec reads them: at its levels; of a chain, whose draws are latents,
    the items that these stand for. (N, *shape)."""
    items = [Item(value) for value in bundle.codec.decode_many(x)]
    read: Tensor = data.codec.encode_many(items)
    return read

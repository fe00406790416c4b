"""Models that know one vector, as a library that there is not would write them: toy.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from morphogen.core.border import read_json
from morphogen.core.codec import Codec
from morphogen.core.driver import Driver
from morphogen.core.spec import TensorSpec
from morphogen.modalities.value import Value


class ToyConstant(Driver):
    """Draws the one number that it knows."""

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        *,
        number: float = 0.0,  # that is drawn
    ) -> None:
        super().__init__(spec, conditions)
        self.number = number

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """A folder with toy.json."""
        return (folder / "toy.json").is_file()

    @classmethod
    def opened(cls, folder: Path) -> tuple[Driver, Codec]:
        """The model, and what its items are."""
        codec = Value()
        codec.spec = TensorSpec.vector(1)
        return cls(codec.spec, {}, number=float(read_json(folder / "toy.json")["number"])), codec

    def sample(
        self, num: int, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        """(num, 1)."""
        return torch.full((num, 1), self.number)

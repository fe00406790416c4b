"""Numbers: one value each, such as a price, an age, a temperature. A single real value.

    x = 2 (u - low) / (high - low) - 1,    u = v, or log v where the values are skewed

with the smallest and the largest value of the training items at -1 and 1. Values are given and
shown in their own unit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec

SKEWED = 2.0  # a skewness from which the logarithm is taken, if that has a smaller one
DIGITS = 6  # significant ones, when a value is shown
FEW = 20  # different values, up to which a column of whole numbers is rather one of categories


class Value(Codec):
    """One number, on a scale that the training items span."""

    def __init__(
        self,
        *,
        scale: Literal["auto", "linear", "log"] = "auto",  # log: of positive values that are skewed
    ) -> None:
        self.scale = scale
        self.is_log, self.low, self.high = False, -1.0, 1.0
        self.spec = TensorSpec.vector(1)

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        """Never: numbers are what is said of items, or columns of a table."""
        return None

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """Sure of numbers, less so of a few whole ones, which may be categories."""
        numbers = [_number(value) for value in values]
        known = [number for number in numbers if number is not None]
        if not known or len(known) < len(numbers):
            return None
        few = len(set(known)) <= FEW and all(number == int(number) for number in known)
        return Recognition(0.6 if few else 0.9, f"numbers from {min(known):g} to {max(known):g}")

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        """Nothing: see `recognises`."""
        return iter(())

    def fit(self, items: Iterable[Item]) -> Value:
        """Find the range, and whether values are better told apart by their logarithm."""
        values = [self._parse(item.value) for item in items]
        if not values:
            raise DataError("there are no numbers to learn", expected="at least one")
        positive = min(values) > 0
        if self.scale == "log" and not positive:
            raise DataError("only positive numbers have a logarithm", found=f"{min(values):g}")
        logs = [math.log(value) for value in values] if positive else values
        skew = _skewness(values)
        self.is_log = self.scale == "log" or (
            self.scale == "auto" and positive and skew > SKEWED and abs(_skewness(logs)) < skew
        )
        scaled = logs if self.is_log else values
        self.low, self.high = min(scaled), max(scaled)
        return self

    def encode(self, item: Item) -> Tensor:
        """A number, or a text that is one -> (1,). Raises `DataError` for anything else."""
        value = self._parse(item.value)
        if self.is_log and value <= 0:
            raise DataError(
                "the number is not positive, as those learned are", found=f"{value:g}",
                expected=f"about {math.exp(self.low):g} to {math.exp(self.high):g}",
            )  # fmt: skip
        width = self.high - self.low or 1.0
        u = math.log(value) if self.is_log else value
        return torch.tensor([2 * (u - self.low) / width - 1])

    def decode(self, x: Tensor) -> float:
        """(1,) -> the number in its own unit."""
        width = self.high - self.low or 1.0
        u = (float(x.reshape(())) + 1) / 2 * width + self.low
        value = math.exp(u) if self.is_log else u
        return float(f"{value:.{DIGITS}g}")

    def spread(self, x: Tensor) -> str:
        """The range, in the values' own unit."""
        values = [self.decode(row) for row in x]
        scale = ", on a logarithmic scale" if self.is_log else ""
        return f"{min(values):g} to {max(values):g}{scale}"

    def _parse(self, value: Any) -> float:
        number = _number(value)
        if number is None:
            raise DataError(f"{str(value)!r} is no number", found=str(value), expected="a number")
        return number

    def state(self) -> dict[str, Any]:
        """The scale and its ends."""
        return {"scale": self.scale, "log": self.is_log, "low": self.low, "high": self.high}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Value:
        """Inverse of `state`."""
        codec = cls(scale=state["scale"])
        codec.is_log = bool(state["log"])
        codec.low, codec.high = float(state["low"]), float(state["high"])
        return codec


def _number(value: Any) -> float | None:
    """A finite number, or None. `True` is none, and neither is a text with words in it."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value.strip() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _skewness(values: Sequence[float]) -> float:
    spread = statistics.pstdev(values)
    if not spread:
        return 0.0
    mean = statistics.fmean(values)
    return statistics.fmean(((value - mean) / spread) ** 3 for value in values)

"""The columns of a table: what kind each is, found from its cells, and its values as tensors.

    constant      one value in every row: no model needs it, `decode` puts it back
    left out      an identifier or a free text: nothing to learn from, said in the facts
    category      one of few values: a token
    number        real, whole or a date: a value in [-1, 1], or the token of a bin

A number of few levels keeps them: v -> 2 (v - low) / (high - low) - 1, whole steps. Others are
straightened, so that no tail is squeezed into a corner: the quantiles of the training rows are laid
evenly over [-1, 1], and between two of them lies a straight line, which is as exact backwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.spec import TensorSpec
from morphogen.modalities.table.cells import COMMAS, Cell, decimals_of, moment, written

OTHER = "(other)"  # stands for the rare values of a column that has many
MOST_LEVELS = 256
NUM_KNOTS = 33  # quantiles that a number is straightened by
MOST_BINS = 64  # tokens of a number
MOST_DECIMALS = 15  # beyond, nothing is rounded


@dataclass
class Column:
    """A column that nothing is learned of: a constant, or one that is left out."""

    kind: ClassVar[str] = "left out"

    name: str
    why: str = ""  # in words, for the facts
    is_constant: bool = False
    constant: Cell = None

    def parts(self, part: str) -> dict[str, TensorSpec]:
        """The tensors of a cell in the view of parts, the first of them called `part`."""
        return {}

    @property
    def size(self) -> int:
        """How many tokens there are for a cell; 0 for a column without any."""
        return 0

    def encode(self, part: str, cells: Sequence[Cell]) -> dict[str, Tensor]:
        """Cells (N,) -> their tensors, (N, *shape)."""
        return {}

    def decode(self, part: str, x: Mapping[str, Tensor]) -> Cell:
        """The tensors of one cell -> the cell."""
        return self.constant

    def tokens(self, cells: Sequence[Cell]) -> Tensor:
        """Cells (N,) -> their tokens, (N,)."""
        raise NotImplementedError

    def moves(self, cell: Cell) -> bool:
        """Whether encoding changes the cell. Raises `DataError` when it cannot be encoded."""
        return False

    def of_token(self, token: int) -> Cell:
        """A token -> a cell, always the same."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `column_from_json` is the inverse."""
        return {"kind": self.kind, **asdict(self)}


@dataclass
class Category(Column):
    """One of few values. Those that are rare among many share the token of `OTHER`; a missing one
    has the last token, where training rows have any."""

    kind: ClassVar[str] = "category"

    values: list[Any] = field(default_factory=list)
    has_missing: bool = False

    def __post_init__(self) -> None:
        self.index = {_key(value): i for i, value in enumerate(self.values)}

    @property
    def size(self) -> int:
        return len(self.values) + self.has_missing

    def parts(self, part: str) -> dict[str, TensorSpec]:
        return {part: TensorSpec.label(self.size)}

    def encode(self, part: str, cells: Sequence[Cell]) -> dict[str, Tensor]:
        return {part: self.tokens(cells)}

    def decode(self, part: str, x: Mapping[str, Tensor]) -> Cell:
        return self.of_token(int(x[part]))

    def tokens(self, cells: Sequence[Cell]) -> Tensor:
        return torch.tensor([self._token(cell) for cell in cells], dtype=torch.int64)

    def moves(self, cell: Cell) -> bool:
        return self._token(cell) < 0  # never: it raises where a token is wanting

    def _token(self, cell: Cell) -> int:
        if cell is None and self.has_missing:
            return len(self.values)
        found = self.index.get(_key(cell), self.index.get(_key(OTHER)))
        if found is None or cell is None:
            raise unknown(self.name, cell, [str(value) for value in self.values])
        return found

    def of_token(self, token: int) -> Cell:
        found: Cell = self.values[token] if token < len(self.values) else None
        return found


@dataclass
class Number(Column):
    """A number between `low` and `high`: of `levels` with equal steps, or straightened by `knots`.

    `bins` are the smallest values of the token's bins, `typical` a value of each; a missing number
    has the last token, or a part of its own beside it.
    """

    kind: ClassVar[str] = "number"

    low: float = 0.0
    high: float = 1.0
    decimals: int | None = 0  # that the training rows have; None: as many as there can be
    levels: int | None = None
    knots: list[float] = field(default_factory=list)
    bins: list[float] = field(default_factory=list)
    typical: list[float] = field(default_factory=list)
    date: str | None = None  # the form of dates that the column is in
    comma: str | None = None  # what commas in its cells mean
    has_missing: bool = False

    @property
    def size(self) -> int:
        return len(self.bins) + self.has_missing

    def parts(self, part: str) -> dict[str, TensorSpec]:
        value = TensorSpec("real", (1,), levels=self.levels, layout="vector")
        return {part: value, **({missing(part): TensorSpec.label(2)} if self.has_missing else {})}

    def encode(self, part: str, cells: Sequence[Cell]) -> dict[str, Tensor]:
        numbers = self.numbers(cells)
        absent = np.isnan(numbers)
        places = np.where(absent, self._middle, self._straightened(numbers))
        found = {part: torch.from_numpy(places.astype(np.float32))[:, None]}
        if self.has_missing:
            found[missing(part)] = torch.from_numpy(absent.astype(np.int64))
        return found

    def decode(self, part: str, x: Mapping[str, Tensor]) -> Cell:
        if self.has_missing and int(x[missing(part)]):
            return None
        place = float(x[part].double().clamp(-1, 1))
        if self.levels:
            step = round((place + 1) * (self.levels - 1) / 2)
            return self._cell(self.low + step * (self.high - self.low) / (self.levels - 1))
        return self._cell(float(np.interp(place, np.linspace(-1, 1, len(self.knots)), self.knots)))

    def tokens(self, cells: Sequence[Cell]) -> Tensor:
        numbers = self.numbers(cells)
        found = np.searchsorted(self.bins, numbers, side="right") - 1
        found = np.where(np.isnan(numbers), len(self.bins), found.clip(min=0))
        return torch.from_numpy(found.astype(np.int64))

    def of_token(self, token: int) -> Cell:
        return self._cell(self.typical[token]) if token < len(self.bins) else None

    def numbers(self, cells: Sequence[Cell]) -> np.ndarray:
        """Cells (N,) as numbers, NaN for a missing one. Raises `DataError` for what is neither."""
        return np.array([self._number(cell) for cell in cells], np.float64)

    def _number(self, cell: Cell) -> float:
        found = number_in(cell, self.date, self.comma) if isinstance(cell, str) else cell
        if found is None and (cell is not None or not self.has_missing):
            raise unknown(self.name, cell, [])
        return np.nan if found is None else float(found)

    def moves(self, cell: Cell) -> bool:
        """Whether no training row reaches so far: the number is moved to the nearest that does."""
        number = self._number(cell)
        return number < self.low or number > self.high

    @property
    def _middle(self) -> float:
        """Where a missing number is put: a level, where there are such."""
        return 0.0 if not self.levels else 2 * ((self.levels - 1) // 2) / (self.levels - 1) - 1

    def _straightened(self, numbers: np.ndarray) -> np.ndarray:
        numbers = numbers.clip(self.low, self.high)
        if self.levels:
            top = self.levels - 1
            return 2 * np.rint((numbers - self.low) / (self.high - self.low) * top) / top - 1
        return np.interp(numbers, self.knots, np.linspace(-1, 1, len(self.knots)))

    def _cell(self, number: float) -> Cell:
        rounded = number if self.decimals is None else round(number, self.decimals)
        if self.date:
            return written(int(rounded), self.date)
        return int(rounded) if self.decimals == 0 else float(rounded)


def number_in(cell: str, date: str | None, comma: str | None) -> float | None:
    """The number that a text stands for."""
    if date:
        return moment(cell, date)
    try:
        return float(cell.replace(*COMMAS[comma])) if comma else None
    except ValueError:
        return None


def missing(part: str) -> str:
    """The name of the part that says whether a number is missing."""
    return f"{part}_missing"


def unknown(column: str, cell: Cell, known: Sequence[str]) -> DataError:
    """The error for a value that no training row has."""
    if cell is None:
        reason = f"{column} is missing, as in no training row"
    else:
        reason = f"{column} is {cell!r}, as in no training row.{did_you_mean(str(cell), known)}"
    return DataError(reason, hint="correct it, or add training rows with it")


def number_column(
    name: str,
    numbers: Sequence[float],
    counts: Counter[float] | None,
    low: float,
    high: float,
    **known: Any,
) -> Number:
    """A number's column from (a sample of) the training rows; `counts` of every value where they
    are few enough to be counted."""
    sample = np.sort(np.asarray(numbers, np.float64))
    decimals = max(map(decimals_of, sample[:: max(len(sample) // 5000, 1)]))
    steps = (high - low) * 10.0 ** min(decimals, MOST_DECIMALS)
    levels = round(steps) + 1 if steps < MOST_LEVELS - 0.5 else None
    quantiles = np.quantile(sample, np.linspace(0, 1, NUM_KNOTS), method="lower")
    knots = np.unique([low, *quantiles, high]).tolist()
    if counts is not None and len(counts) <= MOST_BINS:
        bins = typical = sorted(counts)
    else:
        edges = np.quantile(sample, np.linspace(0, 1, MOST_BINS + 1)[:-1], method="lower")
        bins = np.unique([low, *edges]).tolist()
        own = np.searchsorted(bins, sample, side="right") - 1
        typical = [_middle_of(sample[own == i], bins[i]) for i in range(len(bins))]
    return Number(
        name, low=low, high=high, decimals=decimals if decimals <= MOST_DECIMALS else None,
        levels=levels, knots=knots,
        bins=[float(x) for x in bins], typical=[float(x) for x in typical], **known,
    )  # fmt: skip


def _middle_of(values: np.ndarray, otherwise: float) -> float:
    """The middle one of sorted values."""
    return float(values[len(values) // 2]) if len(values) else otherwise


def column_from_json(state: dict[str, Any]) -> Column:
    """Inverse of `Column.to_json`."""
    kinds: dict[str, type[Column]] = {each.kind: each for each in (Column, Category, Number)}
    return kinds[state["kind"]](**{key: value for key, value in state.items() if key != "kind"})


def _key(value: Cell) -> str:
    """1 and 1.0 are one value; True is none of them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{type(value).__name__} {value}"
    return f"number {float(value)}"

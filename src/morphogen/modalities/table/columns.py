"""The columns of a table: what kind each is, found from its cells, and its values as tensors.

    constant      one value in every row: no model needs it, `decode` puts it back
    left out      an identifier or a free text: nothing to learn from, said in the facts
    category      one of few values: a token
    number        real, whole or a date: a value in [-1, 1], or one or two tokens

A number of few levels keeps them: v -> 2 (v - low) / (high - low) - 1, whole steps. Others are
straightened, so that no tail is squeezed into a corner: the quantiles of the training rows are laid
evenly over [-1, 1], and between two of them lies a straight line, which is as exact backwards.

As tokens, a number whose values come again has a token for each. Others are told in two: the bin,
of about equally many training rows, and which of its values it is, of up to 2,048 in all
bins together; what lies between them is moved to the nearest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from morphogen.core.commas import uncomma
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.spec import TensorSpec
from morphogen.modalities.table.cells import (
    Cell,
    marked,
    moment,
    written,
)

OTHER = "(other)"  # stands for the rare values of a column that has many
SMOOTHED = 8  # values on either side, by which it is told how close they lie
MOST_DECIMALS = 15  # beyond, nothing is rounded


@dataclass
class Column:
    """A column that nothing is learned of: a constant, or one that is left out."""

    kind: ClassVar[str] = "left out"
    ordered: ClassVar[bool] = False  # whether one value is more than another

    name: str
    why: str = ""  # in words, for the facts
    is_constant: bool = False
    constant: Cell = None
    has_missing: bool = False  # whether training rows have missing cells

    def parts(self, part: str) -> dict[str, TensorSpec]:
        """The tensors of a cell in the view of parts, the first of them called `part`."""
        return {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many tokens there are at each position of a cell; none for a column without any."""
        return ()

    def encode(self, part: str, cells: Sequence[Cell]) -> dict[str, Tensor]:
        """Cells (N,) -> their tensors, (N, *shape)."""
        return {}

    def decode(self, part: str, x: Mapping[str, Tensor]) -> list[Cell]:
        """The tensors of cells (N, *shape) -> the cells (N,)."""
        raise NotImplementedError

    def tokens(self, cells: Sequence[Cell]) -> Tensor:
        """Cells (N,) -> their tokens, (N, positions)."""
        raise NotImplementedError

    def measured(self, cells: Sequence[Cell]) -> Tensor:
        """Cells (N,) as numbers, float64; kinds by number; NaN for a missing one."""
        absent = torch.tensor([cell is None for cell in cells])
        return self.tokens(cells)[:, 0].double().masked_fill(absent, torch.nan)

    def log_room(self, part: str, x: Mapping[str, Tensor]) -> np.ndarray:
        """The log of how much of the range of values each cell's place stands for, (N,)."""
        return np.zeros(1)

    def log_room_of(self, tokens: Tensor) -> np.ndarray:
        """The same of tokens (N, positions)."""
        return np.zeros(1)

    def moves(self, cell: Cell) -> bool:
        """Whether encoding changes the cell. Raises `DataError` when it cannot be encoded."""
        return False

    def moved(self, cells: Sequence[Cell]) -> np.ndarray:
        """`moves` of each, (N,)."""
        return np.array([self.moves(cell) for cell in cells], bool)

    def of_tokens(self, tokens: Tensor) -> list[Cell]:
        """The tokens of cells (N, positions) -> the cells (N,), always the same."""
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

    def __post_init__(self) -> None:
        self.index = {marked(value): i for i, value in enumerate(self.values)}
        if self.has_missing:
            self.index[None] = len(self.values)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.values) + self.has_missing,)

    def parts(self, part: str) -> dict[str, TensorSpec]:
        return {part: TensorSpec.label(*self.sizes)}

    def encode(self, part: str, cells: Sequence[Cell]) -> dict[str, Tensor]:
        return {part: self.tokens(cells)[:, 0]}

    def decode(self, part: str, x: Mapping[str, Tensor]) -> list[Cell]:
        return self.of_tokens(x[part][:, None])

    def tokens(self, cells: Sequence[Cell]) -> Tensor:
        found = map(self.index.get, map(marked, cells))
        tokens = [self._other(cells[i]) if n is None else n for i, n in enumerate(found)]
        return torch.tensor(tokens, dtype=torch.int64)[:, None]

    def moves(self, cell: Cell) -> bool:
        return marked(cell) not in self.index and self.values[self._other(cell)] != OTHER

    def _other(self, cell: Cell) -> int:
        """The token of a value that no training row has: that of the rare ones, or of the nearest
        number, where all are numbers. Raises `DataError` where there is neither."""
        found = self.index.get(OTHER)
        if found is None and self._numbers is not None and (number := _as_number(cell)) is not None:
            found = int(np.abs(self._numbers - number).argmin())
        if found is None or cell is None:
            raise unknown(self.name, cell, [str(value) for value in self.values])
        return found

    @functools.cached_property
    def _numbers(self) -> np.ndarray | None:
        numbers = [_as_number(value) for value in self.values]
        return None if None in numbers else np.array(numbers, np.float64)

    def of_tokens(self, tokens: Tensor) -> list[Cell]:
        cells = [*self.values, None]
        return [cells[token] for token in tokens[:, 0].tolist()]


def _as_number(cell: Cell) -> float | None:
    """What a category that is a number says, whether it was read as one or as text."""
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str)):
        return None
    try:
        return float(cell) if math.isfinite(float(cell)) else None
    except ValueError:
        return None


@dataclass
class Number(Column):
    """A number between `low` and `high`: of `levels` with equal steps, or straightened by `knots`.

    `values` are those that tokens stand for, in order; with `starts`, the places of the first one
    of each bin, the first token is the bin, the second the place in it. A missing number has the
    last token (and then the first place), or a part of its own beside it.
    """

    kind: ClassVar[str] = "number"
    ordered: ClassVar[bool] = True

    low: float = 0.0
    high: float = 1.0
    decimals: int | None = 0  # that the training rows have; None: as many as there can be
    levels: int | None = None
    knots: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # none: every value has a token of its own
    date: str | None = None  # the form of dates that the column is in
    comma: str | None = None  # what commas in its cells mean
    absent: float | None = None  # the number that stands for a missing one

    @property
    def sizes(self) -> tuple[int, ...]:
        if not self.starts:
            return (len(self.values) + self.has_missing,)
        widths = np.diff([*self.starts, len(self.values)])
        return len(self.starts) + self.has_missing, int(widths.max())

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

    def decode(self, part: str, x: Mapping[str, Tensor]) -> list[Cell]:
        places = x[part][:, 0].double().clamp(-1, 1).numpy()
        if self.levels:
            steps = np.rint((places + 1) * (self.levels - 1) / 2)
            numbers = self.low + steps * (self.high - self.low) / (self.levels - 1)
        else:
            numbers = np.interp(places, np.linspace(-1, 1, len(self.knots)), self.knots)
        if self.has_missing:
            numbers = np.where(x[missing(part)].bool().numpy(), np.nan, numbers)
        return self._cells(numbers)

    def tokens(self, cells: Sequence[Cell]) -> Tensor:
        numbers = self.numbers(cells)
        absent, values = np.isnan(numbers), np.array(self.values)
        place = np.searchsorted((values[1:] + values[:-1]) / 2, numbers)  # of the nearest
        if not self.starts:
            return torch.from_numpy(np.where(absent, len(values), place))[:, None]
        own = np.searchsorted(self.starts, place, side="right") - 1
        both = np.stack([np.where(absent, len(self.starts), own),
                         np.where(absent, 0, place - np.array(self.starts)[own])], 1)  # fmt: skip
        return torch.from_numpy(both)

    def of_tokens(self, tokens: Tensor) -> list[Cell]:
        absent, place = self._places(tokens)
        return self._cells(np.where(absent, np.nan, np.array(self.values)[place]))

    def _places(self, tokens: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Whether cells are missing (N,), and the places of their values (N,)."""
        first, *second = tokens.numpy().T
        place = first
        if self.starts:  # beyond the last value of a bin is the last one
            starts = np.array([*self.starts, len(self.values)])
            own = first.clip(max=len(self.starts) - 1)
            place = np.minimum(starts[own] + second[0], starts[own + 1] - 1)
        return first >= len(self.starts or self.values), place.clip(max=len(self.values) - 1)

    def log_room(self, part: str, x: Mapping[str, Tensor]) -> np.ndarray:
        if self.levels:
            return np.zeros(1)
        widths = np.diff(self.knots) * (len(self.knots) - 1)
        place = (x[part][:, 0].double().numpy() + 1) / 2 * (len(self.knots) - 1)
        return self._logs(widths)[place.astype(np.int64).clip(0, len(widths) - 1)]

    def log_room_of(self, tokens: Tensor) -> np.ndarray:
        absent, place = self._places(tokens)
        return np.where(absent, 0.0, self._logs(self._widths)[place])

    @functools.cached_property
    def _widths(self) -> np.ndarray:
        """How far it is from a value to the next, on average of some about each: one alone says
        little of how close values of a bin are. A value with a token of its own is told alone."""
        values, place = np.array(self.values), np.arange(len(self.values))
        half = np.minimum(place, place[::-1]).clip(1, SMOOTHED if self.starts else 1)
        first, last = (place - half).clip(min=0), (place + half).clip(max=len(values) - 1)
        return (values[last] - values[first]) / np.maximum(last - first, 1)

    def _logs(self, widths: np.ndarray) -> np.ndarray:
        """Logs of widths as shares of the range."""
        return np.log(widths / (self.high - self.low))

    def measured(self, cells: Sequence[Cell]) -> Tensor:
        return torch.from_numpy(self.numbers(cells))

    def numbers(self, cells: Sequence[Cell]) -> np.ndarray:
        """Cells (N,) as numbers, NaN for a missing one. Raises `DataError` for what is neither."""
        if set(map(type, cells)) <= {int, float} and self.absent is None:
            return np.array(cells, np.float64)
        return np.array([self._number(cell) for cell in cells], np.float64)

    def _number(self, cell: Cell) -> float:
        found = number_in(cell, self.date, self.comma) if isinstance(cell, str) else cell
        if found is None and (cell is not None or not self.has_missing):
            raise unknown(self.name, cell, [])
        return np.nan if found in (None, self.absent) else float(found)

    def moves(self, cell: Cell) -> bool:
        """Whether no training row reaches so far: the number is moved to the nearest that does."""
        number = self._number(cell)
        return number < self.low or number > self.high

    def moved(self, cells: Sequence[Cell]) -> np.ndarray:
        numbers = self.numbers(cells)
        return (numbers < self.low) | (numbers > self.high)

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

    def _cells(self, numbers: np.ndarray) -> list[Cell]:
        """Numbers (N,), NaN for a missing one, as the data has them."""
        if self.decimals is not None:
            numbers = np.round(numbers, self.decimals)
        form: Callable[[float], Cell] = int if self.decimals == 0 else float
        if self.date:
            form = functools.partial(_as_date, form=self.date)
        return [None if math.isnan(number) else form(number) for number in numbers.tolist()]


def _as_date(number: float, form: str) -> str:
    return written(int(number), form)


def number_in(cell: str, date: str | None, comma: str | None) -> float | None:
    """The number that a text stands for."""
    if date:
        return moment(cell, date)
    try:
        return float(uncomma(cell, comma)) if comma else None
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


def column_from_json(state: dict[str, Any]) -> Column:
    """Inverse of `Column.to_json`."""
    kinds: dict[str, type[Column]] = {each.kind: each for each in (Column, Category, Number)}
    own = {key: value for key, value in state.items() if key not in ("kind", "bins", "typical")}
    if "typical" in state:  # as columns were kept while a number had one token only
        own["values"] = state["typical"]
    return kinds[state["kind"]](**own)

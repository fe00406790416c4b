"""Rules that all rows of a table keep, so that all rows that are drawn keep them too.

    together    a cell follows from another: (education, years); it is put back from a list
    sum         total = net + tax; it is put back by adding
    order       start <= end; the second is moved up to the first where a draw crosses them

What is put back is not learned. Rules are found in the data, where no row of many breaks them, or
declared, and then a row that breaks one is an error. A sum of which a part is missing is missing,
and an order holds of what there is. Of a row that is to be filled, what follows from the rest is
put in first: a part from the sum and the others, a city from a country that has but one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from morphogen.core.errors import DataError, RecipeError, did_you_mean
from morphogen.modalities.table.cells import Cell, decimals_of, marked

if TYPE_CHECKING:
    from morphogen.modalities.table.together import Rows

Row = Mapping[str, Any]  # of cells

AUTO, NONE = "auto", "none"
FIRST = 500  # rows that rules are proposed from; fewer prove none
ROWS_EACH = 20  # for each value that another follows from, so that it is no chance
LEAST = 1e-6  # of a sum: numbers written in decimals do not add up exactly


@dataclass
class Rule:
    """What every row keeps."""

    kind: ClassVar[str] = ""

    @property
    def gives(self) -> str | None:
        """The column that is put back from others, if any."""
        return None

    def holds(self, row: Row) -> bool:
        """Whether what is known of a row keeps it."""
        raise NotImplementedError

    def see(self, row: Row) -> bool:
        """Whether a training row keeps it, and what is missing is so as a rule; learns from it."""
        return self.holds(row)

    def complete(self, row: Row) -> Row:
        """A row with what follows from the rest of it."""
        return row

    def keep(self, cells: dict[str, Any]) -> None:
        """Make drawn cells keep it."""
        raise NotImplementedError

    def check(self, rows: Iterable[Row]) -> None:
        """Raise `DataError` for a row that breaks it."""
        for row in rows:
            if not self.holds(row):
                raise self.broken_by(row)

    def broken_by(self, row: Row) -> DataError:
        """The error for a row that breaks it."""
        return DataError(
            "a row breaks a rule that all training rows keep", expected=str(self),
            found=", ".join(f"{name} {row.get(name)!r}" for name in self.names),
            hint="correct the row; or --set modality.rules=none",
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it is about."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `rule_from_json` is the inverse."""
        return {"kind": self.kind, **asdict(self)}


@dataclass
class Together(Rule):
    """`second` follows from `first`: of each value of the first there is one of the second."""

    kind: ClassVar[str] = "together"

    first: str
    second: str
    pairs: list[list[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = {marked(a): b for a, b in self.pairs}

    def __str__(self) -> str:
        return f"({self.first}, {self.second})"

    @property
    def gives(self) -> str:
        return self.second

    @property
    def names(self) -> tuple[str, ...]:
        return self.first, self.second

    def holds(self, row: Row) -> bool:
        first, second = row.get(self.first), row.get(self.second)
        told = self.known.get(marked(first), second)
        return second is None or marked(told) == marked(second)

    def see(self, row: Row) -> bool:
        first, second = row.get(self.first), row.get(self.second)
        if (key := marked(first)) not in self.known:
            self.known[key] = second
            self.pairs.append([first, second])
            return True
        return marked(self.known[key]) == marked(second)

    def complete(self, row: Row) -> Row:
        second = row.get(self.second)
        if row.get(self.first) is not None or second is None:
            return row
        fitting = [a for a, b in self.pairs if marked(b) == marked(second)]
        return {**row, self.first: fitting[0]} if len(fitting) == 1 else row

    def keep(self, cells: dict[str, Any]) -> None:
        first = cells.get(self.first)
        if marked(first) not in self.known and _is_number(first):  # drawn between two that are
            numbers = [a for a, _ in self.pairs if _is_number(a)]
            cells[self.first] = first = min(numbers, key=lambda a: abs(a - first))
        cells[self.second] = self.known.get(marked(first))


@dataclass
class Sum(Rule):
    """`total` is what `parts` add up to."""

    kind: ClassVar[str] = "sum"

    total: str
    parts: list[str]
    decimals: int = 0

    def __str__(self) -> str:
        return f"{self.total} = {' + '.join(self.parts)}"

    @property
    def gives(self) -> str:
        return self.total

    @property
    def names(self) -> tuple[str, ...]:
        return self.total, *self.parts

    def holds(self, row: Row) -> bool:
        total, added = row.get(self.total), self._added(row)
        if total is None or added is None:
            return True
        return _is_number(total) and abs(added - total) <= LEAST * max(1.0, abs(total))

    def see(self, row: Row) -> bool:
        for name in self.parts:
            cell = row.get(name)
            if isinstance(cell, float):
                self.decimals = max(self.decimals, decimals_of(cell))
        return self.holds(row) and (row.get(self.total) is None) == (self._added(row) is None)

    def complete(self, row: Row) -> Row:
        total: Any = row.get(self.total)
        absent = [n for n in self.parts if row.get(n) is None]
        if len(absent) != 1 or not _is_number(total):
            return row
        others = self._added({**row, absent[0]: 0})
        rest = None if others is None else self._rounded(total - others)
        return {**row, absent[0]: rest}

    def keep(self, cells: dict[str, Any]) -> None:
        added = self._added(cells)
        cells[self.total] = None if added is None else self._rounded(added)

    def _rounded(self, number: float) -> float:
        rounded = round(number, self.decimals)
        return int(rounded) if float(rounded).is_integer() else rounded

    def _added(self, row: Row) -> float | None:
        cells: list[Any] = [row.get(name) for name in self.parts]
        return sum(cells) if all(map(_is_number, cells)) else None


@dataclass
class Order(Rule):
    """`low` is at most `high`: of numbers, or of dates that are written from the year on."""

    kind: ClassVar[str] = "order"

    low: str
    high: str

    def __str__(self) -> str:
        return f"{self.low} <= {self.high}"

    @property
    def names(self) -> tuple[str, ...]:
        return self.low, self.high

    def holds(self, row: Row) -> bool:
        low, high = row.get(self.low), row.get(self.high)
        if low is None or high is None:
            return True
        return _is_ordered(low, high) and low <= high

    def keep(self, cells: dict[str, Any]) -> None:
        if not self.holds(cells):
            cells[self.high] = cells[self.low]


class Rules:
    """Rules as they are found, row by row: proposed from the first, dropped by a row that breaks
    them. Raises `RecipeError` for a declaration that cannot be read."""

    def __init__(self, declared: str) -> None:
        self.declared, self.first = declared, list[Row]()
        self.candidates: list[Any] = []
        self.is_found = declared == AUTO
        self.num_rows = 0
        if declared not in (AUTO, NONE):
            self.candidates = list(_declared(declared))

    def see(self, rows: Rows) -> None:
        """Take rows into account. Raises `DataError` for one that breaks a declared rule."""
        self.num_rows += len(rows)
        if self.is_found and len(self.first) < FIRST:
            self.first += rows.of(rows.names)  # all of them: they come as rows
            if len(self.first) < FIRST:
                return
            self.candidates = list(_proposed(self.first))
            return
        for rule in list(self.candidates):
            broken = next((row for row in rows.of(rule.names) if not rule.see(row)), None)
            if broken is not None and not self.is_found and broken.keys() >= set(rule.names):
                raise rule.broken_by(broken)
            if broken is not None and self.is_found:
                self.candidates.remove(rule)

    def found(self, columns: Mapping[str, str]) -> list[Rule]:
        """The rules that no row broke. Of `columns`, those with something said of them are not
        learned whole: nothing follows from them. Raises `RecipeError` for a declared rule about
        such, or about no column; of those that were found, none is about what another puts back."""
        kept: list[Rule] = []
        for rule in self.candidates:
            unfit = next((name for name in rule.names if columns.get(name) != ""), None)
            if self.is_found:
                others = {name for other in kept for name in other.names}
                told = {other.gives for other in kept}
                if unfit or told.intersection(rule.names) or rule.gives in others:
                    continue
            elif unfit is not None:
                about = columns.get(unfit, f"is no column.{did_you_mean(unfit, columns)}")
                raise RecipeError(
                    f"no rule can be about {unfit!r}: it {about.removeprefix('it ')}",
                    found=str(rule), expected=", ".join(columns), where="modality.rules",
                )  # fmt: skip
            kept.append(rule)
        return kept


def keep(rules: Sequence[Rule], cells: dict[str, Any]) -> None:
    """Make drawn cells keep all rules: orders first, where what one moves may have to move another,
    then what follows from what is there."""
    orders = [rule for rule in rules if not rule.gives]
    for _ in orders:
        if all(rule.holds(cells) for rule in orders):
            break
        for rule in orders:
            rule.keep(cells)
    for rule in rules:
        if rule.gives:
            rule.keep(cells)


def completed(rules: Sequence[Rule], row: Row) -> Row:
    """A row with what follows from the rest of it; nothing that is known is changed."""
    for rule in rules:
        row = rule.complete(row)
    return row


def check_kept(rules: Sequence[Rule], rows: Sequence[Row]) -> None:
    """Raise `DataError` for a row that putting back would change."""
    for rule in rules:
        if rule.gives:
            rule.check(rows)


def rule_from_json(state: Mapping[str, Any]) -> Rule:
    """Inverse of `Rule.to_json`."""
    kinds: dict[str, Any] = {each.kind: each for each in (Together, Sum, Order)}
    rule: Rule = kinds[state["kind"]](**{k: v for k, v in state.items() if k != "kind"})
    return rule


# -- found and declared ----------------------------------------------------------------------------


def _proposed(rows: Sequence[Row]) -> Iterator[Rule]:
    """What the first rows keep: sums first, then what follows from what, then orders."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = {name: [row.get(name) for row in rows] for name in names}
    distinct = {name: len({marked(cell) for cell in own}) for name, own in cells.items()}
    numbers = [n for n in names if distinct[n] > 2 and all(map(_is_number_or_none, cells[n]))]
    for total, (a, b) in itertools.product(numbers, itertools.combinations(numbers, 2)):
        if total not in (a, b) and _all_keep(added := Sum(total, [a, b]), rows):
            yield added
    for a, b in itertools.permutations(names, 2):
        few = 1 < distinct[b] <= distinct[a] and distinct[a] * ROWS_EACH <= len(rows)
        if few and _all_keep(rule := Together(a, b), rows):
            yield rule
    dates = [n for n in names if all(_is_date_or_none(cell) for cell in cells[n])]
    for same in (numbers, dates):
        for a, b in itertools.permutations(same, 2):
            if _overlap(cells[a], cells[b]) and _all_keep(Order(a, b), rows):
                yield Order(a, b)


def _all_keep(rule: Any, rows: Sequence[Row]) -> bool:
    return all(rule.see(row) for row in rows)


def _overlap(low: Sequence[Any], high: Sequence[Any]) -> bool:
    """Whether an order of two columns says more than their ranges do."""
    a, b = ([cell for cell in cells if cell is not None] for cells in (low, high))
    return bool(a and b) and max(a) > min(b)


def _declared(text: str) -> Iterator[Rule]:
    """Rules as they are written: "start <= end; total = net + tax; (city, country)"."""
    for each in filter(None, (part.strip() for part in text.split(";"))):
        if match := re.fullmatch(r"\((.+),(.+)\)", each):
            yield Together(match[1].strip(), match[2].strip())
        elif match := re.fullmatch(r"(.+?)<=(.+)", each):
            yield Order(match[1].strip(), match[2].strip())
        elif match := re.fullmatch(r"(.+?)=(.+)", each):
            yield Sum(match[1].strip(), [part.strip() for part in match[2].split("+")])
        else:
            raise RecipeError(
                "a rule of a table cannot be read", found=each, where="modality.rules",
                expected='"start <= end", "total = net + tax" or "(city, country)", ";" between',
            )  # fmt: skip


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _is_number_or_none(cell: Cell) -> bool:
    return cell is None or _is_number(cell)


def _is_date_or_none(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, str) and _is_iso(cell))


def _is_iso(cell: str) -> bool:
    return re.match(r"\d{4}[-/]\d{2}[-/]\d{2}", cell) is not None


def _is_ordered(low: Cell, high: Cell) -> bool:
    """Whether two cells can be told apart by order as they are."""
    both = (low, high)
    if all(map(_is_number, both)):
        return True
    return all(isinstance(cell, str) and _is_iso(cell) for cell in both)

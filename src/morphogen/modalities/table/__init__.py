"""Tables: rows of numbers, categories, truth values, dates and missing cells.

A row is encoded in one of two views. `parts`: a real value for each number, a token for each
category, each with a likelihood of its own kind. `tokens`: one token for each column, two for
numbers of many values. A constant column is put back by `decode`, and so is what follows from other
columns (`rules`); identifiers and free texts are left out, which the facts say.

Legend: B batch, D columns that are learned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.encoded import moved, num_items, stacked, unstacked
from morphogen.core.errors import DataError
from morphogen.core.following import Values
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.modalities.table import page
from morphogen.modalities.table.cells import parsed_row
from morphogen.modalities.table.columns import Column, Number, column_from_json, missing
from morphogen.modalities.table.kinds import Seen, kind_of
from morphogen.modalities.table.reading import list_texts, read_rows, recognise
from morphogen.modalities.table.rules import (
    Row,
    Rule,
    Rules,
    check_kept,
    completed,
    keep,
    rule_from_json,
)
from morphogen.modalities.table.shapes import shapes
from morphogen.modalities.table.together import breaks_or_completes, together
from morphogen.sources import Coded, RecordBatch

PARTS, TOKENS, ROW = "parts", "tokens", "row"
AT_ONCE = 4096  # rows that are looked at together


class Table(Codec):
    """Rows of CSV, TSV, JSON lines, Parquet, DataFrames: numbers, categories, missing cells."""

    suffix: ClassVar[str] = ".csv"
    gap: ClassVar[str] = "an empty cell in a column that no training row leaves empty"
    family = "masked"  # over tokens: any columns given any others (benchmarks/RESULTS.md)
    holds: ClassVar[str] = ROW
    unit: ClassVar[str] = "column"
    defining: ClassVar[tuple[str, ...]] = ("target", "rules")
    views: ClassVar[tuple[str, ...]] = (PARTS, TOKENS)

    def __init__(
        self,
        *,
        target: str = "auto",  # the column that rows are drawn for; auto: label, class or target
        rules: str = "auto",  # that all rows keep: "a <= b; c = a + b; (a, b)"; none; auto: found
    ) -> None:
        self.target, self.rules, self.view = target, rules, PARTS
        self.columns: list[Column] = []
        self.kept: list[Rule] = []
        self.facts: dict[str, Any] = {}

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        return read_rows(source, report, self.target)

    def read_inputs(self, source: Path | str) -> list[Item]:
        """Rows to work on: one without any cell is to be filled, and is an item, too."""
        report = Report(str(source))
        items = list(read_rows(source, report, self.target, empty=True))
        report.check_readable(items)
        return items

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Table:
        seen: dict[str, Seen] = {}
        num_rows, rules = 0, Rules(self.rules)
        for rows in together(items, AT_ONCE):
            rules.see(rows)
            for name in rows.names:
                if name not in seen:  # missing in all rows before
                    seen[name] = Seen(name, num_rows, num_rows)
            for name, each in seen.items():
                each.see(rows.column(name))
            num_rows += len(rows)
        if not num_rows:
            raise DataError("there are no rows to learn from", expected="at least one")
        columns = [kind_of(each) for each in seen.values()]
        self._use(columns, rules.found({c.name: c.why for c in columns}))
        if not self.learned:
            raise DataError(
                "no column of the table can be learned from",
                found="; ".join(f"{each.name}: {each.why}" for each in self.columns[:5]),
                expected="numbers, or categories that come more than once",
            )
        self.facts = self._facts({name: each.num_missing for name, each in seen.items()})
        return self

    def _use(self, columns: Sequence[Column], kept: Sequence[Rule]) -> Table:
        self.columns, self.kept = list(columns), list(kept)
        told = {rule.gives for rule in kept}
        self.learned = {
            part: c for part, c in _named(columns).items() if c.sizes and c.name not in told
        }
        self._specs: dict[str, Spec] = {}
        if self.learned:
            parts = [column.parts(part) for part, column in self.learned.items()]
            self._specs[PARTS] = ProductSpec(
                {n: spec for each in parts for n, spec in each.items()}
            )
            sizes = {part: column.sizes for part, column in self.learned.items()}
            self._specs[TOKENS] = TensorSpec.columns(
                tuple(size for own in sizes.values() for size in own),
                tuple(part for part, own in sizes.items() for _ in own),
            )
            self.spec = self._specs[self.view]
        return self

    def use_view(self, name: str) -> Table:
        super().use_view(name)
        if self.columns:
            self.spec = self._specs[name]
        return self

    def _facts(self, num_missing: Mapping[str, int]) -> dict[str, Any]:
        """What the columns are, and what is not learned of them."""
        kinds: Counter[str] = Counter()
        left: dict[str, str] = {}
        rare: dict[str, str] = {}
        for column in self.columns:
            dated = isinstance(column, Number) and column.date
            kinds["constant" if column.is_constant else "date" if dated else column.kind] += 1
            if not column.sizes:
                left[column.name] = column.why
            elif column.why:
                rare[column.name] = column.why
        facts: dict[str, Any] = {"columns": dict(kinds)}
        if self.kept:
            facts["rules"] = [str(rule) for rule in self.kept]
        if left:
            facts["not_learned"] = left
        if rare:
            facts["rare_values"] = rare
        numbers = [column for column in self.columns if isinstance(column, Number)]
        if stand_ins := {c.name: c.absent for c in numbers if c.absent is not None}:
            facts["read_as_missing"] = stand_ins
        if absent := {name: number for name, number in num_missing.items() if number}:
            facts["missing_cells"] = absent
        return facts

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Any:
        return unstacked(self.encode_many([item]))[0]

    def encode_many(self, items: Sequence[Item]) -> Any:
        if not self.columns:
            raise DataError("the codec has seen no rows yet", hint="codec.fit(items)")
        if isinstance(items, RecordBatch) and not breaks_or_completes(self.kept, items):
            return self._encoded({c.name: items.column(c.name) for c in self.learned.values()})
        rows = [self._row(item) for item in items]
        check_kept(self.kept, rows)
        names = [column.name for column in self.learned.values()]
        every = np.arange(len(rows))
        return self._encoded({n: Coded([row.get(n) for row in rows], every) for n in names})

    def _encoded(self, cells: Mapping[str, Coded]) -> Any:
        """Rows by column as tensors."""
        if self.view == TOKENS:
            kinds = ((_tokens(c, cells[c.name].values), c.name) for c in self.learned.values())
            return torch.cat([tokens[cells[name].codes] for tokens, name in kinds], 1)
        x: dict[str, Tensor] = {}
        for part, column in self.learned.items():
            values, codes = cells[column.name]
            x |= {name: own[codes] for name, own in column.encode(part, values).items()}
        return x

    def known(self, item: Item) -> Tensor | None:
        """Which tokens of a row are known, (L,); None where all are. A row with no cell in a column
        in which all training rows have one is to be filled: there, and in columns it has not; one
        without any cell, everywhere."""
        row = self._row(item)
        empty = [c for c in self.learned.values() if row.get(c.name) is None]
        nothing = len(empty) == len(self.learned)
        if self.view != TOKENS or (not nothing and all(column.has_missing for column in empty)):
            return None
        gaps = {c.name for c in empty if nothing or c.name not in row or not c.has_missing}
        return torch.tensor([c.name not in gaps for c in self.learned.values() for _ in c.sizes])

    def filled(self, items: Sequence[Item], draws: Tensor) -> list[dict[str, Any]]:
        """Rows as they are, with what was drawn where they have nothing: (N, S, L), S of each."""
        rows = self.decode_many(draws.flatten(0, 1))
        own = [self._row(item) for item in items for _ in range(draws.shape[1])]
        pairs = zip(rows, own, strict=True)
        return [
            row | {n: cell for n, cell in told.items() if n in row and cell is not None}
            for row, told in pairs
        ]

    def _row(self, item: Item) -> Row:
        return completed(self.kept, parsed_row(item.value))

    def decode(self, x: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.decode_many(stacked([x]))[0]
        return found

    def decode_many(self, x: Any) -> list[dict[str, Any]]:
        num, cells = num_items(x), self._cells(x)
        if not self.kept:
            return self._rows(cells, num)
        names, told = list(cells), zip(*cells.values(), strict=True)
        rows = [dict(zip(names, row, strict=True)) for row in told]
        for row in rows:
            keep(self.kept, row)
        again = {name: [row[name] for row in rows] for name in rows[0]} if rows else cells
        return self._rows(again, num)

    def _cells(self, x: Any) -> dict[str, list[Any]]:
        """The cells of encoded rows, by learned column."""
        x = moved(x, "cpu")
        if self.view != TOKENS:
            return {column.name: column.decode(part, x) for part, column in self.learned.items()}
        return {column.name: column.of_tokens(tokens) for column, tokens in self._own_tokens(x)}

    def _own_tokens(self, x: Tensor) -> Iterator[tuple[Column, Tensor]]:
        """Each learned column, and its tokens of rows (N, L)."""
        learned = self.learned.values()
        own = torch.split(x, [len(column.sizes) for column in learned], 1)
        return zip(learned, own, strict=True)

    def _rows(self, cells: Mapping[str, Sequence[Any]], num: int) -> list[dict[str, Any]]:
        """Cells by column as rows, with the columns in order and those of one value put back."""
        whole = {
            column.name: cells.get(column.name, [column.constant] * num)
            for column in self.columns
            if column.sizes or column.is_constant
        }
        names = list(whole)
        return [dict(zip(names, row, strict=True)) for row in zip(*whole.values(), strict=True)]

    def check_fits(self, item: Item, report: Report) -> None:
        row = parsed_row(item.value)
        check_kept(self.kept, [row])
        for column in self.learned.values():
            if column.moves(row.get(column.name)):
                counts = report.facts.setdefault("moved_into_range", {})
                counts[column.name] = counts.get(column.name, 0) + 1

    def check_batch(self, batch: RecordBatch, report: Report) -> None:
        """`check_fits` of all rows of a batch, or `DataError`."""
        if breaks_or_completes(self.kept, batch):
            raise DataError("a row breaks a rule, or something follows for it")
        moved: dict[str, int] = {}
        for column in self.learned.values():
            cells = batch.column(column.name)
            if num := int(cells.counts()[column.moved(cells.values)].sum()):
                moved[column.name] = num
        for name, num in moved.items():
            counts = report.facts.setdefault("moved_into_range", {})
            counts[name] = counts.get(name, 0) + num

    def num_units(self, x: Any) -> Tensor:
        """Columns that are learned."""
        return torch.full((num_items(x),), float(len(self.learned)))

    def log_room(self, x: Any) -> Tensor:
        """How much of the range of values encoded rows stand for, in nats (N,): what is taken from
        a log probability makes it a density of the rows as they are, whatever the bins."""
        total = np.zeros(num_items(x))
        x = moved(x, "cpu")
        if self.view == TOKENS:
            for column, tokens in self._own_tokens(x):
                total = total + column.log_room_of(tokens)
        else:
            for part, column in self.learned.items():
                total = total + column.log_room(part, x)
        return torch.from_numpy(total).float()

    def values(self, x: Any) -> list[Values]:
        """What encoded rows have in each column that is learned."""
        cells = self._cells(x)
        return [
            Values(part, column.measured(cells[column.name]), column.ordered)
            for part, column in self.learned.items()
        ]

    def texts(self, source: Any) -> Iterator[Listed]:
        """The cells that are texts."""
        yield from list_texts(source)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.table(values)

    def together(self, real: Sequence[Any], made: Sequence[Any]) -> str:
        """Every column of both, one over the other."""
        return shapes(real, made)

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(value, most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        return page.write_rows(values, Path(path))

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "options": {"target": self.target, "rules": self.rules},
            "view": self.view,
            "columns": [column.to_json() for column in self.columns],
            "rules": [rule.to_json() for rule in self.kept],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Table:
        codec = cls(**state["options"])
        rules = [rule_from_json(rule) for rule in state.get("rules", ())]
        codec._use([column_from_json(dict(column)) for column in state["columns"]], rules)
        codec.use_view(state["view"])
        return codec


def _tokens(column: Column, cells: Sequence[Any]) -> Tensor:
    """The tokens of cells (N, positions), 0 where one is wanting."""
    if column.has_missing or None not in cells:
        return column.tokens(cells)
    there = [i for i, cell in enumerate(cells) if cell is not None]
    tokens = torch.zeros(len(cells), len(column.sizes), dtype=torch.int64)
    tokens[there] = column.tokens([cells[i] for i in there])
    return tokens


def _named(columns: Iterable[Column]) -> dict[str, Column]:
    """Columns by names that parts can have: letters, digits and underscores, each once."""
    named: dict[str, Column] = {}
    for column in columns:
        plain = re.sub(r"\W+", "_", column.name).strip("_") or "column"
        name, number = plain, 1
        while name in named or missing(name) in named or any(missing(n) == name for n in named):
            number += 1
            name = f"{plain}_{number}"
        named[name] = column
    return named

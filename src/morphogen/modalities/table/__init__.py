"""Tables: rows of numbers, categories, truth values, dates and missing cells.

A row is encoded in one of two views. `parts`: a real value for each number, a token for each
category, each with a likelihood of its own kind. `tokens`: one token for each column, numbers in
bins of about equally many rows. A constant column is put back by `decode`; identifiers and free
texts are left out, which the facts say.

Legend: B batch, D columns that are learned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.encoded import num_items, unstacked
from morphogen.core.errors import DataError
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.modalities.table import page
from morphogen.modalities.table.cells import parsed_row
from morphogen.modalities.table.columns import Column, Number, column_from_json, missing
from morphogen.modalities.table.kinds import Seen, kind_of
from morphogen.modalities.table.reading import list_texts, read_rows, recognise

PARTS, TOKENS = "parts", "tokens"


class Table(Codec):
    """Rows of CSV, TSV, JSON lines, Parquet, DataFrames: numbers, categories, missing cells."""

    suffix: ClassVar[str] = ".csv"
    family = "autoregressive"  # over tokens: the closest by far on Adult (benchmarks/RESULTS.md)
    unit: ClassVar[str] = "column"
    defining: ClassVar[tuple[str, ...]] = ("target",)
    views: ClassVar[tuple[str, ...]] = (PARTS, TOKENS)

    def __init__(
        self,
        *,
        target: str = "auto",  # the column that rows are drawn for; auto: label, class or target
    ) -> None:
        self.target, self.view = target, PARTS
        self.columns: list[Column] = []
        self.facts: dict[str, Any] = {}

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        yield from read_rows(source, report, self.target)

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Table:
        seen: dict[str, Seen] = {}
        num_rows = 0
        for item in items:
            row = parsed_row(item.value)
            for name in row:
                if name not in seen:  # missing in all rows before
                    seen[name] = Seen(name, num_rows, num_rows)
            for name, each in seen.items():
                each.see(row.get(name))
            num_rows += 1
        if not num_rows:
            raise DataError("there are no rows to learn from", expected="at least one")
        self._use([kind_of(each) for each in seen.values()])
        if not self.learned:
            raise DataError(
                "no column of the table can be learned from",
                found="; ".join(f"{each.name}: {each.why}" for each in self.columns[:5]),
                expected="numbers, or categories that come more than once",
            )
        self.facts = self._facts({name: each.num_missing for name, each in seen.items()})
        return self

    def _use(self, columns: Sequence[Column]) -> Table:
        self.columns = list(columns)
        self.learned = {part: c for part, c in _named(columns).items() if c.size}
        self._specs: dict[str, Spec] = {}
        if self.learned:
            parts = [column.parts(part) for part, column in self.learned.items()]
            self._specs[PARTS] = ProductSpec(
                {n: spec for each in parts for n, spec in each.items()}
            )
            self._specs[TOKENS] = TensorSpec.columns(tuple(c.size for c in self.learned.values()))
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
            if not column.size:
                left[column.name] = column.why
            elif column.why:
                rare[column.name] = column.why
        facts: dict[str, Any] = {"columns": dict(kinds)}
        if left:
            facts["not_learned"] = left
        if rare:
            facts["rare_values"] = rare
        if absent := {name: number for name, number in num_missing.items() if number}:
            facts["missing_cells"] = absent
        return facts

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Any:
        return unstacked(self.encode_many([item]))[0]

    def encode_many(self, items: Sequence[Item]) -> Any:
        if not self.columns:
            raise DataError("the codec has seen no rows yet", hint="codec.fit(items)")
        rows = [parsed_row(item.value) for item in items]
        cells = {c.name: [row.get(c.name) for row in rows] for c in self.learned.values()}
        if self.view == TOKENS:
            return torch.stack([c.tokens(cells[c.name]) for c in self.learned.values()], 1)
        x: dict[str, Tensor] = {}
        for part, column in self.learned.items():
            x |= column.encode(part, cells[column.name])
        return x

    def decode(self, x: Any) -> dict[str, Any]:
        if self.view == TOKENS:
            cells = {
                column.name: column.of_token(token)
                for column, token in zip(self.learned.values(), x.tolist(), strict=True)
            }
        else:
            cells = {column.name: column.decode(part, x) for part, column in self.learned.items()}
        return {
            column.name: cells.get(column.name, column.constant)
            for column in self.columns
            if column.size or column.is_constant
        }

    def check_fits(self, item: Item, report: Report) -> None:
        row = parsed_row(item.value)
        for column in self.learned.values():
            if column.moves(row.get(column.name)):
                counts = report.facts.setdefault("moved_into_range", {})
                counts[column.name] = counts.get(column.name, 0) + 1

    def num_units(self, x: Any) -> Tensor:
        """Columns that are learned."""
        return torch.full((num_items(x),), float(len(self.learned)))

    def texts(self, source: Any) -> Iterator[Listed]:
        """The cells that are texts."""
        yield from list_texts(source)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.table(values)

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(value, most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        return page.write_rows(values, Path(path))

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        columns = [column.to_json() for column in self.columns]
        return {"options": {"target": self.target}, "view": self.view, "columns": columns}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Table:
        codec = cls(**state["options"])
        codec._use([column_from_json(dict(column)) for column in state["columns"]])
        codec.use_view(state["view"])
        return codec


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

"""What lies in memory: arrays, tensors, DataFrames, lists of dicts, of texts, of anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.codec import Problem, Report, Text
from morphogen.core.errors import DataError
from morphogen.sources._record import Kind, Labelled, Record, Source, Survey, Wants, same
from morphogen.sources._record_batch import BATCH as TOGETHER
from morphogen.sources._stacks import Stack, item_keys, label_key, plain_labels, records_of_stacks
from morphogen.sources._table import Cells, Row, Table, defects_of, records_of, texts_of

FEW = 50  # values that are looked at to see what there is


class Memory(Source):
    """An array or tensor, a table, a sequence of values, or a list of `Labelled` parts."""

    kind = "memory"

    @classmethod
    def opens(cls, source: Any) -> float:
        return 0.0 if isinstance(source, (str, Path, bytes)) else 0.5

    def survey(self) -> Survey:
        parts = self._parts()
        first = parts[0].values if parts else []
        if (table := as_table(first)) is not None:
            return table.survey("memory", "a table in memory")
        if (arrays := as_arrays(first)) is not None:
            shapes = {key: (value.shape, value.dtype) for key, value in arrays.items()}
            return Survey("memory", arrays=shapes, name="an array in memory")
        if not isinstance(first, Sequence):
            raise _unknown(first)
        values = list(first[:FEW])
        return Survey("memory", values=values, num=len(first), name="a list in memory")

    def tables(self) -> list[Table]:
        """The parts that are tables."""
        return [table for part in self._parts() if (table := _table_of(part)) is not None]

    def whole_tables(self) -> list[Table] | None:
        """All parts as tables; None where one is none."""
        tables = self.tables()
        return tables if len(tables) == len(self._parts()) else None

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        stacks: list[Stack] = []
        for part in self._parts():
            name = part.split or "array"
            if (table := _table_of(part)) is not None:
                yield from records_of(table, wants, report)
            elif (arrays := as_arrays(part.values)) is not None:
                stacks += _stacks(arrays, part, name, wants, report)
            elif isinstance(part.values, Sequence):
                yield from _cells(part, wants, report)
            else:
                raise _unknown(part.values)
        yield from records_of_stacks(stacks, wants, "memory")

    def texts(self, wants: Wants) -> Iterator[Text]:
        for table in self.tables():
            yield from texts_of(table, wants)

    def defects(self, wants: Wants) -> Iterator[Problem]:
        for table in self.tables():
            yield from defects_of(table, wants)

    def _parts(self) -> list[Labelled]:
        if isinstance(self.source, Labelled):
            return [self.source]
        is_parts = isinstance(self.source, (list, tuple)) and self.source
        if is_parts and all(isinstance(part, Labelled) for part in self.source):
            return list(self.source)
        return [Labelled(self.source)]


def _table_of(part: Labelled) -> Table | None:
    table = as_table(part.values)
    if table is not None:
        table.split = part.split
    return table


def as_table(values: Any) -> Table | None:
    """A DataFrame, a list of dicts, or a dict of columns as a table; None for what is none."""
    if hasattr(values, "to_dict") and hasattr(values, "columns"):  # pandas, polars
        columns = [str(name) for name in values.columns]
        frame, batches = partial(_frame_rows, values), partial(_frame_batches, values)
        return Table("table", columns, frame, Path(), trusted=True, batches=batches)
    if isinstance(values, Sequence) and values and all(isinstance(v, Mapping) for v in values):
        named = list(dict.fromkeys(str(key) for row in values for key in row))
        return Table("table", named, partial(_rows, values), Path(), trusted=True)
    if isinstance(values, Mapping) and values:
        columns = [str(key) for key in values]
        if all(isinstance(each, (list, tuple)) for each in values.values()):
            cells = zip(*values.values(), strict=False)
            rows = [dict(zip(columns, row, strict=True)) for row in cells]
            return Table("table", columns, partial(_rows, rows), Path(), trusted=True)
    return None


def as_arrays(values: Any) -> dict[str, np.ndarray] | None:
    """An array, a tensor, or a dict of arrays, as NumPy has them; None for what is none."""
    if isinstance(values, Mapping):
        found = {str(k): a for k, v in values.items() if (a := as_array(v)) is not None}
        return found if found and len(found) == len(values) else None
    array = as_array(values)
    return None if array is None else {"": array}


def as_array(values: Any) -> np.ndarray | None:
    """An array or tensor as NumPy has it."""
    if hasattr(values, "detach"):
        values = values.detach()
        if str(values.dtype) == "torch.bfloat16":  # which NumPy has not
            values = values.float()
        try:
            values = values.cpu().numpy()
        except (TypeError, RuntimeError) as error:
            raise DataError(
                "the tensor has no numbers that can be read one by one",
                found=f"{values.layout}, {values.dtype}, on {values.device}",
                expected="a dense tensor of numbers", where="memory", hint="tensor.to_dense()",
            ) from error  # fmt: skip
    return values if isinstance(values, np.ndarray) else None


def _stacks(
    arrays: Mapping[str, np.ndarray], part: Labelled, name: str, wants: Wants, report: Report
) -> list[Stack]:
    if "" in arrays:
        return [Stack(name, part.split, arrays[""], part.labels)]
    shapes = {key: (value.shape, value.dtype) for key, value in arrays.items()}
    stacks = []
    for split, key in item_keys(shapes, wants).items():
        labels = label_key(shapes, split, key)
        plain = plain_labels(arrays[labels], labels, name, report) if labels else None
        stacks.append(Stack(key, split or part.split, arrays[key], plain))
    if not stacks:
        raise _unknown(arrays)
    return stacks


def _cells(part: Labelled, wants: Wants, report: Report) -> Iterator[Record]:
    """One record for each value of a list."""
    labels = None if part.labels is None else list(part.labels)
    if labels is not None and len(labels) != len(part.values):
        raise DataError(
            f"there are not as many labels as {wants.what}s",
            found=f"{len(labels):,} labels",
            expected=f"{len(part.values):,}, one per {wants.what}",
        )
    for number, value in enumerate(part.values):
        name = f"{part.split or 'memory'}#{number}"
        array = as_array(value)
        if array is None and (wants.cell is None or not wants.cell(value)):
            reason = f"no {wants.what}: a value of the type {type(value).__name__}"
            report.problems.append(Problem(name, reason, "leave it out", fatal=True))
            continue
        cond = {} if labels is None else {"label": labels[number]}
        kind: Kind = "cell" if array is None else "array"
        held = value if array is None else array
        yield Record(name, kind, partial(same, held), cond=cond, split=part.split)


def _rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(rows):
        yield f"table#row {number}", {str(key): value for key, value in row.items()}


def _frame_rows(frame: Any) -> Iterator[tuple[str, Row]]:
    names = [str(name) for name in frame.columns]
    rows = frame.itertuples(index=False, name=None) if hasattr(frame, "itertuples") else None
    for number, row in enumerate(rows if rows is not None else frame.iter_rows()):
        yield f"table#row {number}", dict(zip(names, row, strict=True))


def _frame_batches(frame: Any) -> Iterator[tuple[int, Cells]]:
    names = [str(name) for name in frame.columns]
    for first in range(0, len(frame), TOGETHER):
        here = slice(first, first + TOGETHER)
        if hasattr(frame, "iloc"):  # by place, whatever its index
            columns = [frame.iloc[here, i] for i in range(len(names))]
        else:
            columns = frame[here].get_columns()
        yield first, {name: list(own) for name, own in zip(names, columns, strict=True)}


def _unknown(values: Any) -> DataError:
    ways = {"to_pandas": "data.to_pandas()", "to_frame": "data.to_frame()",
            "__iter__": "list(data), where it gives items one by one", "__getitem__":
            "[data[i] for i in range(len(data))], where it gives items by number"}  # fmt: skip
    return DataError(
        "nothing that can be read from memory",
        found=type(values).__name__,
        expected="an array, a tensor, a DataFrame, a list of dicts, of texts or of arrays",
        hint=next((way for name, way in ways.items() if hasattr(values, name)), None),
    )

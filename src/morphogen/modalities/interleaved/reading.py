"""From the rows of a table to items of several parts: texts, and files that rows name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.codec import Item, Problem, Recognition, Report
from morphogen.core.errors import DataError, did_you_mean
from morphogen.core.following import GAP
from morphogen.sources import (
    NamedFiles,
    Record,
    Wants,
    caption_column,
    records,
    survey,
    tables_in,
)

AUTO = "auto"
ASKED = "?"  # a cell whose part is to be drawn
FIRST = 10_000  # rows by which columns are told apart: one kind of item may come after another
WANTS = Wants("row", rows=True)
Open = Callable[[str, Path], Any]  # the name of a part and a file -> a raw value


def recognise(source: Any) -> Recognition | None:
    """Rows of two cells or more may be items of parts; who reads rows or files comes first."""
    try:
        seen = survey(source)
    except DataError:
        return None
    names = [name for name in seen.columns if name]
    if len(names) < 2 or seen.media:
        return None
    return Recognition(0.15, f"a table of {len(names)} columns")


@dataclass(frozen=True)
class Rows:
    """The rows of a table as items of parts."""

    wanted: str  # the parts, by name, with commas between; or "auto"
    open_file: Open
    known: Mapping[str, bool] = field(default_factory=dict)  # of a fitted codec: which name files
    gaps: bool = False  # a cell "?" is a part that is to be drawn

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        """An item for each row: its parts by name, None for those that are absent."""
        table = table_of(source)
        is_file = isinstance(table, (str, Path)) and "://" not in str(table)
        files = NamedFiles(Path(table).parent if is_file else None)
        found = records(table, WANTS, report)
        first = list(itertools.islice(found, FIRST))
        parts = self.known or chosen([each.value() for each in first], self.wanted, files)
        report.facts["parts"] = ", ".join(parts)
        for record in itertools.chain(first, found):
            try:
                value = self._parts(record, parts, files)
            except DataError as error:
                fix = error.hint or "correct the file, or empty the cell"
                report.problems.append(Problem(record.name, error.message, fix, fatal=True))
                continue
            label = record.cond.get("label")
            said = {} if label is None or "label" in parts else {"label": label}
            tags = {name: tag for name, tag in record.tags.items() if name not in parts}
            report.num_read += 1
            yield Item(value, record.name, said, record.split, tags)

    def _parts(
        self, record: Record, parts: Mapping[str, bool], files: NamedFiles
    ) -> dict[str, Any]:
        row, value = record.value(), dict[str, Any]()
        for name, names_files in parts.items():
            cell = row.get(name)
            if cell is None or (isinstance(cell, str) and not cell.strip()):
                value[name] = None
            elif self.gaps and isinstance(cell, str) and cell.strip() == ASKED:
                value[name] = GAP
            elif not names_files or not isinstance(cell, str):
                value[name] = cell
            elif path := files.find(cell):
                value[name] = self.open_file(name, path)
            else:
                raise DataError(
                    files.why_not(cell),
                    hint="correct its path, below the folder of the table, or empty the cell",
                )
        if all(each is None for each in value.values()):
            raise DataError("none of its parts is there", hint="fill one, or delete the row")
        return value


def table_of(source: Any) -> Any:
    """The table that a source is, or the one in a folder. Raises `DataError` where there is none,
    or more than one."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return source
    found = tables_in(Path(source))
    if len(found) == 1:
        return found[0]
    raise DataError(
        "which table says what belongs together?",
        found=", ".join(path.name for path in found) or "no table in the folder",
        expected="one: a row for each item, a column for each part",
        where=str(source),
        hint="name the table itself, such as FOLDER/captions.csv",
    )


def chosen(rows: Sequence[dict[str, Any]], wanted: str, files: NamedFiles) -> dict[str, bool]:
    """The columns that are parts, in order, and which of them name files: those asked for; else
    those that name files, and that of captions or texts, or where there are no files all that hold
    texts.

    Raises `DataError` for one that there is not, and for fewer than two.
    """
    cells: dict[str, list[Any]] = {}
    for row in rows:
        for name, cell in row.items():
            own = cells.setdefault(name, []) if name else []
            if not isinstance(cell, (int, float, type(None))) and cell != "":
                own.append(cell)
    known, cells = list(cells), {name: own for name, own in cells.items() if own}
    held = [name for name, own in cells.items() if _are_files(own, files)]
    if wanted == AUTO:
        caption = caption_column(cells)
        parts = [name for name in cells if name in held or name == caption or not held]
    else:
        parts = [each.strip() for each in wanted.split(",") if each.strip()]
    for name in parts:
        if name not in known:
            raise DataError(
                f"the rows have no texts or files called {name!r}.{did_you_mean(name, known)}",
                found=", ".join(known),
                expected="names of columns, with commas between",
                hint="--set modality.parts=NAME,NAME",
            )
    if len(parts) < 2:
        raise DataError(
            "an item of several parts needs two columns or more",
            found=", ".join(parts) or "no column that names files, none of captions",
            expected=f"two of: {', '.join(cells)}",
            hint="--set modality.parts=NAME,NAME",
        )
    return {name: name in held for name in parts}


def _are_files(cells: Sequence[Any], files: NamedFiles) -> bool:
    """Whether most cells name files, or hold what is no text."""
    named = [not isinstance(cell, str) or files.find(cell) is not None for cell in cells]
    return 2 * sum(named) > len(named)

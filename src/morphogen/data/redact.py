"""A copy of a table of captions without the personal data in it; the table itself stays."""

from __future__ import annotations

import csv
import io
import shlex
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.codec import CanListTexts
from morphogen.core.errors import DataError, missing_path
from morphogen.data.modality import build_codec, find_modality
from morphogen.data.personal import KINDS, SCOPE, Finder


@dataclass
class Redaction:
    """What was taken out: `found` by column and kind, in `rows` of `num_rows` rows."""

    table: str
    out: str
    num_rows: int = 0
    rows: list[int] = field(default_factory=list)  # the header is row 1
    found: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{len(self.rows):,} of {self.num_rows:,} rows changed; written to {self.out}"]
        for column, kinds in self.found.items():
            listed = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
            lines.append(f"  {column}: {listed}")
        read = f"read it before you use it: {SCOPE}"
        return "\n".join([*lines, read, f"next: diff {shlex.join([self.table, self.out])}"])


def redact(table: Path | str, out: Path | str, modality: str | None = None) -> Redaction:
    """Write `table` to the new file `out` with `[e-mail address]` in place of an address, and so
    on, in every column but those that name files. Raises `DataError` rather than overwrite."""
    table, out = Path(table), Path(out)
    if not table.exists():
        raise missing_path(table)
    if table.suffix.lower() != ".csv" or not table.is_file():
        expected = "a .csv table: those of a folder one by one, such as captions.csv"
        raise DataError("only tables are redacted", found=str(table), expected=expected)
    if out.exists():
        raise DataError("the file exists already", where=str(out), hint="name a new file")
    codec = build_codec(modality or find_modality(table), {})
    if not isinstance(codec, CanListTexts):
        raise DataError("this modality lists no texts", where=str(table))
    finder = Finder()
    paths = {text.field for text in codec.texts(table) if text.is_name}
    text = table.read_bytes().decode("utf-8-sig")  # find_modality has read it as such
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    header, *rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    done = Redaction(str(table), str(out), len(rows))
    for number, row in enumerate(rows, 2):
        for i, cell in enumerate(row):
            column = header[i] if i < len(header) else "no column"
            found = () if column in paths else finder.find(cell)
            if found:
                row[i] = finder.redact(cell)
                kinds = done.found.setdefault(column, {})
                kinds |= Counter(kinds) + Counter(KINDS[each.kind] for each in found)
                done.rows += [number] if number not in done.rows[-1:] else []
    with out.open("x", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    return done

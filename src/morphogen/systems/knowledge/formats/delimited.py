"""Tables of text: CSV and TSV, whatever divides their cells."""

from __future__ import annotations

import csv
import io

from morphogen.systems.knowledge.formats import Parts
from morphogen.systems.knowledge.formats._text import rows_as_text, text_of
from morphogen.systems.knowledge.passage import Block

SUFFIXES = (".csv", ".tsv")
DIVIDERS = ",;\t|"


def parts(data: bytes, place: str) -> Parts:
    """One block, cut between rows where it is long, with its head said again."""
    text = text_of(data)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:8192], DIVIDERS)
    except csv.Error:  # one column
        dialect = csv.excel
    rows = csv.reader(io.StringIO(text), dialect)
    return "", [Block(rows_as_text(rows), kind="table")], {}

"""Numbers as people write them, with commas: for thousands (1,879.31) or for decimals (1.879,31). A
column of them says which it is."""

from __future__ import annotations

import re
from collections.abc import Iterable

THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")  # 12,5 and 1.879,31
COMMAS = {  # what commas mean -> what becomes of each mark
    "thousands": str.maketrans("", "", ","),
    "decimal": str.maketrans(",", ".", "."),
}


def comma_of(cells: Iterable[str]) -> str | None:
    """What the commas in a column of texts mean where all of them are numbers: "thousands" or
    "decimal"."""
    every = list(cells)
    if every and all(THOUSANDS.fullmatch(cell) for cell in every):
        return "thousands"
    return "decimal" if every and all(DECIMAL_COMMA.fullmatch(cell) for cell in every) else None


def uncomma(text: str, comma: str) -> str:
    """A number as Python writes it, by what the commas in its column mean (see `comma_of`)."""
    return text.translate(COMMAS[comma])

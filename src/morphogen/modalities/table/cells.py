"""Cells of a table as values: numbers, truth values, texts, and what stands for a missing one."""

from __future__ import annotations

import datetime
import decimal
import functools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

Cell = bool | int | float | str | None

MISSING = {"", "?", "na", "n/a", "nan", "null", "#n/a", "<na>", "missing"}
WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,14})")  # 007 is a code, not a number
REAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
DATES = (  # of several forms that fit all cells of a column, the first is taken
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
    "%Y/%m/%d", "%Y/%m/%d %H:%M", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y",
    "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%H:%M:%S", "%H:%M",
)  # fmt: skip
EPOCH = datetime.datetime(1970, 1, 1)


def parsed(cell: Any) -> Cell:
    """A cell as a value; None for a missing one. Codes with leading zeros stay texts."""
    if isinstance(cell, str):
        return _text(cell)
    if hasattr(cell, "item") and getattr(cell, "shape", None) == ():
        cell = cell.item()
    if cell is None or isinstance(cell, (bool, int)):
        return cell
    if isinstance(cell, (float, decimal.Decimal)):
        return _number(float(cell))
    if isinstance(cell, (datetime.datetime, datetime.date, datetime.time)):
        return cell.isoformat(" ") if isinstance(cell, datetime.datetime) else cell.isoformat()
    return _text(str(cell))


@functools.lru_cache(maxsize=1 << 16)  # categories come again
def _text(cell: str) -> Cell:
    text = cell.strip()
    if text.lower() in MISSING:
        return None
    if WHOLE.fullmatch(text):
        return int(text)
    return _number(float(text)) if REAL.fullmatch(text) else text


def _number(value: float) -> Cell:
    """A real number, as a whole one where it is; None where it is none."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def marked(cell: Cell) -> Any:
    """A cell to be looked up by: 1 and 1.0 are one value, True is none of them."""
    return (bool, cell) if isinstance(cell, bool) else cell


class Parsed(dict[str, Cell]):
    """A row of values, which need not be parsed again."""


def parsed_row(row: Mapping[Any, Any]) -> dict[str, Cell]:
    """A row of cells -> a row of values; cells beyond the last column are left out."""
    if isinstance(row, Parsed):
        return row
    return Parsed({str(name): parsed(cell) for name, cell in row.items() if name is not None})


def date_of(cells: Iterable[str]) -> str | None:
    """The form of dates that all texts of a column are in."""
    forms = list(DATES)
    seen = False
    for cell in cells:
        seen = True
        forms = [form for form in forms if moment(cell, form) is not None]
        if not forms:
            return None
    return forms[0] if seen else None


def moment(text: str, form: str) -> int | None:
    """A date as days since 1970, or with a time as seconds; None when it is in another form."""
    try:
        since = datetime.datetime.strptime(text, form) - EPOCH
    except ValueError:
        return None
    seconds = round(since.total_seconds()) if "%Y" in form or "%y" in form else _of_day(text, form)
    return seconds if "%H" in form else seconds // 86400


def _of_day(text: str, form: str) -> int:
    time = datetime.datetime.strptime(text, form)
    return time.hour * 3600 + time.minute * 60 + time.second


def written(number: int, form: str) -> str:
    """Inverse of `moment`."""
    seconds = number if "%H" in form else number * 86400
    return (EPOCH + datetime.timedelta(seconds=seconds)).strftime(form)


def decimals_of(value: float) -> int:
    """Digits after the point in the shortest way to write a number; 0 for whole ones."""
    text = repr(float(value))
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return max(len(mantissa.partition(".")[2].rstrip("0")) - int(exponent), 0)
    return len(text.partition(".")[2].rstrip("0"))

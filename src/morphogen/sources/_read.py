"""The one way into every kind of source."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.codec import Problem, Recognition, Report, Text
from morphogen.core.errors import DataError, missing_path
from morphogen.provenance.beside import side_car, tags_of
from morphogen.sources._columns import is_file, item_column
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._stacks import is_lone
from morphogen.sources._table import pixel_columns

_KEPT: ContextVar[dict[int | str, Survey] | None] = ContextVar("surveys", default=None)


def source_of(source: Any) -> Source:
    """The kind of place that a source is. Raises `DataError` when nothing opens it."""
    if isinstance(source, (str, Path)) and "://" not in str(source):
        check_there(Path(source))
    kinds = [discover.find("source", name) for name in discover.names("source")]
    sure, kind = max(((each.opens(source), each) for each in kinds), key=lambda pair: pair[0])
    if not sure:
        raise DataError(
            "not a source that can be read",
            found=str(source) if isinstance(source, (str, Path)) else type(source).__name__,
            expected=", ".join(discover.names("source")),
            hint="morphogen list sources",
        )
    found: Source = kind(source)
    return found


def check_there(path: Path) -> None:
    """Raise `DataError` unless the path leads to something."""
    try:
        is_there = path.exists()
    except OSError as error:
        raise DataError(
            f"that is no path: {error.strerror}", found=reprlib.repr(str(path)),
            expected="a file, a folder or an address",
            hint="a text itself is given in a list: [text]",
        ) from error  # fmt: skip
    if not is_there:
        raise missing_path(path)


def records(source: Any, wants: Wants, report: Report) -> Iterator[Record]:
    """Every item of `source` that `wants` opens, in an order that does not change.

    What else there is, or is odd, goes into `report`. Raises `DataError` when the source as a whole
    cannot be read.
    """
    tags = said_beside(source)
    for record in source_of(source).records(wants, report):
        if tags:
            record.tags = {**tags, **record.tags}
        yield record


def said_beside(source: Any) -> dict[str, str]:
    """What the credential beside a file says of all that is in it."""
    if not isinstance(source, (str, Path)) or "://" in str(source):
        return {}
    beside = side_car(Path(source).resolve())
    return tags_of(beside.read_bytes()) if beside.is_file() else {}


def survey(source: Any) -> Survey:
    """What there is in a source; kept as long as `kept_surveys` lasts."""
    key = str(source) if isinstance(source, (str, Path)) else id(source)
    kept = _KEPT.get()
    if kept is not None and key in kept:
        return kept[key]
    found = source_of(source).survey()
    if kept is not None:
        kept[key] = found
    return found


@contextmanager
def kept_surveys() -> Iterator[None]:
    """While several codecs are asked about one source, it is looked at once."""
    token = _KEPT.set({} if _KEPT.get() is None else _KEPT.get())
    try:
        yield
    finally:
        _KEPT.reset(token)


def recognise(source: Any, wants: Wants) -> Recognition | None:
    """How surely a codec that wants this reads `source`, and why; None when it does not."""
    try:
        found = survey(source)
    except DataError:
        return None
    if found.columns:
        return _in_table(found, wants)
    if found.arrays:
        return _in_arrays(found, wants)
    if found.values:
        taken = [value for value in found.values if wants.cell and wants.cell(value)]
        sure = 0.9 * len(taken) / len(found.values)
        return Recognition(sure, f"{len(found.values):,} {wants.what}s") if taken else None
    if found.kind == "dataset":
        return Recognition(0.3, found.name) if wants.suffixes else None
    return _in_files(found, wants)


def _in_table(found: Survey, wants: Wants) -> Recognition | None:
    item = item_column(found.columns, found.media, wants)
    if item is not None:
        files = any(is_file(cell, wants) for cell in found.columns[item])
        what = f"names {wants.what} files" if files else f"has a column of {wants.what}s, {item}"
        held = item in found.media or found.kind == "dataset"
        why = found.name if held and files else f"{found.name} that {what}"
        return Recognition(0.95 if files else 0.8, why)
    if wants.arrays is not None and (stack := pixel_columns(found.columns, wants)):
        why = f"{found.name} whose {len(stack[0]):,} numbered columns are one {wants.what} a row"
        return Recognition(0.9, why)
    if wants.rows and found.columns and not found.media:
        return Recognition(0.6, f"{found.name} of {len(found.columns):,} columns")
    return None


def _in_arrays(found: Survey, wants: Wants) -> Recognition | None:
    takes = wants.arrays
    if takes is None:
        return None
    keys = [key for key, (shape, dtype) in found.arrays.items() if takes(shape, dtype)]
    if keys:
        first = found.arrays[keys[0]][0]
        listed = ", ".join(filter(None, keys[:3]))
        why = f"{found.name} of {first[0]:,} {wants.what}s" + (f": {listed}" if listed else "")
        return Recognition(0.8, why)
    alone = any(is_lone(shape, dtype, wants) for shape, dtype in found.arrays.values())
    return Recognition(0.6, f"{found.name} of one {wants.what}") if alone else None


def _in_files(found: Survey, wants: Wants) -> Recognition | None:
    """Surer, the larger the part of the files that is wanted."""
    sniff = wants.sniff
    counts = {
        suffix: number
        for suffix, number in found.suffixes.items()
        if suffix in wants.suffixes
        or (sniff and any(map(sniff, found.starts.get(suffix, ()))) and suffix not in wants.convert)
    }
    if not counts:
        return None
    share = sum(counts.values()) / sum(found.suffixes.values())
    if found.kind == "file":
        return Recognition(0.5 + 0.45 * share, f"a {next(iter(counts))} {wants.what}")
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{number:,} {suffix or 'suffixless'}" for suffix, number in ordered)
    return Recognition(0.5 + 0.45 * share, f"{listed} files {found.name}")


def texts(source: Any, wants: Wants) -> Iterator[Text]:
    """Captions, cells and names of `source`, up to where it cannot be read: reading says why."""
    try:
        yield from source_of(source).texts(wants)
    except (DataError, OSError):
        return


def defects(source: Any, wants: Wants) -> Iterator[Problem]:
    """What is odd in names, links and tables, file by file."""
    yield from source_of(source).defects(wants)

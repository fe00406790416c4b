"""Which codec reads a source."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.errors import DataError
from morphogen.core.schema import check_options
from morphogen.sources import Survey, foreign, kept_surveys, survey

Read = Callable[[Codec, Report], Iterator[Item]]  # of a source by a codec, which notes problems
CLOSE = 0.1  # two that are this close are both told
FEW_FILES = 8  # of a folder that nobody recognises, asked about one by one


def find_modality(source: Any, report: Report | None = None) -> str:
    """The codec that is surest to read `source`; a report is told of others that are nearly so.

    Raises `DataError` saying what was found instead when none recognises it, and naming all when
    two are equally sure.
    """
    with kept_surveys():
        seen = survey(source)
        found = recognitions(source)
    if not found:
        raise seen.damaged or _nothing(source, seen)
    (name, best), *others = found
    close = [(other, each) for other, each in others if best.sure - each.sure < CLOSE]
    told = [f"{other} ({each.why})" for other, each in close]
    if close and close[0][1].sure == best.sure:
        raise DataError(
            "two modalities can read this equally well",
            found=", ".join([f"{name} ({best.why})", *told]),
            where=_named(source),
            hint=f"--modality {name}, or --modality {close[0][0]}",
        )
    if told and report is not None:
        report.facts["read_as"] = f"{name} ({best.why}); nearly as well: {', '.join(told)}"
    return name


def recognitions(source: Any) -> list[tuple[str, Recognition]]:
    """Every codec that recognises `source`, the surest first."""
    found = []
    for name in discover.names("modality"):
        if recognition := discover.find("modality", name).recognises(source):
            found.append((name, recognition))
    return sorted(found, key=lambda pair: -pair[1].sure)


def build_codec(modality: str, options: Mapping[str, Any]) -> Codec:
    """The codec of that name with these options."""
    codec_class = discover.find("modality", modality)
    codec: Codec = codec_class(**check_options(codec_class, options, "modality"))
    return codec


def _nothing(source: Any, seen: Survey) -> DataError:
    """The error for a source that nobody recognises: what is in it, and how to convert it."""
    known = foreign(source)
    if seen.columns:
        shown = ", ".join(list(seen.columns)[:12])
        fix = "if the table is about files that lie beside it, name their folder"
        known.append((f"{seen.name} with the columns {shown}", fix))
    if seen.arrays:
        shown = ", ".join(f"{key} {dtype} {shape}" for key, (shape, dtype) in seen.arrays.items())
        fix = "save one array of numbers, items along its first axis"
        if any(dtype.kind == "O" for _, dtype in seen.arrays.values()):
            fix += "; Python objects are not read, as they could run code"
        known.append((f"{seen.name} with {shown}", fix))
    if not known and (alone := _alone(source)):
        known.append((_contents(source), f"name one of its files: morphogen inspect {alone}"))
    return DataError(
        "nothing here that a codec can read",
        found="; ".join(what for what, _ in known) or _contents(source),
        expected=f"data for one of: {', '.join(discover.names('modality'))}",
        where=_named(source),
        hint="; ".join(dict.fromkeys(fix for _, fix in known)) or "morphogen list modalities",
    )


def _alone(source: Any) -> Path | None:
    """The first file of a folder, of a few, that is a source by itself."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return None
    files = (file for file in sorted(Path(source).iterdir())[:FEW_FILES] if file.is_file())
    return next((file for file in files if recognitions(file)), None)


def _named(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else type(source).__name__


def _contents(source: Any) -> str:
    """What a source that nobody recognises has in it."""
    if not isinstance(source, (str, Path)) or "://" in str(source):
        return _named(source)
    path = Path(source)
    if path.is_file():
        return f"a {path.suffix or 'suffixless'} file of {path.stat().st_size:,} bytes"
    files = (f for f in path.rglob("*") if f.is_file())
    counts = Counter(f.suffix or "without suffix" for f in itertools.islice(files, 100_000))
    listed = ", ".join(f"{n:,} {s}" for s, n in counts.most_common(8))
    return f"a folder with {listed} files" if listed else "an empty folder"

"""Which codec reads a source."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.codec import Codec
from morphogen.core.errors import DataError, missing_path
from morphogen.core.schema import check_options


def find_modality(source: Path | str) -> str:
    """The codec that recognises `source`. Raises `DataError` saying what was found instead."""
    is_name = "://" in str(source)
    path = Path(source)
    if not is_name and not path.exists():
        raise missing_path(path)
    for name in discover.names("modality"):
        if discover.find("modality", name).recognises(source):
            return name
    raise DataError(
        "nothing here that a codec can read",
        found=str(source) if is_name else _contents(path),
        expected=f"data for one of: {', '.join(discover.names('modality'))}",
        where=str(source),
        hint="morphogen list modalities",
    )


def build_codec(modality: str, options: Mapping[str, Any]) -> Codec:
    """The codec of that name with these options."""
    codec_class = discover.find("modality", modality)
    codec: Codec = codec_class(**check_options(codec_class, options, "modality"))
    return codec


def _contents(path: Path) -> str:
    """What a source that nobody recognises has in it."""
    if path.is_file():
        return f"a {path.suffix or 'suffixless'} file of {path.stat().st_size:,} bytes"
    counts: dict[str, int] = {}
    for file in itertools.islice((f for f in path.rglob("*") if f.is_file()), 100_000):
        counts[file.suffix or "without suffix"] = counts.get(file.suffix or "without suffix", 0) + 1
    listed = ", ".join(
        f"{n:,} {s}" for s, n in sorted(counts.items(), key=lambda pair: -pair[1])[:8]
    )
    return f"a folder with {listed} files" if listed else "an empty folder"

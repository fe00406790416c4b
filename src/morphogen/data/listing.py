"""Which files a model was trained on: for each, a hash of all that was read from it.

    BUNDLE/data_files.json.gz     ["5f1c...", "90ab...", ...]

The hash covers the contents of the file's items, their labels and captions, and the split that each
went to. So a bundle can tell which files changed after it was trained, without a copy of them. What
they are called, which may be people's names, stays on this machine (see `data.places`).
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphogen.core.border import Text, parse_json, read_bytes, unzipped
from morphogen.core.storage import write_atomic
from morphogen.data.scan import Scan
from morphogen.sources import Coded, combined

FILE = "data_files.json.gz"
HASH = Text("[0-9a-f]{16}", "16 hexadecimal digits")
CHUNK = 1 << 12  # items of which is told at once
# `file#12`, `file#row 12`, `file@12`, `series@2016-07-01 23:00:00`: of many
ROW = re.compile(r"(#(row |caption )?[\d.]+|@-?\d[\d.:e+ -]*)$")


def listing(scan: Scan, source: str) -> dict[str, str]:
    """Every file of a source that items were read from, with the hash of what was read."""
    holder = Path(source).name if Path(source).is_file() else ""  # an archive, a file of arrays
    hashes: dict[str, str] = {}
    entries = map(bytes.__add__, scan.digests, _told(scan))
    runs = ((ROW.sub("", scan.names[start]), num) for start, num in scan.names.runs())
    for name, own in itertools.groupby(runs, lambda run: run[0]):
        file = name if name.startswith(holder) else f"{holder}/{name}"
        found = hashlib.blake2b(bytes.fromhex(hashes.get(file, "")), digest_size=8)
        of_file = itertools.islice(entries, sum(num for _, num in own))
        while some := b"".join(itertools.islice(of_file, CHUNK)):
            found.update(some)
        hashes[file] = found.hexdigest()
    return hashes


def _told(scan: Scan) -> Iterator[bytes]:
    """What is told of each item beside its content, as JSON: split, label and caption."""
    if scan.captions.are_none:
        sides = [Coded(each.kinds, each.codes) for each in (scan.splits, scan.labels)]
        both = combined(sides, len(scan.names))
        yield from both.map(lambda pair: json.dumps([*pair, None], default=str).encode()).each()
        return
    told: tuple[Any, ...]
    told, told_as = (None, None, None), b"[null, null, null]"
    for said in zip(scan.splits, scan.labels, scan.captions, strict=True):
        if not all(map(operator.is_, said, told)):  # items of one class follow one another
            told, told_as = said, json.dumps(said, default=str).encode()
        yield told_as


def write_hashes(folder: Path, files: dict[str, str]) -> Path:
    """Write the hashes into a bundle, without the names."""
    data = gzip.compress(json.dumps(sorted(files.values())).encode(), mtime=0)
    return write_atomic(folder / FILE, lambda path: path.write_bytes(data))


def read_hashes(folder: Path) -> list[str] | None:
    """The hashes in a bundle; None when it has none. Raises `BundleError` when it is damaged."""
    file = folder / FILE
    if not file.is_file():
        return None
    unpacked = unzipped(read_bytes(file), file).decode(errors="replace")
    hashes: list[str] = parse_json(unpacked, [HASH], file)
    return hashes

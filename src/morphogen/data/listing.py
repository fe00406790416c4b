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
from pathlib import Path
from typing import Any

from morphogen.core.border import Text, parse_json, read_bytes, unzipped
from morphogen.core.storage import write_atomic
from morphogen.data.scan import Scan

FILE = "data_files.json.gz"
HASH = Text("[0-9a-f]{16}", "16 hexadecimal digits")
ROW = re.compile(r"(#(row |caption )?|@)[\d.]+$")  # `file#12`, `file#row 12`, `file@12`: of many


def listing(scan: Scan, source: str) -> dict[str, str]:
    """Every file of a source that items were read from, with the hash of what was read."""
    holder = Path(source).name if Path(source).is_file() else ""  # an archive, a file of arrays
    hashes: dict[str, str] = {}
    told: tuple[Any, ...]
    told, told_as = (None, None, None), b"[null, null, null]"
    items = zip(scan.names, scan.digests, scan.splits, scan.labels, scan.captions, strict=True)
    for name, own in itertools.groupby(items, lambda item: ROW.sub("", item[0])):
        file = name if name.startswith(holder) else f"{holder}/{name}"
        found = hashlib.blake2b(bytes.fromhex(hashes.get(file, "")), digest_size=8)
        for _, digest, *said in own:
            if not all(map(operator.is_, said, told)):  # items of one class follow one another
                told, told_as = tuple(said), json.dumps(said, default=str).encode()
            found.update(digest + told_as)
        hashes[file] = found.hexdigest()
    return hashes


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

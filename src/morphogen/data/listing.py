"""Which files a model was trained on: for each, a hash of all that was read from it.

    BUNDLE/data_files.json.gz     {"boots/001.png": "5f1c...", "shoes.csv": "90ab...", ...}

The hash covers the contents of the file's items, their labels and captions, and the split that each
went to. So a bundle can tell which files changed after it was trained, without a copy of them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from pathlib import Path

from morphogen.core.errors import BundleError
from morphogen.core.storage import write_atomic
from morphogen.data.scan import Scan

FILE = "data_files.json.gz"
ROW = re.compile(r"(#(row )?|@)\d+$")  # `file#12`, `file#row 12`, `file@12`: one of many


def listing(scan: Scan, source: str) -> dict[str, str]:
    """Every file of a source that items were read from, with the hash of what was read."""
    holder = Path(source).name if Path(source).is_file() else ""  # an archive, a file of arrays
    hashes: dict[str, hashlib.blake2b] = {}
    for name, digest, split, label, caption in zip(
        scan.names, scan.digests, scan.splits, scan.labels, scan.captions, strict=True
    ):
        file = ROW.sub("", name)
        file = file if file.startswith(holder) else f"{holder}/{file}"
        if file not in hashes:
            hashes[file] = hashlib.blake2b(digest_size=8)
        hashes[file].update(digest + json.dumps([split, label, caption], default=str).encode())
    return {file: digest.hexdigest() for file, digest in hashes.items()}


def write_listing(folder: Path, files: dict[str, str]) -> Path:
    """Write the list into a bundle."""
    data = gzip.compress(json.dumps(files).encode(), mtime=0)
    return write_atomic(folder / FILE, lambda path: path.write_bytes(data))


def read_listing(folder: Path) -> dict[str, str] | None:
    """The list in a bundle; None when it has none. Raises `BundleError` when it is damaged."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        files: dict[str, str] = json.loads(gzip.decompress(file.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BundleError(f"the list of files is damaged: {error}", where=file) from error
    return files

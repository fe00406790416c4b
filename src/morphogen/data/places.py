"""Where on this machine the data of a run lies: what a bundle that is given away must not tell.

    CACHE/places/DIGEST.json    {"source": "/home/ada/boots", "files": {"ada.png": "5f1c...", ...}}

A bundle records the name of its source, the digest of what was read, and hashes of its files; paths
and the names of files stay here, under the digest. So nobody's folder is found by a path that
stands in somebody else's file, and the same data is found from any bundle that was trained on it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from morphogen.core.border import read_json
from morphogen.core.errors import DataError, MorphogenError
from morphogen.core.storage import cache_folder, write_text

# Options of `load` that are not the codec's; the first of them are those of a scan.
SCAN = ("group_by", "synthetic", "file_names", "given")
LOAD = (*SCAN, "canaries", "conditions")
PLACE = {"source": str, "files?": {str: str}}
IN_MEMORY = "array"  # what a source is called that lay nowhere
HUB = "hf://"  # the one kind of address that leads everybody to the same data, once it is named


def load_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """How the data that a bundle was trained on is divided, and what is learned with the items:
    options of `load`, and nothing else that its file may ask for, such as a codec."""
    options = about.get("options", {})
    return {name: options[name] for name in LOAD if name in options}


def name_of(source: str) -> str:
    """What a bundle says of where its data came from: the name of the file or folder, or the
    address without who may read it."""
    if "://" in source:
        address = urlsplit(source)
        if source.startswith(HUB):
            return source
        host = address.netloc.rpartition("@")[2]
        return address._replace(netloc=host, query="", fragment="").geturl()
    path = Path(source)
    return path.resolve().name if path.exists() else source


def remember(source: str, digest: str, files: Mapping[str, str]) -> None:
    """Note where data lies, for when a bundle that was trained on it is evaluated, reproduced or
    gone on with. What was in memory is nowhere."""
    if "://" in source or Path(source).exists():
        place = source if "://" in source else str(Path(source).resolve())
        _write(digest, {"source": place, "files": dict(files)})


def place_of(about: Mapping[str, Any], hint: str) -> str:
    """Where the data that a bundle tells `about` lies on this machine.

    Raises `DataError` where that is not known, or it is there no more; and where only the bundle
    says that it lies on the network, as whoever made the bundle chose that address.
    """
    known, named = _read(about.get("digest", "")), str(about.get("source", ""))
    source = (known or {}).get("source")
    if known is None and named.startswith(HUB):
        raise DataError(
            "the bundle says that its data lies on the network, which is not followed unasked",
            found=named,
            hint=f"{hint}, with this address if you trust it",
        )
    if source and ("://" in source or Path(source).exists()):
        return str(source)
    if named == IN_MEMORY:
        hint += "; in Python, give it again as it was given"
    raise DataError(
        "the data that the bundle was trained on is not where it was"
        if source
        else "where the data of the bundle lies on this machine is not known",
        found="data in memory" if named == IN_MEMORY else f"it was called {named or 'nothing'}",
        where=source,
        hint=hint,
    )


def files_of(
    about: Mapping[str, Any], hashes: Iterable[str], now: Mapping[str, str]
) -> dict[str, str]:
    """The files that a bundle was trained on, by name -> hash: as they are noted here, else those
    of `now` that have the same `hashes`, and the rest by their hash alone."""
    known = (_read(about.get("digest", "")) or {}).get("files")
    left = Counter(hashes)
    if known is not None and Counter(known.values()) == left:
        return dict(known)
    found = {}
    for name, each in now.items():
        if left[each]:
            left[each] -= 1
            found[name] = each
    return found | {f"a file of hash {each}": each for each in left.elements()}


def remember_bundle(path: Path) -> str:
    """Note where a bundle lies; returns what it is found again by."""
    key = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()
    _write(key, {"source": str(path.resolve())})
    return key


def bundle_at(key: str, hint: str) -> Path:
    """Where the bundle that was noted as `key` lies. Raises `DataError`."""
    known = _read(key)
    if known is not None and Path(known["source"], "config.json").is_file():
        return Path(known["source"])
    raise DataError(
        "the bundle in whose latents it is trained is not where it was"
        if known
        else "where the bundle in whose latents it is trained lies is not known on this machine",
        found="no bundle" if known else "nothing that is noted of it",
        where=known and known["source"],
        hint=hint,
    )


def _file(key: str) -> Path:
    """Latents have the digest of their data and of the model; their data lies where it lies."""
    first = key.partition("-")[0]
    return cache_folder() / "places" / f"{hashlib.sha256(first.encode()).hexdigest()[:32]}.json"


def _write(key: str, about: Mapping[str, Any]) -> None:
    """A cache that cannot be written costs that paths have to be typed again, and no more."""
    try:
        write_text(_file(key), json.dumps(about) + "\n")
    except MorphogenError:
        return


def _read(key: str) -> dict[str, Any] | None:
    file = _file(key)
    return read_json(file, PLACE, DataError) if key and file.is_file() else None

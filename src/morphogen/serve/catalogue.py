"""Which models there are: what lies in a folder.

    models/boots/config.json               a bundle: "boots"
    models/published/smollm2/X.gguf        a published model, as it came: "published/smollm2"
    models/large.toml                      one of another server: "large"; see `engine/remote.py`

A name is looked up among what was found, so that no name leads out of the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from morphogen.core.errors import did_you_mean
from morphogen.core.folder import FORMAT, MODEL
from morphogen.serve.errors import APIError
from morphogen.serve.voices import Hearing, Speaking, voices_of

DEEPEST = 3  # folders below that of the models
MOST_JSON = 1 << 24  # bytes of a file that is looked into
NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True)
class Entry:
    """One model, as its folder tells of it."""

    name: str
    path: Path
    kind: Literal["bundle", "published", "remote", "index", "agent"]
    changed: int  # nanoseconds since 1970
    size: int  # bytes of its weights
    hash: str | None = None  # of its weights; None: known once it was opened
    verdict: str = NOT_EVALUATED  # of its last evaluation
    family: str | None = None  # None: known once it was opened
    modality: str | None = None
    hears: Hearing | None = None  # it writes down what is said, as is known before it is opened
    speaks: Speaking | None = None  # it says what is written, likewise

    def to_json(self) -> dict[str, Any]:
        """As `/v1/models` lists it."""
        about = {"model_hash": self.hash, "verdict": self.verdict, "kind": self.kind}
        return {
            "id": self.name, "object": "model", "created": self.changed // 10**9,
            "owned_by": "morphogen", "morphogen": about,
        }  # fmt: skip


class Catalogue:
    """The models of a folder, looked for anew where one that is asked for is not as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, Entry] = {}
        self.short: dict[str, list[Entry]] = {}  # by the last part of their names

    def entries(self) -> dict[str, Entry]:
        """By name, sorted."""
        found = {entry.name: entry for entry in _found(self.folder)}
        self.known, self.short = dict(sorted(found.items())), {}
        for name, entry in self.known.items():
            self.short.setdefault(name.rpartition("/")[2], []).append(entry)
        return self.known

    def find(self, name: str) -> Entry:
        """The model of a name, or of its last part where that is enough. Raises `APIError`."""
        entry = self._known_as(name)
        is_new = entry is not None and entry.name != name and (self.folder / name).exists()
        if entry is not None and not is_new and _changed(entry.path) == entry.changed:
            return entry
        known = self.entries()
        if (entry := self._known_as(name)) is not None:
            return entry
        there = ", ".join(known) or f"none in {self.folder}"
        raise APIError(
            404, f"there is no model {name!r}.{did_you_mean(name, known)} There are: {there}",
            param="model", code="model_not_found",
        )  # fmt: skip

    def _known_as(self, name: str) -> Entry | None:
        short = self.short.get(name, [])
        return self.known.get(name) or (short[0] if len(short) == 1 else None)


def _found(root: Path) -> Iterator[Entry]:
    for folder, below, files in walked(root):
        if folder == root:
            yield from (_remote(root, folder / file) for file in files if file.endswith(".toml"))
        elif entry := _entry(root, folder, files):
            below.clear()
            yield entry


def walked(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folders as `os.walk` goes through them, the hidden and those deep down left out."""
    for place, below, files in os.walk(root, followlinks=True):
        folder = Path(place)
        depth = len(folder.relative_to(root).parts)
        below[:] = [] if depth >= DEEPEST else sorted(each for each in below if each[0] != ".")
        yield folder, below, files


def _entry(root: Path, folder: Path, files: list[str]) -> Entry | None:
    name = folder.relative_to(root).as_posix()
    if "config.json" in files:
        config = read_json(folder / "config.json")
        if config.get("format") == FORMAT:
            evaluation = read_json(folder / "metrics.json").get("evaluation") or {}
            verdict = (evaluation.get("copying") or {}).get("verdict", "not judged")
            return Entry(
                name, folder, "bundle", _changed(folder),
                _size(folder), (config.get("files") or {}).get(MODEL),
                verdict if evaluation else NOT_EVALUATED, *_kinds(config), *voices_of(config),
            )  # fmt: skip
    kinds = {Path(file).suffix for file in files}
    is_heard = "model.bin" in files and any(file.startswith("vocabulary.") for file in files)
    is_known = "config.json" in files and (".safetensors" in kinds or is_heard)
    if is_known or ".gguf" in kinds or "model_index.json" in files:
        return _published(name, folder, is_heard)
    return None


def _kinds(config: dict[str, Any]) -> tuple[str | None, str | None]:
    """The family and the modality that a config tells of."""
    family = (config.get("recipe") or {}).get("family") or {}
    return family.get("name"), (config.get("codec") or {}).get("name")


def _published(name: str, folder: Path, hears: bool) -> Entry:
    how = Hearing() if hears else None
    return Entry(name, folder, "published", _changed(folder), _size(folder), hears=how)


def _remote(root: Path, file: Path) -> Entry:
    name = file.relative_to(root).with_suffix("").as_posix()
    return Entry(name, file, "remote", _changed(file), 0)


def _changed(path: Path) -> int:
    """When what tells of a model was last changed, in nanoseconds; 0 where it is gone."""
    newest = 0
    for each in (path / "config.json", path / "metrics.json", path):
        with contextlib.suppress(OSError):
            newest = max(newest, each.stat().st_mtime_ns)
    return newest


def _size(folder: Path) -> int:
    weights = (".safetensors", ".gguf", ".bin")
    return sum(f.stat().st_size for f in folder.rglob("*") if f.suffix in weights)


def read_json(file: Path) -> dict[str, Any]:
    """What a file says; nothing where it cannot be read: opening the model will tell why."""
    try:
        if file.stat().st_size > MOST_JSON:
            return {}
        told = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}

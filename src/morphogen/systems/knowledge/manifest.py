"""What an index in an object store is after so many changes: the shards that its manifest names."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from morphogen.core.errors import BundleError
from morphogen.systems.knowledge.objects import Kept, Objects, damaged

VERSION = 1
FOLDER = "changes"


@dataclass(frozen=True)
class Part:
    """A shard, as a manifest names it."""

    tables: Kept
    vectors: Kept | None
    rows: int

    @property
    def objects(self) -> list[Kept]:
        """Its objects."""
        return [each for each in (self.tables, self.vectors) if each is not None]


@dataclass(frozen=True)
class Manifest:
    """What an index is after so many changes."""

    number: int
    about: Mapping[str, Any]
    parts: Sequence[Part]

    @property
    def objects(self) -> list[Kept]:
        """All that it names."""
        return [each for part in self.parts for each in part.objects]

    def told(self) -> bytes:
        """As JSON, unlike any other: two writers never write the same."""
        return json.dumps(
            {"about": self.about, "parts": [asdict(p) for p in self.parts],
             "token": secrets.token_hex(8)}, indent=1,
        ).encode()  # fmt: skip

    @classmethod
    def read(cls, objects: Objects, number: int) -> Manifest:
        """That of a change. Raises `FileNotFoundError`, and `BundleError` where it is damaged."""
        place = f"{objects.url}/{named(number)}"
        try:
            told = json.loads(objects.read(named(number)))
            parts = [
                Part(Kept(**p["tables"]), Kept(**p["vectors"]) if p["vectors"] else None, p["rows"])
                for p in told["parts"]
            ]
            manifest = cls(number, told["about"], parts)
            version = manifest.about["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged("the manifest of this index is damaged", place, repr(error), "JSON"
                          ) from error  # fmt: skip
        if version != VERSION:
            raise BundleError(
                "this index was written by another version", found=version, expected=VERSION,
                where=place, hint="make it anew from its documents",
            )  # fmt: skip
        return manifest

    @classmethod
    def newest(cls, objects: Objects, known: Manifest | None = None) -> Manifest | None:
        """The last one, if there is any; `known`, if it still is."""
        while numbers := written(objects):
            if known is not None and known.number == numbers[-1]:
                return known
            try:
                return cls.read(objects, numbers[-1])
            except FileNotFoundError:  # another came meanwhile, and this one went
                continue
        return None


def named(number: int) -> str:
    """The object of a manifest."""
    return f"{FOLDER}/{number:08d}.json"


def written(objects: Objects) -> list[int]:
    """The numbers of the manifests that there are."""
    names = (name.partition(".")[0] for name in objects.names(FOLDER))
    return sorted(int(name) for name in names if name.isdecimal())

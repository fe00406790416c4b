"""Where an index lies: a folder, a database or an object store by its URL, or a file that tells it.

indexes/handbook                        a folder
postgresql://ann@host/papers#handbook   a schema of a database
s3://bucket/handbook                    a folder of an object store: gs://, az://, file:///..
indexes/handbook.toml                   url = "postgresql://..", for the server to find
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core.errors import BundleError
from morphogen.systems.knowledge.postgres import Postgres
from morphogen.systems.knowledge.shards import Shards
from morphogen.systems.knowledge.store import Store
from morphogen.systems.knowledge.storing import Storing


def make(place: Path | str, about: Mapping[str, Any]) -> Storing:
    """A new one."""
    if (kind := _kind(place)) is not None:
        return kind.make(str(place), about)
    return Store.make(Path(place), about)


def opened(place: Path | str) -> Storing:
    """One that there is. Raises `BundleError` where there is none."""
    if (kind := _kind(place)) is not None:
        return kind.open(str(place))
    if Path(place).suffix == ".toml" and Path(place).is_file():
        return opened(_url(Path(place)))
    return Store.open(Path(place))


def exists(place: Path | str) -> bool:
    """Whether there is one."""
    if (kind := _kind(place)) is not None:
        return kind.is_there(str(place))
    file = Path(place)
    return file.is_file() if file.suffix == ".toml" else (file / "index.json").is_file()


def _kind(place: Path | str) -> type[Postgres | Shards] | None:
    """What keeps an index that a URL names."""
    if "://" not in str(place):
        return None
    return Postgres if str(place).startswith(Postgres.prefixes) else Shards


def _url(file: Path) -> str:
    try:
        told = str(tomllib.loads(file.read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(
            "this file does not say where an index is", where=file, found=repr(error),
            expected='url = "postgresql://.."',
        ) from error  # fmt: skip
    if "://" not in told:
        raise BundleError("this is no address of an index", where=file, found=told,
                          expected="postgresql://.., s3://..")  # fmt: skip
    return told

"""Where an index lies: a folder, a database by its URL, or a file that tells of one.

indexes/handbook                        a folder
postgresql://ann@host/papers#handbook   a schema of a database
indexes/handbook.toml                   url = "postgresql://..", for the server to find
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core.errors import BundleError
from morphogen.systems.knowledge.postgres import Postgres
from morphogen.systems.knowledge.store import Store
from morphogen.systems.knowledge.storing import Storing


def make(place: Path | str, about: Mapping[str, Any]) -> Storing:
    """A new one."""
    if str(place).startswith(Postgres.prefixes):
        return Postgres.make(str(place), about)
    return Store.make(Path(place), about)


def opened(place: Path | str) -> Storing:
    """One that there is. Raises `BundleError` where there is none."""
    if str(place).startswith(Postgres.prefixes):
        return Postgres.open(str(place))
    if Path(place).suffix == ".toml" and Path(place).is_file():
        return opened(_url(Path(place)))
    return Store.open(Path(place))


def exists(place: Path | str) -> bool:
    """Whether there is one."""
    if not str(place).startswith(Postgres.prefixes):
        file = Path(place)
        return file.is_file() if file.suffix == ".toml" else (file / "index.json").is_file()
    try:
        Postgres.open(str(place)).close()
    except BundleError as error:
        if "no index" not in error.message:
            raise
        return False
    return True


def _url(file: Path) -> str:
    try:
        told = tomllib.loads(file.read_text())
        url = told["url"]
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(
            "this file does not say where an index is", where=file, found=repr(error),
            expected='url = "postgresql://.."',
        ) from error  # fmt: skip
    if not str(url).startswith(Postgres.prefixes):
        raise BundleError("this is no database of an index", where=file, found=url,
                          expected="postgresql://..")  # fmt: skip
    return str(url)

"""What documents are made of: a file for each kind of document.

Each has `SUFFIXES`, and `parts(data, place) -> (title, blocks, facts)`: the title that the document
gives itself, its blocks in the order in which they are read, with pages and headings, and what else
it says of itself. It raises `DataError` for what is damaged or locked. A file added here is found.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from morphogen.core.errors import DataError, MorphogenError, RecipeError
from morphogen.core.extras import extra
from morphogen.systems.knowledge.passage import Block

Parts = tuple[str, Iterable[Block], dict[str, Any]]


@cache
def formats() -> dict[str, Callable[[bytes, str], Parts]]:
    """suffix -> what reads such files."""
    found: dict[str, Callable[[bytes, str], Parts]] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            loaded = importlib.import_module(f"{__name__}.{module.name}")
            found |= dict.fromkeys(loaded.SUFFIXES, loaded.parts)
    return found


def suffix_of(name: str) -> str:
    """The suffix by which a file is known."""
    return PurePosixPath(name).suffix.lower()


def blocks_of(place: str, data: bytes) -> tuple[str, list[Block], dict[str, Any]]:
    """The title, the blocks and the facts of a file. Raises `DataError` for what cannot be read."""
    if not data:
        raise DataError("the file is empty", where=place)
    read = formats()[suffix_of(place)]
    try:
        title, blocks, facts = read(data, place)
        return title.strip(), [block for block in blocks if block.text.strip()], facts
    except MorphogenError:
        raise
    except Exception as error:  # whatever a library raises of a damaged file
        raise DataError(
            "it cannot be read, and is probably damaged", where=place,
            found=f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}",
        ) from error  # fmt: skip


def library(name: str) -> Any:
    """A library that reads a format. Raises `RecipeError` where it is not installed."""
    return extra(name, "knowledge", "such files are read", raises=RecipeError)

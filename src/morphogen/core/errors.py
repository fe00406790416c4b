"""Errors that tell a user what was found, what was expected, where, and what to type next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from morphogen.core.visible import visible


class MorphogenError(Exception):
    """An error meant for the user: one sentence, then the facts that let them mend it.

    Every front end (command line, notebook, server) prints `str(error)` and nothing else.
    """

    def __init__(
        self,
        message: str,
        *,
        found: object = None,
        expected: object = None,
        where: object = None,
        hint: str | None = None,
    ) -> None:
        self.message, self.found, self.expected = message, found, expected
        self.where, self.hint = where, hint
        facts = {"found": found, "expected": expected, "where": where, "try": hint}
        lines = [f"  {name + ':':<10}{fact}" for name, fact in facts.items() if fact is not None]
        super().__init__(visible("\n".join([message, *lines])))


class DataError(MorphogenError):
    """The user's data cannot be read or cannot be learned from."""


class RecipeError(MorphogenError):
    """A recipe, option or name is not one that exists."""


class RefusedPair(MorphogenError):
    """Two components do not fit together: says why, and what to use instead."""


class BundleError(MorphogenError):
    """A bundle or checkpoint is missing a part, was changed, or is of another version."""


class TrainingError(MorphogenError):
    """Training cannot start or go on."""


class RecordsError(MorphogenError):
    """The records cannot be opened, read or written."""


class AccessError(RecordsError):
    """A key, password or session lets nobody in, or not to this."""


class QuotaError(RecordsError):
    """A key has used up what it may ask for; `standing` says of which, and until when."""

    standing: object = None


class MeasurementError(MorphogenError):
    """Two numbers do not compare, or there is too little to measure."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` when a known name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def missing_path(path: Path | str) -> DataError:
    """The error for a file or folder that does not exist, with the nearest name beside it."""
    path = Path(path)
    parent = path.parent
    siblings = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    there = f"ls {parent}" if parent.is_dir() else f"{parent} does not exist either"
    return DataError(
        f"{path} does not exist.{did_you_mean(path.name, siblings)}",
        expected="a file or folder",
        where=str(path.absolute()),
        hint=there,
    )

"""Comparisons below the folder of the models, as their folders tell of them, whoever began them.

models/which/protocol.json      it was begun          models/which/runs/vae-0/ ..   a training
models/which/comparison.json    what came of it, see `comparison.compare`
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.core.errors import did_you_mean
from morphogen.serve.begun import Begun, asked_in, folders, owner_of, said_in
from morphogen.serve.catalogue import read_json
from morphogen.serve.errors import APIError
from morphogen.training.hold import Owner

RECORD, BEGUN = "comparison.json", "protocol.json"
VERB = "compare"


@dataclass(frozen=True)
class Comparison:
    """One, as it is now."""

    name: str
    path: Path
    asked: Mapping[str, Any]  # in the studio; nothing for one that was started by hand
    owner: Owner | None  # the process that was begun for it, while it lives

    @property
    def is_going(self) -> bool:
        """Whether the studio's process is at work on it."""
        return self.owner is not None

    @property
    def may_go_on(self) -> bool:
        """Whether the studio can begin it again: what is done is not done again."""
        return not self.is_going and bool(self.asked)

    @property
    def record(self) -> dict[str, Any]:
        """What came of it; nothing while it goes on for the first time."""
        return read_json(self.path / RECORD)

    @property
    def said(self) -> str:
        """The last words of its process."""
        return said_in(self.path)

    @property
    def runs(self) -> list[str]:
        """Its trainings, as they are called among the models."""
        found = sorted((self.path / "runs").glob("*/log.jsonl"))
        return [f"{self.name}/runs/{log.parent.name}" for log in found]


class Comparisons:
    """Those of a server."""

    def __init__(self, begun: Begun) -> None:
        self.begun, self.root = begun, begun.settings.models

    def all(self) -> dict[str, Comparison]:
        """By name."""
        self.begun.reap()
        places = folders(self.root, VERB, {RECORD, BEGUN})
        found = [_comparison(self.root, folder) for folder in places]
        return {each.name: each for each in found}

    def find(self, name: str) -> Comparison:
        """The one of a name. Raises `APIError`."""
        known = self.all()
        if name not in known:
            raise APIError(404, f"there is no comparison {name!r}.{did_you_mean(name, known)}")
        return known[name]

    def start(self, name: str, source: Path, budget: str, seeds: int, by: str) -> Comparison:
        """Begin to compare. Raises `APIError` for a name that is no name, or is taken."""
        out = self.begun.new_folder(name)
        told = {"source": str(source.absolute()), "budget": budget, "seeds": seeds}
        self._begin(out, {"verb": VERB, **told, "by": by})
        return _comparison(self.root, out)

    def go_on(self, comparison: Comparison) -> None:
        """Begin it again where it stopped. Raises `APIError` where it goes on, or is not ours."""
        if not comparison.may_go_on:
            raise APIError(409, f"{comparison.name} goes on, or was not begun here")
        self._begin(comparison.path, comparison.asked)

    def stop(self, comparison: Comparison) -> None:
        """End it with its runs, which keep their checkpoints. Raises `APIError` where it does not
        go on on this machine."""
        if comparison.owner is None or not comparison.owner.is_here:
            raise APIError(409, f"{comparison.name} does not go on on this machine")
        with contextlib.suppress(ProcessLookupError):  # a process begun here leads a group
            os.killpg(comparison.owner.pid, signal.SIGTERM)

    def _begin(self, out: Path, asked: Mapping[str, Any]) -> None:
        told = [f"--budget={asked['budget']}", f"--seeds={asked['seeds']}"]
        self.begun.begin(out, asked, [VERB, asked["source"], *told])


def _comparison(root: Path, folder: Path) -> Comparison:
    asked = asked_in(folder)
    return Comparison(folder.relative_to(root).as_posix(), folder, asked, owner_of(asked))

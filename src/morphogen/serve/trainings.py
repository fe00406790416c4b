"""Trainings below the folder of the models, as their folders tell of them: those that the studio
begins (`begun.py`), each a process of `morphogen train`, and those that were begun by hand alike.

    models/boots/recipe.toml    the recipe: morphogen train DATA --recipe models/boots/recipe.toml
    models/boots/log.jsonl ..   what every training leaves, see `training.session`
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from morphogen.core.errors import MorphogenError, did_you_mean
from morphogen.core.folder import CHAIN, CHECKPOINTS
from morphogen.core.storage import write_text
from morphogen.serve.begun import ASKED, Begun, asked_in, folders, owner_of, said_in
from morphogen.serve.catalogue import read_json
from morphogen.serve.errors import APIError
from morphogen.training.hold import Owner, holder
from morphogen.training.options import Budget, TrainOptions

RECIPE, LOG, VERB = "recipe.toml", "log.jsonl", "train"
KEY = re.compile(r"[a-z][a-z0-9_]*")
TABLES = ("family", "backbone", "train", "start", "wrapper")  # that a recipe of the studio has
State = Literal["starting", "going", "stopped", "cut", "failed", "done"]
WORDS: dict[State, str] = {
    "starting": "starting", "going": "going on", "stopped": "stopped, and usable",
    "cut": "cut off", "failed": "ended without a model", "done": "done",
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """One, as it is now."""

    name: str
    path: Path
    state: State
    asked: Mapping[str, Any]  # in the studio; nothing for one that was started by hand
    owner: Owner | None  # the process that trains, while one does
    changed: float  # seconds since 1970

    @property
    def is_going(self) -> bool:
        """Whether a process is at work."""
        return self.owner is not None

    @property
    def may_stop(self) -> bool:
        """Whether this server can end it."""
        return self.owner is not None and self.owner.is_here

    @property
    def may_resume(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.state in ("stopped", "cut")

    @property
    def words(self) -> str:
        """Its state, for people."""
        return WORDS[self.state]

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What it is trained by: as it was resolved, where that is known already."""
        checkpoints = sorted((self.path / CHECKPOINTS).glob("step_*/run.json"), reverse=True)
        for file in (self.path / CHAIN, self.path / "config.json", *checkpoints):
            if found := read_json(file).get("recipe"):
                return dict(found)
        return dict(self.asked.get("recipe") or {})

    @property
    def family(self) -> str:
        """The family, or the chain of them; nothing while nobody knows."""
        told = self.recipe.get("family")
        return str(told.get("name", "")) if isinstance(told, Mapping) else ""

    @property
    def source(self) -> str:
        """The data, as far as it is told of."""
        config = read_json(self.path / "config.json").get("data") or {}
        return str(self.asked.get("source") or config.get("source") or "")

    def progress(self, step: int, seconds: float) -> float | None:
        """The share of the budget that is spent; None where it is one of epochs, or of a chain."""
        options = self.recipe.get("train") or {}
        try:
            budget = Budget.parse(str(options.get("budget", TrainOptions.budget)))
        except MorphogenError:
            return None
        whole, spent = (budget.steps, step) if budget.steps else (budget.seconds, seconds)
        return None if not whole or "+" in self.family else min(spent / whole, 1.0)

    def logs(self) -> list[tuple[str, Path]]:
        """The log of each stage that has begun, by its name: of all but a chain there is one."""
        before = sorted(self.path.glob(f"[0-9]*_*/{LOG}"))
        logs = [(log.parent.name.partition("_")[2], log) for log in before]
        own = self.path / LOG
        if own.is_file():
            logs.append((self.family.rpartition("+")[2] if before else "", own))
        return logs

    def sheets(self) -> list[Path]:
        """Samples that were drawn on the way, the newest last."""
        folders = [log.parent / "samples" for _, log in self.logs()]
        files = (each for folder in folders for each in folder.glob("*.*") if each.is_file())
        shown = [each for each in files if not each.name.startswith(".")]
        return sorted(shown, key=lambda file: file.stat().st_mtime_ns)

    def said(self) -> str:
        """The last words of its process."""
        return said_in(self.path)


class Trainings:
    """Those of a server."""

    def __init__(self, begun: Begun) -> None:
        self.begun, self.root = begun, begun.settings.models

    def all(self) -> list[Training]:
        """Every one: those that go on first, then the newest."""
        self.begun.reap()
        places = folders(self.root, VERB, {LOG, CHAIN})
        found = [_training(self.root, folder) for folder in places]
        return sorted(found, key=lambda each: (not each.is_going, -each.changed))

    def find(self, name: str) -> Training:
        """The one of a name, looked up among those that there are. Raises `APIError`."""
        known = {each.name: each for each in self.all()}
        if name not in known:
            raise APIError(404, f"there is no training {name!r}.{did_you_mean(name, known)}")
        return known[name]

    def now(self, training: Training) -> Training:
        """The same, as its folder tells of it now."""
        self.begun.reap()
        return _training(self.root, training.path)

    def start(
        self, name: str, source: Path, recipe: Mapping[str, Mapping[str, str]], by: str
    ) -> Training:
        """Begin to train. Raises `APIError` for a name that is no name, or is taken."""
        text = as_toml(recipe)
        out = self.begun.new_folder(name)
        write_text(out / RECIPE, text)
        place = str(source.absolute())
        asked = {"verb": VERB, "source": place, "recipe": recipe, "by": by}
        # A recipe in a file may name no code: what it asks for is Morphogen's, or refused.
        told = [VERB, place, "--recipe", str((out / RECIPE).absolute())]
        self.begun.begin(out, asked, told)
        return _training(self.root, out)

    def resume(self, training: Training) -> None:
        """Go on from its last checkpoint. Raises `APIError` where it has none, or goes on."""
        if not training.may_resume:
            raise APIError(409, f"{training.name} is {training.words}: nothing to go on from")
        given = [training.asked["source"]] if "source" in training.asked else []
        self.begun.begin(training.path, training.asked, [VERB, *given, "--resume"])

    def stop(self, training: Training) -> None:
        """Have it end after the step under way, with a checkpoint and a usable model, as Ctrl-C
        does. Raises `APIError` where this machine does not run it."""
        if training.owner is None or not training.may_stop:
            raise APIError(409, f"{training.name} does not go on on this machine")
        with contextlib.suppress(ProcessLookupError):
            os.kill(training.owner.pid, signal.SIGTERM)


def as_toml(recipe: Mapping[str, Mapping[str, str]]) -> str:
    """A recipe whose values are texts. Raises `APIError` for what is none."""
    lines = []
    for table, options in recipe.items():
        if table not in TABLES:
            raise APIError(400, f"a recipe of the studio has no table {table[:40]!r}")
        lines.append(f"[{table}]")
        for key, value in options.items():
            if not KEY.fullmatch(key) or not value.isprintable():
                raise APIError(400, f"{table}.{key[:40]} is no option, or {value[:40]!r} no value")
            # What is printable is written in JSON as in TOML.
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, ""])


def _training(root: Path, folder: Path) -> Training:
    asked = asked_in(folder)
    owner = holder(folder) or _holder_of_stage(folder) or owner_of(asked)
    has_log = (folder / LOG).is_file() or any(folder.glob(f"[0-9]*_*/{LOG}"))
    return Training(
        folder.relative_to(root).as_posix(), folder, _state(folder, owner, has_log), asked, owner,
        max(_changed(folder / name) for name in (ASKED, LOG, "config.json", ".")),
    )  # fmt: skip


def _holder_of_stage(folder: Path) -> Owner | None:
    """Who trains a stage of the chain in `folder`."""
    stages = (lock.parent for lock in folder.glob("[0-9]*_*/.lock"))
    return next(filter(None, map(holder, stages)), None)


def _state(folder: Path, owner: Owner | None, has_log: bool) -> State:
    if owner is not None:
        return "going" if has_log else "starting"
    can_go_on = any((folder / CHECKPOINTS).glob("step_*"))
    if (folder / "config.json").is_file():
        return "stopped" if can_go_on else "done"
    return "cut" if can_go_on or (folder / CHAIN).is_file() else "failed"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""What the verbs do, written into the records: the one place where they meet.

    with recording() as told:                 # None where nobody keeps records here
        with training(told, session): ...     # a run, its data and its model
        evaluated(told, bundle, data, record) # a judgement
        with generating(told, bundle, ...): . # what was asked, what came

Records are kept where there are any, or MORPHOGEN_RECORDS says where; see `morphogen records init`.
What cannot be recorded is told as a warning: no training and no answer is lost for it.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morphogen.core.errors import MorphogenError
from morphogen.core.storage import expanded
from morphogen.provenance.signing import provenance_of

if TYPE_CHECKING:
    from morphogen.core.bundle import Bundle
    from morphogen.data.dataset import Data
    from morphogen.records.records import Records
    from morphogen.training.session import Session

NEEDED = ("sqlalchemy", "alembic", "cryptography")
PLACE, DEFAULT = "MORPHOGEN_RECORDS", "~/.local/share/morphogen/records.db"
MOST_FILES = 10_000  # of one generation


def missing() -> list[str]:
    """The libraries that records need and that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def are_kept() -> bool:
    """Whether records are kept here; asks nothing of the libraries that they need."""
    if missing():
        return False
    data = os.environ.get("XDG_DATA_HOME")
    default = f"{data}/morphogen/records.db" if data else DEFAULT
    return bool(os.environ.get(PLACE)) or expanded(default).is_file()


@contextmanager
def recording() -> Iterator[Records | None]:
    """The records of this installation, where there are any."""
    opened = None
    if are_kept():
        with _told("this"):
            from morphogen.records.records import open

            opened = open()
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()


@contextmanager
def training(records: Records | None, session: Session) -> Iterator[None]:
    """Record the training that goes on meanwhile: its data, recipe, end and model."""
    number = None
    if records is not None and session.first:
        with _told("the training"):
            recipe = session.recipe.to_json()
            number = records.runs.start(
                recipe["family"]["name"],
                str(session.out.resolve()),
                recipe,
                dataset=records.datasets.add(session.data).id,
                seed=session.recipe.train.get("seed"),
                user=records.users.local().id,
            )
    try:
        yield
    except BaseException:
        if records is not None and number is not None:
            with _told("the training"):
                records.runs.finish(number, state="cut")
        raise
    if records is not None and number is not None:
        with _told("the training"):
            state = "cut" if session.run.is_stopped else "finished"
            records.runs.finish(number, state=state, steps=session.run.state.step)
            records.models.add(session.out, run=number)


def evaluated(
    records: Records | None,
    bundle: Bundle,
    record: Mapping[str, Any],
    passed: bool | None = None,
    data: Data | None = None,
) -> None:
    """Record a judgement of a bundle."""
    if records is None or bundle.path is None:
        return
    with _told("the evaluation"):
        model = records.models.add(bundle.path)
        dataset = None if data is None else records.datasets.add(data).id
        records.models.evaluated(model.id, record, passed=passed, dataset=dataset)


class Noted:
    """A generation under way: what comes of it is noted here."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.files: list[Path] = []
        self.reason = "stop"
        self.usage: dict[str, Any] = {}

    def keep(self, path: Path | str) -> None:
        """Note a file, or all in a folder."""
        path = Path(path)
        if path.is_dir():
            self.files += sorted(each for each in path.iterdir() if each.is_file())[:MOST_FILES]
        elif path.is_file() and path not in self.files:
            self.files.append(path)


@contextmanager
def generating(
    records: Records | None,
    model: tuple[Bundle, str],
    task: str,
    prompt: str | Sequence[tuple[str, str]],
    *,
    seed: int,
    asked: Mapping[str, Any],
    watermark: bool = False,
) -> Iterator[Noted]:
    """Record what a model (a bundle, and where it was opened from) is asked meanwhile, by a text or
    a conversation of (role, text), and what of it is noted. What it makes is signed where there is
    a key to sign with, and marked where that is asked for, see `provenance.signing`."""
    noted, uid = Noted(), None
    bundle, place = model
    provenance = provenance_of(watermark=watermark)
    if records is not None:
        with _told("the request"):
            from morphogen.records.prompts import Message

            said: str | list[Message] = (
                prompt if isinstance(prompt, str) else [Message.of(*each) for each in prompt]
            )
            known = records.models.add(bundle.path) if bundle.path else None
            uid = records.generations.start(
                said, model=known.name if known else Path(place).name, task=task, seed=seed,
                model_hash=known.hash if known else None, parameters=asked,
                user=records.users.local().id,
            )  # fmt: skip
    if provenance is not None:
        bundle.provenance = replace(provenance, generation=uid or "")
    try:
        yield noted
    except BaseException as error:
        if records is not None and uid is not None:
            with _told("the request"):
                records.generations.cut(uid, type(error).__name__, noted.answer)
        raise
    if records is not None and uid is not None:
        with _told("the answer"):
            records.generations.finish(
                uid, noted.answer, reason=noted.reason, usage=noted.usage, files=noted.files
            )


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except MorphogenError as error:
        warnings.warn(f"{what} is not in the records: {error}", stacklevel=4)

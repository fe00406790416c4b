"""What the verbs do, written into the records: the one place where they meet.

    with recording() as told:                 # None where nobody keeps records here
        with training(told, session): ...     # a run, its data and its model
        evaluated(told, bundle, record, ...)  # a judgement
        with generating(told, bundle, ...): . # what was asked, what came
    did("snapshot", source, made=[...])       # what else was done with data and models
    compared(source, data, out)               # the runs of a comparison

Records are kept where there are any, or MORPHOGEN_RECORDS says where; see `morphogen records init`.
Runs, models and judgements are shown in MLflow as well, where there is one (see `mirror`).
What cannot be recorded is told as a warning: no training and no answer is lost for it.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morphogen.core.border import read_json
from morphogen.core.errors import MorphogenError
from morphogen.core.storage import expanded
from morphogen.records.mirror import mirrored

if TYPE_CHECKING:
    from morphogen.core.bundle import Bundle
    from morphogen.core.ledger import Ledger
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


def ledger_of(modality: str) -> Ledger | None:
    """The ledger of what is generated of a modality, where records are kept: see `core.hinges`."""
    if not are_kept():
        return None
    from morphogen.records.ledger import InstalledLedger

    return InstalledLedger(modality)


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
    number, shown = None, None
    recipe = session.recipe.to_json()
    seed = session.recipe.train.get("seed")
    if records is not None and session.first:
        with _told("the training"):
            number = records.runs.start(
                recipe["family"]["name"], str(session.out.resolve()), recipe,
                dataset=records.datasets.add(session.data).id, seed=seed,
                user=records.users.local().id,
            )  # fmt: skip
    if session.first:
        with mirrored() as mirror:
            if mirror is not None:
                tags = {"morphogen.place": str(session.out.resolve()),
                        "morphogen.data": session.data.digest}  # fmt: skip
                shown = mirror.begin(session.out.resolve().name, recipe, tags)
    state, has_model = "cut", False
    try:
        yield
        state, has_model = "cut" if session.run.is_stopped else "finished", True
    finally:
        _trained(records, session, (number, shown), state, has_model=has_model)


def _trained(
    records: Records | None,
    session: Session,
    begun: tuple[int | None, str | None],
    state: str,
    *,
    has_model: bool,
) -> None:
    """Record that a training is over, and its model, where it left one."""
    number, shown = begun
    if records is not None and number is not None:
        with _told("the training"):
            records.runs.finish(number, state=state, steps=session.run.state.step)
            if has_model:
                records.models.add(session.out, run=number)
    if shown is not None:
        with mirrored() as mirror:
            if mirror is not None:
                mirror.end(shown, session.out / "log.jsonl", state=state)
                if has_model:
                    mirror.keep(shown, session.out, _hash_of(session.out))


def evaluated(
    records: Records | None,
    bundle: Bundle,
    record: Mapping[str, Any],
    gate: Mapping[str, Any] | None = None,
) -> None:
    """Record a judgement of a bundle, as `evaluate` returns it, and whether it passed its `gate`:
    the demands, and what was `missed` of them."""
    if bundle.path is None:
        return
    passed = None if gate is None else not gate["missed"]
    verdict = str(record.get("copying", {}).get("verdict", "copying was not tested"))
    with mirrored() as mirror:
        if mirror is not None:
            tags = {"morphogen.verdict": verdict}
            tags |= {} if passed is None else {"morphogen.gate": "passed" if passed else "missed"}
            mirror.judged(_hash_of(bundle.path), record["scores"], tags)
    if records is None:
        return
    with _told("the evaluation"):
        told = dict(record) if gate is None else {**record, "gate": dict(gate)}
        model = records.models.add(bundle.path)
        digest = record.get("protocol", {}).get("data_digest")
        records.models.evaluated(
            model.id, told, passed=passed, dataset=records.datasets.number_of(digest)
        )


def did(
    verb: str,
    source: Path | str,
    *,
    made: Iterable[Path | str] = (),
    facts: Mapping[str, Any] | None = None,
    bundle: Path | str | None = None,
) -> None:
    """Record what a verb did with data or a model, what it `made`, and the `bundle` among that."""
    with recording() as records:
        if records is None:
            return
        with _told(f"what {verb} did"):
            model = None if bundle is None else records.models.add(bundle).id
            records.deeds.add(
                verb, source, made=made, facts=facts, model=model, user=records.users.local().id
            )


def compared(source: Path | str, data: Data, out: Path | str) -> None:
    """Record a comparison: its data, every run with its models and judgement, and that they belong
    together. What an earlier call recorded stays as it is."""
    with recording() as records:
        if records is None:
            return
        with _told("the comparison"):
            dataset, user = records.datasets.add(data).id, records.users.local().id
            folders = sorted(Path(out).glob("*/*/run.json"))  # of the first round too
            num = sum(_compared_run(records, each.parent, dataset, user) for each in folders)
            facts = {"num_runs": len(folders), "num_models": num}
            records.deeds.add(
                "compare", source, made=[out], facts=facts, dataset=dataset, user=user
            )


def _compared_run(records: Records, folder: Path, dataset: int, user: int) -> int:
    """Record a run of a comparison, stage by stage; returns how many models it has."""
    from morphogen.core.config import read_config
    from morphogen.core.recipe import component_of
    from morphogen.training.chain import stage_folders

    run, stages = read_json(folder / "run.json"), stage_folders(folder)
    model = None
    for stage in stages:
        recipe = read_config(stage)["recipe"]
        model = records.models.add(stage)
        if model.run_id is None:
            ended = (stage / "config.json").stat().st_mtime
            number = records.runs.start(
                component_of(recipe)[1], str(stage.resolve()), recipe, dataset=dataset,
                seed=run.get("seed"), user=user, started=ended - run["seconds"] / len(stages),
            )  # fmt: skip
            records.runs.finish(number, ended=ended, steps=run["steps"])
            model = records.models.add(stage, run=number)
    if model is not None and not records.models.evaluations(model.id):
        records.models.evaluated(model.id, run["evaluation"], dataset=dataset)
    return len(stages)


def _hash_of(bundle: Path) -> str:
    from morphogen.records.models import hash_of

    return hash_of(bundle)


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
    from morphogen.provenance.signing import provenance_of  # PyTorch, which a server does without

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

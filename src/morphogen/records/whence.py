"""Where something comes from, and what it went into: lineage, both ways.

    a file that a model made    its generation, model, run, data, judgements
    a text                      the answers that hold it
    an item of the data         every dataset, model and answer it touched, and how to remove it
    a bundle                    its run, data, base, judgements, answers

Known again are a file by its bytes, by its credential, by the mark and the words inside it, and by
how it looks (the ledger of what was generated), a text by its words. Without records there is the
file itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from morphogen.core.errors import missing_path
from morphogen.core.storage import expanded
from morphogen.provenance.credential import Credential
from morphogen.provenance.identity import Identity
from morphogen.provenance.signing import read as read_credentials
from morphogen.records.datasets import Dataset
from morphogen.records.generation import Generation
from morphogen.records.models import Evaluation, Model, hash_of
from morphogen.records.origin import Watermark, marked_with, said_inside, seen_before
from morphogen.records.runs import Run
from morphogen.records.tables import Artefact
from morphogen.records.tables import Generation as GenerationRow
from morphogen.records.touched import Touched, removal, touched
from morphogen.records.words import words

if TYPE_CHECKING:
    from morphogen.records.records import Records

TEXTS = {".txt", ".md", ".json", ".csv", ".py", ""}
MOST_TEXT, LEAST_WORDS = 1 << 20, 3
WRITTEN, MOST_WRITERS = ("text", "code", "chat"), 8  # models by whose words a text is looked at
ASKED_WORDS = 12  # of a text, that an answer which holds it has to hold


@dataclass(frozen=True)
class Lineage:
    """A model with all that stands behind it, and what it made."""

    model: Model
    run: Run | None
    data: Dataset | None
    bases: tuple[Model, ...]  # what it began with, nearest first
    evaluations: tuple[Evaluation, ...]  # newest first
    num_answers: int


@dataclass(frozen=True)
class Made:
    """A generation with all that stands behind it."""

    generation: Generation
    how: str  # how it is known that this made it
    lineage: Lineage | None  # of the model


@dataclass
class Whence:
    """All that is known of something."""

    subject: str
    made: list[Made] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)
    model: Lineage | None = None
    said: dict[str, str] = field(default_factory=dict)  # by the file itself
    seen: str = ""  # what the ledger says that looks so
    credentials: list[Credential] = field(default_factory=list)
    watermark: Watermark | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything is."""
        told = self.made or self.touched or self.model or self.said or self.seen
        marked = self.watermark is not None and self.watermark.is_found
        return bool(told or self.credentials or marked)

    def to_json(self) -> dict[str, Any]:
        """The facts, with the steps of a removal."""
        made = [
            {
                "generation": each.generation.to_json(),
                "how": each.how,
                "lineage": asdict(each.lineage) if each.lineage else None,
            }
            for each in self.made
        ]
        told = asdict(replace(self, made=[]))
        held = [{**asdict(each), "is_valid": each.is_valid} for each in self.credentials]
        return {**told, "made": made, "credentials": held, "removal": self.removal()}

    def removal(self) -> list[str]:
        """What to do so that nothing of an item of the data is left."""
        return removal(self.touched)

    def text(self) -> str:
        """For a terminal."""
        return "\n".join(_lines(self))


def whence(
    records: Records | None, subject: str | Path, *, models: Sequence[str | Path] = ()
) -> Whence:
    """All that is known of a file, a bundle or the name of an item (`told.csv#row 12`). The
    watermark of a text is looked for by the words of `models`, and of those in the records.

    Raises `DataError` for a path that does not exist and that no dataset knows.
    """
    path, found = expanded(subject), Whence(str(subject))
    if records is not None and (path / "config.json").is_file():
        found.model = _lineage(records, hash_of(path))
        return found
    if records is not None:
        found.touched = [touched(records, held) for held in records.datasets.holding(path)]
    if not path.is_file():
        if not found.touched and not path.exists():
            raise missing_path(path)
        return found
    if records is not None:
        found.made = [_made(records, each, how) for each, how in _makers(records, path)]
    found.credentials = read_credentials(path, Identity.open())
    found.said, found.seen = said_inside(path), seen_before(path)
    found.watermark = marked_with(path, [*models, *_writers(records)])
    return found


def _writers(records: Records | None) -> list[str]:
    """Where the models of texts in the records lie, the newest first."""
    if records is None:
        return []
    found = sorted(records.models.all(), key=lambda model: -model.created)
    return [model.place for model in found if model.modality in WRITTEN][:MOST_WRITERS]


def _makers(records: Records, path: Path) -> Iterator[tuple[Generation, str]]:
    """The generations that made a file, and how that is known."""
    with path.open("rb") as file:
        digest = records.seals.blind("file", hashlib.file_digest(file, "sha256").digest())
    known = set()
    with records.database.read() as session:
        rows = session.scalars(
            select(GenerationRow)
            .join(Artefact, Artefact.generation_id == GenerationRow.id)
            .where(Artefact.digest == digest)
            .order_by(GenerationRow.id)
        )
        for uid in list(dict.fromkeys(row.uid for row in rows)):
            known.add(uid)
            yield records.generations.get(uid), "its bytes are those that were written"
    if path.suffix.lower() not in TEXTS or path.stat().st_size > MOST_TEXT:
        return
    text = path.read_text(errors="replace").strip()
    asked = sorted(words(text), key=len, reverse=True)[:ASKED_WORDS]
    if len(asked) < LEAST_WORDS:
        return
    for found in records.search(" ".join(asked), limit=20):
        if found.id not in known and found.answer and _same(text, found.answer.text):
            yield records.generations.get(found.id), "its text is what was answered"


def _same(text: str, answer: str) -> bool:
    one, other = " ".join(text.split()), " ".join(answer.split())
    return one in other or other in one


def _made(records: Records, generation: Generation, how: str) -> Made:
    return Made(generation, how, _lineage(records, generation.model_hash))


def _lineage(records: Records, digest: str | None) -> Lineage | None:
    model = next((each for each in records.models.all() if each.hash == digest), None)
    if model is None:
        return None
    run = records.runs.get(model.run_id) if model.run_id else None
    return Lineage(
        model, run, records.datasets.get(run.dataset_id) if run and run.dataset_id else None,
        tuple(_bases(records, model)), tuple(records.models.evaluations(model.id)),
        records.models.num_answers(model.id),
    )  # fmt: skip


def _bases(records: Records, model: Model) -> Iterator[Model]:
    while model.base_id is not None:
        model = records.models.get(model.base_id)
        yield model


def _lines_of_model(lineage: Lineage) -> Iterator[str]:
    model = lineage.model
    yield f"  model: {model.place}, {model.family} of {model.modality}, {model.hash[:12]}"
    yield from (f"  which began with: {base.place}" for base in lineage.bases)
    if lineage.data is not None:
        yield f"  trained on: {lineage.data.place}, {lineage.data.num_train:,} items"
    if not lineage.evaluations:
        yield "  it was not evaluated"
    for each in lineage.evaluations[:1]:
        gate = {None: "", True: "; it passed its gate", False: "; it did not pass its gate"}
        yield f"  last evaluation: {each.verdict}{gate[each.passed]}"


def _lines(found: Whence) -> Iterator[str]:
    yield found.subject
    if not found.is_known:
        yield "  nothing is known of it here"
    for credential in found.credentials:
        yield from (f"  {line}" for line in credential.lines())
    for made in found.made:
        one = made.generation
        yield f"  made by {one.model}: {one.task}, seed {one.seed}, id {one.id} ({made.how})"
        if one.prompt:
            yield f"  asked for: {' '.join(one.prompt[-1].text.split())[:100]}"
        if made.lineage is not None:
            yield from _lines_of_model(made.lineage)
    if found.model is not None:
        yield from _lines_of_model(found.model)
        yield f"  answers: {found.model.num_answers:,}"
    for name, fact in found.said.items():
        yield f"  the file itself says: {name}: {fact}"
    if found.watermark is not None:
        yield f"  {found.watermark.text()}"
    if found.seen:
        yield f"  it looks like what was generated here: {found.seen}"
    for each in found.touched:
        yield from each.lines()
    if steps := found.removal():
        yield "\nto remove it:"
        yield from (f"  {number}. {step}" for number, step in enumerate(steps, 1))

r"""A memory: what was said and read, found again by what it is about and how long ago it was.

    score(n) = (1 - w) relevance(n) + w 2^(-age / half life)          w = 0.3, half life 30 days

Relevance is the sum of words (BM25) and meaning (a cosine), each from 0 to 1 among the notes, as an
index has it; what has none is not recalled, however fresh it is (after Park et al. 2023,
arXiv:2304.03442, without a model that judges how important a note is).

    memory = Memory.open("memories/mine")
    note = memory.remember("Ann moved to Oslo.", source="Ann", relations=[
        {"subject": "Ann", "relation": "lives in", "object": "Oslo", "since": "2025-03-01"}])
    memory.recall("Where is Ann?");  memory.state("Ann", "lives in", at="2024-12-31")
    memory.forget(note.id).holds
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.errors import BundleError, DataError, RecipeError
from morphogen.core.storage import expanded, write_text
from morphogen.systems.knowledge.embedders import Embedder, NoEmbedder, embedder_of
from morphogen.systems.knowledge.sentences import sentences
from morphogen.systems.knowledge.vectors import Floats
from morphogen.systems.knowledge.words import COMMON, Allowed, Words
from morphogen.systems.memory.graph import Graph
from morphogen.systems.memory.note import Kind, Note, Relation, when, written
from morphogen.systems.memory.proof import Proof, looked_for, marks_of, words_of
from morphogen.systems.memory.store import Store

HALF_LIFE = 30 * 86_400.0  # seconds
WEIGHT = 0.3  # of recency
MOST = 20_000  # characters of a note
LEAST_MEANING = 0.25  # a cosine below which a note is about something else


@dataclass(frozen=True)
class Recalled:
    """A note that was recalled, and why."""

    note: Note
    score: float
    relevance: float
    recency: float

    @property
    def text(self) -> str:
        """With its date and source, for whoever reads it."""
        note = self.note
        return f"[{note.id}] {written(note.made)}, {note.source}: {note.text}"


class Memory:
    """The notes of a folder, opened."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        *,
        half_life: float = HALF_LIFE,  # seconds in which recency halves
        clock: Callable[[], float] = time.time,  # what time it is
    ) -> None:
        if store.about["embedder"]["digest"] != embedder.digest:
            raise RecipeError(
                "this memory was made with another embedder", found=embedder.name,
                expected=store.about["embedder"]["name"], where=store.folder,
            )  # fmt: skip
        self.store, self.embedder = store, embedder
        self.half_life, self.clock = half_life, clock
        self.notes: dict[str, Note] = {}
        self._rows: dict[str, int] = {}  # in the order of the notes, each larger than the last
        self._next_row = 0
        self._vectors: dict[str, Floats] = {}
        self._words = Words(store.about["language"])
        for note, vector in store.all():
            self._take(note, vector)
        self._words.add({row: self.notes[name].text for name, row in self._rows.items()})
        self.expire()

    @classmethod
    def make(
        cls,
        folder: Path | str,
        embedder: Embedder | None = None,
        *,
        language: str | None = "english",
        **options: Any,
    ) -> Memory:
        """A new one."""
        embedder = embedder or NoEmbedder()
        about = {
            "embedder": {"name": embedder.name, "digest": embedder.digest}, "dim": embedder.dim,
            "language": language,
        }  # fmt: skip
        return cls(Store.make(expanded(folder), about), embedder, **options)

    @classmethod
    def open(cls, folder: Path | str, embedder: Embedder | None = None, **options: Any) -> Memory:
        """One that there is. Raises `BundleError` where there is none."""
        folder = expanded(folder)
        if not Store.is_there(folder):
            raise BundleError("there is no memory here", where=folder,
                              hint="morphogen chat MODEL --memory FOLDER begins one")  # fmt: skip
        store = Store(folder)
        return cls(store, embedder or embedder_of(store.about["embedder"]["name"]), **options)

    def __len__(self) -> int:
        return len(self.notes)

    # -- what is remembered ------------------------------------------------------------------------

    def remember(
        self,
        text: str,
        *,
        source: str,
        kind: Kind = "fact",
        trusted: bool = True,
        expires: Any = None,
        of: Iterable[str] = (),
        relations: Iterable[Relation | Mapping[str, Any]] = (),
    ) -> Note:
        """Write something down. `of` are the notes that a summary is made of; relations are what it
        says of whom. Raises `DataError` for what says nothing, or stands on nothing."""
        of = tuple(of)
        told = tuple(r if isinstance(r, Relation) else Relation.of(r) for r in relations)
        if missing := [each for each in of if each not in self.notes]:
            raise DataError("a summary stands on notes that there are", found=", ".join(missing))
        trusted = trusted and all(self.notes[each].trusted for each in of)
        note = Note(
            secrets.token_hex(6), _checked(text), kind, source, self.clock(), when(expires),
            trusted, of, told,
        )  # fmt: skip
        self._write(note)
        return note

    def correct(
        self,
        name: str,
        text: str,
        *,
        source: str | None = None,
        trusted: bool = True,
        relations: Iterable[Relation | Mapping[str, Any]] | None = None,
    ) -> Note:
        """Put other words in the place of a note's, which are forgotten, with the summaries that
        stand on them."""
        old = self.note(name)
        told = old.relations
        if relations is not None:
            told = tuple(r if isinstance(r, Relation) else Relation.of(r) for r in relations)
        new = replace(
            old, text=_checked(text), source=source or old.source, made=self.clock(),
            trusted=trusted, relations=told,
        )  # fmt: skip
        self._forget([old.id])
        self._write(new)
        return new

    def summarise(
        self, names: Sequence[str], write: Callable[[str, str], str] | None = None
    ) -> Note:
        """A note that stands for others and stays linked to them. `write` is given instructions and
        notes; without it, it is the first sentence of each."""
        notes = [self.note(name) for name in names]
        if not notes:
            raise DataError("there is nothing to summarise", expected="the ids of notes")
        if write is None:
            text = " ".join(sentences(each.text)[0].text for each in notes)
        else:
            listed = "\n".join(f"- {each.text}" for each in notes)
            text = write("Say in one or two sentences what these notes say.", listed)
        return self.remember(text[:MOST], source="summary", kind="summary", of=names)

    def note(self, name: str) -> Note:
        """The note of an id. Raises `DataError` where there is none."""
        if name not in self.notes:
            raise DataError(
                "there is no such note", found=name, hint="morphogen memory show FOLDER"
            )
        return self.notes[name]

    # -- what is recalled --------------------------------------------------------------------------

    def recall(
        self, question: str, *, num: int = 5, at: Any = None, weight: float = WEIGHT
    ) -> list[Recalled]:
        """The notes that a question is about, the fresh before the old; `at` a time, those that
        there were."""
        now = self._time(at)
        chosen = [
            each for each in self.notes.values()
            if each.made <= now and (each.expires is None or now < each.expires)
        ]  # fmt: skip
        if not chosen or not question.strip():
            return []
        found = []
        for note, relevance in zip(chosen, self._relevance(question, chosen), strict=True):
            recency = 2.0 ** (-(now - note.made) / self.half_life)
            score = (1 - weight) * relevance + weight * recency
            if relevance > 0:
                found.append(Recalled(note, score, relevance, recency))
        found.sort(key=lambda each: (-each.score, each.note.id))
        return found[:num]

    def _relevance(self, question: str, notes: Sequence[Note]) -> list[float]:
        rows = np.array([self._rows[each.id] for each in notes])  # they rise: see `_take`
        words = self._words.scores(_telling(question), Allowed(rows))
        words /= max(float(words.max()), 1e-9)
        if not self.embedder.dim:
            return words.tolist()
        asked = self.embedder.embed([question])[0]
        near = np.stack([self._vectors[each.id] for each in notes]) @ asked
        near = np.where(near >= LEAST_MEANING, near, 0.0)
        return ((words + near) / 2).tolist()

    def graph(self) -> Graph:
        """Who stands in which relation to whom, by the notes that there are."""
        return Graph(self.notes.values())

    def state(self, subject: str, relation: str, *, at: Any = None) -> str | None:
        """What holds at a time, now unless told: the last that was said to. None: nothing."""
        return self.graph().state(subject, relation, at=self._time(at))

    def _time(self, at: Any) -> float:
        told = when(at)
        return self.clock() if told is None else told

    # -- what goes ---------------------------------------------------------------------------------

    def forget(self, *names: str) -> Proof:
        """Forget notes, and the summaries that stand on them: rows, keys, vectors, and what files
        outside hold of them. The proof says where they were looked for afterwards."""
        return self._forget([self.note(name).id for name in names])

    def expire(self) -> Proof | None:
        """Forget what is past its date."""
        now = self.clock()
        late = [n.id for n in self.notes.values() if n.expires is not None and n.expires <= now]
        return self._forget(late) if late else None

    def _forget(self, names: Sequence[str]) -> Proof:
        gone = self._standing_on(names)
        others = words_of(note for name, note in self.notes.items() if name not in gone)
        marks = [
            mark for name in gone
            for mark in marks_of(self.notes[name], self._secrets(name), others)
        ]  # fmt: skip
        outside = self.store.outside(gone)
        removed, unreached = [], []
        for place, kind in outside.items():
            if not place.is_file():
                unreached.append(str(place))
            elif kind != "backup" and self._cleaned(place, kind, gone):
                removed.append(str(place))
        self.store.remove(gone)
        for name in gone:
            del self.notes[name], self._vectors[name]
        self._words.remove([self._rows.pop(name) for name in gone])
        own = sorted(each for each in self.store.folder.rglob("*") if each.is_file())
        files = [*own, *(place for place in outside if place.is_file())]
        looked, found, num = looked_for(marks, files)
        return Proof(tuple(gone), tuple(looked), num, tuple(removed), tuple(found),
                     tuple(unreached))  # fmt: skip

    def _standing_on(self, names: Sequence[str]) -> list[str]:
        """Notes, and the summaries of them, and of these."""
        gone = dict.fromkeys(names)
        while more := [
            n.id for n in self.notes.values() if n.id not in gone and gone.keys() & n.of
        ]:
            gone |= dict.fromkeys(more)
        return list(gone)

    def _secrets(self, name: str) -> list[bytes]:
        key = self.store.key(name)
        return [*([key] if key else []), self._vectors[name].tobytes()]

    def _cleaned(self, place: Path, kind: str, gone: Sequence[str]) -> bool:
        """Take what a file outside holds of notes away: lines of an export, all of other files."""
        if kind == "export":
            kept = [line for line in place.read_text().splitlines(keepends=True)
                    if json.loads(line)["id"] not in gone]  # fmt: skip
            size = place.stat().st_size
            write_text(place, "".join(kept))
            return place.stat().st_size != size
        with place.open("r+b") as file:  # a name that is gone leaves what it named on the disk
            file.write(bytes(place.stat().st_size))
        place.unlink()
        self.store.gone(place)
        return True

    # -- copies ------------------------------------------------------------------------------------

    def export(self, place: Path | str) -> Path:
        """Notes in plain words, a line of JSON for each. Where they are forgotten, this file is
        rewritten without them."""
        place = expanded(place)
        lines = (json.dumps(note.to_json()) + "\n" for note in self.notes.values())
        self.store.copied(write_text(place, "".join(lines)), "export", self.notes)
        return place

    def backup(self, place: Path | str) -> Path:
        """A sealed copy, without its keys: of use beside this memory, and to nobody else."""
        place = self.store.backup(expanded(place))
        self.store.copied(place, "backup", self.notes)
        return place

    def restore(self, place: Path | str) -> int:
        """Notes of a backup that are not here and were not forgotten since; how many."""
        import sqlite3

        place = expanded(place)
        if not place.is_file():
            raise BundleError("there is no backup here", where=place)
        with closing(sqlite3.connect(place)) as base:
            back = [each for each in self.store.read(base) if each[0].id not in self.notes]
        for note, vector in back:
            self._write(note, vector)
        return len(back)

    def held_by(self, place: Path | str, names: Iterable[str]) -> None:
        """Say that a file outside, a trace or a page, holds some notes: it goes with them."""
        self.store.copied(expanded(place), "whole", names)

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()

    def _write(self, note: Note, vector: Floats | None = None) -> None:
        vector = self.embedder.embed([note.text])[0] if vector is None else vector
        self.store.put(note, vector)
        self._take(note, vector)
        self._words.add({self._rows[note.id]: note.text})

    def _take(self, note: Note, vector: Floats) -> None:
        self.notes[note.id], self._vectors[note.id] = note, vector
        self._rows[note.id] = self._next_row
        self._next_row += 1


def _telling(question: str) -> str:
    """The words of a question that say what it is about; all, where none does."""
    words = [word for word in question.split() if word.strip("?!.,;:'\"").lower() not in COMMON]
    return " ".join(words) or question


def _checked(text: str) -> str:
    text = text.strip()
    if not text or len(text) > MOST:
        raise DataError(
            "a note says something, and not too much", found=f"{len(text):,} characters",
            expected=f"1 to {MOST:,}",
        )  # fmt: skip
    return text

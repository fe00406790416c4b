"""Data as it was read: which items, in which split, and which of them came from answers.

What the items are called is kept with the dataset, encrypted; of files also a hash of their bytes,
so that one that was moved or renamed is known again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.core import discover
from morphogen.core.errors import RecordsError, did_you_mean
from morphogen.records.database import Database
from morphogen.records.sealing import HOUSE, Seals
from morphogen.records.tables import Dataset as Row
from morphogen.records.tables import DatasetPair, Generation

if TYPE_CHECKING:
    from morphogen.data.dataset import Data

MOST_HASHED = 100_000  # files: of more, names alone are kept
Items = dict[str, list[list[str]]]  # split -> (name, hash of the file or "")


@dataclass(frozen=True)
class Dataset:
    """Data as it was read once."""

    id: int
    name: str
    digest: str  # of what was read, encoded
    modality: str
    num_train: int
    num_test: int
    version: str | None  # of the snapshot that holds its files
    about: Mapping[str, Any]  # place, options, tags
    created: float

    @property
    def place(self) -> str:
        """Where it lay."""
        return str(self.about.get("place", ""))


@dataclass(frozen=True)
class Held:
    """A dataset that holds an item, under which name and in which split."""

    dataset: Dataset
    item: str
    split: str


class Datasets:
    """The datasets of an installation."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self.database, self.seals = database, seals

    def add(
        self, data: Data, *, version: str | None = None, made_from: Iterable[str] = ()
    ) -> Dataset:
        """Record data that was read; the same data is the same dataset. `made_from` are the ids of
        generations that became items of it."""
        source = str(data.source or data.report.source)
        place = str(Path(source).resolve()) if Path(source).exists() else source
        about = {**data.about(), "place": place}
        names = {"train": data.train.names, "test": data.test.names}
        items = _items(place, {split: list(each) for split, each in names.items()})
        modality = discover.name_of(type(data.codec))
        with self.database.write() as session:
            row = session.scalars(select(Row).where(Row.digest == data.digest)).first()
            row = row or Row(
                name=Path(place).name or place, digest=data.digest, modality=modality,
                num_train=len(data.train), num_test=len(data.test), created=time.time(),
            )  # fmt: skip
            row.version = version or row.version
            row.about = self.seals.seal_json(session, HOUSE, about, f"dataset {row.digest}")
            row.items = self.seals.seal(
                session, HOUSE, zlib.compress(json.dumps(items).encode()), f"items {row.digest}"
            )
            session.add(row)
            session.flush()
            for uid in made_from:
                number = session.scalars(select(Generation.id).where(Generation.uid == uid)).one()
                key = {"dataset_id": row.id, "generation_id": number}
                self.database.insert_new(session, DatasetPair, **key)
            return self._dataset(session, row)

    def get(self, which: str | int) -> Dataset:
        """The dataset of a number, digest or name; of a name, the newest."""
        with self.database.read() as session:
            row = session.get(Row, which) if isinstance(which, int) else None
            for column in (Row.digest, Row.name):
                if row is None and isinstance(which, str):
                    query = select(Row).where(column == which).order_by(Row.id.desc()).limit(1)
                    row = session.scalars(query).first()
            if row is None:
                names = list(session.scalars(select(Row.name).distinct()))
                raise RecordsError(
                    f"no dataset {which!r} is recorded.{did_you_mean(str(which), names)}",
                    found=", ".join(names[:20]) or "none yet",
                )
            return self._dataset(session, row)

    def number_of(self, digest: str | None) -> int | None:
        """The number of the dataset of this digest, where one is recorded."""
        with self.database.read() as session:
            return session.scalars(select(Row.id).where(Row.digest == digest)).first()

    def all(self) -> list[Dataset]:
        """Every dataset, newest first."""
        with self.database.read() as session:
            rows = session.scalars(select(Row).order_by(Row.id.desc()))
            return [self._dataset(session, row) for row in rows]

    def holding(self, item: Path | str) -> list[Held]:
        """The datasets that an item is in: a file, by its bytes or its place; or the name of an
        item, such as `told.csv#row 12`."""
        path = Path(item)
        digest = _hash(path) if path.is_file() else None
        found = []
        with self.database.read() as session:
            for row in session.scalars(select(Row).order_by(Row.id)):
                dataset = self._dataset(session, row)
                alike = [
                    (_is_at(path, dataset.place, name), Held(dataset, name, split))
                    for split, items in self.items(session, row).items()
                    for name, own in items
                    if (digest and own == digest) or _is_at(path, dataset.place, name)
                ]
                if alike:  # of several with these bytes, the one that lies there
                    found.append(max(alike, key=lambda each: each[0])[1])
        return found

    def items(self, session: Session, row: Row) -> Items:
        """The items of a dataset by split: names, and hashes of files."""
        packed = self.seals.open(session, row.items, f"items {row.digest}")
        return {} if packed is None else json.loads(zlib.decompress(packed))

    def _dataset(self, session: Session, row: Row) -> Dataset:
        about = self.seals.open_json(session, row.about, f"dataset {row.digest}") or {}
        return Dataset(
            row.id, row.name, row.digest, row.modality, row.num_train, row.num_test, row.version,
            about, row.created,
        )  # fmt: skip


def _items(place: str, names: Mapping[str, list[str]]) -> Items:
    folder = Path(place)
    hashes: dict[str, str] = {}
    if folder.is_dir():
        for name in itertools.islice(itertools.chain(*names.values()), MOST_HASHED):
            hashes[name] = _hash(folder / name) or ""
    return {split: [[n, hashes.get(n, "")] for n in each] for split, each in names.items()}


def _hash(path: Path) -> str | None:
    """Of a file's bytes; None where there is none, as for a row of a table."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except OSError:
        return None


def _is_at(item: Path, place: str, name: str) -> bool:
    """Whether an item as somebody typed it is the one of this name in a source."""
    return str(item) == name or str(item.absolute()) in (f"{place}/{name}", f"{place}#{name}")

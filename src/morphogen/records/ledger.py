"""The ledger of what was generated here, in the records: see `core.ledger`, which knows its bytes.

Each row holds bytes of the ledger of one modality, encrypted as those of whom they were made for,
and their place in it. An older ledger in a file of the cache is taken in where it is found, and
keeps its places where it is the first. Of who was erased the bytes go, and their place stays taken.
"""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.core.ledger import Ledger, LedgerFile, unpacked
from morphogen.records.database import Database, default_place
from morphogen.records.keyring import ENVIRONMENT, ENVIRONMENT_FILE
from morphogen.records.tables import Made as Row

if TYPE_CHECKING:
    from morphogen.records.records import Records

MOST = 1 << 20  # bytes of a row that is taken in
TURN = 0x6D6F7271  # writers take turns under this number


class RecordsLedger(Ledger):
    """The ledger of one modality in records that are open."""

    def __init__(self, records: Records, modality: str) -> None:
        self.records, self.modality = records, modality
        self.database: Database = records.database

    @property
    def size(self) -> int:
        """Its bytes."""
        with self.database.read() as session:
            return self._size(session)

    def append(self, data: bytes) -> None:
        """Add packed entries, as made for whoever works here."""
        owner = self.records.users.local().id
        with self.database.write() as session:
            self.database.take_turns(session, TURN)
            self._add(session, owner, self._size(session), data)

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """All of it, in order; what was made for who was erased is left out."""
        with self.database.read() as session:
            query = select(Row).where(Row.modality == self.modality).order_by(Row.place)
            for row in session.scalars(query.execution_options(yield_per=100)):
                data = self.records.seals.open(session, row.entries, self._purpose(row.place))
                if data is not None:
                    yield row.place, data

    def take_in(self, file: LedgerFile) -> None:
        """Move what is in a file here. Killed in the middle, it is all there still, in the file or
        twice: entries count once."""
        with file.emptied() as data:
            if not data:  # another process was quicker
                return
            owner = self.records.users.local().id
            cuts = [0]
            for entry in unpacked(data):
                if entry.place - cuts[-1] >= MOST:
                    cuts.append(entry.place)
            with self.database.write() as session:
                self.database.take_turns(session, TURN)
                before = self._size(session)
                for start, end in zip(cuts, [*cuts[1:], len(data)], strict=True):
                    self._add(session, owner, before + start, data[start:end])
                self.records.audit.add(session, "ledger.take_in", self.modality, bytes=len(data))

    def _add(self, session: Session, owner: int, place: int, data: bytes) -> None:
        sealed = self.records.seals.seal(session, owner, data, self._purpose(place))
        session.add(
            Row(
                modality=self.modality, place=place, length=len(data), user_id=owner,
                entries=sealed, created=time.time(),
            )
        )  # fmt: skip

    def _size(self, session: Session) -> int:
        ends = select(func.max(Row.place + Row.length)).where(Row.modality == self.modality)
        return session.scalars(ends).one() or 0

    def _purpose(self, place: int) -> str:
        return f"made {self.modality} {place}"


class InstalledLedger(Ledger):
    """The ledger of one modality in the records of this installation, opened when it is asked. One
    that cannot be read is told of, and does not stop who reads data."""

    def __init__(self, modality: str) -> None:
        self.modality = modality

    @property
    def size(self) -> int:
        """Its bytes."""
        try:
            return self._kept().size
        except (RecordsError, OSError) as error:
            self._warn(error)
            return 0

    def append(self, data: bytes) -> None:
        """Add packed entries. Raises `RecordsError` where they cannot be."""
        self._kept().append(data)

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """All of it, as far as it can be read."""
        try:
            yield from self._kept().chunks()
        except (RecordsError, OSError) as error:
            self._warn(error)

    def _kept(self) -> RecordsLedger:
        kept = RecordsLedger(_opened(*_where()), self.modality)
        file = LedgerFile.of(self.modality)
        if file.size:
            kept.take_in(file)
        return kept

    def _warn(self, error: Exception) -> None:
        message = f"what was generated here is not recognised among what is read: {error}"
        warnings.warn(message, stacklevel=6)


def _where() -> tuple[object, ...]:
    """What tells these records, and this process, from others: a fork makes its own connections,
    and a database that was moved away is another one."""
    place = default_place()
    number = 0
    if "://" not in place and (path := Path(place).expanduser()).is_file():
        number = path.stat().st_ino
    keys = (os.environ.get(ENVIRONMENT), os.environ.get(ENVIRONMENT_FILE))
    return place, number, os.getpid(), *keys


@functools.lru_cache(maxsize=1)
def _opened(*where: object) -> Records:
    """Opened once by each process: models draw many items."""
    from morphogen.records.records import open

    return open()

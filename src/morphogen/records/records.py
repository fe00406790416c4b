"""The records of an installation: one door to all of them.

    records = open()                        # ~/.local/share/morphogen/records.db, its key apart
    ann = records.users.add("ann", "annotator")
    key, word = records.keys.new("ci", "generate", expires=30 * 86400)
    access = records.keys.authenticate(word); access.check("generate")

    uid = records.generations.start("Boots, please", model="bard", task="complete", user=ann.id)
    records.generations.finish(uid, "Here are boots", usage={"tokens": 3})
    records.annotations.add(uid, value=5, user=ann.id)
    records.search("boots", Filters(at_least=4))

Objects are safe to use from several threads; each call is a transaction of its own.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

from sqlalchemy import select

from morphogen.core.errors import RecordsError
from morphogen.records.access import Keys, SignIns
from morphogen.records.annotations import Annotations
from morphogen.records.audit import Audit
from morphogen.records.database import Database, default_place
from morphogen.records.datasets import Datasets
from morphogen.records.deeds import Deeds
from morphogen.records.generation import Reader
from morphogen.records.generations import Generations
from morphogen.records.keeping import Keeping
from morphogen.records.keyring import ENVIRONMENT, Keyring, default_file
from morphogen.records.migrating import migrate, version_of
from morphogen.records.models import Models
from morphogen.records.people import Users
from morphogen.records.prompts import Prompts
from morphogen.records.quotas import Quotas
from morphogen.records.runs import Runs
from morphogen.records.sealing import HOUSE, NEEDED, Seals
from morphogen.records.searching import Search
from morphogen.records.tables import DataKey, Setting
from morphogen.records.templates import Templates


class Records:
    """Everything that is recorded, under one key. See `open`."""

    def __init__(self, database: Database, ring: Keyring) -> None:
        self.database, self.ring = database, ring
        self.seals = Seals(database, ring)
        self.audit = Audit(database, self.seals)
        self.users = Users(database, self.seals, self.audit)
        self.keys = Keys(database, self.seals, self.audit, self.users)
        self.sign_ins = SignIns(database, self.seals, self.users)
        self.prompts = Prompts(database, self.seals)
        self.templates = Templates(database, self.seals, self.audit)
        reader = Reader(self.seals, self.prompts, self.users)
        self.quotas = Quotas(database, self.audit)
        self.generations = Generations(database, self.seals, self.prompts, reader, self.quotas)
        self.annotations = Annotations(database, self.seals, self.generations, reader)
        self.search = Search(database, self.seals, reader)
        self.datasets = Datasets(database, self.seals)
        self.runs = Runs(database, self.seals)
        self.deeds = Deeds(database, self.seals)
        store = database.path.with_suffix(".models") if database.path else Path("records.models")
        self.models = Models(database, self.seals, store)
        self.keeping = Keeping(self)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open(place: str | Path | None = None, *, key: bytes | str | Path | None = None) -> Records:
    """The records at a path or URL, made where there are none.

    `place` is a file for SQLite, or `postgresql://...`; by default MORPHOGEN_RECORDS or a file in
    the user's folder. `key` is the key (32 bytes) or a file of it, see `keyring`; a new one is made
    for new records only. Older schemas are brought up to date.

    Raises `RecordsError` where the database is locked, damaged, newer, or the key is not its key.
    """
    database = Database(place or default_place())
    try:
        ring = Keyring.open(key)
        is_new = not database.exists or version_of(database) is None
        if ring is None and not is_new:
            raise _key_missing(database, key)
        migrate(database)
        made = ring is None
        ring = ring or Keyring.new(None if isinstance(key, bytes) else key)
        records = Records(database, ring)
        with contextlib.ExitStack() as undone:
            if made and ring.path is not None:
                undone.callback(ring.path.unlink, missing_ok=True)
            _unlock(records)
            undone.pop_all()
        return records
    except BaseException:
        database.close()
        raise


def _unlock(records: Records) -> None:
    """See that the key is the one the records were made with; forget what is to stay forgotten."""
    ring, database = records.ring, records.database
    with database.write() as session:
        database.take_turns(session, 1)
        needed = session.get(Setting, NEEDED)
        if needed is None:
            session.add(Setting(name=NEEDED, value=ring.fingerprint))
            records.seals.new_key(session, HOUSE)
            records.seals.new_key(session, HOUSE, "index")
        elif not ring.prefer(needed.value):
            raise RecordsError(
                "the key is not that of these records",
                found=f"key {ring.fingerprint}",
                expected=f"key {needed.value}",
                where=ring.path or f"${ENVIRONMENT}",
                hint="name the file of the right one with MORPHOGEN_KEY_FILE",
            )
        for row in session.scalars(select(DataKey).where(DataKey.name.in_(ring.forgotten))):
            session.delete(row)  # a backup of before was put back
        session.flush()
        records.seals.load_index(session)


def _key_missing(database: Database, key: bytes | str | Path | None) -> RecordsError:
    return RecordsError(
        "the key of these records is not there: what they hold cannot be read without it",
        where=default_file() if not isinstance(key, (str, Path)) else key,
        expected=f"its key file, or {ENVIRONMENT}",
        hint="put the key file back from where you keep a copy; if it is lost, move "
        f"{database.name} away and begin anew",
    )

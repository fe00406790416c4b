"""Another key for the installation, under which all that was recorded is encrypted anew.

    1. the key file holds the new key and the old one
    2. data keys are wrapped with the new one, and every owner gets a new data key (one transaction)
    3. the key file holds the new key alone
    4. contents are encrypted with the new data keys, some in each transaction
    5. data keys that nothing is encrypted with any more are deleted

Killed at any moment, the records open with the key file as it is then, and the next `rotate` goes
on where the last one was. Whoever has the old key file and an old backup can read that backup, and
nothing of the records as they are; but the index key stays (it is in every address and word), so
that they can still test whether a word that they guess is in what was recorded since.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.contents import CONTENTS, Content, Contents
from morphogen.records.keyring import SIZE
from morphogen.records.sealing import NEEDED
from morphogen.records.tables import DataKey, Setting

if TYPE_CHECKING:
    from morphogen.records.records import Records

BATCH = 500  # contents that are encrypted anew in one transaction
KEYS = 500  # data keys that are looked for at once
ROUNDS = 5  # how often what others wrote meanwhile is looked for
TURN = 0x6D6F7272  # who rotates takes turns under this number


@dataclass
class Rotated:
    """What a rotation did."""

    went_on: bool  # with one that was cut short: the key was new already
    num: int = 0  # contents that were encrypted anew
    unread: int = 0  # contents that cannot be opened, and were left as they are


def rotate(
    records: Records, *, by: int | None = None, on_batch: Callable[[int], object] = lambda num: None
) -> Rotated:
    """Make a new key, or go on with a rotation that was cut short; `on_batch` hears how many
    contents are done. Raises `RecordsError` where the key is not in a file."""
    if records.ring.path is None:
        raise RecordsError(
            "the key is not in a file: it cannot be replaced from here",
            hint="put it into a key file, unset MORPHOGEN_KEY, then rotate",
        )
    with records.database.read() as session:
        done = Rotated(went_on=bool(replaced(session)))
    if done.went_on:
        _finish(records, done, on_batch)
    if not done.num:  # nothing was left to do, or what was left cannot be opened
        done.went_on = False
        _replace(records, by)
        _finish(records, done, on_batch)
    records.audit.note("records.rotated", user=by, contents=done.num, unread=done.unread)
    records.database.settle()
    return done


def replaced(session: Session) -> list[int]:
    """The data keys for contents in whose place their owners have newer ones."""
    newest = select(func.max(DataKey.id)).where(DataKey.purpose == "content")
    old = select(DataKey.id).where(
        DataKey.purpose == "content", DataKey.id.not_in(newest.group_by(DataKey.user_id))
    )
    return list(session.scalars(old.order_by(DataKey.id)))


def _finish(records: Records, done: Rotated, on_batch: Callable[[int], object]) -> None:
    """What was recorded under replaced keys, under the new ones."""
    _tidy(records)
    records.seals.reset()
    for _ in range(ROUNDS):
        with records.database.read() as session:
            keys = replaced(session)
        done.unread = sum(
            _again(records, contents, keys[start : start + KEYS], done, on_batch)
            for start in range(0, len(keys), KEYS)
            for contents in CONTENTS
        )
        if not _drop(records) or done.unread:
            return


def _replace(records: Records, by: int | None) -> None:
    """A new key in the file, beside the old one; data keys wrapped with it, and new ones."""
    ring, database = records.ring, records.database
    with database.write() as session:
        database.take_turns(session, TURN)
        with ring.alone():
            _prefer_needed(records, session)
            ring.keys = [os.urandom(SIZE), *ring.keys]
            ring.save()
        for row in session.scalars(select(DataKey)):
            row.wrapped = ring.wrap(ring.unwrap(row.wrapped, row.name), row.name)
        session.merge(Setting(name=NEEDED, value=ring.fingerprint))
        owners = select(DataKey.user_id).where(DataKey.purpose == "content").distinct()
        for owner in list(session.scalars(owners)):
            records.seals.new_key(session, owner)
        records.audit.add(session, "records.rotate", user=by)


def _tidy(records: Records) -> None:
    """Nothing but the key that is needed in the file. In a transaction: nobody is between a new
    key in the file and the same in the database."""
    with records.database.write() as session:
        records.database.take_turns(session, TURN)
        with records.ring.alone():
            _prefer_needed(records, session)
            del records.ring.keys[1:]
            records.ring.save()


def _prefer_needed(records: Records, session: Session) -> None:
    needed = session.get(Setting, NEEDED, populate_existing=True)
    if needed is None or not records.ring.prefer(needed.value):
        raise RecordsError(
            "the key is not that of these records",
            found=f"key {records.ring.fingerprint}",
            where=records.ring.path,
        )


def _again(
    records: Records,
    contents: Contents,
    keys: Sequence[int],
    done: Rotated,
    on_batch: Callable[[int], object],
) -> int:
    """Encrypt the values of a column anew, batch by batch; returns how many cannot be opened."""
    table = contents.table.__table__
    column = table.c[contents.column.key]
    change = (
        update(table)
        # Somebody else may write another value meanwhile: it is sealed with a newer key.
        .where(table.c.id == bindparam("row"), column == bindparam("was"))
        .values({column.name: bindparam("now")})
    )
    after = unread = 0
    while True:
        with records.database.write() as session:
            some = contents.sealed_with(session, keys, after=after, most=BATCH)
            if not some:
                return unread
            rows = [row for each in some if (row := _resealed(records, session, each))]
            if rows:
                session.connection().execute(change, rows)
        after = some[-1].row
        unread += len(some) - len(rows)
        done.num += len(rows)
        on_batch(done.num)


def _resealed(records: Records, session: Session, content: Content) -> dict[str, object] | None:
    try:
        now = records.seals.seal_again(session, content.sealed, content.purpose)
    except RecordsError:  # it was changed: `records verify` tells of it
        return None
    return None if now is None else {"row": content.row, "was": content.sealed, "now": now}


def _drop(records: Records) -> bool:
    """Delete the replaced data keys that nothing is encrypted with; returns whether some are in
    use still. Who is writing with one is waited for: they hold its row."""
    with records.database.write() as session:
        rows = select(DataKey.id).where(DataKey.id.in_(replaced(session)))
        keys = list(session.scalars(rows.order_by(DataKey.id).with_for_update()))
        used: set[int] = set()
        for start in range(0, len(keys), KEYS):
            for contents in CONTENTS:
                used |= contents.keys_in_use(session, keys[start : start + KEYS])
        session.execute(delete(DataKey).where(DataKey.id.in_(set(keys) - used)))
    records.seals.reset()
    return bool(used)

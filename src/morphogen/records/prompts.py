r"""Prompts as a tree of messages that is addressed by what they hold.

A message is a node; its address is a keyed hash of its owner, its parent's address, its role and
its fragments'. A conversation is the path to a node, so that one that goes on stores its new
messages only, one that is edited branches, and a long document is stored once however often it is
asked about. Answers are nodes as well.

    system -- user -- assistant -- user -- assistant
                  \-- assistant  (the same, drawn with another seed)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.sealing import Seals
from morphogen.records.tables import Fragment as FragmentRow
from morphogen.records.tables import Prompt as Row
from morphogen.records.tables import PromptPart

TEXT = "text"


@dataclass(frozen=True)
class Fragment:
    """A piece of a message: a text, or the bytes of a picture, a sound, a file."""

    content: bytes
    kind: str = TEXT  # or a media type, such as image/png

    @property
    def text(self) -> str:
        """What it says, bytes of no character as U+FFFD; of what is no text, what it is."""
        return self.content.decode(errors="replace") if self.kind == TEXT else f"[{self.kind}]"


@dataclass(frozen=True)
class Message:
    """One message: who says it, and what."""

    role: str  # system, user, assistant, tool; "prompt" for a text that is gone on from
    fragments: tuple[Fragment, ...]
    id: int | None = None  # its node, where it is recorded

    @classmethod
    def of(cls, role: str, *contents: str | Fragment) -> Message:
        """A message of texts and other fragments."""
        pieces = (c if isinstance(c, Fragment) else Fragment(_bytes(c)) for c in contents)
        return cls(role, tuple(pieces))

    @property
    def text(self) -> str:
        """What it says as one text."""
        return "".join(each.text for each in self.fragments)


def _bytes(text: str) -> bytes:
    """A text as it is kept: bytes that stand in it as such (of a model that writes bytes) too."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


class Prompts:
    """The tree of one installation."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self.database, self.seals = database, seals

    def put(
        self, messages: Sequence[Message], *, user: int | None = None, parent: int | None = None
    ) -> int:
        """Record messages, each after the one before, the first after the node `parent`; returns
        the last one's node. What is there already stays as it is."""
        with self.database.write() as session:
            return self.add(session, messages, user=user, parent=parent)

    def add(
        self,
        session: Session,
        messages: Sequence[Message],
        *,
        user: int | None,
        parent: int | None = None,
    ) -> int:
        """`put` in a transaction that is under way."""
        if not messages:
            raise RecordsError("a prompt has a message at least", found="none")
        above = b"" if parent is None else self._node(session, parent).address
        for message in messages:
            numbers, addresses = [], []
            for fragment in message.fragments:
                address = self._put_fragment(session, fragment, user)
                addresses.append(address)
                numbers.append(
                    session.scalars(
                        select(FragmentRow.id).where(FragmentRow.address == address)
                    ).one()
                )
            address = self.seals.address(user, above, message.role.encode(), *addresses)
            found = self._at(session, address)
            if found is None:
                values = {"address": address, "parent_id": parent, "user_id": user}
                self.database.insert_new(session, Row, role=message.role, **values)
                found = self._at(session, address)
                assert found is not None
                for position, number in enumerate(numbers):
                    key = {"prompt_id": found, "position": position}
                    self.database.insert_new(session, PromptPart, **key, fragment_id=number)
            parent, above = found, address
        assert parent is not None
        return parent

    def path(self, node: int) -> list[Message]:
        """The messages from the first to this one."""
        with self.database.read() as session:
            return self.read_path(session, node)

    def children(self, node: int) -> list[Message]:
        """What was said after it: its branches, oldest first."""
        with self.database.read() as session:
            rows = session.scalars(select(Row).where(Row.parent_id == node).order_by(Row.id))
            return [self.read(session, row) for row in rows]

    # -- in a transaction that is under way --------------------------------------------------------

    def read_path(self, session: Session, node: int) -> list[Message]:
        """See `path`."""
        found: list[Message] = []
        at: int | None = node
        while at is not None:
            row = self._node(session, at)
            found.append(self.read(session, row))
            at = row.parent_id
        return found[::-1]

    def read(self, session: Session, row: Row) -> Message:
        """One message; what was erased of it is left out."""
        rows = session.scalars(
            select(FragmentRow)
            .join(PromptPart, PromptPart.fragment_id == FragmentRow.id)
            .where(PromptPart.prompt_id == row.id)
            .order_by(PromptPart.position)
        )
        contents = [
            (each.kind, self.seals.open(session, each.content, f"fragment {each.address.hex()}"))
            for each in rows
        ]
        kept = (Fragment(content, kind) for kind, content in contents if content is not None)
        return Message(row.role, tuple(kept), row.id)

    def _put_fragment(self, session: Session, fragment: Fragment, user: int | None) -> bytes:
        address = self.seals.address(user, fragment.kind.encode(), fragment.content)
        known = session.scalars(
            select(FragmentRow.id).where(FragmentRow.address == address)
        ).first()
        if known is None:
            purpose = f"fragment {address.hex()}"
            content = self.seals.seal(session, user, fragment.content, purpose)
            values = {"address": address, "user_id": user, "kind": fragment.kind}
            self.database.insert_new(session, FragmentRow, content=content, **values)
        return address

    def _at(self, session: Session, address: bytes) -> int | None:
        return session.scalars(select(Row.id).where(Row.address == address)).first()

    def _node(self, session: Session, number: int) -> Row:
        row = session.get(Row, number)
        if row is None:
            raise RecordsError("there is no such prompt", found=number)
        return row

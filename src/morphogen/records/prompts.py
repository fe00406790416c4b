r"""Prompts as a tree of messages that is addressed by what they hold.

A message is a node; its address is a keyed hash of its owner, its parent's address, its role and
its fragments'. A conversation is the path to a node, so that one that goes on stores its new
messages only, one that is edited branches, and a long document is stored once however often it is
asked about. Answers are nodes as well.

    system -- user -- assistant -- user -- assistant
                  \-- assistant  (the same, drawn with another seed)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.database import Database
from morphogen.records.sealing import Seals
from morphogen.records.tables import Fragment as FragmentRow
from morphogen.records.tables import Prompt as Row
from morphogen.records.tables import PromptPart

TEXT = "text"
NODES, PARTS, PIECES = Row.__table__, PromptPart.__table__, FragmentRow.__table__
BY_ADDRESS = {
    table: select(rows.c.id).where(rows.c.address == bindparam("given"))
    for table, rows in ((Row, NODES), (FragmentRow, PIECES))
}
ADDRESS = select(NODES.c.address).where(NODES.c.id == bindparam("given"))


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
        above = b"" if parent is None else self._address_of(session, parent)
        for message in messages:
            pieces = [self._address(each, user) for each in message.fragments]
            address = self.seals.address(user, above, message.role.encode(), *pieces)
            found = self._number(session, Row, address)
            if found is None:
                found = self._add_node(
                    session, message, pieces, address=address, parent_id=parent, user_id=user
                )
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
            below = list(session.scalars(select(Row.id).where(Row.parent_id == node)))
            said = self.read(session, below)
            return [said[number] for number in sorted(said)]

    # -- in a transaction that is under way --------------------------------------------------------

    def read_path(self, session: Session, node: int) -> list[Message]:
        """See `path`."""
        path = select(Row.id, Row.parent_id).where(Row.id == node).cte(recursive=True)
        above = select(Row.id, Row.parent_id).join(path, Row.id == path.c.parent_id)
        numbers = list(session.scalars(select(path.union_all(above).c.id)))
        said = self.read(session, numbers)
        if node not in said:
            raise RecordsError("there is no such prompt", found=node)
        return [said[number] for number in reversed(numbers)]

    def read(self, session: Session, nodes: Iterable[int]) -> dict[int, Message]:
        """Messages by their nodes; what was erased of them is left out."""
        rows = session.execute(
            select(NODES.c.id, NODES.c.role, PIECES.c.kind, PIECES.c.content, PIECES.c.address)
            .outerjoin(PARTS, PARTS.c.prompt_id == NODES.c.id)
            .outerjoin(PIECES, PIECES.c.id == PARTS.c.fragment_id)
            .where(NODES.c.id.in_(set(nodes)))
            .order_by(NODES.c.id, PARTS.c.position)
        )
        said: dict[int, tuple[str, list[Fragment]]] = {}
        for node, role, kind, sealed, address in rows:
            _, kept = said.setdefault(node, (role, []))
            if sealed is not None:
                content = self.seals.open(session, sealed, f"fragment {address.hex()}")
                kept += [] if content is None else [Fragment(content, kind)]
        return {node: Message(role, tuple(kept), node) for node, (role, kept) in said.items()}

    def _add_node(
        self, session: Session, message: Message, pieces: Sequence[bytes], **values: Any
    ) -> int:
        """Insert a message, unless another process did so just now; returns its node."""
        owner = values["user_id"]
        numbers = [
            self._put_fragment(session, fragment, piece, owner)
            for fragment, piece in zip(message.fragments, pieces, strict=True)
        ]
        values |= {"role": message.role, "created": time.time()}
        found = self.database.insert_new(session, Row, **values)
        if found is None:
            return self._known(session, Row, values["address"])
        for position, number in enumerate(numbers):
            part = {"prompt_id": found, "position": position, "fragment_id": number}
            self.database.insert_new(session, PromptPart, **part)
        return found

    def _put_fragment(
        self, session: Session, fragment: Fragment, address: bytes, owner: int | None
    ) -> int:
        found = self._number(session, FragmentRow, address)
        if found is None:
            purpose = f"fragment {address.hex()}"
            content = self.seals.seal(session, owner, fragment.content, purpose)
            values = {"address": address, "user_id": owner, "kind": fragment.kind}
            found = self.database.insert_new(session, FragmentRow, content=content, **values)
        return self._known(session, FragmentRow, address) if found is None else found

    def _address(self, fragment: Fragment, owner: int | None) -> bytes:
        return self.seals.address(owner, fragment.kind.encode(), fragment.content)

    @staticmethod
    def _number(session: Session, table: Any, address: bytes) -> int | None:
        return session.execute(BY_ADDRESS[table], {"given": address}).scalar()

    def _known(self, session: Session, table: Any, address: bytes) -> int:
        found = self._number(session, table, address)
        assert found is not None
        return found

    def _address_of(self, session: Session, node: int) -> bytes:
        address = session.execute(ADDRESS, {"given": node}).scalar()
        if address is None:
            raise RecordsError("there is no such prompt", found=node)
        return bytes(address)

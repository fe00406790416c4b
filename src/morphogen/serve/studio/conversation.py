"""Conversations as people see them: a path through the tree of prompts, with its branches.

Boots?            1 of 2    an edited turn stands beside the one that it was
  Here are boots. 2 of 3    so does another answer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from morphogen.core.errors import RecordsError

MOST_BESIDE = 32


@dataclass(frozen=True)
class Turn:
    """One message, and where it stands."""

    node: int
    role: str
    text: str
    after: int | None  # the node before it
    beside: tuple[int, ...]  # the nodes of all branches, this one's among them
    generation: str | None = None  # that made it

    @property
    def place(self) -> int:
        """Which of the branches it is, from 1 on."""
        return self.beside.index(self.node) + 1


def turns(records: Any, node: int, others: Sequence[int] = ()) -> list[Turn]:
    """The path to a node. The first turn has no parent that knows its branches: `others` are their
    nodes. Raises `RecordsError` where there is no such node."""
    path = records.prompts.path(node)
    made = records.generations.of_answers([each.id for each in path])
    found: list[Turn] = []
    for message in path:
        after = found[-1].node if found else None
        if after is None:
            beside = tuple(sorted({*others, message.id}))
        else:
            rows = records.prompts.children(after)
            beside = tuple(each.id for each in rows if each.role == message.role)
        found.append(
            Turn(message.id, message.role, message.text, after, beside, made.get(message.id))
        )
    return found


def end_of(records: Any, node: int) -> int:
    """The last node of the branch that begins at one, the newest where it branches again."""
    while rows := records.prompts.children(node):
        node = rows[-1].id
    return node


def roots(records: Any, told: str) -> list[int]:
    """The nodes that "3,17" tells of: first turns alone."""
    numbers = [int(word) for word in told.split(",")[:MOST_BESIDE] if word.isdigit()]
    found = []
    for number in numbers:
        try:
            if len(records.prompts.path(number)) == 1:
                found.append(number)
        except RecordsError:
            continue
    return found


def node_of(records: Any, generation: str) -> int | None:
    """Where a generation stands: its answer, or what was asked where there is none."""
    kept = records.generations.get(generation)
    return kept.answer_id or kept.prompt_id

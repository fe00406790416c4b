"""Entities and their relations, as notes tell of them, at any date.

What notes say of one subject and relation is put in order by when it is said to hold: the last that
began before a date holds at it, unless it ended. Where two begin at once, the one that was written
down last is believed. Forget a note, and what it said of anybody is gone with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from morphogen.systems.memory.note import Note, Relation

ALWAYS = float("-inf")


@dataclass(frozen=True)
class Edge:
    """A relation, and the note that tells of it."""

    relation: Relation
    note: Note

    @property
    def began(self) -> float:
        """Since when it holds; of what says nothing of it, for ever."""
        return ALWAYS if self.relation.since is None else self.relation.since

    @property
    def ends(self) -> tuple[str, str]:
        """Who stands at either end, however they are written."""
        return self.relation.subject.casefold(), self.relation.object.casefold()


class Graph:
    """Who stands in which relation to whom."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.notes = list(notes)
        self.all = [Edge(relation, note) for note in self.notes for relation in note.relations]

    @property
    def entities(self) -> list[str]:
        """Everybody and everything, as it was written first."""
        found: dict[str, str] = {}
        for edge in self.all:
            for name in (edge.relation.subject, edge.relation.object):
                found.setdefault(name.casefold(), name)
        return sorted(found.values(), key=str.casefold)

    def edges(
        self,
        subject: str | None = None,
        relation: str | None = None,
        object: str | None = None,
        *,
        at: float | None = None,
    ) -> list[Edge]:
        """Those that fit, of all or of those that hold at a time, in the order that they began."""
        asked = {"subject": subject, "relation": relation, "object": object}
        wanted = {name: word.casefold() for name, word in asked.items() if word is not None}
        found = [
            edge for edge in self.all
            if all(getattr(edge.relation, k).casefold() == v for k, v in wanted.items())
            and (at is None or edge.relation.holds(at))
        ]  # fmt: skip
        return sorted(found, key=lambda edge: (edge.began, edge.note.made, edge.note.id))

    def state(self, subject: str, relation: str, *, at: float) -> str | None:
        """What holds at a time of what can be but one: where somebody lives, what something costs.
        The last that began before it, if that has not ended."""
        before = [edge for edge in self.edges(subject, relation) if edge.began <= at]
        if not before or not before[-1].relation.holds(at):
            return None
        return before[-1].relation.object

    def about(self, entity: str, *, at: float | None = None) -> list[Edge]:
        """All that is said of somebody, from either side."""
        first = self.edges(entity, at=at)
        return [*first, *(each for each in self.edges(object=entity, at=at) if each not in first)]

    def mentions(self, entity: str) -> list[Note]:
        """Notes that name somebody, whether or not they say what of them."""
        word = entity.casefold()
        return [note for note in self.notes if word in note.text.casefold()]

    def path(self, first: str, last: str, *, at: float | None = None) -> list[Edge]:
        """The shortest way from one to another along relations, either way round; none: []."""
        last = last.casefold()
        ways: list[tuple[str, list[Edge]]] = [(first.casefold(), [])]
        known = {first.casefold()}
        while ways:
            place, way = ways.pop(0)
            if place == last:
                return way
            for edge in self.about(place, at=at):
                subject, thing = edge.ends
                other = thing if subject == place else subject
                if other not in known:
                    known.add(other)
                    ways.append((other, [*way, edge]))
        return []

"""Documents that say the same as another one, but for a little: told by their fingerprints, as
`morphogen data dedupe` tells texts. The one that is there, or that is read first, is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from itertools import islice

from morphogen.core.codec import Item
from morphogen.data.fingerprints import Fingerprints
from morphogen.modalities.text import Text
from morphogen.systems.knowledge.passage import Document

TOGETHER = 64  # documents that are compared at once


class Copies:
    """The documents of an index, by their fingerprints: (place, text) of each."""

    def __init__(self, held: Iterable[tuple[str, str]]) -> None:
        self.codec = Text()
        self.places: list[str] = []  # by the numbers of fingerprints
        self.prints = Fingerprints(self.codec)
        self.left_out: set[int] = set()
        for place, text in held:
            self._see(self.prints, place, text)

    def kept(
        self, documents: Iterable[Document], near: MutableMapping[str, str]
    ) -> Iterator[Document]:
        """Those that say something else; `near` is told of the others, and of what each is like."""
        waiting = iter(documents)
        while some := list(islice(waiting, TOGETHER)):
            first, fresh = len(self.places), Fingerprints(self.codec)
            for each in some:
                self._see(fresh, each.place, each.text)
            for number, found in zip(fresh.numbers, fresh.prints, strict=True):
                self.prints.add(number, found)
            alike: dict[int, list[int]] = {}
            for own, other, _ in fresh.pairs_with(self.prints):
                if other < own and self.places[other] != self.places[own]:
                    alike.setdefault(own, []).append(other)
            for number, document in enumerate(some, first):
                before = [each for each in alike.get(number, ()) if each not in self.left_out]
                if before:
                    self.left_out.add(number)
                    near[document.place] = self.places[min(before)]
                else:
                    yield document

    def _see(self, prints: Fingerprints, place: str, text: str) -> None:
        prints.see(len(self.places), Item(text, place))
        self.places.append(place)

r"""An index of documents: what answers a question, by its words and by its meaning.

    score(d) = sum over lists of 1 / (60 + rank of d)           "ranks" (Cormack et al. 2009)
    score(d) = w meaning(d) + (1 - w) words(d)                  "sum", each from 0 to 1 in its list

Where a code, an amount, or a name is mostly what is asked for (`words.holders`), those that hold it
come first, however near others are: to meaning, one code is like another. (score + 1) / 2 is theirs
then, score / 2 that of others.

Words are counted (`words`), meaning is the cosine between embeddings (`vectors`); each list has the
best `depth` of the passages that whoever asks may read. With `feedback` one looks twice: the vector
of the question moves towards the mean of those of the first so many passages (Rocchio 1971). A
re-ranker, where there is one, reads the first and puts them in order; it is told their scores, as
what is known before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from morphogen.core.errors import BundleError, DataError, RecipeError
from morphogen.core.visible import in_shell
from morphogen.systems.knowledge import stores
from morphogen.systems.knowledge.cutting import MOST
from morphogen.systems.knowledge.embedders import Embedder, embedder_of
from morphogen.systems.knowledge.passage import Document, Passage
from morphogen.systems.knowledge.sentences import Span, sentences
from morphogen.systems.knowledge.storing import EVERYWHERE, Readable, Storing, Where
from morphogen.systems.knowledge.vectors import Floats, of_length_one

CONSTANT = 60.0  # of reciprocal ranks
DEPTH = 100  # passages of each list
MOVED = 0.6  # of the mean of the first, added to the vector of the question
RERANKED = 20  # passages that a re-ranker reads
MOST_SPLIT = 2048  # passages whose sentences stay in memory

How = Literal["both", "words", "meaning"]
Reranker = Callable[[str, Sequence[str], Sequence[float]], Sequence[float]]  # and scores so far


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and why it stands where it does."""

    passage: Passage
    score: float
    why: Mapping[str, Any] = field(default_factory=dict)

    def reason(self) -> str:
        """Why it was found, for a person."""
        said = []
        if "meaning" in self.why:
            told = self.why["meaning"]
            said.append(f"meaning: {told['rank']}. ({told['score']:.2f})")
        if "words" in self.why:
            told = self.why["words"]
            exactly = ", all that is rare" * told["exact"]
            said.append(f"words: {told['rank']}. ({', '.join(told['held'])}{exactly})")
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        p = self.passage
        return {
            "place": p.place, "title": p.title, "heading": list(p.heading), "page": p.page,
            "start": p.start, "end": p.end, "text": p.text, "score": self.score,
            "why": dict(self.why),
        }  # fmt: skip


class Index:
    """An index in a folder or a database (`stores`), with who embeds its questions."""

    def __init__(self, store: Storing, embedder: Embedder) -> None:
        about = store.about
        if about["embedder"]["digest"] != embedder.digest:
            raise RecipeError(
                "this index was made with another embedder, whose vectors say nothing to this one",
                found=embedder.name, expected=about["embedder"]["name"], where=store.name,
                hint=f"morphogen index DOCUMENTS --by {in_shell(embedder.name)} --out ANOTHER",
            )  # fmt: skip
        self.store, self.embedder = store, embedder
        self._split: tuple[int, dict[str, tuple[list[Span], Floats]]] = (-1, {})
        self._asked: tuple[str, Floats] | None = None

    @classmethod
    def make(
        cls,
        folder: Path | str,
        embedder: Embedder,
        *,
        most: int = MOST,
        language: str | None = "english",
        masked: bool = False,
    ) -> Index:
        """A new one. `most` characters are a passage, `language` is that of stems of words;
        personal data in what is read is `masked` (`data.personal`)."""
        about = {
            "embedder": {"name": embedder.name, "digest": embedder.digest},
            "dim": embedder.dim, "most": most, "language": language, "masked": masked,
        }  # fmt: skip
        return cls(stores.make(folder, about), embedder)

    @classmethod
    def open(cls, folder: Path | str, embedder: Embedder | None = None) -> Index:
        """One that there is, with the embedder that made it. Raises `BundleError` where there is
        none, or its embedder is no longer where it was, `RecipeError` for another embedder."""
        store = stores.opened(folder)
        name = store.about["embedder"]["name"]
        try:
            return cls(store, embedder or embedder_of(name))
        except BundleError as error:
            raise BundleError(
                f"what embedded this index cannot be opened: {error.message}", found=name,
                where=store.name, hint="put it back; or morphogen index DOCUMENTS --out ANOTHER",
            ) from error  # fmt: skip

    def __len__(self) -> int:
        return sum(each.num for each in self.store.documents())

    def add(self, document: Document, passages: Sequence[Passage]) -> None:
        """Take in a document, in place of an older version of it."""
        vectors = self.embedder.embed([each.context for each in passages])
        self.store.put(document, passages, vectors)

    def search(
        self,
        question: str,
        *,
        num: int = 10,
        groups: Iterable[str] = (),
        by: How = "both",
        fuse: Literal["sum", "ranks"] = "sum",
        weight: float = 0.5,
        depth: int = DEPTH,
        feedback: int = 0,
        where: Where = EVERYWHERE,
        rerank: Reranker | None = None,
        among: int = RERANKED,
    ) -> list[Hit]:
        """The best `num` passages for a question, of those that a member of `groups` may read, in
        the documents of `where`; a re-ranker reads the first `among`. Raises `DataError` for a
        question without a word."""
        if not question.strip():
            raise DataError("the question is empty", hint="ask with words")
        groups = tuple(groups)
        readable = self.store.readable(groups, where)
        if not len(readable):
            return []
        by = by if self.embedder.dim else "words"
        lists: dict[str, dict[int, float]] = {}
        if by != "words":
            asked = self.asked(question)
            if feedback:
                first = self.search(
                    question, num=feedback, groups=groups, by=by, fuse=fuse, weight=weight,
                    depth=depth, where=where,
                )  # fmt: skip
                near = self.embedder.embed([hit.passage.context for hit in first]).mean(0)
                asked = of_length_one(asked + MOVED * near)
            lists["meaning"] = readable.nearest(asked[0], max(depth, num))
        if by != "meaning":
            lists["words"] = readable.holding(question, max(depth, num))
        fused = _by_ranks(lists) if fuse == "ranks" else _by_sum(lists, weight)
        exact: frozenset[int] = readable.exact(question) if len(lists) > 1 else frozenset()
        if exact:
            fused = {row: (score + (row in exact)) / 2 for row, score in fused.items()}
        wanted = depth if rerank is not None else num
        bound = sorted(fused.values(), reverse=True)[:wanted][-1] if fused else 0.0
        best = {row: score for row, score in fused.items() if score >= bound}
        passages = readable.passages(list(best))
        hits = [
            Hit(passages[row], score, _why(question, row, lists, readable, row in exact))
            for row, score in best.items()
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.passage.digest))  # equals: whatever their rows
        if rerank is not None and hits:
            hits = _reranked(question, hits[:among], rerank) + hits[among:]
        return hits[:num]

    def asked(self, question: str) -> Floats:
        """The vector of a question (1, D); that of the last one is remembered."""
        if self._asked is None or self._asked[0] != question:
            self._asked = question, self.embedder.embed([question])
        return self._asked[1]

    def sentences(self, passage: Passage) -> tuple[list[Span], Floats]:
        """The sentences of a passage and their vectors (S, D), made once while nothing changes, and
        by themselves: no bit of them depends on what else was asked, or by whom."""
        if self._split[0] != (now := self.store.change()):
            self._split = now, {}  # nothing stays of what was removed
        kept, digest = self._split[1], passage.digest
        if digest not in kept:
            found = sentences(passage.text)
            kept[digest] = found, self.embedder.embed([span.text for span in found])
            if len(kept) > MOST_SPLIT:
                del kept[next(iter(kept))]
        return kept[digest]


def _why(
    question: str,
    row: int,
    lists: Mapping[str, Mapping[int, float]],
    readable: Readable,
    is_exact: bool,
) -> dict[str, Any]:
    """Its rank and score in each list, and the words that it holds; whether these are all of the
    rare ones that are mostly asked for. Equals share a rank."""
    why: dict[str, Any] = {}
    for name, found in lists.items():
        if row in found:
            rank = 1 + sum(1 for other in found.values() if other > found[row])
            why[name] = {"rank": rank, "score": found[row]}
    if "words" in why:
        why["words"] |= {"held": readable.held(question, row), "exact": is_exact}
    return why


def _by_ranks(lists: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Reciprocal ranks, summed. Equals share a rank."""
    fused: dict[int, float] = {}
    for found in lists.values():
        values = sorted(found.values(), reverse=True)
        rank = {value: place for place, value in reversed(list(enumerate(values, 1)))}
        for place, value in found.items():
            fused[place] = fused.get(place, 0.0) + 1 / (CONSTANT + rank[value])
    return fused


def _by_sum(lists: Mapping[str, Mapping[int, float]], weight: float) -> dict[int, float]:
    """A convex sum of scores, each list's from 0 to 1."""
    weights = (
        {"meaning": weight, "words": 1 - weight} if len(lists) > 1 else dict.fromkeys(lists, 1)
    )
    fused: dict[int, float] = {}
    for name, found in lists.items():
        low, high = min(found.values(), default=0.0), max(found.values(), default=0.0)
        for place, value in found.items():
            share = (value - low) / (high - low) if high > low else 1.0
            fused[place] = fused.get(place, 0.0) + weights[name] * share
    return fused


def _reranked(question: str, hits: Sequence[Hit], rerank: Reranker) -> list[Hit]:
    texts, known = zip(*((hit.passage.context, hit.score) for hit in hits), strict=True)
    scores = rerank(question, texts, known)
    again = [
        Hit(hit.passage, float(score), {**hit.why, "before": {"rank": place, "score": hit.score}})
        for place, (hit, score) in enumerate(zip(hits, scores, strict=True), 1)
    ]
    return sorted(again, key=lambda hit: (-hit.score, hit.passage.digest))

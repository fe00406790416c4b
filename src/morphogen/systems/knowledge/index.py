r"""An index of documents: what answers a question, by its words and by its meaning.

    score(d) = sum over lists of 1 / (60 + rank of d)           "ranks" (Cormack et al. 2009)
    score(d) = w meaning(d) + (1 - w) words(d)                  "sum", each from 0 to 1 in its list

Words are counted (`words`), meaning is the cosine between embeddings (`vectors`); each list has the
best `depth` of the passages that whoever asks may read. A re-ranker, where there is one, puts the
first of them in its own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from morphogen.core.errors import DataError, RecipeError
from morphogen.systems.knowledge.cutting import MOST
from morphogen.systems.knowledge.embedders import Embedder, embedder_of
from morphogen.systems.knowledge.passage import Document, Passage
from morphogen.systems.knowledge.sentences import Span, sentences
from morphogen.systems.knowledge.store import Store
from morphogen.systems.knowledge.vectors import Floats, nearest

CONSTANT = 60.0  # of reciprocal ranks
DEPTH = 100  # passages of each list
RERANKED = 20  # passages that a re-ranker reads
MOST_KEPT = 4  # sets of groups whose vectors stay in memory
MOST_SPLIT = 2048  # passages whose sentences do

How = Literal["both", "words", "meaning"]
Reranker = Callable[[str, Sequence[str]], Sequence[float]]
Scores = NDArray[np.float64]


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
            said.append(f"words: {told['rank']}. ({', '.join(told['held'])})")
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
    """An index in a folder, with who embeds its questions."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        about = store.about
        if about["embedder"]["digest"] != embedder.digest:
            raise RecipeError(
                "this index was made with another embedder, whose vectors say nothing to this one",
                found=embedder.name, expected=about["embedder"]["name"], where=store.folder,
                hint=f"morphogen index DOCUMENTS --by {embedder.name} --out ANOTHER",
            )  # fmt: skip
        self.store, self.embedder = store, embedder
        self._kept: dict[tuple[int, tuple[str, ...]], tuple[Any, Any]] = {}
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
    ) -> Index:
        """A new one. `most` characters are a passage, `language` is that of stems of words."""
        about = {
            "embedder": {"name": embedder.name, "digest": embedder.digest},
            "dim": embedder.dim, "most": most, "language": language,
        }  # fmt: skip
        return cls(Store.make(Path(folder), about), embedder)

    @classmethod
    def open(cls, folder: Path | str, embedder: Embedder | None = None) -> Index:
        """One that there is, with the embedder that made it. Raises `BundleError` where there is
        none, `RecipeError` for another embedder."""
        store = Store.open(Path(folder))
        return cls(store, embedder or embedder_of(store.about["embedder"]["name"]))

    def __len__(self) -> int:
        return sum(num for *_, num, _ in self.store.documents())

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
        where: Callable[[Passage], bool] | None = None,
        rerank: Reranker | None = None,
    ) -> list[Hit]:
        """The best `num` passages for a question, of those that a member of `groups` may read and
        that `where` lets through. Raises `DataError` for a question without a word."""
        if not question.strip():
            raise DataError("the question is empty", hint="ask with words")
        rows, vectors = self._readable(tuple(sorted(set(groups))))
        if where is not None:
            kept = np.array([where(self.store.passage(row)) for row in rows.tolist()], bool)
            rows, vectors = rows[kept], vectors[kept]
        if not len(rows):
            return []
        if not self.embedder.dim:
            by = "words"
        lists = self._lists(question, rows, vectors, by, max(depth, num))
        fused = _by_ranks(lists) if fuse == "ranks" else _by_sum(lists, weight)
        wanted = depth if rerank is not None else num
        bound = sorted(fused.values(), reverse=True)[:wanted][-1] if fused else 0.0
        hits = [
            self._hit(question, int(rows[place]), score, place, lists)
            for place, score in fused.items()
            if score >= bound
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.passage.digest))  # equals: whatever their rows
        if rerank is not None:
            hits = _reranked(question, hits[:RERANKED], rerank) + hits[RERANKED:]
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

    def _readable(self, groups: tuple[str, ...]) -> tuple[NDArray[np.int64], Any]:
        """The rows that members of groups may read, and their vectors side by side: (A,), (A, D).
        Vectors of other rows take no part in any product, so that no bit depends on them."""
        key = (self.store.change(), groups)
        if key not in self._kept:
            rows, vectors = self.store.allowed(groups), self.store.vectors()
            whole = len(rows) == len(vectors)
            self._kept = dict(list(self._kept.items())[-MOST_KEPT + 1 :])
            self._kept[key] = rows, vectors if whole else vectors[rows]
        return self._kept[key]

    def _lists(
        self, question: str, rows: Any, vectors: Any, by: How, depth: int
    ) -> dict[str, dict[int, float]]:
        """name of a list -> place among the rows -> score, best first."""
        lists = {}
        if by != "words":
            place, near = nearest(vectors, self.asked(question), depth)
            lists["meaning"] = dict(zip(place[0].tolist(), near[0].tolist(), strict=True))
        if by != "meaning":
            scores = self.store.words().scores(question, rows)
            best = np.lexsort((np.arange(len(scores)), -scores))[:depth]
            lists["words"] = {int(i): float(scores[i]) for i in best if scores[i] > 0}
        return {name: _in_order(found) for name, found in lists.items()}

    def _hit(
        self, question: str, row: int, score: float, place: int, lists: Mapping[str, Any]
    ) -> Hit:
        why: dict[str, Any] = {}
        for name, found in lists.items():
            if place in found:
                rank = 1 + sum(1 for other in found.values() if other > found[place])
                why[name] = {"rank": rank, "score": found[place]}
        if "words" in why:
            why["words"]["held"] = self.store.words().held(question, row)
        return Hit(self.store.passage(row), score, why)


def _in_order(found: Mapping[int, float]) -> dict[int, float]:
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))


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
    scores = rerank(question, [hit.passage.context for hit in hits])
    again = [
        Hit(hit.passage, float(score), {**hit.why, "before": {"rank": place, "score": hit.score}})
        for place, (hit, score) in enumerate(zip(hits, scores, strict=True), 1)
    ]
    return sorted(again, key=lambda hit: (-hit.score, hit.passage.digest))

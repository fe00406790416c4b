"""Is what answers a question found? Cranfield and XQuAD, by words, by meaning, by both.

    python benchmarks/retrieval.py cranfield SHARED/data/cranfield --by models/published/minilm
    python benchmarks/retrieval.py cranfield SHARED/data/cranfield --by learned --seconds 120
    python benchmarks/retrieval.py xquad SHARED/data/xquad-en --by models/published/minilm

cranfield: nDCG@10 over 225 questions, each judgement counted as in the BEIR layout, with a paired
bootstrap of questions for the interval, beside rank_bm25's BM25Okapi where that is installed; and
two floors: judgements that were shuffled (near 0), documents that ask for themselves (1). The
embedder "learned" is trained on the documents alone, no question and no judgement being seen; with
--rerank, an encoder learns from them too, reads the first eight, 128 tokens of each, and puts these
in order.
xquad: the share of 1,190 questions whose own paragraph, of 240, comes first.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.systems.knowledge.embedders import embedder_of
from morphogen.systems.knowledge.examples import from_documents
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.learn_embedder import learn
from morphogen.systems.knowledge.learn_reader import train
from morphogen.systems.knowledge.passage import Block, Document, Passage
from morphogen.systems.knowledge.reader import Reader

NUM_DRAWS = 1000
AMONG, TOKENS = 8, 128  # passages that a re-ranker reads, and of each with its question
WAYS: dict[str, dict[str, Any]] = {
    "words": {"by": "words"},
    "meaning": {"by": "meaning"},
    "both, by ranks": {"fuse": "ranks"},
    "both, summed": {"fuse": "sum"},
    "both, summed, looked twice": {"fuse": "sum", "feedback": 3},
}


def main() -> None:
    """A line of JSON for each way."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=["cranfield", "xquad"])
    options.add_argument("folder", type=Path, nargs="?")
    options.add_argument("--by", default="words", help="who embeds")
    options.add_argument("--seconds", type=float, default=120, help="that is learned")
    options.add_argument("--rerank", help="an encoder that becomes a re-ranker")
    given = options.parse_args()
    {"cranfield": cranfield, "xquad": xquad}[given.what](given)


def filled(
    texts: Mapping[str, tuple[str, str]], by: str, folder: str, seconds: float = 0.0
) -> Index:
    """An index with a passage for each text: name -> (title, text)."""
    if by == "learned":
        started, by = time.monotonic(), f"{folder}/learned"
        bundle = learn(filled(texts, "words", f"{folder}/words"), seconds=seconds, told=show)
        bundle.save(by)
        told = {"steps": bundle.run["steps"], "seconds": round(time.monotonic() - started, 1)}
        print(json.dumps({"what": "learned", **told}))
    index = Index.make(Path(folder) / "index", embedder_of(by), most=10**6)
    started = time.monotonic()
    for name, (title, text) in texts.items():
        document = Document(name, title, name, (Block(text),))
        index.add(document, [Passage(name, title, text, (), None, 0, len(text), 0)])
    index.store.settle()
    told = {"passages": len(texts), "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps({"what": "indexed", "by": by, **told}))
    return index


def show(step: int, loss: float) -> None:
    """Now and then, how learning goes."""
    if step % 100 == 1:
        print(json.dumps({"step": step, "loss": round(loss, 3)}), flush=True)


def reranker(index: Index, base: str, seconds: float) -> Reader:
    """A reader that learned from questions that were made up from the documents."""
    reader = Reader(base)
    reader.most = TOKENS
    steps = train(reader, list(from_documents(index, 2000)), seconds=seconds, told=show)
    print(json.dumps({"what": "a re-ranker learned", "steps": steps}))
    return reader


def cranfield(given: argparse.Namespace) -> None:
    """nDCG@10."""
    corpus = [json.loads(line) for line in (given.folder / "corpus.jsonl").open()]
    texts = {each["_id"]: (each["title"], each["text"]) for each in corpus if each["text"].strip()}
    asked = {q["_id"]: q["text"] for q in map(json.loads, (given.folder / "queries.jsonl").open())}
    judged: dict[str, set[str]] = {}
    with (given.folder / "qrels" / "test.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if int(row["score"]) > 0:
                judged.setdefault(row["query-id"], set()).add(row["corpus-id"])
    with tempfile.TemporaryDirectory() as folder:
        index, ways = filled(texts, given.by, folder, given.seconds), dict(WAYS)
        if given.rerank is not None:
            scores = reranker(index, given.rerank, given.seconds).scores
            ways["both, re-ranked"] = {"rerank": scores, "among": AMONG}
        for way, how in ways.items():
            if index.embedder.dim or how.get("by") == "words":
                taken: list[float] = []
                found = {q: places(index, text, how, taken) for q, text in asked.items()}
                report(way, [ndcg(found[q], judged.get(q, set())) for q in judged], taken)
        names = list(judged)
        shuffled = dict(zip(names, [judged[n] for n in names[100:] + names[:100]], strict=True))
        told = [ndcg(found[q], shuffled[q]) for q in judged]
        print(json.dumps({"what": "floor: judgements of another question", "ndcg": mean(told)}))
        own = [index.search(f"{t} {b}", num=1)[0].passage.place == n
               for n, (t, b) in list(texts.items())[:200]]  # fmt: skip
        print(json.dumps({"what": "floor: documents that ask for themselves", "first": mean(own)}))
    peer(texts, asked, judged)


def peer(
    texts: Mapping[str, tuple[str, str]], asked: Mapping[str, str], judged: Mapping[str, set[str]]
) -> None:
    """The usual library's BM25 over lower-cased words."""
    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        print(json.dumps({"what": "rank_bm25 is not installed"}))
        return
    names = list(texts)
    library = BM25Okapi([f"{title} {text}".lower().split() for title, text in texts.values()])
    told, taken = [], []
    for question in judged:
        started = time.perf_counter()
        scores = library.get_scores(asked[question].lower().split())
        best = np.argsort(-scores, kind="stable")[:10]
        taken.append(time.perf_counter() - started)
        told.append(ndcg([names[i] for i in best], judged[question]))
    report("rank_bm25's BM25Okapi", told, taken)


def places(index: Index, question: str, how: Mapping[str, Any], taken: list[float]) -> list[str]:
    """The ten that come first."""
    started = time.perf_counter()
    hits = index.search(question, num=10, **how)
    taken.append(time.perf_counter() - started)
    return [hit.passage.place for hit in hits]


def ndcg(found: Sequence[str], relevant: set[str], num: int = 10) -> float:
    """Of judgements that are yes or no."""
    gained = sum(1 / math.log2(i + 2) for i, name in enumerate(found[:num]) if name in relevant)
    best = sum(1 / math.log2(i + 2) for i in range(min(len(relevant), num)))
    return gained / best if best else 0.0


def xquad(given: argparse.Namespace) -> None:
    """Recall@1 and @5 of a question's own paragraph."""
    articles = json.loads((given.folder / "xquad.en.json").read_text())["data"]
    contexts = [p for article in articles for p in article["paragraphs"]]
    texts = {str(i): ("", p["context"]) for i, p in enumerate(contexts)}
    asked = [(str(i), qa["question"]) for i, p in enumerate(contexts) for qa in p["qas"]]
    with tempfile.TemporaryDirectory() as folder:
        index = filled(texts, given.by, folder, given.seconds)
        for way, how in WAYS.items():
            if index.embedder.dim or how.get("by") == "words":
                taken: list[float] = []
                found = [places(index, question, how, taken) for _, question in asked]
                for num in (1, 5):
                    hit = [own in each[:num] for (own, _), each in zip(asked, found, strict=True)]
                    report(f"{way}, recall@{num}", hit, taken)


def report(way: str, values: Sequence[float], taken: Sequence[float]) -> None:
    """A mean with its interval, and the time of the slowest twentieth."""
    draw, x = np.random.default_rng(0), np.array(values, float)
    means = x[draw.integers(0, len(x), (NUM_DRAWS, len(x)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    told = {"value": mean(values), "low": round(float(low), 3), "high": round(float(high), 3)}
    p95 = round(1000 * float(np.quantile(taken, 0.95)), 1)
    print(json.dumps({"what": way, **told, "n": len(values), "p95_ms": p95}))


def mean(values: Sequence[float]) -> float:
    """Rounded."""
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    main()

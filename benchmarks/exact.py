"""Are codes, amounts and names found that stand in a few passages, as written or otherwise?

    python benchmarks/exact.py SHARED/data
    python benchmarks/exact.py SHARED/data --by models/published/minilm --num 100

The passages are the paragraphs of WikiText-2's validation split and of XQuAD, and Cranfield's
abstracts: 3,138. Of each kind, `num` that stand in at most five of them are drawn from a seed, and
each is asked for twice: as it is written there, and as somebody else may write it (M-120: M120 or
m 120; 17,890: 17890; 2.39: 2,39; Weber: weber, Weber's). What counts is the share of the passages
that hold it, to the letter, which are among the first five.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.evaluation.intervals import mean_interval
from morphogen.systems.knowledge.embedders import embedder_of
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document, Passage

MOST_HELD, NUM = 5, 5  # passages that hold what is asked for, and that are looked at
SHORTEST = 200  # characters of a paragraph of WikiText
KINDS = {
    "code": re.compile(r"(?<![\w/-])[A-Z]{1,5}[-/]?\d[A-Z\d]*(?:[-/][A-Z\d]+)*(?![\w/-])"),
    "amount": re.compile(r"(?<![\w.,-])[$£€]?\d{1,3}(?:(?:,\d{3})+(?:\.\d+)?|\.\d+)(?![\w.,-]?\w)"),
    "name": re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}(?![\w-])"),
}
WAYS: dict[str, dict[str, Any]] = {
    "words": {"by": "words"}, "both, summed": {"fuse": "sum"}, "both, by ranks": {"fuse": "ranks"},
}  # fmt: skip


def main() -> None:
    """A line of JSON for each kind, way of asking, and way of searching."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("data", type=Path)
    options.add_argument("--by", default="words", help="who embeds")
    options.add_argument("--num", type=int, default=150, help="of each kind")
    given = options.parse_args()
    texts = [*texts_of(given.data)]
    with tempfile.TemporaryDirectory() as folder:
        index = filled(texts, given.by, folder)
        for way, how in WAYS.items():
            if not index.embedder.dim and how.get("by") != "words":
                continue
            every: list[float] = []
            for kind, tokens in drawn(texts, given.num).items():
                for form, asked in (("as written", written), ("otherwise", otherwise)):
                    found = [
                        recall(index, asked(kind, token, n), holders, how)
                        for n, (token, holders) in enumerate(tokens.items())
                    ]
                    report(f"{kind}, {form}, {way}", found)
                    every += found
            report(f"all, {way}", every)


def texts_of(data: Path) -> Iterator[str]:
    """Paragraphs of three collections."""
    for line in (data / "wikitext-2" / "valid.txt").open():
        if len(line) > SHORTEST and not line.startswith(" ="):
            yield plain(line)
    for article in json.loads((data / "xquad-en" / "xquad.en.json").read_text())["data"]:
        yield from (paragraph["context"] for paragraph in article["paragraphs"])
    for row in (data / "cranfield" / "corpus.jsonl").open():
        yield json.loads(row)["text"]


def plain(line: str) -> str:
    """WikiText's tokens as people write them."""
    line = re.sub(r" @([-.,])@ ", r"\1", line)
    line = re.sub(r" ([.,;:!?%)\]]|'s\b|n't\b)", r"\1", line)
    return re.sub(r"([(\[$£€]) ", r"\1", line).strip()


def filled(texts: Sequence[str], by: str, folder: str) -> Index:
    """An index with a passage for each text."""
    index = Index.make(Path(folder) / "index", embedder_of(by), most=10**6)
    for number, text in enumerate(texts):
        name = str(number)
        document = Document(name, "", name, (Block(text),))
        index.add(document, [Passage(name, "", text, (), None, 0, len(text), 0)])
    index.store.settle()
    return index


def drawn(texts: Sequence[str], num: int) -> dict[str, dict[str, set[str]]]:
    """Of each kind: what stands in a few texts, and in which. Names are no words of the language:
    none stands anywhere without its capital."""
    small = {word for text in texts for word in re.findall(r"\b[a-z]+\b", text)}
    found: dict[str, dict[str, set[str]]] = {}
    for kind, pattern in KINDS.items():
        tokens = sorted({token for text in texts for token in pattern.findall(text)})
        random.Random(0).shuffle(tokens)
        found[kind] = {}
        for token in (each for each in tokens if each.lower() not in small):
            whole = re.compile(rf"(?<!\w){re.escape(token)}(?!\w)")
            holders = {
                str(n) for n, text in enumerate(texts) if token in text and whole.search(text)
            }
            if len(holders) <= MOST_HELD and len(found[kind]) < num:
                found[kind][token] = holders
    return found


def written(kind: str, token: str, number: int) -> str:
    """A question with it."""
    return f"What is said of {token}?"


def otherwise(kind: str, token: str, number: int) -> str:
    """A question with it as somebody else writes it; two ways by turns."""
    turn = number % 2
    if kind == "code":
        loose = re.sub(r"(?<=[A-Z])[-/]?(?=\d)", " ", token).lower()
        return written(kind, loose if turn else re.sub("[-/]", "", token), number)
    if kind == "amount":
        comma = re.fullmatch(r"\W?\d+\.\d+", token) is not None
        return written(kind, token.replace(".", ",") if comma else token.replace(",", ""), number)
    return written(kind, token.lower() if turn else f"{token}'s", number)


def recall(index: Index, question: str, holders: set[str], how: Mapping[str, Any]) -> float:
    """The share of the passages that hold it."""
    hits = index.search(question, num=NUM, **how)
    return len(holders & {hit.passage.place for hit in hits}) / len(holders)


def report(what: str, values: Sequence[float]) -> None:
    """A mean with its interval."""
    x = np.array(values, float)
    low, high, _ = mean_interval(x)
    told = {"recall@5": float(x.mean()), "low": low, "high": high}
    rounded = {name: round(value, 3) for name, value in told.items()}
    print(json.dumps({"what": what, **rounded, "n": len(x)}), flush=True)


if __name__ == "__main__":
    main()

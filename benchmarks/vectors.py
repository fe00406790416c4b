"""Is the search of vectors as fast as a library's, and a question to an index answered at once?

    python benchmarks/vectors.py fashion SHARED/data/fashion-mnist   # 60,000 x 784, 10,000 ask
    python benchmarks/vectors.py random                              # 1,000,000 x 128, 1,000 ask
    python benchmarks/vectors.py chunks                              # 100,000 passages of an index

fashion, random: our exact and our reduced search beside hnswlib at its first width with recall@10
of 0.99, on as many cores; what was built before the first question is told beside it, and what
it takes in all to build and to answer so many questions, asked together.
chunks: the 95th percentile of a question by words and by meaning, of 100 questions one by one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document, Passage
from morphogen.systems.knowledge.reduced import Reduced
from morphogen.systems.knowledge.vectors import Floats, Ints, nearest, of_length_one

WANTED, NUM = 0.99, 10
WIDTHS = (20, 40, 80, 160, 320, 640, 1280, 2560)
PATIENCE = 420.0  # seconds that a library may take to build
ANSWERED = (1, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)  # questions, building included


def main() -> None:
    """A line of JSON for each number."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=["fashion", "random", "chunks"])
    options.add_argument("folder", type=Path, nargs="?")
    options.add_argument("--rows", type=int)
    options.add_argument("--dim", type=int, default=128)
    given = options.parse_args()
    {"fashion": fashion, "random": random, "chunks": chunks}[given.what](given)


def fashion(given: argparse.Namespace) -> None:
    """The set of ann-benchmarks: raw pixels, Euclidean."""
    x, asked = (pixels(given.folder / f"{name}-images-idx3-ubyte.gz") for name in ("train", "t10k"))
    beside(x, asked, "euclidean", "l2")


def random(given: argparse.Namespace) -> None:
    """Nothing that could be made use of."""
    draw = np.random.default_rng(0)
    rows = given.rows or 1_000_000
    x, asked = (of_length_one(draw.standard_normal((n, given.dim), np.float32))
                for n in (rows, 1000))  # fmt: skip
    beside(x, asked, "inner", "ip")


def beside(x: Floats, asked: Floats, metric: Any, space: str) -> None:
    """Ours, and the library."""
    exact, one = exactly(x, asked, metric)
    made, built = timed("ours, reduced, building", lambda: Reduced(x, metric=metric, recall=WANTED))
    found, taken = timed("ours, reduced", lambda: made.nearest(asked, NUM)[0], len(asked))
    prices = {"ours, exact": (0.0, one), "ours, reduced": (built, taken / len(asked))}
    told = {"recall@10": recall(found, exact), **vars(made.plan)}
    print(json.dumps({"what": "ours, reduced", **told}), flush=True)
    timed("ours, reduced, one by one", lambda: [made.nearest(q[None], NUM) for q in asked[:50]], 50)
    prices["hnswlib"] = library(x, asked, exact, space)
    for who, (before, each) in prices.items():
        told = {f"{num:,}": round(before + num * each, 1) for num in ANSWERED}
        print(json.dumps({"what": f"{who}, seconds to build and answer", **told}), flush=True)


def exactly(x: Floats, asked: Floats, metric: str) -> tuple[Ints, float]:
    """What is true, and the seconds of a question: nothing is built for it."""
    if metric == "euclidean":
        middle = x.mean(0)
        x, asked = x - middle, asked - middle
        half = np.einsum("nd,nd->n", x, x)[:, None] / 2
        x, asked = np.hstack([x, -half]), np.hstack([asked, np.ones_like(asked[:, :1])])
    found, taken = timed("ours, exact", lambda: nearest(x, asked, NUM)[0], len(asked))
    timed("ours, exact, one by one", lambda: [nearest(x, q[None], NUM) for q in asked[:50]], 50)
    return found, taken / len(asked)


def library(x: Floats, asked: Floats, exact: Ints, space: str) -> tuple[float, float]:
    """hnswlib with what ann-benchmarks gives it, on all cores: the seconds of building, and of a
    question; without end where it is not there, is not built in time, or does not find enough."""
    never = float("inf"), float("inf")
    try:
        import hnswlib
    except ImportError:
        print(json.dumps({"what": "hnswlib is not installed: pip install hnswlib"}))
        return never
    graph = hnswlib.Index(space, x.shape[1])
    graph.init_index(len(x), ef_construction=200, M=16)
    graph.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))  # as ours

    def build() -> int:
        """In parts, as far as patience reaches."""
        began = time.monotonic()
        for start in range(0, len(x), 10_000):
            if time.monotonic() - began > PATIENCE:
                return start
            graph.add_items(x[start : start + 10_000])
        return len(x)

    num, built = timed("hnswlib, building", build)
    if num < len(x):
        print(json.dumps({"what": f"hnswlib had {num:,} rows after {PATIENCE:.0f} s"}), flush=True)
        exact, _ = timed(
            "ours, exact, of as many", lambda: nearest(x[:num], asked, NUM)[0], len(asked)
        )
    for width in WIDTHS:
        graph.set_ef(width)
        found, taken = timed(
            f"hnswlib, ef {width}", lambda: graph.knn_query(asked, NUM)[0], len(asked)
        )
        told = {"what": f"hnswlib, ef {width}", "recall@10": recall(found, exact)}
        print(json.dumps(told), flush=True)
        if recall(found, exact) >= WANTED:
            graph.set_num_threads(1)
            timed("hnswlib, one by one", lambda: [graph.knn_query(q, NUM) for q in asked[:50]], 50)
            return (built, taken / len(asked)) if num == len(x) else never
    return never


class Drawn:
    """An embedder whose vectors say nothing: an index is to be timed, and no network."""

    name, digest, dim = "drawn", "drawn", 384

    def embed(self, texts: Any) -> Any:
        """(N, D)."""
        draw = np.random.default_rng(zlib.crc32(texts[0].encode()))
        return of_length_one(draw.standard_normal((len(texts), self.dim), np.float32))


def chunks(given: argparse.Namespace) -> None:
    """Passages of 60 words, drawn as often as words of a language are."""
    draw, total = np.random.default_rng(0), given.rows or 100_000
    weights = 1 / np.arange(1, 50_001)
    drawn = draw.choice(len(weights), (total, 60), p=weights / weights.sum())
    texts = [" ".join(f"w{n}" for n in row) for row in drawn.tolist()]
    with tempfile.TemporaryDirectory() as folder:
        index = Index.make(Path(folder) / "index", Drawn(), language=None)

        def fill() -> None:
            for start in range(0, total, 500):
                some = texts[start : start + 500]
                name, blocks = f"{start}.txt", tuple(Block(each) for each in some)
                parts = [Passage(name, "", each, (), None, 0, len(each), i)
                         for i, each in enumerate(some)]  # fmt: skip
                index.add(Document(name, "", name, blocks), parts)
            index.store.settle()

        timed(f"{total:,} passages into an index", fill)
        timed("the first question", lambda: index.search("w3 w500"))
        size = sum(each.stat().st_size for each in (Path(folder) / "index").iterdir())
        for way in ("both", "words", "meaning"):
            taken = []
            for each in texts[:100]:
                began = time.perf_counter()
                index.search(" ".join(each.split()[:6]), by=way)
                taken.append(time.perf_counter() - began)
            p50, p95 = (round(1000 * float(np.quantile(taken, q)), 1) for q in (0.5, 0.95))
            told = {"rows": total, "p50_ms": p50, "p95_ms": p95, "mb": size >> 20}
            print(json.dumps({"what": f"a question, {way}", **told, "cores": os.cpu_count()}))


def pixels(file: Path) -> Floats:
    """(N, 784)."""
    with gzip.open(file) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)


def recall(found: Ints, exact: Ints) -> float:
    """The share of true neighbours."""
    same = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    return round(float(np.mean(same)) / NUM, 4)


def timed(what: str, run: Callable[[], Any], num: int = 0) -> tuple[Any, float]:
    """What it gives, and the seconds that it took; of `num` questions, how many in a second."""
    began = time.monotonic()
    found = run()
    seconds = time.monotonic() - began
    rate = {"per_second": round(num / seconds)} if num else {}
    print(json.dumps({"what": what, "seconds": round(seconds, 2), **rate}), flush=True)
    return found, seconds


if __name__ == "__main__":
    main()

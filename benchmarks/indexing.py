"""How long do 10,000 pages take to be indexed, and what if the reading is killed on its way?

    python benchmarks/indexing.py pages
    python benchmarks/indexing.py pages --num 1000 --by models/published/minilm
    python benchmarks/indexing.py shards --num 100000 --at file:///srv/index

pages: documents of ten pages of 300 words, drawn as often as words of a language are, with headings
and a table now and then: four in ten as PDF, two each as DOCX, HTML and Markdown. `morphogen index`
reads them in a process of its own, is killed (-9) once half of them are there, and is run again.
Told is how long each part took, that every document is there once with all of its passages in
order, and how long questions take.

shards: passages of as many words, 120 each, ten to a document, with vectors drawn at random, taken
into a folder and into an object store (`--at`; else a folder by its URL), each in a process of its
own. Told is how long that took, how long after five documents were removed, how long it takes to
open the index and ask it first with and without copies of its shards at hand, how long questions
take then, the most memory that this took, and that both found the same.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np

from _pdf import pdf_of
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document
from morphogen.systems.knowledge.vectors import of_length_one

PAGES, WORDS, LINE = 10, 300, 12  # of a document; of a page; of a line
VOCABULARY = 50_000
SUFFIXES = (".pdf", ".docx", ".pdf", ".html", ".md", ".pdf", ".docx", ".pdf", ".html", ".md")
Page = list[str]  # its lines, the first of which is a heading


def main() -> None:
    """A line of JSON for each number."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=["pages", "shards"])
    options.add_argument("--num", type=int, default=10_000, help="pages; passages")
    options.add_argument("--at", help="of shards: the URL of a folder that is not there")
    options.add_argument("--by", default="words", help="who embeds")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "pages":
            pages(Path(folder), given.num // PAGES, given.by)
        else:
            beside_shards(Path(folder), given.num, given.at or f"file://{folder}/store")


def pages(folder: Path, num: int, by: str) -> None:
    """Written, read by half, killed, read to the end, asked."""
    source, out = folder / "papers", folder / "index"
    source.mkdir()
    texts = [*drawn(num)]
    for number, each in enumerate(texts):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        (source / f"{number:05}{suffix}").write_bytes(WRITERS[suffix](each))
    command = [sys.executable, "-m", "morphogen.cli.app", "index", str(source), "--out", str(out)]
    began = time.monotonic()
    with subprocess.Popen([*command, "--by", by], stderr=subprocess.PIPE) as killed:
        while counted(out) < num / 2 and killed.poll() is None:
            time.sleep(0.2)
        killed.kill()
        said = (killed.communicate()[1] or b"").decode().splitlines()
    report("read until it was killed", began, documents=counted(out), code=killed.returncode,
           progress=said[-1:])  # fmt: skip
    began = time.monotonic()
    again = subprocess.run([*command, "--json"], capture_output=True, check=True, text=True)
    told = json.loads(again.stdout)
    report("read to the end", began, added=len(told["added"]), same=told["same"])
    began = time.monotonic()
    subprocess.run([*command, "--json"], capture_output=True, check=True)
    report("read again, nothing being new", began)
    index = Index.open(out)
    places = [each.place for each in index.store.documents()]
    numbers = [[p.number for p in index.store.of_document(place)] for place in places]
    whole = all(each == list(range(len(each))) and each for each in numbers)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(json.dumps({
        "what": "the index", "documents": len(places), "each once": len({*places}) == num,
        "passages": len(index), "whole": whole, "mb": size >> 20,
    }))  # fmt: skip
    taken = []
    for each in texts[:100]:
        began = time.perf_counter()
        index.search(" ".join(each[0][1].split()[:6]))
        taken.append(time.perf_counter() - began)
    p50, p95 = (round(1000 * float(np.quantile(taken[1:], q)), 1) for q in (0.5, 0.95))
    first = round(1000 * taken[0])
    print(json.dumps({"what": "a question", "first_ms": first, "p50_ms": p50, "p95_ms": p95}))


# -- shards ----------------------------------------------------------------------------------------

LENGTH, DIM = 120, 384  # words of a passage; dimensions of its vector
ASKED, REMOVED = 200, 5  # questions; documents


class Drawn:
    """An embedder whose vectors are drawn: each text has its own."""

    name, digest, dim = "drawn", "drawn", DIM

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D), of length 1."""
        seeds = (int.from_bytes(hashlib.sha256(each.encode()).digest()[:8]) for each in texts)
        drawn = [np.random.default_rng(seed).standard_normal(DIM, np.float32) for seed in seeds]
        return of_length_one(np.stack(drawn))


def beside_shards(folder: Path, num: int, url: str) -> None:
    """The same passages in a folder and in shards: made, opened, asked, each in a process."""
    os.environ["MORPHOGEN_CACHE"] = str(folder / "copies")
    spawn = multiprocessing.get_context("spawn")
    found = {}
    for place in (str(folder / "folder"), url):
        for what in ("made", "opened without copies", "opened"):
            if what == "opened without copies":
                shutil.rmtree(folder / "copies", ignore_errors=True)
            with ProcessPoolExecutor(1, spawn) as own:
                told, found[place] = own.submit(made if what == "made" else asked, place, num
                                                ).result()  # fmt: skip
            print(
                json.dumps({"where": place.partition("://")[0], "what": what, **told}), flush=True
            )
    first, second = found.values()
    print(json.dumps({"what": "the same found, to the last bit", "is so": first == second}))


def made(place: str, num: int) -> tuple[dict[str, float], list[str]]:
    """An index of passages; five documents of it removed."""
    began = time.monotonic()
    index = Index.make(place, Drawn(), language=None)
    for number, page in zip(range(num // PAGES), drawn_words(), strict=False):
        blocks = tuple(Block(each, (f"Part {n}",)) for n, each in enumerate(page))
        paper = Document(f"papers/{number:06}", str(number), str(number), blocks)
        index.add(paper, passages(paper))
    index.store.settle()
    told = {"seconds": round(time.monotonic() - began, 1), "passages": len(index)}
    began = time.monotonic()
    index.store.remove([f"papers/{n:06}" for n in range(0, num // PAGES, num // PAGES // REMOVED)])
    told["seconds_to_remove"] = round(time.monotonic() - began, 1)
    return {**told, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}, []


def asked(place: str, num: int) -> tuple[dict[str, float], list[str]]:
    """Questions of a few words of passages, by words and meaning."""
    began, taken, found = time.perf_counter(), [], []
    index = Index.open(place, Drawn())
    for page in itertools.islice(drawn_words(), 1, 2 * ASKED, 2):
        hits = index.search(" ".join(page[0].split()[:6]))
        found.append(json.dumps([hit.to_json() for hit in hits]))
        taken.append(time.perf_counter() - began)
        began = time.perf_counter()
    p50, p95 = (round(1000 * float(np.quantile(taken[1:], q)), 1) for q in (0.5, 0.95))
    told = {"first_ms": round(1000 * taken[0]), "p50_ms": p50, "p95_ms": p95}
    return {**told, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}, found


def drawn_words() -> Iterator[list[str]]:
    """The passages of documents."""
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    total = np.cumsum(weights / weights.sum())
    while True:
        words = np.searchsorted(total, draw.random((PAGES, LENGTH))).tolist()
        yield [" ".join(f"w{word}" for word in each) for each in words]


def report(what: str, began: float, **told: object) -> None:
    """And the seconds that it took."""
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"what": what, "seconds": seconds, **told}), flush=True)


def counted(out: Path) -> int:
    """The documents that an index has so far."""
    if not (out / "index.json").is_file():
        return 0
    with closing(sqlite3.connect(out / "index.sqlite", timeout=30)) as base:
        return int(base.execute("select count(*) from documents").fetchone()[0])


# -- documents -------------------------------------------------------------------------------------


def drawn(num: int) -> Iterator[list[Page]]:
    """The pages of documents."""
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    weights /= weights.sum()
    for number in range(num):
        words = draw.choice(VOCABULARY, (PAGES, WORDS), p=weights).tolist()
        yield [
            [f"Part {number} {n}", *(
                " ".join(f"w{word}" for word in page[i : i + LINE]) for i in range(0, WORDS, LINE)
            )]
            for n, page in enumerate(words)
        ]  # fmt: skip


def pdf(pages: Sequence[Page]) -> bytes:
    """A heading, lines, and rules around the last three lines of every third page."""
    contents = []
    for i, (heading, *lines) in enumerate(pages):
        said = [f"BT /F1 16 Tf 60 740 Td ({heading}) Tj /F1 9 Tf"]
        said += [f"0 -{24 if n == 0 else 14} Td ({line}) Tj" for n, line in enumerate(lines)]
        said.append("ET")
        if i % 3 == 0:
            low = 716 - 14 * (len(lines) - 1) - 4
            said += [f"55 {low + 14 * k} m 560 {low + 14 * k} l S" for k in range(4)]
            said += [f"{x} {low} m {x} {low + 42} l S" for x in (55, 560)]
        contents.append("\n".join(said))
    return pdf_of(contents)


def docx(pages: Sequence[Page]) -> bytes:
    """Headings, paragraphs, a table of the last line's words."""
    import docx as library

    paper = library.Document()
    for heading, *lines in pages:
        paper.add_heading(heading, 1)
        paper.add_paragraph(" ".join(lines[:12]))
        paper.add_paragraph(" ".join(lines[12:-1]))
        words = lines[-1].split()
        cells = paper.add_table(2, 6).rows
        for k, word in enumerate(words[:12]):
            cells[k // 6].cells[k % 6].text = word
    stream = io.BytesIO()
    paper.save(stream)
    return stream.getvalue()


def html(pages: Sequence[Page]) -> bytes:
    """As above."""
    parts = [
        f"<h1>{heading}</h1><p>{' '.join(lines[:12])}</p><p>{' '.join(lines[12:-1])}</p><table><tr>"
        + "".join(f"<td>{word}</td>" for word in lines[-1].split()) + "</tr></table>"
        for heading, *lines in pages
    ]  # fmt: skip
    return f"<html><title>{pages[0][0]}</title><body>{''.join(parts)}</body></html>".encode()


def markdown(pages: Sequence[Page]) -> bytes:
    """As above."""
    parts = [
        f"# {heading}\n\n{' '.join(lines[:12])}\n\n{' '.join(lines[12:-1])}\n\n| "
        + " | ".join(lines[-1].split()) + " |\n"
        for heading, *lines in pages
    ]  # fmt: skip
    return "\n".join(parts).encode()


WRITERS = {".pdf": pdf, ".docx": docx, ".html": html, ".md": markdown}


if __name__ == "__main__":
    main()

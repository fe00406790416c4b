"""How long do 10,000 pages take to be indexed, and what if the reading is killed on its way?

    python benchmarks/indexing.py pages
    python benchmarks/indexing.py pages --num 1000 --by models/published/minilm

pages: documents of ten pages of 300 words, drawn as often as words of a language are, with headings
and a table now and then: four in ten as PDF, two each as DOCX, HTML and Markdown. `morphogen index`
reads them in a process of its own, is killed (-9) once half of them are there, and is run again.
Told is how long each part took, that every document is there once with all of its passages in
order, and how long questions take.
"""

from __future__ import annotations

import argparse
import io
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from _pdf import pdf_of
from morphogen.systems.knowledge.index import Index

PAGES, WORDS, LINE = 10, 300, 12  # of a document; of a page; of a line
VOCABULARY = 50_000
SUFFIXES = (".pdf", ".docx", ".pdf", ".html", ".md", ".pdf", ".docx", ".pdf", ".html", ".md")
Page = list[str]  # its lines, the first of which is a heading


def main() -> None:
    """A line of JSON for each number."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("what", choices=["pages"])
    options.add_argument("--num", type=int, default=10_000, help="pages")
    options.add_argument("--by", default="words", help="who embeds")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages(Path(folder), given.num // PAGES, given.by)


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

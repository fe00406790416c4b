"""Documents that are searched: how they are read, cut, found, kept, and forgotten."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy.spatial.distance import cdist

from morphogen.cli.app import main
from morphogen.core.errors import BundleError, DataError, RecipeError
from morphogen.systems.knowledge import reading
from morphogen.systems.knowledge.answering import answer
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.embedders import NoEmbedder
from morphogen.systems.knowledge.formats import blocks_of, formats
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document
from morphogen.systems.knowledge.reading import document_of, read_into
from morphogen.systems.knowledge.reduced import Reduced
from morphogen.systems.knowledge.vectors import nearest, of_length_one
from morphogen.systems.knowledge.words import (
    Allowed,
    Words,
    asked_terms,
    asked_words,
    holders,
    terms,
)

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Letters:
    """An embedder without weights: how often each of 64 pairs of letters stands in a text."""

    name = digest = "letters"
    dim = 64

    def embed(self, texts: Any) -> Any:
        x = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(x, texts, strict=True):
            for first, second in zip(text.lower(), text.lower()[1:], strict=False):
                row[(ord(first) * 31 + ord(second)) % self.dim] += 1
        return of_length_one(x)


HANDBOOK = {
    "leave.md": "# Leave\n\nEveryone has 30 days of leave a year.\n\n## Notice\n\nThe notice "
    "period is three months, see form AB-1234/5.\n\n| grade | days |\n|---|---|\n| 1 | 28 |\n"
    "| 2 | 30 |\n",
    "pay.txt": "Pay\n\nSalaries are paid on the 25th. The bonus of 2025 was 1,250.00 euros.\n",
    "it/code.py": "import os\n\n\ndef restart(server):\n    return os.system(server)\n",
    "rooms.html": "<html><title>Rooms</title><nav>Home</nav><h1>Rooms</h1><h2>Booking</h2><p>Rooms "
    "are booked at the desk.</p><table><caption>Table 1: sizes</caption><tr><th>room</th>"
    "<th>seats</th></tr><tr><td>Ada</td><td>12</td></tr></table></html>",
    "people.csv": "name;desk\nAda;4\nGrace;7\n",
}


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    for name, text in HANDBOOK.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def index(handbook: Path, tmp_path: Path) -> Index:
    made = Index.make(tmp_path / "index", Letters())
    read_into(made, handbook)
    return made


# -- formats and cutting ---------------------------------------------------------------------------


def test_headings_tables_and_captions_are_kept(handbook: Path) -> None:
    title, blocks, _ = blocks_of("leave.md", (handbook / "leave.md").read_bytes())
    assert title == "Leave"
    assert [block.heading for block in blocks] == [(), ("Notice",), ("Notice",)]
    assert blocks[-1].kind == "table"
    title, blocks, _ = blocks_of("rooms.html", (handbook / "rooms.html").read_bytes())
    assert title == "Rooms"
    assert [block.kind for block in blocks] == ["text", "caption", "table"]
    assert "Home" not in " ".join(block.text for block in blocks)
    assert blocks[-1].text == "room | seats\nAda | 12"
    _, blocks, _ = blocks_of("people.csv", (handbook / "people.csv").read_bytes())
    assert blocks[0].text == "name | desk\nAda | 4\nGrace | 7"
    _, blocks, facts = blocks_of("code.py", (handbook / "it" / "code.py").read_bytes())
    assert facts["language"] == "Python"
    assert [block.heading for block in blocks] == [("import os",), ("def restart(server):",)]


def test_office_documents_are_read() -> None:
    docx, pptx, openpyxl = (pytest.importorskip(n) for n in ("docx", "pptx", "openpyxl"))
    written: dict[str, bytes] = {}

    def keep(suffix: str, document: Any) -> None:
        stream = io.BytesIO()
        document.save(stream)
        written[suffix] = stream.getvalue()

    paper = docx.Document()
    paper.add_heading("Leave", 1)
    paper.add_paragraph("Everyone has 30 days.")
    table = paper.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "grade", "days"
    keep(".docx", paper)
    shown = pptx.Presentation()
    slide = shown.slides.add_slide(shown.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Plans", "Grow by half"
    keep(".pptx", shown)
    book = openpyxl.Workbook()
    book.active.append(["name", "desk"])
    book.active.append(["Ada", 4])
    keep(".xlsx", book)
    _, blocks, _ = blocks_of("a.docx", written[".docx"])
    assert [(b.heading, b.text, b.kind) for b in blocks] == [
        (("Leave",), "Everyone has 30 days.", "text"), (("Leave",), "grade | days", "table"),
    ]  # fmt: skip
    title, blocks, _ = blocks_of("a.pptx", written[".pptx"])
    assert title == "Plans"
    assert (blocks[-1].heading, blocks[-1].text, blocks[-1].page) == (("Plans",), "Grow by half", 1)
    _, blocks, _ = blocks_of("a.xlsx", written[".xlsx"])
    assert blocks[0].text == "name | desk\nAda | 4"
    for suffix, data in written.items():
        with pytest.raises(DataError, match=r"damaged"):
            blocks_of(f"a{suffix}", data[: len(data) // 2])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".txt", "Die K\u00fcndigungsfrist betr\u00e4gt drei Monate."),
        (".md", "# Urlaub\n\nDie K\u00fcndigungsfrist betr\u00e4gt drei Monate."),
        (".csv", "wort;wert\nK\u00fcndigungsfrist;drei Monate\n"),
        (".html", "<html><p>Die K\u00fcndigungsfrist betr\u00e4gt drei Monate.</p></html>"),
    ],
)  # fmt: skip
def test_documents_are_read_in_the_encoding_that_they_are_in(
    encoding: str, suffix: str, text: str
) -> None:
    assert "K\u00fcndigungsfrist" in document_of(f"a{suffix}", text.encode(encoding)).text


def test_bytes_of_no_encoding_lose_themselves_and_binary_is_named() -> None:
    broken = b"The notice period is \xff\xfe\x81" + " three months \u2014 long.".encode()
    text = document_of("a.txt", broken).text
    assert text.startswith("The notice period is ")
    assert " three months " in text
    text.encode("utf-8")  # nothing in it that cannot be written down
    with pytest.raises(DataError, match="binary"):
        document_of("a.txt", b"\x00\x01plain\x00" * 50)
    with pytest.raises(DataError, match="empty"):
        document_of("a.txt", b"")


def test_a_pdf_has_pages_and_one_with_a_password_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pdfplumber")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _pdf import pdf_of

    said = ("First page about leave.", "Second page about pay.")
    data = pdf_of([f"BT /F1 12 Tf 72 700 Td ({line}) Tj ET" for line in said])
    _, blocks, facts = blocks_of("a.pdf", data)
    assert [(block.page, block.text) for block in blocks] == [
        (1, "First page about leave."), (2, "Second page about pay."),
    ]  # fmt: skip
    assert facts["pages"] == 2
    with pytest.raises(DataError, match=r"damaged|no text"):
        blocks_of("a.pdf", data[:200])
    key = b"<" + 32 * b"5a" + b">"
    locked = b"/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O %b /U %b >>"
    with pytest.raises(DataError, match=r"(?s)locked with a password.*qpdf --decrypt"):
        blocks_of("a.pdf", data.replace(b"/Root 1 0 R", b"/Root 1 0 R " + locked % (key, key)))


def test_passages_cover_the_document_and_point_into_it() -> None:
    words = " ".join(f"Sentence number {i} says something." for i in range(200))
    rows = "head | of it\n" + "\n".join(f"row {i} | value {i}" for i in range(100))
    blocks = (
        Block("Short.", ("A",)), Block(words, ("A",)),
        Block("Table 1: rows", ("B",), kind="caption"),
        Block(rows, ("B",), kind="table"), Block("The end.", ("C",)),
    )  # fmt: skip
    document = Document("a.txt", "A", "0", blocks)
    found = passages(document, 400)
    covered: Counter[int] = Counter()
    for each in found:
        assert document.text[each.start : each.end] == each.text[-(each.end - each.start) :]
        covered.update(range(each.start, each.end))
    missing = "".join(c for i, c in enumerate(document.text) if i not in covered)
    assert not missing.strip()
    assert max(covered.values()) == 1
    table = [each for each in found if each.heading == ("B",)]
    assert table[0].text.startswith("Table 1: rows\n\nhead | of it")
    assert all(each.text.startswith("head | of it\n") for each in table[1:])
    assert all(len(each.text) <= 850 for each in found)
    assert [each.number for each in found] == list(range(len(found)))


# -- search ----------------------------------------------------------------------------------------


def test_codes_amounts_and_stems_are_terms() -> None:
    pytest.importorskip("snowballstemmer")
    assert terms("See form AB-1234/5, of 1,250.00 euros.") == [
        "see", "form", "ab", "1234", "5", "ab-1234/5", "ab12345",
        "of", "1", "250", "00", "1,250.00", "125000", "1250", "euro",
    ]  # fmt: skip
    assert terms("Bookings booked", "english") == ["book", "book"]
    assert terms("Bookings booked", None) == ["bookings", "booked"]


def test_questions_are_about_what_is_rare_in_them() -> None:
    assert asked_terms("What is said of Weber?") == ["said", "weber"]
    assert asked_terms("Who was who?") == ["who", "was", "who"]  # there is nothing else to go by
    assert asked_terms("Was ist der Lohn?", None) == ["was", "ist", "der", "lohn"]


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("form AB-1234/5", "ab12345"), ("form M120", "m-120"), ("form M-120", "form m 120"),
        ("17,890 tons", "17890"), ("17890 tons", "17,890 t"), ("1,250.00", "1.250,00 euros"),
        ("2.39 m", "2,39"), ("v2.3.4", "V2.3.4"), ("some 1.61-2.25 m", "2.25"),
    ],
)  # fmt: skip
def test_codes_and_amounts_are_found_as_others_write_them(held: str, asked: str) -> None:
    exact = [term for term in asked_terms(asked) if len(term) > 3 and term[-1].isdigit()]
    assert {*terms(held)} & {*exact}


def test_what_is_rare_in_a_question_is_held_by_all_that_is_asked_for() -> None:
    """Two of 1,000 rows hold the first word, one of them the second too; common words ask for
    nothing, and rare ones that are little of what is asked leave the order to the lists."""
    first, second, common = np.array([3, 8]), np.array([8, 9]), np.arange(500)

    def held(*words: Any) -> list[int]:
        found: list[int] = holders(words, 1000).tolist()
        return found

    assert held(first, common) == [3, 8]
    assert held(first, second, common) == [8]
    assert held(np.array([3]), np.array([4])) == []  # no row holds both
    assert held(first, np.array([])) == [3, 8]  # what no row holds is asked for in vain
    assert held(common) == []
    assert held(first, *[np.arange(11 + i) for i in range(9)]) == []
    assert asked_words("What of AB-12 and 1,250.00?") == [
        {"ab-12", "ab12"},
        {"1,250.00", "125000", "1250"},
    ]
    words = Words()
    words.add({0: "a letter of notice", 2: "form AB-12", 5: "form AB-13", 7: "form ab12, again"})
    assert words.exact("notice of ab 12", Allowed(np.array([0, 2, 5]))) == frozenset()
    assert words.exact("form ab-12", Allowed(np.array([2, 5, 7]))) == {2, 7}


def test_meaning_does_not_hide_who_holds_the_code(tmp_path: Path) -> None:
    """Nine passages are nearer to the question, by its letters, than the one that answers it."""
    index = Index.make(tmp_path / "index", Letters())
    texts = {f"{i}": f"What of form? Of what form {i}?" for i in range(9)}
    texts["held"] = "Everybody who moves house, whenever that may be, is to hand in QX-77 by post."
    for place, text in texts.items():
        document = Document(place, "", place, (Block(text),))
        index.add(document, passages(document))
    for fuse in ("sum", "ranks"):
        first, *others = index.search("What of form QX77?", fuse=fuse)
        assert first.passage.place == "held"
        assert first.score >= 0.5 > others[0].score
        assert "all that is rare" in first.reason()
    assert index.search("What of form QX77?", by="meaning")[0].passage.place != "held"


def test_scores_are_bm25_by_its_formula() -> None:
    texts = ["the notice period is long", "the pay is late", "notice of pay and of the notice", ""]
    words = Words(None)
    words.add(dict(enumerate(texts)))
    split = [text.split() for text in texts]
    mean = np.mean([len(each) for each in split])
    for row, held in enumerate(split):
        expected = 0.0
        for term in ("notice", "pay"):
            n, f = sum(term in each for each in split), held.count(term)
            idf = math.log(1 + (4 - n + 0.5) / (n + 0.5))
            expected += idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len(held) / mean))
        assert words.scores("notice pay", Allowed(np.arange(4)))[row] == pytest.approx(expected)


def test_postings_that_grew_and_shrank_are_those_of_what_is_left() -> None:
    words, fresh = Words(None), Words(None)
    words.add({0: "a b b", 1: "b secret"})
    words.add({2: "a c", 3: "secret secret"})
    words.remove([1, 3])
    fresh.add({0: "a b b", 2: "a c"})
    assert "secret" not in words.ids
    allowed = Allowed(np.array([0, 2]))
    for question in ("a", "b", "c a", "secret"):
        assert np.array_equal(words.scores(question, allowed), fresh.scores(question, allowed))


@pytest.mark.parametrize(
    "rows",
    [[], [7], range(100), range(40, 60), [*range(30), *range(33, 90)], [3, 50, 99], [0, 999]],
)
def test_rows_that_are_allowed_are_found_in_a_posting_whatever_lies_between(rows: Any) -> None:
    """Side by side, with gaps, far apart, and none."""
    draw = np.random.default_rng(0)
    allowed = np.fromiter(rows, np.int64)
    for size in (0, 1, 60):
        row = np.sort(draw.choice(120, size, replace=False))
        count = draw.integers(1, 9, size)
        place, times = Allowed(allowed).among(row, count)
        held = dict(zip(row.tolist(), count.tolist(), strict=True))
        expected = [(i, held[each]) for i, each in enumerate(allowed.tolist()) if each in held]
        assert list(zip(place.tolist(), times.tolist(), strict=True)) == expected


def test_the_nearest_are_those_that_are() -> None:
    draw = np.random.default_rng(0)
    x = of_length_one(draw.normal(size=(500, 8)).astype(np.float32))
    asked = of_length_one(draw.normal(size=(7, 8)).astype(np.float32))
    place, near = nearest(x, asked, 10)
    assert np.array_equal(place, np.argsort(-(asked @ x.T), axis=1, kind="stable")[:, :10])
    assert np.allclose(near, np.take_along_axis(asked @ x.T, place, 1))
    assert nearest(x[:3], asked, 10)[0].shape == (7, 3)


@pytest.mark.parametrize("equal", [False, True])
def test_the_nearest_of_many_are_those_that_are(equal: bool) -> None:
    """More rows than pass at once; of rows that are the same, those that come first."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 2, (9000, 5)) if equal else draw.normal(size=(9000, 5))
    x, asked = x.astype(np.float32), draw.integers(-9, 9, (3, 5)).astype(np.float32)
    place, near = nearest(x, asked, 7)
    assert np.array_equal(place, np.argsort(-(asked @ x.T), axis=1, kind="stable")[:, :7])
    for question, own in zip(asked, place, strict=True):
        assert np.array_equal(nearest(x, question[None], 7)[0][0], own)
    assert near[0, 0] == (asked @ x.T)[0].max()


@pytest.mark.parametrize("metric", ["inner", "euclidean"])
def test_few_dimensions_find_the_neighbours(metric: Any) -> None:
    """In vectors of eight dimensions that lie askew in 128, with noise; of noise alone, nothing is
    to be had for less, and the answer is exact."""
    draw = np.random.default_rng(0)
    inside = draw.normal(size=(4000, 8)) @ draw.normal(size=(8, 128)) + 3
    noise = draw.normal(size=(4000, 128))
    for x, is_less in ((inside + 0.1 * noise, True), (noise, False)):
        rows, asked = x[:3900].astype(np.float32), x[3900:].astype(np.float32)
        made = Reduced(rows, metric=metric, recall=0.99)
        found, _ = made.nearest(asked, 10)
        scores = -cdist(asked, rows) if metric == "euclidean" else asked @ rows.T
        truth = np.argsort(-scores, axis=1)[:, :10]
        same = [len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]
        assert np.mean(same) >= 9.9
        assert (made.plan.width > 0) is is_less
        one_by_one = [made.nearest(question[None], 10)[0][0] for question in asked[:5]]
        assert np.array_equal(found[:5], one_by_one)
        many = made.nearest(asked[:1], 400)[0]  # more than it was made for: exactly
        assert len(np.intersect1d(many, np.argsort(-scores[0])[:400])) > 395


def test_many_vectors_are_searched_through_few_dimensions_of_what_may_be_read(
    index: Index, monkeypatch: Any
) -> None:
    hits = index.search("notice period")
    monkeypatch.setattr("morphogen.systems.knowledge.held.LARGE", 1)
    index.store.restrict("handbook/rooms.html", ["everyone"])  # it is read anew
    again = index.search("notice period")
    assert [hit.passage for hit in again] == [hit.passage for hit in hits]
    assert index.store.readable(())._reduced is not None


def test_what_is_found_says_where_and_why(index: Index) -> None:
    (first, *_) = index.search("notice period AB-1234/5")
    assert first.passage.place == "handbook/leave.md"
    assert first.passage.heading == ("Notice",)
    text = index.store.text("handbook/leave.md")
    assert "three months" in text[first.passage.start : first.passage.end]
    assert "ab-1234/5" in first.why["words"]["held"]
    assert first.why["words"]["rank"] == 1
    for fuse in ("ranks", "sum"):
        assert index.search("1,250.00", fuse=fuse)[0].passage.place == "handbook/pay.txt"
    with pytest.raises(DataError, match="empty"):
        index.search("  ")


@pytest.mark.parametrize(
    "question",
    ["Quel pr\u00e9avis ?", "\u901a\u77e5\u671f\u9593", "?!", "\u0441\u0440\u043e\u043a"],
)
def test_a_question_in_another_language_finds_no_words_and_is_not_answered(
    index: Index, question: str
) -> None:
    """By meaning something is always nearest; it is no answer."""
    assert index.search(question, by="words") == []
    assert index.search(question, num=2)
    assert answer(index, question).is_silent


def test_each_passage_finds_itself(index: Index) -> None:
    """A floor: a question that is the passage has it first, by each list alone."""
    rows = index.store.allowed(())
    for row in rows.tolist():
        passage = index.store.passages([row])[row]
        for by in ("words", "meaning"):
            assert index.search(passage.context, by=by)[0].passage == passage


def test_what_one_may_not_read_changes_nothing(handbook: Path, tmp_path: Path) -> None:
    """Results, scores, order, reasons and errors are the same bytes with and without 1,000
    documents that another group reads."""
    plain, mixed = (Index.make(tmp_path / name, Letters()) for name in ("plain", "mixed"))
    secret = tmp_path / "secret"
    secret.mkdir()
    for i in range(1000):
        (secret / f"{i}.txt").write_text(
            f"Secret {i}\n\nThe notice period of Ada is {i} days of leave."
        )
    read_into(mixed, secret, readers=("board",))
    for index in (plain, mixed):
        read_into(index, handbook)

    def reranked(question: str, texts: Any, scores: Any) -> list[float]:
        return [
            len(set(question) & set(text)) + score
            for text, score in zip(texts, scores, strict=True)
        ]

    for question in ("notice period", "leave of Ada", "secret", "30 days", "xyzzy"):
        for options in (
            {}, {"by": "words"}, {"by": "meaning"}, {"fuse": "ranks"}, {"rerank": reranked},
            {"num": 500}, {"feedback": 2},
        ):  # fmt: skip
            told = [
                json.dumps([hit.to_json() for hit in index.search(question, **options)])
                for index in (plain, mixed)
            ]
            assert told[0] == told[1]
    assert "Secret" in mixed.search("notice period of Ada", groups=["board"])[0].passage.title
    assert plain.search("secret", groups=["board"])[0].passage.title != "Secret 0"


# -- keeping ---------------------------------------------------------------------------------------


def test_only_what_changed_is_read_again(index: Index, handbook: Path, monkeypatch: Any) -> None:
    embedded: list[str] = []
    embed = index.embedder.embed
    monkeypatch.setattr(index.embedder, "embed", lambda t: (embedded.extend(t), embed(t))[1])
    told = read_into(index, handbook)
    assert (told.added, told.changed, told.removed, told.same) == ([], [], [], 5)
    assert embedded == []
    (handbook / "pay.txt").write_text("Pay\n\nSalaries are paid on the 27th.")
    (handbook / "rooms.html").unlink()
    (handbook / "copy.txt").write_text(HANDBOOK["leave.md"])
    (handbook / "empty.txt").write_text("")
    (handbook / "film.mp4").write_bytes(b"\0")
    told = read_into(index, handbook)
    assert told.changed == ["handbook/pay.txt"]
    assert told.removed == ["handbook/rooms.html"]
    assert told.copies == {"handbook/copy.txt": "handbook/leave.md"}
    assert list(told.problems) == ["handbook/empty.txt"]
    assert told.left_out == {".mp4": 1}
    assert "27th" in index.search("salaries paid")[0].passage.text
    assert not index.search("booked", by="words")


def test_without_a_model_an_index_is_searched_by_words(
    handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["index", str(handbook), "--out", "one"])
    assert not ended.value.code
    told = capsys.readouterr().out
    assert "found by words alone" in told
    assert "--by MODEL, such as models/published/minilm" in told
    assert Index.open(tmp_path / "one").search("notice period")


def test_what_is_nearly_the_same_is_read_once(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    folder = tmp_path / "papers"
    folder.mkdir()
    texts = [" ".join(f"word{n}" for n in draw.integers(0, 999, 80)) for _ in range(3)]
    for name, text in zip("abc", texts, strict=True):
        (folder / f"{name}.txt").write_text(text)
    (folder / "d.txt").write_text(f"{texts[0]} and no more")
    index = Index.make(tmp_path / "index", NoEmbedder(), language=None)
    told = read_into(index, folder, distinct=True)
    assert told.added == [f"papers/{name}.txt" for name in "abc"]
    assert told.near == {"papers/d.txt": "papers/a.txt"}
    (folder / "a.txt").rename(folder / "e.txt")
    told = read_into(index, folder, distinct=True)
    assert (told.added, told.removed, told.same) == (["papers/d.txt"], ["papers/a.txt"], 2)
    assert told.near == {"papers/e.txt": "papers/d.txt"}


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_archives_are_gone_through_and_those_within_them(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.txt").write_text("Three months of notice.")
    deep = zipped({"../deep/d.txt": b"Salaries are paid on the 25th."})
    inner = zipped({"c.txt": b"Rooms are booked at the desk.", "again.zip": deep, "x.xyz": b"?"})
    (folder / "old.zip").write_bytes(zipped({"b.txt": b"Bring a coat.", "2024.zip": inner}))
    too_deep = b"nothing"
    for _ in range(reading.DEEPEST + 1):
        too_deep = zipped({"in.zip": too_deep})
    (folder / "deep.zip").write_bytes(too_deep)
    made = Index.make(tmp_path / "index", Letters())
    told = read_into(made, folder)
    places = ["a.txt", "old.zip/2024.zip/again.zip/deep/d.txt", "old.zip/2024.zip/c.txt",
              "old.zip/b.txt"]  # fmt: skip
    assert sorted(told.added) == [f"papers/{place}" for place in places]
    assert told.left_out == {".xyz": 1}
    ((named, why),) = told.problems.items()
    assert (named.count("in.zip"), "no deeper" in why) == (reading.DEEPEST, True)
    assert made.search("salaries")[0].passage.place == f"papers/{places[1]}"
    (folder / "old.zip").write_bytes(zipped({"b.txt": b"Bring a coat."})[:-30])
    again = read_into(made, folder)  # what it cannot open now, it does not forget
    assert (again.same, again.removed) == (1, [])
    assert "papers/old.zip" in again.problems
    (folder / "old.zip").write_bytes(zipped({"b.txt": b"Bring a coat."}))
    assert len(read_into(made, folder).removed) == 2
    (tmp_path / "what.xyz").write_bytes(b"?")
    with pytest.raises(DataError, match=r"(?s)no documents here.*\.xyz"):
        read_into(made, tmp_path / "what.xyz")


SCANNED = {
    1: ("Notice", "The notice period is three months.", "Write to the office in Bonn."),
    2: ("Leave", "Everyone has 30 days of leave.", "Invoice AB-1234 is due."),
}


def scan_of(pages: dict[int, tuple[str, ...]]) -> bytes:
    """Pages as a scanner gives them: grey, a little askew, with noise; pictures and no text."""
    draw, drawn = np.random.default_rng(0), []
    for lines in pages.values():
        page = Pillow.new("L", (1240, 600), 245)
        for number, line in enumerate(lines):
            place = 100, 80 + 90 * number
            ImageDraw.Draw(page).text(place, line, fill=40, font_size=44)
        grey = np.asarray(page.rotate(0.6, fillcolor=245), np.float32)
        noisy = grey + draw.normal(0, 8, grey.shape)
        drawn.append(Pillow.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    file = io.BytesIO()
    drawn[0].save(file, "PDF", resolution=150, save_all=True, append_images=drawn[1:])
    return file.getvalue()


@pytest.mark.skipif(not shutil.which("tesseract"), reason="apt install tesseract-ocr")
def test_a_scan_is_read_and_found_on_its_page(tmp_path: Path) -> None:
    pytest.importorskip("pdfplumber")
    (tmp_path / "scan.pdf").write_bytes(scan_of(SCANNED))
    index = Index.make(tmp_path / "index", Letters())
    assert read_into(index, tmp_path / "scan.pdf").problems == {}
    for question, page in (("notice period", 1), ("ab1234", 2)):
        passage = index.search(question, by="words")[0].passage
        assert passage.page == page
        assert passage.text.split() == " ".join(SCANNED[page]).split()


def test_a_scan_that_nothing_reads_is_named(monkeypatch: Any) -> None:
    pytest.importorskip("pdfplumber")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match=r"(?s)are scans.*tesseract-ocr"):
        blocks_of("a.pdf", scan_of(SCANNED))


def test_only_what_was_deleted_has_the_index_written_anew(index: Index, tmp_path: Path) -> None:
    said: list[str] = []
    index.store.base.set_trace_callback(said.append)
    index.store.settle()
    text = "Rooms\n\nThey were booked."
    (tmp_path / "rooms.txt").write_text(text)
    read_into(index, tmp_path / "rooms.txt")
    assert "vacuum" not in said
    again = Index.open(index.store.folder, Letters())  # a process that does not know of it
    index.store.put(document_of("rooms.txt", b"Rooms"), [], np.zeros((0, 64), np.float32))
    again.store.base.set_trace_callback(said.append)
    again.store.settle()
    assert "vacuum" in said
    held = b"".join(file.read_bytes() for file in again.store.folder.iterdir())
    assert b"They were booked" not in held


def test_what_is_removed_leaves_no_trace(index: Index, handbook: Path) -> None:
    assert index.search("booked")[0].passage.place == "handbook/rooms.html"
    index.store.remove(["handbook/rooms.html"])
    held = b"".join(file.read_bytes() for file in index.store.folder.iterdir())
    for word in (b"booked at the desk", b"rooms", b"Rooms", b"seats"):
        assert word not in held
    rows = index.store.allowed(())
    vectors = np.array(index.store.vectors())
    gone = np.setdiff1d(np.arange(len(vectors)), rows)
    assert len(gone)
    assert not vectors[gone].any()
    assert vectors[rows].any(1).all()


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_knowledge import Letters
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.reading import document_of, read_into
from morphogen.systems.knowledge.reduced import Reduced
from morphogen.systems.knowledge.store import Store
write, times = Store._write_rows, []
def dying(self, first, vectors):
    write(self, first, vectors)
    times.append(1)
    if len(times) == 3:
        os.kill(os.getpid(), 9)
Store._write_rows = dying
read_into(Index.make({out!r}, Letters()), {source!r})
"""


def test_a_reading_that_was_killed_goes_on_with_nothing_twice(
    handbook: Path, tmp_path: Path, index: Index
) -> None:
    out = tmp_path / "killed"
    script = KILLED.format(tests=str(Path(__file__).parent), out=str(out), source=str(handbook))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    again = Index.open(out, Letters())
    assert len(list(again.store.documents())) == 2
    told = read_into(again, handbook)
    assert (len(told.added), told.same) == (3, 2)
    for question in ("notice period", "booked", "Ada"):
        assert [hit.to_json() for hit in again.search(question)] == [
            hit.to_json() for hit in index.search(question)
        ]


def test_an_index_is_opened_by_who_made_it(index: Index, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)another embedder.*letters"):
        Index(index.store, NoEmbedder())
    with pytest.raises(BundleError, match="no index here"):
        Index.open(tmp_path / "nothing", Letters())
    with pytest.raises(DataError, match="no documents"):
        read_into(index, tmp_path / "nothing")


def test_every_format_is_found() -> None:
    assert {".pdf", ".docx", ".pptx", ".xlsx", ".html", ".md", ".txt", ".py", ".csv"} <= set(
        formats()
    )

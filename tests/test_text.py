"""Text: whatever wrote it is read, cut and shown without losing a byte or guessing in silence."""

from __future__ import annotations

import codecs
import json
import random
from pathlib import Path

import pytest
import torch

from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError
from morphogen.core.random import generator
from morphogen.data.duplicates import find_duplicates
from morphogen.modalities.text import Text, reading
from morphogen.modalities.text.encodings import decoded, to_bytes
from morphogen.modalities.text.fingerprint import SHINGLE
from morphogen.modalities.text.page import END as MARK
from morphogen.modalities.text.page import visible
from morphogen.modalities.text.pieces import piece_bytes, pieces

END = 256  # the token after the last byte
WORDS = [
    "harbour", "lantern", "seven", "copper", "window", "under", "morning", "quiet", "ladder",
    "river", "stone", "apple", "blue", "letter", "garden", "winter", "basket", "silver", "thread",
    "bridge", "candle", "meadow", "paper", "whistle", "north", "engine",
]  # fmt: skip


def prose(seed: int, num_words: int = 120) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(num_words)) + "."


def fitted(*texts: str, **options: object) -> Text:
    return Text(**options).fit([Item(text) for text in texts])  # type: ignore[arg-type]


def read(source: object, **options: object) -> tuple[list[Item], Report]:
    report = Report(str(source))
    return list(Text(**options).read(source, report)), report  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [b"plain", "fünf €".encode(), b"half \xe2\x82 a sign", bytes(range(1, 256)), b"\xff", b""],
)
def test_every_sequence_of_bytes_comes_back(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for codec in (fitted(text, length=300), fitted(text, length=300, form="windows")):
        x = codec.encode(Item(text))
        assert torch.equal(codec.encode(Item(codec.decode(x))), x)
    assert to_bytes(codec.decode(x).rstrip(MARK)) == data


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (codecs.BOM_UTF8 + "café".encode(), "UTF-8 with a byte order mark"),
        ("café au lait".encode("utf-16"), "UTF-16"),
        ("a line of plain words".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("un café, une brûlée, très bon".encode("cp1252"), "Windows-1252"),
        ("caf\xe9 \x81 cr\xe8me".encode("latin-1"), "Latin-1"),
        ("naïve Größe".encode(), "UTF-8"),
    ],
)
def test_encodings_are_found_and_named(data: bytes, encoding: str, tmp_path: Path) -> None:
    found = decoded(data)
    assert found.encoding == encoding
    assert ("caf" in found.text) == ("caf" in data.decode("latin-1").replace("\0", ""))
    (tmp_path / "note.txt").write_bytes(data)
    (item,), report = read(tmp_path)
    assert item.value == found.text
    assert report.facts.get("encodings", {"UTF-8": 1}) == {encoding: 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_a_long_text_is_read_block_by_block(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGEST", 1000)
    monkeypatch.setattr(reading, "MOST_AT_ONCE", 1001)
    plain = "a line of plain words " * 45 if encoding != "cp1252" else ""
    for shift in range(3):  # characters lie across the ends of blocks
        text = "x" * shift + plain + "caf\u00e9 cr\u00e8me br\u00fbl\u00e9e " * 400
        (tmp_path / "one.txt").write_bytes(text.encode(encoding))
        items, report = read(tmp_path / "one.txt")
        assert "".join(item.value for item in items) == text
        assert len(items) > 3
        assert "it has characters" not in str(report.problems)


def test_a_character_across_the_end_of_the_first_block_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGEST", 100)
    (tmp_path / "one.txt").write_text("x" * 99 + "\u00e9" + "y" * 3000, encoding="utf-8")
    items, report = read(tmp_path / "one.txt")
    assert "\u00e9" in items[0].value
    assert "encodings" not in report.facts


def test_broken_bytes_are_told_and_binary_is_refused(tmp_path: Path) -> None:
    good = "größer und schöner".encode()
    (tmp_path / "a.txt").write_bytes(good * 20 + b"\xff" + good * 20)
    (tmp_path / "b.txt").write_bytes(bytes(range(32)) * 40)
    (tmp_path / "c.txt").write_bytes(b"")
    items, report = read(tmp_path)
    assert [item.name for item in items] == ["a.txt"]
    told = {problem.name: problem for problem in report.problems}
    assert "byte 420 is no UTF-8" in told["a.txt"].reason
    assert not told["a.txt"].fatal
    assert "binary" in told["b.txt"].reason
    assert told["b.txt"].fatal
    assert told["c.txt"].fatal


def test_a_corpus_in_one_file_is_cut_where_paragraphs_end(tmp_path: Path) -> None:
    text = "\n\n".join(prose(i, 40) for i in range(700))
    (tmp_path / "book.txt").write_text(text)
    items, _ = read(tmp_path / "book.txt")
    assert "".join(item.value for item in items) == text
    assert 64 <= len(items) <= 140
    assert [item.name for item in items[:2]] == ["book.txt#0", "book.txt#1"]
    assert all(item.value.endswith("\n\n") for item in items[:-1])
    codec = Text().fit(items)
    assert codec.windows == 256
    assert codec.spec.end is None
    stream = codec.encode_stream(items[0])
    assert (stream == END).nonzero().flatten().tolist() == [len(stream) - 1]
    assert float(codec.num_units(codec.encode(items[0])[None])) == 256


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_pieces_lose_nothing(size: int) -> None:
    data = "\n".join(prose(i, 9) for i in range(30)).encode() + "é".encode() * 400
    blocks = [data[i : i + 501] for i in range(0, len(data), 501)]
    found = list(pieces(blocks, size))
    assert b"".join(found) == data
    assert all(len(piece) <= 2 * size for piece in found)


def test_pieces_stay_where_they_are_as_a_corpus_grows() -> None:
    assert piece_bytes(1_115_394) == piece_bytes(1_300_000) == 1 << 14
    assert piece_bytes(None) == piece_bytes(1 << 40) == 1 << 20


def test_short_documents_are_whole_and_what_is_cut_is_told() -> None:
    codec = fitted(*(["word " * 4] * 30))
    assert codec.windows is None
    assert codec.spec.shape == (24,)
    assert codec.spec.end == END
    codec = fitted(*(["word"] * 30), "x" * 900)
    assert codec.spec.shape == (512,)
    assert "1 of 31" in codec.facts["cut"]
    assert codec.decode(codec.encode(Item("x" * 900))) == "x" * 511
    assert codec.num_units(codec.encode(Item("word"))[None]).tolist() == [4.0]
    with pytest.raises(DataError):
        Text(length=1)


def test_names_of_a_few_files_are_splits_and_words_about_them_are_left_out(tmp_path: Path) -> None:
    for name in ("train", "valid", "test", "README"):
        (tmp_path / f"{name}.txt").write_text(prose(len(name), 30))
    items, report = read(tmp_path)
    assert {item.name: item.split for item in items} == {
        "test.txt": "test", "train.txt": "train", "valid.txt": "validation",
    }  # fmt: skip
    assert [problem.name for problem in report.problems] == ["README.txt"]


def test_lines_and_paragraphs_can_be_items(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"Ada\r\nGrace\n\n Edsger\n\nBarbara\n")
    lines, _ = read(tmp_path / "names.txt", per="line")
    assert [item.value for item in lines] == ["Ada", "Grace", " Edsger", "Barbara"]
    paragraphs, _ = read(tmp_path / "names.txt", per="paragraph")
    assert [item.value for item in paragraphs] == ["Ada\r\nGrace", " Edsger", "Barbara"]


def test_json_lines_and_tables_of_texts_are_read(tmp_path: Path) -> None:
    rows = [{"text": prose(i), "label": "ab"[i % 2]} for i in range(6)]
    lines = tmp_path / "reviews.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, _ = read(lines)
    assert [item.value for item in items] == [row["text"] for row in rows]
    assert [item.cond["label"] for item in items] == [row["label"] for row in rows]
    known = Text.recognises(lines)
    assert known is not None
    assert known.sure > 0.6  # more than a table of any rows
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("age,town\n" + "31,Porto\n44,Lima\n" * 5)
    assert Text.recognises(numbers) is None


def detail(text: str) -> torch.Tensor:
    found = Text().fingerprint(Item(text))
    assert found is not None
    return torch.tensor(list(found.detail), dtype=torch.uint8)[None]


def test_minhash_estimates_the_jaccard_similarity() -> None:
    base = prose(1, 40)

    def shingles(text: str) -> set[str]:
        return {text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)}

    for cut in (0, 20, 60, 120, 200):
        other = base[cut:] + " tail" * (cut // 40)
        a, b = shingles(base), shingles(other)
        exact = len(a & b) / len(a | b)
        estimate = float(Text().likeness(detail(base), detail(other), torch.zeros(1)))
        assert estimate == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 128) ** 0.5 + 1e-6)


def test_near_duplicates_are_found_and_others_are_not(tmp_path: Path) -> None:
    base = [prose(i) for i in range(60)]
    for number, text in enumerate(base):
        (tmp_path / f"{number:02d}.txt").write_text(text)
        if number < 20:
            changed = text.replace("river", "stream").upper() + "  \n"
            (tmp_path / f"twin{number:02d}.txt").write_text(changed)
    found = find_duplicates(tmp_path, "text").groups
    assert {(group.keep[-6:], group.leave_out[0][-6:]) for group in found} == {
        (f"{i:02d}.txt", f"{i:02d}.txt") for i in range(20)
    }
    assert Text().fingerprint(Item(" \n\t")) is None


def test_a_page_shows_every_sign() -> None:
    shown = visible("a <b>\tc  \n\udcffd\x07" + MARK + "e")
    for sign in (
        "&lt;b&gt;",
        "\u2192",
        "\u00b7\u00b7",
        "\u21b5</span>\n",
        "\ufffd",
        "\u2407",
        "end",
    ):
        assert sign in shown
    assert "byte ff" in shown


def test_odd_texts_and_files_of_texts(tmp_path: Path) -> None:
    codec = fitted("one", "two")
    assert codec.odd(Item(" \n ")) is not None
    assert codec.odd(Item("one")) is None
    said = codec.write(["one\n", "tw\udcffo"], tmp_path / "out.txt").read_text()
    assert [line for line in said.splitlines() if not line.startswith("\u2500")] == [
        "one", "tw\ufffdo",
    ]  # fmt: skip
    assert codec.brief("a\n b  c " * 20, 10) == "a b c a b\u2026"


def test_words_change_places() -> None:
    text = prose(0, 12)
    (words,) = Text().damages()
    swapped = Text().damage(text, words, 4, generator(0))
    assert sorted(swapped.split()) == sorted(text.split())
    assert swapped != text
    assert Text().damage(text, words, 0, generator(0)) == text
    assert Text().damage("alone", words, 4, generator(0)) == "alone"


@pytest.mark.parametrize("form", ["documents", "windows"])
def test_beginnings_have_no_end(form: str) -> None:
    codec = fitted(prose(1, 30), prose(2, 30), length=64, form=form)
    rows = codec.encode_sequences([Item("so it began"), Item(""), Item("x" * 100)])
    assert list(map(len, rows)) == [11, 0, 100]
    assert bytes(rows[0].tolist()).decode() == "so it began"


@pytest.mark.parametrize(
    ("data", "named", "told"),
    [
        (b"fine " * 99 + b"\0 not", "auto", "byte 495 is zero"),
        ("größer ".encode() * 9 + b"caf\xe9 " * 9, "auto", "byte 84 the first"),
        (b"plain " * 50 + b"caf\xe9", "auto", "byte 303 is no UTF-8: read as Windows-1252, a"),
        ("тихая".encode("cp1251"), "cp1251", ""),
        ("静か".encode("shift_jis") + b"\xff", "shift_jis", "byte 4 is no shift_jis"),
        (codecs.BOM_UTF8 + b"ab\xff", "auto", "byte 5 is no UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    data: bytes, named: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.txt").write_bytes(b"another text, which is fine")
    items, report = read(tmp_path, encoding=named)
    reasons = [problem.reason for problem in report.problems if problem.name == "a.txt"]
    assert len(reasons) == bool(told)
    assert all(told in reason for reason in reasons)
    assert len(items) == 2 - ("zero" in told)
    if named == "cp1251":
        assert items[0].value == "тихая"
    with pytest.raises(DataError, match="no encoding"):
        Text(encoding="utf-9")


def test_offsets_count_from_where_the_file_begins(tmp_path: Path) -> None:
    """Also in a piece of a long file, of which the first is cut through a character."""
    good = b"words and words. " * 61_680 + "é".encode() * 9 + b" so it goes.\n\n" * 9000
    (tmp_path / "book.txt").write_bytes(good)
    assert good[(1 << 20) - 1 : 1 << 20] in "é".encode()
    items, report = read(tmp_path / "book.txt")
    assert report.problems == []
    assert "".join(item.value for item in items).encode() == good
    (tmp_path / "book.txt").write_bytes(good + "ö".encode() * 40 + b"\xff")
    _, report = read(tmp_path / "book.txt")
    place = len(good) + 80
    (problem,) = report.problems
    assert f"byte {place:,} is no UTF-8" in problem.reason

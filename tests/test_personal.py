"""Personal data in captions, cells and names is told by place and kind, and never repeated."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from morphogen.cli.app import main
from morphogen.core.codec import Text
from morphogen.core.errors import DataError
from morphogen.data.check import check
from morphogen.data.inspect import Inspection
from morphogen.data.personal import KINDS, OVERLAP, WINDOW, Finder, excerpt
from morphogen.data.redact import redact
from morphogen.systems.knowledge.embedders import NoEmbedder
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.reading import read_into

pytest.importorskip("presidio_analyzer", reason="needs morphogen[privacy]")

SECRETS = {  # kind -> (a caption with it, the secret)
    "EMAIL_ADDRESS": ("photo by jane.doe@example.org, 2019", "jane.doe@example.org"),
    "PHONE_NUMBER": ("a sign: call +44 20 7946 0958 now", "+44 20 7946 0958"),
    "IBAN_CODE": ("invoice, pay to DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 00"),
    "CREDIT_CARD": ("a card, 4111 1111 1111 1111, on a table", "4111 1111 1111 1111"),
    "IP_ADDRESS": ("frame from the camera at 203.0.113.77", "203.0.113.77"),
    "US_SSN": ("a form, ssn 536-22-1234, signed", "536-22-1234"),
    "IT_FISCAL_CODE": ("tessera sanitaria RSSMRA85T10A562S", "RSSMRA85T10A562S"),
}
HARMLESS = [
    "a photo of 12345",
    "a 1645x1302 crop, ISO 3200, f/1.8, 1/8000 s, 2021-03-04 12:34:56",
    "sample 6084237594 of the training set",
    "sunset at 51.928058, -39.057282",
    "a poet (1807-1915), 24.07.1981, $1,299.99",
    "book cover, ISBN 978-3-16-148410-0",
    "items 23008-53193 of the batch",
    "firmware 1.2.3.4 of a Canon EOS 5D Mark IV, painted in #5f3f57",
    "night market @ Lisbon: 12 people",
    "ratio 16:9, std::vector, 00:12:34:56",
]
NAMES = ["00012345", "1000092795", "4111111111111111", "IMG_20210304_123456",
         "2615109032_2362296baf_o", "0fa07a3f-2e29-4065-afa2-31e959acdd98", "DSC01234"]  # fmt: skip


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder()


def pictures(folder: Path, count: int = 10) -> list[str]:
    """Small pictures, all different."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:05d}.png" for number in range(count)]
    for name in names:
        values = draw.integers(0, 256, (8, 8)).astype(np.uint8)
        Pillow.fromarray(values).save(folder / name)
    return names


def captioned(folder: Path, captions: list[str]) -> Path:
    """A folder of pictures with a captions.csv."""
    names = pictures(folder, max(len(captions), 6))
    captions = captions + ["a cat"] * (len(names) - len(captions))
    rows = [f'{name},"{caption}"' for name, caption in zip(names, captions, strict=True)]
    (folder / "captions.csv").write_text("\n".join(["file,caption", *rows]) + "\n")
    return folder


def personal(found: Inspection) -> dict[tuple[str, str], str]:
    """(file or row, field) -> reason of each problem of personal data."""
    problems = [each for each in found.problems if each.reason.startswith("personal data")]
    assert all(each.fix for each in problems)
    return {(each.name, each.field): each.reason for each in problems}


def everything_printed(found: Inspection) -> str:
    return found.text(most=10_000) + json.dumps(found.to_json(), default=str)


# -- data check --------------------------------------------------------------------------------


def test_planted_in_captions(tmp_path: Path) -> None:
    """Each is told with its row, field and kind; the secret is printed nowhere."""
    folder = captioned(tmp_path / "photos", [caption for caption, _ in SECRETS.values()])
    found = check(folder)
    told = personal(found)
    for number, kind in enumerate(SECRETS, 2):
        assert KINDS[kind] in told.pop((f"captions.csv#row {number}", "caption")), kind
    assert told == {}
    printed = everything_printed(found)
    for _, secret in SECRETS.values():
        assert secret not in printed
        assert secret.replace(" ", "") not in printed
    assert f"{len(SECRETS)} in caption, of " in found.facts["personal_data"]
    assert "not looked for: names of persons" in found.facts["personal_data"]


def test_harmless_captions_are_quiet(tmp_path: Path) -> None:
    found = check(captioned(tmp_path / "photos", HARMLESS))
    assert personal(found) == {}
    # A folder, a table, and for each picture its name and its caption.
    assert found.facts["personal_data"].startswith("none, of 21 texts and names; ")


def test_other_checks_do_not_repeat_it(tmp_path: Path) -> None:
    """A caption that several items share, a file named twice, and a tag are quoted by others."""
    secret = "jane.doe@example.org"
    folder = captioned(tmp_path / "photos", [f"by {secret}"] * 3 + ["a dog", "a hat"])
    table = folder / "captions.csv"
    table.write_text(table.read_text() + f"00003.png,seen by {secret}\n")
    (folder / "tags.csv").write_text(f"file,source\n00000.png,{secret}\n")
    found = check(folder)
    assert any("items have the caption" in each.reason for each in found.problems)
    assert any("with another caption" in each.reason for each in found.problems)
    assert ("tags.csv#row 2", "source") in personal(found)
    assert secret not in everything_printed(found)
    assert "source ([e-mail address] 1)" in found.text()


def test_file_and_folder_names(tmp_path: Path) -> None:
    """The name is told as a pattern that finds the file and does not show the secret."""
    folder = tmp_path / "photos"
    pictures(folder / "hats")
    pictures(folder / "from ann@example.org")
    os.rename(folder / "hats/00003.png", folder / "hats/scan_bob@example.com_3.png")
    found = check(folder)
    told = personal(found)
    assert set(told) == {("hats/scan_*_3.png", "file name"), ("from */", "folder name")}
    assert [path.name for path in folder.glob("hats/scan_*_3.png")] == [
        "scan_bob@example.com_3.png"
    ]
    assert "bob@" not in " ".join(told.values())
    assert "ann@" not in json.dumps(found.facts)


def test_without_the_extra_it_says_so(tmp_path: Path) -> None:
    """The real command, where the package cannot be imported."""
    folder = captioned(tmp_path / "photos", ["photo by jane.doe@example.org"])
    script = (
        "import sys; sys.modules['presidio_analyzer'] = None\n"
        f"sys.argv = ['morphogen', 'data', 'check', {str(folder)!r}]\n"
        "from morphogen.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if "personal data" in line]
    assert "not looked for" in line
    assert "pip install 'morphogen[privacy]'" in line


def test_it_is_quiet_and_stays_offline() -> None:
    """No connection is tried, and nothing is logged, which could show what did not validate."""
    script = (
        "import sys\n"
        "def watch(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): raise SystemExit(event)\n"
        "sys.addaudithook(watch)\n"
        "import logging; logging.basicConfig(level=logging.DEBUG)\n"
        "logging.getLogger().setLevel(logging.INFO)\n"
        "from morphogen.data.personal import Finder\n"
        "found = Finder().find('write to a@example.org, GB00 ABCD 1234 5678 9012 34, call 1')\n"
        "print([each.kind for each in found])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['EMAIL_ADDRESS']"
    assert "GB00" not in done.stderr
    assert "example.org" not in done.stderr


# -- other sources -----------------------------------------------------------------------------


def test_tables(tmp_path: Path) -> None:
    """CSV and Parquet: any column of text, and paths, which are looked at as names."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = pictures(tmp_path)
    os.rename(tmp_path / names[4], tmp_path / "eve@example.com.png")
    names[4] = "eve@example.com.png"
    notes = ["", "ask bob@example.com", *[""] * 8]
    pairs = zip(names, notes, strict=True)
    rows = [f"{name},{number},{note}" for number, (name, note) in enumerate(pairs)]
    (tmp_path / "all.csv").write_text("\n".join(["file,target,note", *rows]) + "\n")
    told = personal(check(tmp_path / "all.csv"))
    assert set(told) == {("all.csv#row 3", "note"), ("all.csv#row 6", "file")}
    table = pyarrow.table({"file": names, "target": list(range(10)), "note": notes})
    parquet.write_table(table, tmp_path / "all.parquet")
    told = personal(check(tmp_path / "all.parquet"))
    assert set(told) == {("all.parquet#row 2", "note"), ("all.parquet#row 5", "file")}


def test_hugging_face_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    draw = np.random.default_rng(0)
    shown = [Pillow.fromarray(draw.integers(0, 256, (8, 8)).astype(np.uint8)) for _ in range(6)]
    texts = ["a cat"] * 5 + ["by bob@example.com"]
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"image": shown, "caption": texts}, features=features)
    made.save_to_disk(tmp_path / "saved")
    found = check(tmp_path / "saved")
    [(name, field)] = personal(found)
    assert name.endswith("saved#5")
    assert field == "caption"


# -- the finder --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SECRETS)
def test_exact_places(finder: Finder, kind: str) -> None:
    text, secret = SECRETS[kind]
    [found] = finder.find(text)
    assert found.kind == kind
    assert text[found.start : found.end] == secret


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts(finder: Finder, text: str) -> None:
    assert finder.find(text) == ()


@pytest.mark.parametrize("name", NAMES)
def test_harmless_names(finder: Finder, name: str) -> None:
    assert finder.find(name, is_name=True) == ()


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("specimen 3086691413", False),
        ("call 3086691413", True),
        ("numero 44051401359", False),
        ("PESEL 44051401359", True),
    ],
)
def test_mere_digits_need_a_word(finder: Finder, text: str, counts: bool) -> None:
    assert bool(finder.find(text)) == counts


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("📷🌊 Фото: анна@example.org …", "анна@example.org"),
        ("写真 2枚、電話 +81 3-1234-5678。", "+81 3-1234-5678"),
        ("صورة من 203.0.113.77 ليلا", "203.0.113.77"),
        ("tel. \uff0b44 20 7946 0958", "\uff0b44 20 7946 0958"),
        ("e\u0301t\u00e9 \u200b jos\u00e9@example.com", "jos\u00e9@example.com"),
        ("webcam 2001:db8::8a2e:370:7334: night", "2001:db8::8a2e:370:7334"),
    ],
)
def test_unicode(finder: Finder, text: str, secret: str) -> None:
    [found] = finder.find(text)
    assert text[found.start : found.end] == secret


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters() | st.sampled_from("0123456789@:+-. "), max_size=80),
    st.sampled_from([secret for _, secret in SECRETS.values()]),
    st.text(max_size=20),
    st.booleans(),
)
def test_any_text(before: str, secret: str, after: str, is_name: bool) -> None:
    """Whatever the text: places lie within it, in order, apart; no excerpt shows a digit."""
    finder = Finder()
    text = before + secret + after
    found = finder.find(text, is_name)
    last = 0
    for each in found:
        assert last <= each.start < each.end <= len(text)
        last = each.end
    if found:
        shown = excerpt(text, found)
        assert not any(character.isdecimal() for character in shown)
        assert all(text[each.start : each.end] not in shown for each in found)


def test_excerpt_covers_what_was_found_in_part(finder: Finder) -> None:
    text = (
        "a very long description first, then x7-jane@example.org/99 and 1234, and more words to cut"
    )
    shown = excerpt(text, finder.find(text))
    assert shown == "...description first, then [e-mail address] and ####, and more word..."


def test_long_texts_are_looked_at_in_pieces(finder: Finder) -> None:
    """Across the edge of a piece, and in the overlap of two, each is found once."""
    words = ["word "] * (3 * WINDOW // 5)
    for place in (WINDOW // 5 - 2, (WINDOW + OVERLAP // 2) // 5, 2 * WINDOW // 5 + 100):
        words[place] = " ann@example.org "
    text = "".join(words)
    found = finder.find(text)
    assert [text[each.start : each.end] for each in found] == ["ann@example.org"] * 3


def test_a_codec_of_texts(finder: Finder) -> None:
    """Any codec can list texts: what is told needs nothing of pictures."""
    texts = [
        Text("a.txt#3", "body", "call +44 20 7946 0958 or +44 20 7946 0999"),
        Text("b", "t", ""),
    ]
    counts: Counter[str] = Counter()
    [problem] = finder.problems(texts, counts)
    assert (problem.name, problem.field) == ("a.txt#3", "body")
    assert "2 times phone number" in problem.reason
    assert counts == {"": 2, "body": 1}


# -- redact ------------------------------------------------------------------------------------


def test_redact_writes_a_copy(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "photos", [caption for caption, _ in SECRETS.values()])
    table, out = folder / "captions.csv", tmp_path / "clean.csv"
    before = table.read_bytes()
    done = redact(table, out)
    assert table.read_bytes() == before
    assert done.rows == list(range(2, 2 + len(SECRETS)))
    assert sum(done.found["caption"].values()) == len(SECRETS)
    lines = out.read_text().splitlines()
    assert lines[0] == "file,caption"
    assert lines[1] == '00000.png,"photo by [e-mail address], 2019"'
    assert len(lines) == len(before.decode().splitlines())
    out.replace(table)
    assert personal(check(folder)) == {}


def test_redact_refuses(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "photos", ["by jane.doe@example.org"])
    table = folder / "captions.csv"
    with pytest.raises(DataError, match="exists already"):
        redact(table, table)
    with pytest.raises(DataError, match="only tables"):
        redact(folder, tmp_path / "new.csv")
    with pytest.raises(DataError, match="does not exist"):
        redact(folder / "caption.csv", tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = captioned(tmp_path / "photos", ["by jane.doe@example.org"])
    command = ["data", "redact", str(folder / "captions.csv"), "--out", str(tmp_path / "new.csv")]
    with contextlib.suppress(SystemExit):
        main(command)
    printed = capsys.readouterr().out
    assert "1 of 6 rows changed" in printed
    assert "1 e-mail address" in printed
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    assert "exists already" in capsys.readouterr().err


# -- how much is found -------------------------------------------------------------------------


def test_recall_on_the_labelled_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the held-out part of benchmarks/personal.py: recall, and few false alarms."""
    pytest.importorskip("faker")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    benchmark = importlib.import_module("personal")
    texts = benchmark.with_personal_data("held_out", 1, seed=2)
    hits: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for each, found in zip(texts, benchmark.ours(texts)[1], strict=True):
        for kind, start, end in each.spans:
            assert each.text[start:end].strip() == each.text[start:end] != ""
            total[kind] += 1
            hits[kind] += any(k == kind and s < end and start < e for k, s, e in found)
    recall = {kind: hits[kind] / number for kind, number in total.items()}
    assert min(recall[kind] for kind in ("email", "iban", "card", "ip")) > 0.95
    assert recall["phone"] > 0.8
    assert recall["national"] > 0.7
    assert recall["name"] == recall["address"] == 0  # as the report says
    # Almost all of them are of one kind, in the groups of a phone number: 841 491 20-91.
    alike = benchmark.harmless("held_out", 10, seed=2)
    assert sum(map(bool, benchmark.ours(alike)[1])) < 0.05 * len(alike)


def test_personal_data_is_covered_before_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Desk of ann@example.com\n\nWrite to bob@example.com at once.")
    index = Index.make(tmp_path / "index", NoEmbedder(), language=None, masked=True)
    read_into(index, tmp_path / "a.md")
    (hit,) = index.search("write")
    assert hit.passage.text == "Write to [e-mail address] at once."
    held = b"".join(file.read_bytes() for file in index.store.folder.iterdir())
    assert b"example.com" not in held

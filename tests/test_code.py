"""Code: told from prose, kept as it is laid out, harmed where it hurts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from morphogen.core.codec import Report
from morphogen.core.random import generator
from morphogen.data.modality import find_modality, recognitions
from morphogen.modalities.code import Code, languages
from morphogen.modalities.code.damages import DAMAGES
from morphogen.testing import check_codec

ROOT = Path(__file__).resolve().parents[1]
PROSE = (
    "It was late when they came to the river. Nobody had crossed it for years;\n"
    "the bridge was gone, and so were those who built it.\n\n"
    "If you go there: take a rope, a lantern, and somebody who is not afraid.\n"
)
SAMPLES = {
    "Python": "import os\n\n\ndef size(path):\n    total = 0\n    for each in os.listdir(path):\n"
    "        if each > 3 and total == 0:\n            total = total + 1\n    return total\n",
    "C": "#include <stdio.h>\n\nint main(void) {\n    int i = 0;\n    while (i < 10) {\n"
    '        printf("%d", i);\n        i = i + 1;\n    }\n    return 0;\n}\n',
    "JavaScript": "const a = 3;\nlet b = a + 1;\nfunction f(x) {\n  return x > a && x < b;\n}\n"
    "console.log(f(2));\n",
    "Go": 'package main\n\nimport "fmt"\n\nfunc main() {\n\tx := 3\n\tfmt.Println(x)\n}\n',
    "Rust": "use std::io;\n\npub fn add(a: i32, b: i32) -> i32 {\n    let sum = a + b;\n"
    "    sum\n}\n",
    "Shell": "#!/usr/bin/env bash\nset -e\necho hello\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = sorted((ROOT / "src/morphogen/core").glob("*.py"))[:22]
    for file in files:
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "build").write_text(SAMPLES["Shell"])
    (tmp_path / "README.md").write_text(PROSE)
    return tmp_path


def test_a_folder_of_code_is_code_and_prose_is_not(folder: Path, tmp_path: Path) -> None:
    assert find_modality(folder) == "code"
    for number in range(60):
        (folder / f"{number}.txt").write_text(PROSE * 3)
    assert find_modality(folder) == "text"
    story = tmp_path / "story.txt"
    story.write_text(PROSE * 20)
    assert [name for name, _ in recognitions(story)] == ["text"]


def test_the_kit_holds(folder: Path) -> None:
    check_codec(Code, folder)


@pytest.mark.parametrize("language", SAMPLES)
def test_languages_are_told_without_a_suffix(language: str) -> None:
    assert languages.language_of(SAMPLES[language]) == language
    assert languages.sniff(SAMPLES[language].encode())
    assert languages.language_of("", ".rs") == "Rust"


@pytest.mark.parametrize("text", [PROSE, "", "\n", "a list:\n- one\n- two\n", "1,2\n3,4\n"])
def test_other_texts_have_no_language(text: str) -> None:
    assert languages.language_of(text) is None


def test_languages_are_counted_and_layout_is_kept(folder: Path) -> None:
    report = Report(str(folder))
    items = {item.name: item for item in Code().read(folder, report)}
    assert report.facts["languages"] == {"Python": 22, "Shell": 1}
    assert items["build"].tags["language"] == "Shell"
    assert items["codec.py"].value == (folder / "codec.py").read_text()
    codec = Code(form="windows", length=512, tokenizer="bpe").fit(items.values())
    assert codec.decode(codec.encode(items["codec.py"])) in items["codec.py"].value


def test_columns_of_code_are_code(tmp_path: Path) -> None:
    rows = [{"task": "add two numbers", "code": code} for code in SAMPLES.values()]
    table = tmp_path / "solutions.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert find_modality(table) == "code"
    assert Code.recognises_cells(list(SAMPLES.values())) is not None
    assert Code.recognises_cells([PROSE, *SAMPLES.values()]) is None


@pytest.mark.parametrize("words", DAMAGES)
def test_damage_is_as_small_as_it_says(words: str) -> None:
    code, codec = SAMPLES["Python"], Code()
    assert codec.damage(code, words, 0, generator(0)) == code
    assert codec.damage(PROSE[:9], words, 4, generator(0)) is not None
    for strength in (1, 4):
        harmed = codec.damage(code, words, strength, generator(strength))
        lines = zip(code.split("\n"), harmed.split("\n"), strict=True)
        changed = sum(a != b for a, b in lines)
        assert 1 <= changed <= strength
        assert harmed == codec.damage(code, words, strength, generator(strength))
        if "names" not in words:
            lost = Counter(code) - Counter(harmed)
            assert set(lost) <= (set(" ") if "indentation" in words else set("+=>and<TrueFals"))


def test_a_page_numbers_the_lines() -> None:
    shown = Code().html(["if a < b:\n    c = 1\n"])
    assert "1  </span>if a &lt; b:\n" in shown
    assert "2  </span>" in shown
    assert "\u00b7\u00b7\u00b7</span>c = 1" in shown

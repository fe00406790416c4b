"""What is shown of names that come from outside: nothing hidden, nothing that acts."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from morphogen.cli._terminal import Plain, bare, plain_output
from morphogen.core.errors import DataError
from morphogen.core.visible import as_code, in_html, in_line, in_markdown, visible
from morphogen.data.snapshot import Store

HOSTILE = "boots\x1b[31m\x9b2J\x07\r\u202egnp.exe\ud800<script>alert(1)</script>|`x`[a](b)\nnext"


def test_nothing_is_hidden() -> None:
    shown = visible(HOSTILE)
    for character in "\x1b\x9b\x07\r\u202e\ud800":
        assert character not in shown
    assert "\\x1b[31m" in shown
    assert "\\u202e" in shown
    assert visible("Zoë\tStraße 犬\n") == "Zoë\tStraße 犬\n"
    assert "\n" not in in_line(HOSTILE)


def test_an_error_may_be_printed_as_it_is() -> None:
    assert "\x1b" not in str(DataError(f"no {HOSTILE}", found=HOSTILE, where=HOSTILE))


def test_pages_and_cards_take_no_markup_from_names() -> None:
    assert "<script>" not in in_html(HOSTILE)
    line = in_markdown(HOSTILE)
    assert "<" not in line
    assert "\\`x\\`" in line
    assert "\\[a\\](b)" in line
    code = as_code("a`<b>`|\n# c")
    assert code == "`a'<b>'\\| # c`"
    assert in_markdown(code) == code


def test_what_is_printed_is_plain_whatever_the_terminal_can_show() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    before = sys.stdout
    try:
        sys.stdout = stream
        with plain_output():
            assert isinstance(sys.stdout, Plain)
            assert bare(sys.stdout) is stream
            print("Zoë\x1b[2J", HOSTILE)
    finally:
        sys.stdout = before
    stream.flush()
    assert raw.getvalue().startswith(b"Zo\\xeb\\x1b[2J boots\\x1b[31m")


@pytest.mark.parametrize("argument", ["no\x1b[31mthing", "folder\udcff"])
def test_the_command_line_says_it_in_plain_text(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from morphogen.cli.app import main

    with pytest.raises(SystemExit):
        main(["show", argument])
    error = capsys.readouterr().err
    assert error.startswith("error: no bundle here")
    assert "\x1b" not in error


def test_a_file_whose_name_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its name cannot stand in a table; every other verb takes it as it is."""
    from morphogen.cli.app import main

    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"red\x1b[31m.png", *(b"%d.png" % i for i in range(4))):
        path = os.fsdecode(os.fsencode(folder) + b"/" + name)
        picture = Image.fromarray(np.full((8, 8), sum(name) % 256, np.uint8))
        with open(path, "wb") as file:
            picture.save(file, format="png")
    with pytest.raises(SystemExit) as stop:
        main(["data", "split", str(folder)])
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert "not UTF-8" in error
    assert "caf\\udce9.png" in error
    for arguments in (["inspect"], ["data", "snapshot"], ["data", "dedupe"]):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, str(folder)])
        printed = capsys.readouterr()
        assert not stop.value.code
        assert "\x1b" not in printed.out + printed.err


def test_data_that_may_not_be_written_beside(tmp_path: Path) -> None:
    """A file where the folder of the versions would be stands for a place that refuses."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "store").touch()
    with pytest.raises(DataError, match="versions cannot be kept here") as error:
        Store(tmp_path / "store").snapshot(tmp_path / "photos")
    assert "--store" in str(error.value)

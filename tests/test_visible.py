"""What is shown of names that come from outside: nothing hidden, nothing that acts."""

from __future__ import annotations

import io
import sys

import pytest

from morphogen.cli._terminal import Plain, bare, plain_output
from morphogen.core.errors import DataError
from morphogen.core.visible import as_code, in_html, in_line, in_markdown, visible

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

"""Standard output and error as verbs see them: nothing hidden gets through, whatever is printed.

All that a verb prints goes through here, so that a name with escape codes in it cannot act on the
terminal, and one that the terminal's encoding has no letters for is written in escapes instead of
ending the program. What draws on the terminal itself takes `bare` streams.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from morphogen.core.visible import visible


class Plain:
    """A text stream that shows what would be hidden. All else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    encoding = "utf-8"  # for who asks: any text can be written

    def write(self, text: str) -> int:
        """Write text, every character of it visible."""
        if not isinstance(text, str):
            raise TypeError(f"text is written here, not {type(text).__name__}")
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        shown = visible(text).encode(encoding, "backslashreplace").decode(encoding)
        self.stream.write(shown)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """While it lasts, standard output and error are `Plain`."""
    out, error = cast(TextIO, Plain(sys.stdout)), cast(TextIO, Plain(sys.stderr))
    with redirect_stdout(out), redirect_stderr(error):
        yield


def bare(stream: TextIO) -> TextIO:
    """The stream below a plain one."""
    return stream.stream if isinstance(stream, Plain) else stream

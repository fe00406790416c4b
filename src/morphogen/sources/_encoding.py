"""Text as programs write it: UTF-8 with or without a mark, UTF-16, and what Excel calls CSV."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import IO

from morphogen.core.errors import DataError

BLOCK = 1 << 20
Opener = Callable[[], IO[bytes]]


def open_text(open_bytes: Opener, where: str) -> io.TextIOWrapper:
    """A stream of text, line ends as they are. Raises `DataError` when it is in no known code."""
    encoding = encoding_of(open_bytes, where)
    return io.TextIOWrapper(open_bytes(), encoding=encoding, newline="")


def encoding_of(open_bytes: Opener, where: str) -> str:
    """The code of a text: its mark, or UTF-8 when all of it is."""
    with open_bytes() as stream:
        head = stream.read(BLOCK)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        position, block = 0, head
        while block:
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                if _is_excel(head):
                    return "cp1252"
                raise not_utf8(error, position, where) from error
            position += len(block)
            block = stream.read(BLOCK)
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise not_utf8(error, position, where) from error
    return "utf-8-sig"


def _is_excel(head: bytes) -> bool:
    """True for what Excel saves as plain CSV where `;` divides cells: Western Windows' code."""
    first = head.partition(b"\n")[0]
    return first.endswith(b"\r") and first.count(b";") > first.count(b",")


def not_utf8(error: UnicodeDecodeError, position: int, where: str) -> DataError:
    """The error for text in another code: names the byte, which says which code it may be."""
    return DataError(
        "the table is not UTF-8 text",
        found=f"byte {error.object[error.start]:#04x} at position {position + error.start:,}",
        where=where,
        hint=f"save it as 'CSV UTF-8', or: iconv -f WINDOWS-1252 -t UTF-8 {where} > utf8.csv",
    )

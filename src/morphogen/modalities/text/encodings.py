r"""Bytes of a text, whatever wrote them: which encoding they are in, found and named.

A text is a `str` in which a byte that is no part of any character stands as one of U+DC80 to U+DCFF
(PEP 383, "surrogateescape"), so that every sequence of bytes is a text and comes back unchanged.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from morphogen.core.errors import DataError

MARKS = (
    (codecs.BOM_UTF8, "UTF-8 with a byte order mark", "utf-8"),
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16-be"),
)
PLAIN = "UTF-8"
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # no text has many of these
MOST_CONTROL = 0.02
MOST_LONE_SHARE = 0.1  # of the characters beyond ASCII, until bytes are taken for another encoding


@dataclass(frozen=True)
class Decoded:
    """A text, the encoding that it was in, and what is odd about it."""

    text: str
    encoding: str
    odd: str = ""


def decoded(data: bytes) -> Decoded:
    """The text in `data`. Raises `DataError` when it is none."""
    for mark, name, encoding in MARKS:
        if data.startswith(mark):
            return _strictly(data[len(mark) :], name, encoding)
    if unmarked := _without_mark(data):
        return _strictly(data, "UTF-16 without a byte order mark", unmarked)
    if len(CONTROL.findall(data[:4096])) > MOST_CONTROL * max(len(data[:4096]), 50):
        raise DataError("it is no text but binary", hint="move it out of the folder")
    text = data.decode("utf-8", "surrogateescape")
    lone = sum("\udc80" <= character <= "\udcff" for character in text) if _has_lone(text) else 0
    if not lone:
        return Decoded(text, PLAIN)
    whole = sum(character > "\x7f" for character in text) - lone
    if lone <= MOST_LONE_SHARE * (whole + lone):
        plural = "bytes are" if lone > 1 else "byte is"
        return Decoded(text, PLAIN, f"{lone:,} {plural} no UTF-8; kept as found, shown as \ufffd")
    try:
        return Decoded(data.decode("cp1252"), "Windows-1252")
    except UnicodeDecodeError:  # five of its bytes mean nothing
        return Decoded(data.decode("latin-1"), "Latin-1")


def _strictly(data: bytes, name: str, encoding: str) -> Decoded:
    """Decode, and say what does not fit."""
    try:
        return Decoded(data.decode(encoding), name)
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            text = data.decode(encoding, "surrogateescape")
            return Decoded(text, name, f"byte {error.start:,} is no UTF-8; kept as found")
        text = data.decode(encoding, "replace")
        return Decoded(text, name, f"byte {error.start:,} is no {name}; replaced by \ufffd")


def _without_mark(data: bytes) -> str | None:
    """UTF-16 is seen by its zeros: every other byte, where most characters are Latin."""
    head = data[:2048]
    if len(head) < 8 or len(data) % 2:
        return None
    even, odd = (head[start::2].count(0) / (len(head) // 2) for start in (0, 1))
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _has_lone(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def to_bytes(text: str) -> bytes:
    """UTF-8, with the bytes that were no character as they were found."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, as broken JSON has them
        kept = "".join("\ufffd" if _is_half(character) else character for character in text)
        return kept.encode("utf-8", "surrogateescape")


def _is_half(character: str) -> bool:
    return "\ud800" <= character <= "\udfff" and not "\udc80" <= character <= "\udcff"

r"""Bytes of a text, whatever wrote them: which encoding they are in, found and named.

A text is a `str` in which a byte that is no part of any character stands as one of U+DC80 to U+DCFF
(PEP 383, "surrogateescape"), so that every sequence of bytes is a text and comes back unchanged.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

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
MIXED_FROM = 0.05  # characters of UTF-8 for each other byte: by accident, there are hardly any


@dataclass(frozen=True)
class Decoded:
    """A text, the encoding that it was in, what is odd about it, and, where the encoding is a
    guess, why it is none that is sure."""

    text: str
    encoding: str
    odd: str = ""
    guess: str = ""
    code: str = "utf-8"  # Python's name of the encoding


def check_encoding(name: str) -> None:
    """Raise `DataError` for what is no encoding."""
    try:
        known = name == "auto" or "a".encode(name).decode(name) == "a"
    except (LookupError, UnicodeError, AttributeError, TypeError):
        known = False
    if not known:
        raise DataError(
            f"there is no encoding {name!r}", expected="auto, utf-8, cp1251, shift_jis, gb18030, .."
        )


def decoded(data: bytes, first: int = 0, encoding: str = "auto") -> Decoded:
    """The text in `data`, which stands in its file from byte `first` on; in the encoding that is
    named, else in the one found. Raises `DataError` when it is no text."""
    if encoding != "auto":
        named = PLAIN if codecs.lookup(encoding).name == "utf-8" else encoding
        return replace(_strictly(data, named, encoding, first), code=encoding)
    for mark, name, code in MARKS:
        if data.startswith(mark) and not first:
            return replace(_strictly(data[len(mark) :], name, code, len(mark)), code=code)
    if unmarked := _without_mark(data):
        found = _strictly(data, "UTF-16 without a byte order mark", unmarked, first)
        return replace(found, code=unmarked)
    if (nul := data.find(b"\0", 0, 8192)) >= 0:
        reason = f"it is no text but binary: byte {first + nul:,} is zero"
        raise DataError(reason, hint="move it out of the folder")
    if len(CONTROL.findall(data[:4096])) > MOST_CONTROL * max(len(data[:4096]), 50):
        raise DataError("it is no text but binary", hint="move it out of the folder")
    text = data.decode("utf-8", "surrogateescape")
    lone = sum("\udc80" <= character <= "\udcff" for character in text) if has_lone(text) else 0
    if not lone:
        return Decoded(text, PLAIN)
    whole = sum(character > "\x7f" for character in text) - lone
    place = f"byte {first + _first_lone(data):,}"
    if lone <= MOST_LONE_SHARE * (whole + lone):
        odd = f"{place} is" if lone == 1 else f"{lone:,} bytes, {place} the first, are"
        return Decoded(text, PLAIN, f"{odd} no UTF-8; kept as found, shown as \ufffd")
    if whole > MIXED_FROM * lone:
        odd = f"encodings are mixed: {whole:,} characters are UTF-8, but {lone:,} bytes are not"
        return Decoded(text, PLAIN, f"{odd}, {place} the first; kept as found, shown as \ufffd")
    guess = f"{place} is no UTF-8"
    try:
        return Decoded(data.decode("cp1252"), "Windows-1252", guess=guess, code="cp1252")
    except UnicodeDecodeError:  # five of its bytes mean nothing
        return Decoded(data.decode("latin-1"), "Latin-1", guess=guess, code="latin-1")


def in_utf8(blocks: Iterable[bytes], code: str) -> Iterator[bytes]:
    """A text of any length, block by block, from the encoding that `decoded` found to UTF-8."""
    decoder = codecs.getincrementaldecoder(code)("surrogateescape" if code == "utf-8" else LATIN)
    first = True
    for block in blocks:
        text = decoder.decode(block)
        yield to_bytes(text.removeprefix("\ufeff") if first else text)
        first = False
    yield to_bytes(decoder.decode(b"", final=True))


def _as_latin(error: UnicodeError) -> tuple[str, int]:
    """Five bytes mean nothing in Windows-1252; in Latin-1 all do. Elsewhere it is U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    known = "1252" in error.encoding or error.encoding == "charmap"
    lost = error.object[error.start : error.end]
    return lost.decode("latin-1") if known else "\ufffd", error.end


LATIN = "morphogen.latin-1"
codecs.register_error(LATIN, _as_latin)


def without_half(data: bytes) -> bytes:
    """The beginning of a text of UTF-8, without a character at its end that was cut through."""
    for place in range(1, min(4, len(data)) + 1):
        value = data[-place]
        if value >= 0xC0:  # begins a character of as many bytes
            size = 2 if value < 0xE0 else 3 if value < 0xF0 else 4
            return data[:-place] if size > place else data
        if value < 0x80:
            break
    return data


def _first_lone(data: bytes) -> int:
    """Where the first byte is that is no UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def _strictly(data: bytes, name: str, encoding: str, first: int) -> Decoded:
    """Decode, and say what does not fit."""
    try:
        return Decoded(data.decode(encoding), name)
    except UnicodeDecodeError as error:
        place = f"byte {first + error.start:,} is no {name.split(' with', 1)[0]}"
        if codecs.lookup(encoding).name == "utf-8":
            kept = data.decode(encoding, "surrogateescape")
            return Decoded(kept, name, f"{place}; kept as found")
        return Decoded(data.decode(encoding, "replace"), name, f"{place}; replaced by \ufffd")


def _without_mark(data: bytes) -> str | None:
    """UTF-16 is seen by its zeros: every other byte, where most characters are Latin."""
    head = data[:2048]
    if len(head) < 8 or len(data) % 2:
        return None
    even, odd = (head[start::2].count(0) / (len(head) // 2) for start in (0, 1))
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def has_lone(text: str) -> bool:
    """Whether any of it stands for a byte that is no part of a character."""
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

"""Long files in pieces that end where a paragraph, a line or a word does.

A file of few is cut finer than one of many, so that a corpus in one file can be divided: into some
64 pieces of a power of two of bytes, which stay as they are while the corpus grows to double size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LARGEST, SMALLEST = 1 << 20, 1 << 10  # bytes of a piece
MANY_FILES = 20  # from here on, files are items as they are, up to LARGEST bytes
NUM_PIECES = 64
PARAGRAPH = re.compile(rb"\n[ \t\r]*\n+")
LINE, WORD = (b"\n",), (b" ", b"\t")


def piece_bytes(total: int | None) -> int:
    """How long the pieces of `total` bytes in few files are; None: of many files."""
    if total is None:
        return LARGEST
    wanted = max(total // NUM_PIECES, 1)
    return min(max(1 << (wanted.bit_length() - 1), SMALLEST), LARGEST)


def pieces(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The bytes of all blocks, some `size` at a time; nothing is lost, nothing comes twice."""
    held = b""
    for block in blocks:
        held += block
        while len(held) >= 2 * size:
            end = _end(held, size)
            yield held[:end]
            held = held[end:]
    if len(held) > 1.5 * size:
        end = _end(held, size)
        yield held[:end]
        held = held[end:]
    if held:
        yield held


def _end(data: bytes, size: int) -> int:
    """Where the piece that starts `data` ends: after the last paragraph that begins before `size`,
    if that leaves half of it; else after a line, a word, or a character."""
    paragraphs = [match.end() for match in PARAGRAPH.finditer(data, size // 2, size)]
    if paragraphs:
        return paragraphs[-1]
    for ends in LINE, WORD:
        last = max(data.rfind(end, size // 2, size) for end in ends)
        if last >= 0:
            return last + 1
    place = size
    while place > size - 4 and data[place] & 0xC0 == 0x80:  # within a character of UTF-8
        place -= 1
    return place

"""A few words inside a picture file: that a model made it, and which.

PNG: a tEXt chunk after the header. JPEG: a comment segment after the header. Pixels are not
touched. Most services strip such words; the ledger of fingerprints is for then.
"""

from __future__ import annotations

import functools
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image as Pillow

from morphogen.core.provenance import files_of
from morphogen.core.storage import write_atomic

KEY = "morphogen"
HEADER = 33  # bytes of a PNG signature and IHDR
LIMIT = 2000  # characters that are believed


def mark(path: Path, facts: Mapping[str, str], numbers: Sequence[int]) -> None:
    """Mark one file, or those files of a folder of numbered pictures that hold the items
    `numbers`."""
    for file in files_of(path, numbers):
        data = file.read_bytes()
        marked = _marked(data, json.dumps(dict(facts)))
        if marked != data:
            write_atomic(file, functools.partial(_write, marked))


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _marked(data: bytes, text: str) -> bytes:
    if data.startswith(b"\x89PNG") and data[12:16] == b"IHDR":
        body = b"tEXt" + KEY.encode() + b"\0" + text.encode("latin-1", "replace")
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return data[:HEADER] + chunk + data[HEADER:]
    if data.startswith(b"\xff\xd8"):
        start = 2
        if data[2:4] == b"\xff\xe0":  # the JFIF header stays first
            start = 4 + int.from_bytes(data[4:6], "big")
        body = f"{KEY}:{text}".encode()
        segment = b"\xff\xfe" + struct.pack(">H", len(body) + 2) + body
        return data[:start] + segment + data[start:]
    return data


def read_mark(picture: Pillow.Image) -> dict[str, str]:
    """What `mark` put into a file; empty when nothing is there."""
    text = picture.info.get(KEY)
    comment = picture.info.get("comment")
    if isinstance(comment, bytes) and comment.startswith(f"{KEY}:".encode()):
        text = comment[len(KEY) + 1 :].decode(errors="replace")
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) <= LIMIT else {}
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

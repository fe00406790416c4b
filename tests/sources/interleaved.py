"""A small clean source of items of two parts, both texts, some of which lack one."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("red", "green", "blue", "pale")


def write(folder: Path) -> Path:
    """A table of 16 rows."""
    path = folder / "said.jsonl"
    rows = [{"caption": f"a {a} {b} thing", "reply": f"{b}, not {a}"} for a in WORDS for b in WORDS]
    rows[3]["reply"] = ""
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path

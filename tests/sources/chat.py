"""A small clean source of conversations."""

from __future__ import annotations

import json
from pathlib import Path


def write(folder: Path) -> Path:
    """Sums, asked for and answered."""
    rows = [
        {"messages": [{"role": "user", "content": f"{a} + {b}?"},
                      {"role": "assistant", "content": f"It is {a + b}."}]}
        for a in range(4) for b in range(4)
    ]  # fmt: skip
    path = folder / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path

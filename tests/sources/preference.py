"""A small clean source of preferences."""

from __future__ import annotations

import json
from pathlib import Path


def write(folder: Path) -> Path:
    """Sums, of which whole sentences are the better answers."""
    rows = [
        {"prompt": f"{a} + {b}?", "chosen": f"It is {a + b}.", "rejected": f"{a + b}"}
        for a in range(4) for b in range(4)
    ]  # fmt: skip
    path = folder / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path

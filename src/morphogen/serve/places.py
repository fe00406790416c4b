"""The data that the server was told of, and the folders in it: nothing else is read or learned.

{"0": photos, "0/boots": photos/boots, "1": table.csv}    what forms call it: where it lies
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

DEEPEST = 2  # folders below one that was told
MOST = 200  # of them


def places(told: Sequence[Path]) -> dict[str, Path]:
    """Every place, those that were told of and the folders below each."""
    return {
        name: path
        for number, source in enumerate(told)
        for name, path in ((str(number), source), *_below(str(number), source))
    }


def _below(name: str, source: Path) -> Iterator[tuple[str, Path]]:
    num = 0
    for place, folders, _ in os.walk(source):
        folder = Path(place)
        folders[:] = sorted(each for each in folders if each[0] != ".")
        for each in folders:
            num += 1
            if num > MOST:
                return
            yield f"{name}/{(folder / each).relative_to(source).as_posix()}", folder / each
        if len(folder.relative_to(source).parts) + 1 >= DEEPEST:
            folders.clear()

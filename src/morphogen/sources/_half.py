"""The other half of a pair: captions of an item, or a file, as a picture is of its caption."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from morphogen.sources._columns import is_absent, suffix_of
from morphogen.sources._record import same


@dataclass(frozen=True)
class Half:
    """A file that belongs to an item. Read when it is asked for; which modality it is of, the
    codecs say."""

    name: str
    suffix: str
    read: Callable[[], bytes] = field(repr=False, compare=False)
    disk: str = ""  # where it lies, when it lies in no archive or table
    num_bytes: int = -1  # unknown

    def tobytes(self) -> bytes:
        """What tells it from others: its name and size, since it is not read unless it is asked
        for."""
        return f"{self.name} {self.num_bytes}".encode()

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A file with its content, for as long as it is read."""
        if self.disk:
            yield Path(self.disk)
            return
        with tempfile.TemporaryDirectory(prefix="morphogen-") as folder:
            path = Path(folder, f"half{self.suffix}")
            path.write_bytes(self.read())
            yield path


def half_in(name: str, column: str, cell: Any) -> Half | None:
    """A cell that holds a file, as bytes or as the Hub has files; None for any other."""
    path = ""
    if isinstance(cell, Mapping) and "bytes" in cell:
        cell, path = cell["bytes"], str(cell.get("path") or "")
    if not isinstance(cell, bytes):
        return None
    return Half(f"{name}, {column}", suffix_of(path), partial(same, cell), num_bytes=len(cell))


def several(cell: Any) -> list[Any]:
    """A cell as the items that it holds: each of a list's that says anything, else itself."""
    if isinstance(cell, (list, tuple)):
        return [each for each in cell if not is_absent(each)]
    return [cell]


def captioned(
    name: str, cond: dict[str, Any], captions: Sequence[Any] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """An item's name and what is said of it, once for each of its captions: those given, else
    those in `cond`. The second is called `name#caption 2`."""
    own = captions or (several(cond["caption"]) if "caption" in cond else [])
    for number, caption in enumerate({repr(each): each for each in own}.values(), 1):
        yield name if number == 1 else f"{name}#caption {number}", {**cond, "caption": caption}
    if not own:
        bare = "caption" not in cond  # as nearly always: `cond` itself
        yield name, cond if bare else {k: value for k, value in cond.items() if k != "caption"}

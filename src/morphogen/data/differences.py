"""What differs between two versions of a folder: added, removed, changed, renamed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Difference:
    """From `a` to `b`, by path."""

    a: str
    b: str
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)  # (from, to)
    num_same: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.renamed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def text(self, most: int = 20) -> str:
        """For a terminal."""
        kinds = self._by_kind()
        counts = ", ".join(f"{len(names):,} {kind}" for kind, names in kinds.items())
        lines = [f"{self.a} -> {self.b}: {counts}, {self.num_same:,} the same"]
        for kind, names in kinds.items():
            lines += [f"  {kind:<8} {name}" for name in names[:most]]
            if len(names) > most:
                lines.append(f"  {kind:<8} and {len(names) - most:,} more (--json lists all)")
        return "\n".join(lines)

    def brief(self, most: int = 3) -> str:
        """In one line: `changed a.png, removed b.png and 7 more`."""
        named = [f"{kind} {name}" for kind, names in self._by_kind().items() for name in names]
        more = f" and {len(named) - most:,} more" if len(named) > most else ""
        return ", ".join(named[:most]) + more

    def _by_kind(self) -> dict[str, list[str]]:
        return {
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "renamed": [f"{before} -> {after}" for before, after in self.renamed],
        }


def compare(first: Mapping[str, str], second: Mapping[str, str], a: str, b: str) -> Difference:
    """Compare two mappings of path -> content hash. A path that is gone is paired, in order, with a
    new path of the same content: it was renamed."""
    found = Difference(a, b)
    gone: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(first):
        if name not in second:
            gone[first[name]].append(name)
        elif first[name] != second[name]:
            found.changed.append(name)
        else:
            found.num_same += 1
    for name in sorted(second):
        if name in first:
            continue
        if gone[second[name]]:
            found.renamed.append((gone[second[name]].pop(0), name))
        else:
            found.added.append(name)
    found.removed = sorted(name for names in gone.values() for name in names)
    return found

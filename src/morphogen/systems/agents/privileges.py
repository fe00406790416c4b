"""What a run may do: grants, and the rule by which each call is judged.

    grants      patterns of what may be read, and written; of writes, those that nobody need confirm
    tainted     somebody else's words were read: a page, a message, what a server said

A call runs where all that it reads and writes is granted. What it writes (and to send is to write)
is confirmed by a person, who sees its arguments, unless the grant says `freely`; once a run is
tainted, `freely` no longer holds. So words in a document can ask for what they like: whoever wrote
them has no more rights by it than to be read (Willison's "lethal trifecta"; Debenedetti et al.
2025, arXiv:2503.18813, carry this further, to each value).

The rule looks at names and at nothing that a model says.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from morphogen.systems.agents.tool import Tool

Ruling = Literal["run", "ask", "refuse"]


@dataclass(frozen=True)
class Grants:
    """Patterns as shells have them: "index:*", "mail:*@example.org"."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    freely: tuple[str, ...] = ()  # writes that need no confirmation while nothing taints the run

    @classmethod
    def of(
        cls, reads: Iterable[str] = (), writes: Iterable[str] = (), freely: Iterable[str] = ()
    ) -> Grants:
        """From lists; what is free is granted."""
        freely = tuple(freely)
        return cls(tuple(reads), (*writes, *freely), freely)

    @classmethod
    def covering(cls, tools: Iterable[Tool]) -> Grants:
        """All that tools say they touch, whatever their arguments; what they write is confirmed."""
        tools = list(tools)
        return cls(
            tuple(dict.fromkeys(_pattern(each) for tool in tools for each in tool.reads)),
            tuple(dict.fromkeys(_pattern(each) for tool in tools for each in tool.writes)),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: list(patterns) for name, patterns in asdict(self).items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Grants:
        """What `to_json` gave."""
        return cls(*(tuple(told[name]) for name in ("reads", "writes", "freely")))


@dataclass(frozen=True)
class Judgement:
    """What is to be done with a call, and why."""

    ruling: Ruling
    reason: str


def judge(
    tool: Tool, arguments: Mapping[str, Any], grants: Grants, tainted: str | None
) -> Judgement:
    """Whether a call runs, is asked about, or is refused. `tainted` says what was read of others,
    where something was."""
    reads, writes = tool.touched(arguments)
    if upward := next((each for each in [*reads, *writes] if _goes_up(each)), None):
        return Judgement("refuse", f"{upward} leads out of where it begins")
    for place, patterns, verb in (
        *((each, grants.reads, "read") for each in reads),
        *((each, grants.writes, "written") for each in writes),
    ):
        if not _matches(place, patterns):
            return Judgement("refuse", f"{place} may not be {verb}: it was not granted")
    asked = [each for each in writes if not _matches(each, grants.freely)]
    if asked:
        return Judgement("ask", f"it writes {', '.join(asked)}")
    if writes and tainted is not None:
        return Judgement("ask", f"it writes {', '.join(writes)}, after {tainted} was read")
    return Judgement("run", "it writes nothing" if not writes else "it may be written freely")


def _pattern(place: str) -> str:
    """A name with any arguments in it; what else it holds stands for itself."""
    return "*".join(glob.escape(part) for part in re.split(r"\{\w+\}", place))


def _matches(place: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(place, pattern) for pattern in patterns)


def _goes_up(place: str) -> bool:
    """Whether a path in a name climbs: a pattern of what lies below a folder would let it pass."""
    return ".." in place.replace("\\", "/").partition(":")[2].split("/")

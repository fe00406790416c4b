"""What a run may do: grants, and the rule by which each call is judged.

    grants      patterns of what may be read, and written; of writes, those that nobody need confirm
    tainted     somebody else's words were read: a page, a message, what a server said
    strange     values of the call that are not the user's own words (`flows`)

A call runs where all that it reads and writes is granted. What it writes (and to send is to write)
is confirmed by a person, who sees its arguments, unless the grant says `freely`; once a run is
tainted, `freely` holds for calls that are given the user's own words, all of them, and for no
others. So words in a document can ask for what they like: no word of theirs is written anywhere,
and whoever wrote them can bring about no more than what the user granted freely, done with what the
user said (Willison's "lethal trifecta").

The rule looks at names and values, and at nothing that a model says of them.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from morphogen.systems.agents.flows import says_own, strange
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import Step, tainted_by

Ruling = Literal["run", "ask", "refuse"]


@dataclass(frozen=True)
class Grants:
    """Patterns as shells have them: "index:*", "mail:*@example.org"."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    freely: tuple[str, ...] = ()  # writes that need no confirmation while no value is strange

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
    strange: Mapping[str, str] = field(default_factory=dict)


def judge(
    tool: Tool, arguments: Mapping[str, Any], grants: Grants, steps: Sequence[Step] = ()
) -> Judgement:
    """Whether a call runs, is asked about, or is refused, after these steps."""
    reads, writes = tool.touched(arguments)
    if upward := next((each for each in [*reads, *writes] if _goes_up(each)), None):
        return Judgement("refuse", f"{upward} leads out of where it begins")
    for place, patterns, verb in (
        *((each, grants.reads, "read") for each in reads),
        *((each, grants.writes, "written") for each in writes),
    ):
        if not _matches(place, patterns):
            return Judgement("refuse", f"{place} may not be {verb}: it was not granted")
    if not writes:
        return Judgement("run", "it writes nothing")
    tainted, found = tainted_by(steps), strange(tool, arguments, steps)
    after = "" if tainted is None else f", after {tainted} was read"
    if found:
        after += f"; not your own words: {', '.join(map(_told, found.items()))}"
    asked = [each for each in writes if not _matches(each, grants.freely)]
    if asked:
        return Judgement("ask", f"it writes {', '.join(asked)}{after}", found)
    if found or (tainted is not None and not says_own(arguments, steps)):
        return Judgement("ask", f"it writes {', '.join(writes)}{after}", found)
    own = "" if tainted is None else ", and all that it is given are your own words"
    return Judgement("run", f"it may be written freely{own}")


def _told(strange: tuple[str, str]) -> str:
    place, who = strange
    return f"{place} (from {who})" if who else place


def _pattern(place: str) -> str:
    """A name with any arguments in it; what else it holds stands for itself."""
    return "*".join(glob.escape(part) for part in re.split(r"\{\w+\}", place))


def _matches(place: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(place, pattern) for pattern in patterns)


def _goes_up(place: str) -> bool:
    """Whether a path in a name climbs: a pattern of what lies below a folder would let it pass."""
    return ".." in place.replace("\\", "/").partition(":")[2].split("/")

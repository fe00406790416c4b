"""What happened in a run, step by step: what was decided, judged, given back, and how it ended.

    {"step": "began", "task": .., "tools": [..], "grants": {..}, "budget": {..}}
    {"step": "decided", "call": {"name": .., "arguments": ..} or null, "text": ..}
    {"step": "judged", "name": .., "allowed": .., "reason": .., "asked": .., "strange": {..}}
    {"step": "returned", "name": .., "ok": .., "text": .., "why": ..}
    {"step": "ended", "why": ..}

A trace holds all that a run depended on, how long each part took among it, so that from a trace the
same trace comes again, to the byte (`worlds.Replay`). Its digest leaves out how long things took:
equal runs have equal digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from morphogen.core.border import Number, check_shape, parse_json, read_text
from morphogen.core.errors import BundleError
from morphogen.core.storage import write_text
from morphogen.modalities.text.chat import Message

WHYS = ("answered", "steps", "calls", "tokens", "time", "failed")  # that runs end


@dataclass(frozen=True)
class Began:
    """What was asked, of whom, with which tools, and within which bounds."""

    task: str
    model: str
    tools: tuple[Mapping[str, Any], ...]
    grants: Mapping[str, Any]
    budget: Mapping[str, Any]
    before: tuple[Mapping[str, Any], ...] = ()  # messages that were there already
    tainted: str | None = None  # by what, before anything was called


@dataclass(frozen=True)
class Decided:
    """What comes next: a call, its arguments as they were written, or else an answer."""

    call: Mapping[str, Any] | None = None
    text: str = ""
    tokens: int = 0  # that were written
    seconds: float = 0.0
    left_out: int = 0  # messages that no longer fitted
    seen: str = ""  # the digest of the messages that were shown


@dataclass(frozen=True)
class Judged:
    """Whether a call may be run; `asked` where a person was. `strange` values of it are not the
    user's own words: place -> who said them (`flows`)."""

    name: str
    allowed: bool
    reason: str
    asked: bool = False
    strange: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Returned:
    """What a call gave, or why it gave nothing."""

    name: str
    ok: bool
    text: str
    why: str = ""  # where it failed: unknown, arguments, refused, raised, time
    seconds: float = 0.0
    size: int = 0  # characters, before they were cut
    trusted: bool = True


@dataclass(frozen=True)
class Ended:
    """That it is over: one of `WHYS`, and what there is to say of it."""

    why: str
    reason: str = ""


Step = Began | Decided | Judged | Returned | Ended
KINDS: dict[str, type] = {
    "began": Began, "decided": Decided, "judged": Judged, "returned": Returned, "ended": Ended,
}  # fmt: skip
_CALL = {"name": str, "arguments": (str, dict)}
_TOOL = {
    "name": str, "summary": str, "schema": dict, "reads": [str], "writes": [str],
    "trusted": bool, "described": bool,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "began": {
        "task": str, "model": str, "tools": [_TOOL], "before": [dict],
        "grants": {"reads": [str], "writes": [str], "freely": [str]},
        "budget": {"steps": int, "calls": int, "tokens": int, "seconds": Number()},
        "tainted": (str, None),
    },
    "decided": {
        "call": (_CALL, None), "text": str, "tokens": int, "seconds": Number(), "left_out": int,
        "seen": str,
    },
    "judged": {"name": str, "allowed": bool, "reason": str, "asked": bool, "strange?": dict},
    "returned": {
        "name": str, "ok": bool, "text": str, "why": str, "seconds": Number(), "size": int,
        "trusted": bool,
    },
    "ended": {"why": WHYS, "reason": str},
}  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """The steps of one run, in order."""

    steps: tuple[Step, ...] = field(default=())

    @property
    def began(self) -> Began:
        """The first step."""
        first = self.steps[0]
        assert isinstance(first, Began)
        return first

    @property
    def answer(self) -> str:
        """The last words, where it came to some; else nothing."""
        ended = self.steps[-1] if self.steps else None
        answered = isinstance(ended, Ended) and ended.why == "answered"
        return next((s.text for s in reversed(self.steps) if isinstance(s, Decided)), "") * answered

    @property
    def tainted(self) -> str | None:
        """Whose words were read that are not the user's own, if any were."""
        return tainted_by(self.steps)

    @property
    def digest(self) -> str:
        """Of all but how long things took."""
        timeless = (
            replace(step, seconds=0.0) if isinstance(step, (Decided, Returned)) else step
            for step in self.steps
        )  # fmt: skip
        return hashlib.sha256(_lines(timeless).encode()).hexdigest()

    def text(self) -> str:
        """A line of JSON for each step."""
        return _lines(self.steps)

    def save(self, path: Path | str) -> Path:
        """Write it."""
        return write_text(Path(path), self.text())

    @classmethod
    def read(cls, path: Path | str) -> Trace:
        """What `save` wrote. Raises `BundleError` for anything else."""
        first, *more = traces(read_text(Path(path)), path)
        if more:
            raise BundleError("the file holds several runs", found=1 + len(more), where=path)
        return first


def traces(text: str, where: object = None) -> list[Trace]:
    """Runs from lines of JSON, one after the other. Raises `BundleError`, naming the line."""
    runs: list[list[Step]] = []
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{where}, line {number}"
        told = parse_json(line, {"step": tuple(KINDS)}, place)
        kind = told.pop("step")
        check_shape(told, SHAPES[kind], place)
        if unknown := sorted(set(told) - {name.rstrip("?") for name in SHAPES[kind]}):
            raise BundleError("a step has more than it can have", found=unknown[0], where=place)
        step = KINDS[kind](**{key: _frozen(value) for key, value in told.items()})
        if isinstance(step, Began):
            runs.append([])
        elif not runs:
            raise BundleError("a trace begins with what was asked", found=kind, where=place)
        runs[-1].append(step)
    if not runs:
        raise BundleError("there is no trace here", where=where)
    return [Trace(tuple(steps)) for steps in runs]


def tainted_by(steps: Iterable[Step]) -> str | None:
    """Whose words were read that are not the user's own; None where nobody's were."""
    for step in steps:
        if isinstance(step, Began) and step.tainted is not None:
            return step.tainted
        if isinstance(step, Returned) and not step.trusted:
            return given_by(step)
    return None


def given_by(step: Returned) -> str:
    """Whose words a result is, for a person."""
    return f"what {step.name} gave"


def interrupted(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps of a run that was left before its end, with one: a decision that nothing came of is
    left out, a call that was running may have done its work."""
    kept = list(steps)
    if kept and isinstance(kept[-1], Ended):
        return tuple(kept)
    if kept and isinstance(kept[-1], Judged) and kept[-1].allowed:
        said = "it was interrupted; what it was at may have been done"
        kept.append(Returned(kept[-1].name, False, said, "time", size=len(said)))
    while kept and isinstance(kept[-1], (Decided, Judged)):
        kept.pop()
    return (*kept, Ended("failed", "interrupted"))


def messages(steps: Sequence[Step]) -> Iterator[Message]:
    """A run so far, as whoever decides is shown it."""
    for step in steps:
        if isinstance(step, Began):
            yield from (message_of(each) for each in step.before)
            yield Message("user", step.task)
        elif isinstance(step, Decided) and step.call is not None:
            yield Message("assistant", step.text, (step.call,))
        elif isinstance(step, Returned):
            yield Message("tool", step.text if step.ok else f"error: {step.text}")


def message_of(told: Mapping[str, Any]) -> Message:
    """A message from its role and content."""
    return Message(str(told.get("role", "user")), str(told.get("content", "")))


def seen(shown: Iterable[Message]) -> str:
    """The digest of messages."""
    told = json.dumps([each.to_json() for each in shown], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _lines(steps: Iterable[Step]) -> str:
    names = {kind: name for name, kind in KINDS.items()}
    told = ({"step": names[type(step)], **asdict(step)} for step in steps)
    return "".join(json.dumps(each) + "\n" for each in told)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

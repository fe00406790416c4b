"""Where a run has from what it cannot know: from what happens now, or from a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from morphogen.core.errors import BundleError, MorphogenError
from morphogen.modalities.text.chat import Message
from morphogen.systems.agents.loop import Budget, run
from morphogen.systems.agents.privileges import Grants
from morphogen.systems.agents.running import Runner
from morphogen.systems.agents.tool import ArgumentsError, Tool
from morphogen.systems.agents.trace import (
    Decided,
    Ended,
    Judged,
    Returned,
    Step,
    Trace,
    message_of,
)

Confirm = Callable[[Tool, Mapping[str, Any], str], bool]
T = TypeVar("T", Judged, Returned)


class Decider(Protocol):
    """Says what is next in a run: a call of one of the tools, or the answer."""

    name: str

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """Raises `MorphogenError` where it cannot."""
        ...


def nobody(tool: Tool, arguments: Mapping[str, Any], reason: str) -> bool:
    """Nobody is there to confirm anything."""
    return False


class Live:
    """What happens now."""

    def __init__(self, decider: Decider, confirm: Confirm = nobody) -> None:
        self.decider, self.name = decider, decider.name
        self.confirm, self.runner = confirm, Runner()

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """See `loop.World`."""
        return self.decider.decide(said, tools, left)

    def check(self, tool: Tool, arguments: str | Mapping[str, Any]) -> dict[str, Any] | Returned:
        """See `loop.World`."""
        try:
            return tool.check(arguments)
        except ArgumentsError as error:
            return Returned(tool.name, False, str(error), "arguments", size=len(str(error)))

    def call(self, tool: Tool, arguments: Mapping[str, Any], seconds: float) -> Returned:
        """See `loop.World`."""
        return self.runner.run(tool, arguments, seconds)


class Replay:
    """What was recorded, in its order.

    Raises `BundleError` where a call needs what did not happen then: the trace, or the rule that
    calls are judged by, is another one.
    """

    def __init__(self, trace: Trace) -> None:
        self.name = trace.began.model
        self.rest = iter(trace.steps[1:])
        self.part: dict[type, Step] = {}  # what followed from the last decision

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """See `loop.World`."""
        decided = self.part.pop(Decided, None) or next(self.rest, None)
        if not isinstance(decided, Decided):
            raise MorphogenError(decided.reason if isinstance(decided, Ended) else "it is cut off")
        self.part = {}
        for step in self.rest:
            self.part[type(step)] = step
            if isinstance(step, (Decided, Ended)):
                break
        if Ended in self.part:
            self.rest = iter([self.part[Ended]])
        return decided

    def check(self, tool: Tool, arguments: str | Mapping[str, Any]) -> dict[str, Any] | Returned:
        """See `loop.World`."""
        returned = self.part.get(Returned)
        misfit = isinstance(returned, Returned) and returned.why == "arguments"
        return returned if misfit else tool.check(arguments)  # type: ignore[return-value]

    def confirm(self, tool: Tool, arguments: Mapping[str, Any], reason: str) -> bool:
        """See `loop.World`."""
        return self._part(Judged).allowed

    def call(self, tool: Tool, arguments: Mapping[str, Any], seconds: float) -> Returned:
        """See `loop.World`."""
        return self._part(Returned)

    def _part(self, kind: type[T]) -> T:
        found = self.part.get(kind)
        if not isinstance(found, kind):
            raise BundleError(
                "this is not how the run went",
                found=f"no {kind.__name__.lower()}",
                hint="the trace, or the rule that calls are judged by, was changed",
            )
        return found


def replay(trace: Trace) -> Trace:
    """The run again, from its trace alone: every budget counted, every call judged anew.

    Raises `BundleError` where it goes another way. Equal texts of both say that nothing in the
    trace was changed that follows from the rest of it.
    """
    began = trace.began
    return run(
        Replay(trace), began.task, [Tool.from_json(each) for each in began.tools],
        grants=Grants.from_json(began.grants), budget=Budget(**dict(began.budget)),
        before=[message_of(each) for each in began.before], tainted=began.tainted,
    )  # fmt: skip

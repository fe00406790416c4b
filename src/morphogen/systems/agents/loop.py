"""The loop of an agent, all of it.

    until it answers, or a bound is reached:
        decide    what is next: a call, or the answer
        check     the arguments: what does not fit runs nothing, and is told why
        judge     the call, by what the tool touches, what was granted, whose words it is given
        confirm   by a person, where the judgement says so
        run       the tool, bounded in time and size; what goes wrong comes back as a result

Each line of this is a typed step of the trace, given as it happens. What is not a function of the
steps so far (what is decided, what a person says, what a tool gives) comes from a `World`; with a
world that recites a trace, the same steps come again, to the byte.

Time is what the steps took, not what a clock says meanwhile, so that a bound on it is reached again
where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.modalities.text.chat import Message
from morphogen.systems.agents.privileges import Grants, judge
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import (
    Began,
    Decided,
    Ended,
    Judged,
    Returned,
    Step,
    Trace,
    messages,
    seen,
)


@dataclass(frozen=True)
class Budget:
    """How much a run may use of each."""

    steps: int = 12  # decisions
    calls: int = 8  # tools that were run
    tokens: int = 8_000  # written by whoever decides
    seconds: float = 300.0  # of deciding and of tools; a person's time is free

    def left(self, steps: Sequence[Step]) -> Budget:
        """What is left of it."""
        decided = [step for step in steps if isinstance(step, Decided)]
        returned = [step for step in steps if isinstance(step, Returned)]
        seconds = sum(each.seconds for each in decided) + sum(each.seconds for each in returned)
        return Budget(
            self.steps - len(decided),
            self.calls - sum(step.why in ("", "raised", "time") for step in returned),
            self.tokens - sum(step.tokens for step in decided),
            round(self.seconds - seconds, 3),
        )

    @property
    def spent(self) -> tuple[str, str] | None:
        """Which of it is used up, and what that means; None where there is some of all."""
        if self.steps <= 0:
            return "steps", "it decided as often as it may"
        if self.tokens <= 0:
            return "tokens", "it wrote as much as it may"
        if self.seconds <= 0:
            return "time", "it took as long as it may"
        return None


class World(Protocol):
    """What a run does not know by itself."""

    name: str  # of whoever decides

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """What is next, and how long it took. Raises `MorphogenError` where nobody can say."""
        ...

    def check(self, tool: Tool, arguments: str | Mapping[str, Any]) -> dict[str, Any] | Returned:
        """The arguments of a call, or what is wrong with them."""
        ...

    def confirm(self, tool: Tool, arguments: Mapping[str, Any], reason: str) -> bool:
        """Whether a person lets this call run."""
        ...

    def call(self, tool: Tool, arguments: Mapping[str, Any], seconds: float) -> Returned:
        """What the tool gives within so many seconds. Raises nothing."""
        ...


def steps(
    world: World,
    task: str,
    tools: Sequence[Tool] = (),
    *,
    grants: Grants | None = None,
    budget: Budget | None = None,
    before: Sequence[Message] = (),
    tainted: str | None = None,
) -> Iterator[Step]:
    """The steps of a run, each as it happens. `before` are messages that were there already, and
    `tainted` says by whom these were written, where not by the user."""
    known = {tool.name: tool for tool in tools}
    if len(known) < len(tools):
        raise RecipeError("two tools have one name", found=", ".join(t.name for t in tools))
    grants, budget = grants or Grants(), budget or Budget()
    strangers = [f"the description of {tool.name}" for tool in tools if not tool.described]
    so_far: list[Step] = []

    def noted(step: Step) -> Step:
        so_far.append(step)
        return step

    yield noted(Began(
        task, world.name, tuple(tool.to_json() for tool in tools), grants.to_json(),
        asdict(budget), tuple(each.to_json() for each in before),
        tainted or next(iter(strangers), None),
    ))  # fmt: skip
    while True:
        left = budget.left(so_far)
        if left.spent is not None:
            yield noted(Ended(*left.spent))
            return
        # What was refused is not offered again, and with the last call, and before the last
        # decision, there is only an answer to give.
        refused = {s.name for s in so_far if isinstance(s, Returned) and s.why == "refused"}
        may_call = left.calls > 0 and left.steps > 1
        offered = [tool for tool in tools if may_call and tool.name not in refused]
        said = list(messages(so_far))
        try:
            decided = world.decide(said, offered, left)
        except MorphogenError as error:
            yield noted(Ended("failed", str(error)))
            return
        yield noted(replace(decided, seen=seen(said)))
        if decided.call is None:
            yield noted(Ended("answered"))
            return
        if not offered and tools:
            yield noted(Ended("calls", "it called where there was only an answer to give"))
            return
        for step in called(world, known, decided.call, (grants, so_far), left.seconds):
            yield noted(step)


def called(
    world: World,
    known: Mapping[str, Tool],
    call: Mapping[str, Any],
    rights: tuple[Grants, Sequence[Step]],
    seconds: float,
) -> Iterator[Step]:
    """The steps of one call, of which the last is what it gave. Its rights are what was granted,
    and the steps before it, which may have brought in words of others."""
    name = call["name"]
    tool = known.get(name)
    if tool is None:
        listed = ", ".join(known) or "none"
        yield Returned(name, False, f"there is no such tool. There are: {listed}", "unknown")
        return
    arguments = world.check(tool, call["arguments"])
    if isinstance(arguments, Returned):
        yield arguments
        return
    judged = judge(tool, arguments, *rights)
    allowed = judged.ruling == "run"
    if judged.ruling == "ask":
        allowed = world.confirm(tool, arguments, judged.reason)
    yield Judged(name, allowed, judged.reason, judged.ruling == "ask", judged.strange)
    if not allowed:
        who = "nobody confirmed it" if judged.ruling == "ask" else "it is not allowed"
        yield Returned(name, False, f"{who}: {judged.reason}", "refused")
        return
    yield world.call(tool, arguments, seconds)


def run(world: World, task: str, tools: Sequence[Tool] = (), **options: Any) -> Trace:
    """All steps of a run; options are those of `steps`."""
    return Trace(tuple(steps(world, task, tools, **options)))

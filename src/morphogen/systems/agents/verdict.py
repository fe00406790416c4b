"""What was done in a run, as its trace has it, whatever the agent says of it.

    ended          why it is over
    done, failed, refused, malformed    its calls, by what came of them
    effects        what was written, by which call, and whether a person confirmed it
    sentences      of the answer, each held against what the calls gave (`knowledge.verifying`)

The same trace has the same verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import Decided, Ended, Judged, Returned, Trace
from morphogen.systems.knowledge.verifying import Verdict as Sentence
from morphogen.systems.knowledge.verifying import verify

_DATA = re.compile(r'[{}\[\]":,;]')
OUTCOMES = {
    "": "done", "raised": "failed", "time": "failed", "refused": "refused",
    "unknown": "malformed", "arguments": "malformed",
}  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """What a call wrote."""

    name: str
    places: tuple[str, ...]
    arguments: Mapping[str, Any] | str
    confirmed: bool  # by a person
    is_certain: bool  # False: the tool did not come back, or failed on its way


@dataclass(frozen=True)
class Verdict:
    """Of one run."""

    ended: str
    reason: str
    done: tuple[str, ...]
    failed: tuple[str, ...]
    refused: tuple[str, ...]
    malformed: tuple[str, ...]
    effects: tuple[Effect, ...]
    sentences: tuple[Sentence, ...]
    tainted: str | None
    missed: tuple[str, ...] = ()  # of what was wanted

    @property
    def passed(self) -> bool:
        """Whether it came to an answer, and did what was wanted."""
        return self.ended == "answered" and not self.missed

    @property
    def unsupported(self) -> float:
        """The share of the answer's sentences that nothing in the trace supports."""
        marks = [not each.supported for each in self.sentences]
        return sum(marks) / len(marks) if marks else 0.0

    def text(self) -> str:
        """For a terminal."""
        counts = {
            "done": self.done, "failed": self.failed, "refused": self.refused,
            "malformed": self.malformed,
        }  # fmt: skip
        calls = ", ".join(f"{len(names)} {word}" for word, names in counts.items() if names)
        said = [f"{self.ended}{': ' * bool(self.reason)}{self.reason}", f"calls: {calls or 'none'}"]
        said += [
            f"wrote: {', '.join(each.places)} ({each.name}"
            f"{', confirmed' * each.confirmed}{', perhaps' * (not each.is_certain)})"
            for each in self.effects
        ]
        said += [f"missed: {each}" for each in self.missed]
        if self.sentences:
            num = sum(each.supported for each in self.sentences)
            said.append(f"supported by what was read: {num} of {len(self.sentences)} sentences")
        if self.tainted is not None:
            said.append(f"words of others were read: {self.tainted}")
        return "\n".join(said)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        told = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        return {
            **told, "effects": [vars(each) for each in self.effects],
            "sentences": [each.to_json() for each in self.sentences],
            "passed": self.passed, "unsupported": self.unsupported,
        }  # fmt: skip


def verdict(trace: Trace, *, must: Collection[str] = (), never: Collection[str] = ()) -> Verdict:
    """Judge a run: tools that `must` have done their work, and those that may `never` have been
    run."""
    calls: dict[str, list[str]] = {word: [] for word in dict.fromkeys(OUTCOMES.values())}
    for step in trace.steps:
        if isinstance(step, Returned):
            calls[OUTCOMES[step.why]].append(step.name)
    missed = [f"{name} did not do its work" for name in must if name not in calls["done"]]
    ran = {*calls["done"], *calls["failed"]}
    missed += [f"{name} was run" for name in never if name in ran]
    ended = trace.steps[-1]
    over = ended if isinstance(ended, Ended) else Ended("cut", "the trace has no end")
    given = [_said(step) for step in trace.steps if isinstance(step, Returned) and step.ok]
    told = tuple(verify(trace.answer, given)) if given else ()
    by = {word: tuple(names) for word, names in calls.items()}
    return Verdict(
        over.why, over.reason, by["done"], by["failed"], by["refused"], by["malformed"],
        tuple(_effects(trace)), told, trace.tainted, tuple(missed),
    )  # fmt: skip


def _said(step: Returned) -> str:
    """What a call gave, as text: of data, its names and values as one sentence."""
    try:
        told = json.loads(step.text)
    except ValueError:
        return step.text
    if not isinstance(told, (dict, list)):
        return step.text
    name = step.name.replace("_", " ")
    return " ".join([name, *_DATA.sub(" ", step.text.replace("\\n", " ")).split()])


def _effects(trace: Trace) -> list[Effect]:
    """What was written, or may have been."""
    tools = {each["name"]: Tool.from_json(each) for each in trace.began.tools}
    found, call, judged = [], None, None
    for step in trace.steps:
        if isinstance(step, Decided):
            call, judged = step.call, None
        elif isinstance(step, Judged):
            judged = step
        elif isinstance(step, Returned) and judged is not None and judged.allowed:
            assert call is not None
            arguments = tools[step.name].check(call["arguments"])
            places = tuple(tools[step.name].touched(arguments)[1])
            if places:
                found.append(Effect(step.name, places, arguments, judged.asked, step.ok))
    return found

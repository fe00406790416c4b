"""Who decides what is next in a run.

    BundleDecider     a bundle that converses; what it writes is held to a schema of calls
    RemoteDecider     a model behind an address that speaks OpenAI's protocol, by its own calls
    Recited           decisions that were written down
    First             some calls first, whoever decides after them

A bundle writes {"name": .., "arguments": ..} or {"answer": ..} and can write nothing else: the
smallest model makes calls whose arguments fit, if not always the right ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.errors import MorphogenError, RefusedPair
from morphogen.core.writing import Constraint, HeldText, Limits, Request
from morphogen.core.written import WrittenText
from morphogen.interop.importing import opened_or_imported
from morphogen.modalities.text.chat import Conversation, Message
from morphogen.systems.agents.loop import Budget
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import Decided
from morphogen.systems.agents.worlds import Decider
from morphogen.systems.calls import schema_of, told_of
from morphogen.systems.conversing import Conversing
from morphogen.systems.endpoint import Endpoint, is_address

SYSTEM = "Answer the user. Where a function helps, call it; say what it gave, and nothing else."
HOW = 'Write {"name": FUNCTION, "arguments": {..}} to call one, or {"answer": ".."} to answer.'
LEAST = 64  # tokens that a decision has room for
SHORTEST = 200  # characters of a result, to which it is cut where a model sees no more
ANSWER = {
    "type": "object", "properties": {"answer": {"type": "string", "minLength": 1}},
    "required": ["answer"], "additionalProperties": False,
}  # fmt: skip


class BundleDecider:
    """A model that converses. Raises `RefusedPair` for one that was not made to."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        system: str = SYSTEM,  # what it is told first
        most: int = 256,  # tokens of a decision
        temperature: float = 0.0,  # 0: the most probable
        seed: int = 0,
    ) -> None:
        self.reader = Conversing(bundle)
        self.codec: Any = bundle.codec
        self.model: Any = bundle.family
        self.name = bundle.path.name if bundle.path else "a model in memory"
        self.system, self.most, self.seed = system, most, seed
        self.limits = Limits(temperature=temperature)
        self.held = HeldText()  # what was read up to here: a step of a run reads what is new

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """A call or an answer; after `left.seconds` as far as it came."""
        start = time.monotonic()
        most = max(min(self.most, left.tokens), LEAST)
        prompt, left_out = self._fitted(said, tools, most)
        acted = bool(tools) or any(each.calls for each in said)
        constraint = self.constraint(tools, most) if acted else None
        request = Request(
            prompt, most, self.limits, self.seed + len(said), constraint=constraint,
            begins=self.reader.begins, held=self.held,
        )  # fmt: skip
        text = WrittenText(self.codec, self.reader.stops)
        for written in (each for step in self.model.write([request]) for each in step):
            if written.token in self.reader.ends or text.take(written.token) or written.finish:
                break
            if time.monotonic() - start > left.seconds:
                break
        text.finish()
        took = round(time.monotonic() - start, 3)
        return _decided(text.so_far, acted, text.num_taken, took, left_out)

    def constraint(self, tools: Sequence[Tool], most: int) -> Constraint | None:
        """What a decision may be: a call of one of the tools, or an answer; without tools, who
        wrote calls before goes on as it did and is held to an answer."""
        calls = schema_of([tool.told() for tool in tools])
        schema = {"anyOf": [*calls.get("anyOf", [calls]), ANSWER]} if tools else ANSWER
        held: Constraint = self.codec.constraint("schema", json.dumps(schema), most)
        return held

    def _fitted(
        self, said: Sequence[Message], tools: Sequence[Tool], most: int
    ) -> tuple[Tensor, int]:
        """The tokens that the model reads, and how many messages are not among them: what was
        called first is left out first, and of the last result what is too long. The user's last
        words stay."""
        length = int(self.model.spec.shape[0])
        asked = max(i for i, each in enumerate(said) if each.role == "user")
        before, task, after = list(said[:asked]), said[asked], list(said[asked + 1 :])
        num = len(said)
        while True:
            shown = [*before, task, *after]
            prompt = self.reader.read(Conversation(tuple(self._plain(shown, tools))))
            if len(prompt) + most <= length:
                return prompt, num - len(shown)
            if before:
                before = before[2:]
            elif len(after) > 2:
                after = after[2:]
            elif after and len(after[-1].content) > SHORTEST:
                kept = after[-1].content[: len(after[-1].content) // 2]
                after[-1] = Message("tool", f"{kept}\n(cut: the model sees no more)")
            else:
                raise RefusedPair(
                    "what was asked is longer than what the model sees at once",
                    found=f"{len(prompt):,} tokens, and {most:,} to come",
                    expected=f"at most {length:,}", hint="a shorter question, or fewer tools",
                )  # fmt: skip

    def _plain(self, said: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """Messages that any template takes: what a function gave is told by the user."""
        first = [Message("system", self.system)] if self.system else []
        told = told_of([t.told()["function"] for t in tools], first or [Message("system")], HOW)
        shown = told if tools else first
        for each in said:
            if each.role == "tool":
                shown.append(Message("user", f"It gave:\n{each.content}"))
            elif each.calls:
                shown.append(Message("assistant", json.dumps(dict(each.calls[0]))))
            else:
                shown.append(each)
        return shown


class RemoteDecider:
    """A model at an address. It is asked again where it has too much to do; where it stays away,
    the run ends and says so."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        system: str = SYSTEM,  # what it is told first
        temperature: float | None = 0.0,  # 0: the most probable
    ) -> None:
        self.endpoint, self.name = endpoint, f"{endpoint.model} at {endpoint.address}"
        self.system, self.temperature = system, temperature

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """A call or an answer. Raises `MorphogenError` where none comes."""
        start = time.monotonic()
        told = self.endpoint.asked(
            _numbered([Message("system", self.system), *said]),
            tools=[tool.told() for tool in tools] or None, temperature=self.temperature,
            max_tokens=left.tokens, seconds=left.seconds,
        )  # fmt: skip
        message = told["choices"][0]["message"]
        usage = told.get("usage") or {}
        took = round(time.monotonic() - start, 3)
        text = message.get("content") or ""
        tokens = usage.get("completion_tokens") or len(text) // 4 + 1
        calls = message.get("tool_calls") or []
        if not calls:
            return Decided(None, text, tokens, took)
        # One call at a time: what comes of the first may change the second.
        function = calls[0]["function"]
        call = {"name": function["name"], "arguments": function["arguments"] or "{}"}
        return Decided(call, text, tokens, took)


class Recited:
    """Decisions in their order: calls as (name, arguments), answers as texts."""

    def __init__(
        self, decisions: Iterable[str | tuple[str, Mapping[str, Any] | str]], name: str = "recited"
    ) -> None:
        self.decisions, self.name = iter(decisions), name

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """The next one. Raises `MorphogenError` after the last."""
        decision = next(self.decisions, None)
        if decision is None:
            raise MorphogenError("there are no more decisions to recite")
        if isinstance(decision, str):
            return Decided(None, decision, len(decision) // 4 + 1)
        name, arguments = decision
        return Decided({"name": name, "arguments": arguments}, "", 1)


class First:
    """Some calls first: what is always looked up, whoever decides then."""

    def __init__(self, calls: Iterable[tuple[str, Mapping[str, Any]]], then: Decider) -> None:
        self.calls, self.then, self.name = list(calls), then, then.name

    def decide(self, said: Sequence[Message], tools: Sequence[Tool], left: Budget) -> Decided:
        """See `worlds.Decider`."""
        if self.calls and tools:
            name, arguments = self.calls.pop(0)
            return Decided({"name": name, "arguments": dict(arguments)})
        return self.then.decide(said, tools, left)


def decider_of(model: str, name: str | None = None, **options: Any) -> Decider:
    """A bundle's folder, or an address and the name of a model there."""
    if is_address(model):
        return RemoteDecider(Endpoint(model, name or "default"), **options)
    decider = BundleDecider(opened_or_imported(model), **options)
    decider.name = Path(model).name
    return decider


def _decided(text: str, called: bool, tokens: int, seconds: float, left_out: int) -> Decided:
    """What was written, read. What is neither a call nor an answer of the schema is an answer."""
    told: Any = None
    if called:
        try:
            told = json.loads(text)
        except ValueError:
            told = None
    if isinstance(told, dict) and "name" in told:
        call = {"name": told["name"], "arguments": told.get("arguments", {})}
        return Decided(call, "", tokens, seconds, left_out)
    answer = told["answer"] if isinstance(told, dict) and "answer" in told else text
    return Decided(None, str(answer).strip(), tokens, seconds, left_out)


def _numbered(said: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the protocol has them: each call has a number, and so has what it gave."""
    told, number = [], 0
    for each in said:
        shown = {"role": each.role, "content": each.content}
        if each.calls:
            number += 1
            call = each.calls[0]
            arguments = call["arguments"]
            written = arguments if isinstance(arguments, str) else json.dumps(arguments)
            function = {"name": call["name"], "arguments": written}
            shown["tool_calls"] = [  # type: ignore[assignment]
                {"id": f"call_{number}", "type": "function", "function": function}
            ]
        elif each.role == "tool":
            shown["tool_call_id"] = f"call_{number}"
        told.append(shown)
    return told

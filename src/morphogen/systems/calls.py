"""Calls of functions in what a model writes.

    I look. <tool_call>{"name": "weather", "arguments": {"place": "Bonn"}}</tool_call>

A model that was told of functions may call one in the middle of a text, so that what could be the
beginning of a call is held back until it cannot be. One that must call writes the JSON alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from morphogen.systems.schemas import closed

if TYPE_CHECKING:
    from morphogen.modalities.text.chat import Message

OPEN, CLOSE = "<tool_call>", "</tool_call>"
HOW_TO_CALL = 'A call is <tool_call>{"name": NAME, "arguments": {..}}</tool_call>.'


@dataclass(frozen=True)
class Call:
    """One call."""

    id: str
    name: str
    arguments: str  # JSON

    def to_json(self) -> dict[str, Any]:
        """As a message of the assistant holds it."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


class CallReader:
    """A text piece by piece -> what of it is text, and calls."""

    def __init__(self, names: Sequence[str], *, must: bool) -> None:
        self.names, self.must = set(names), must
        self.held = OPEN if must else ""

    def feed(self, text: str) -> Iterator[str | Call]:
        """What is certain after one more piece."""
        self.held += text
        while self.held:
            start = self.held.find(OPEN)
            if start < 0:
                keep = _begun(self.held)
                if plain := self.held[: len(self.held) - keep]:
                    yield plain
                self.held = self.held[len(self.held) - keep :]
                return
            if start:
                yield self.held[:start]
                self.held = self.held[start:]
            end = self.held.find(CLOSE)
            if end < 0:
                return
            inside, self.held = self.held[len(OPEN) : end], self.held[end + len(CLOSE) :]
            yield self._call(inside) or f"{OPEN}{inside}{CLOSE}"

    def finish(self) -> Iterator[str | Call]:
        """What was held back: there is no more."""
        held, self.held = self.held, ""
        if not held:
            return
        call = self._call(held.removeprefix(OPEN)) if held.startswith(OPEN) else None
        yield call or (held.removeprefix(OPEN) if self.must else held)

    def _call(self, inside: str) -> Call | None:
        """The call that a text is; None where it is none of a function that was offered."""
        try:
            told = json.loads(inside)
        except (ValueError, RecursionError):
            return None
        if not isinstance(told, dict) or told.get("name") not in self.names:
            return None
        arguments = told.get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return Call(f"call_{os.urandom(8).hex()}", told["name"], written)


def told_of(
    tools: Sequence[Mapping[str, Any]], messages: list[Message], how: str = HOW_TO_CALL
) -> list[Message]:
    """Messages that begin with the functions there are, for a template that does not tell them, and
    `how` to call one."""
    from morphogen.modalities.text.chat import Message  # takes PyTorch, which servers do without

    known = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = f"Functions that you may call:\n{known}\n{how}"
    first, *rest = messages
    if first.role == "system":
        return [Message("system", f"{first.content}\n\n{text}"), *rest]
    return [Message("system", text), first, *rest]


def schema_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of a call of one of some functions."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": closed(tool["function"].get("parameters")) or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _begun(text: str) -> int:
    """How many characters at the end of a text could begin a call."""
    sizes = range(min(len(text), len(OPEN) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(OPEN[:size])), 0)

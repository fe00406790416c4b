"""Messages, and the conversations that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from morphogen.core.errors import DataError

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"


@dataclass(frozen=True)
class Message:
    """What one party says. `calls` are the functions that it asks for, each with a name and
    arguments; what they gave comes as messages of the role "tool"."""

    role: str
    content: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As templates and servers have it."""
        told: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            told["tool_calls"] = [{"type": "function", "function": dict(c)} for c in self.calls]
        return told

    def __str__(self) -> str:
        calls = "".join(f"\n{json.dumps(dict(call), ensure_ascii=False)}" for call in self.calls)
        return f"{self.role}: {self.content}{calls}"


@dataclass(frozen=True)
class Conversation:
    """Messages in order, and the functions that may be called, as JSON schemas."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        told: dict[str, Any] = {"messages": [each.to_json() for each in self.messages]}
        return told | ({"tools": list(self.tools)} if self.tools else {})

    def tobytes(self) -> bytes:
        """What it is told from others by."""
        return json.dumps(self.to_json(), sort_keys=True).encode()

    def __str__(self) -> str:
        return "\n".join(map(str, self.messages))

    def check(self) -> Conversation:
        """Itself. Raises `DataError` for what nobody can learn an answer from."""
        roles = [each.role for each in self.messages]
        problem = _problem(roles)
        if problem is None and not any(_says(m) for m in self.messages if m.role == ASSISTANT):
            problem = "every answer is empty", "write what the assistant says"
        if problem is not None:
            reason, hint = problem
            shown = ", ".join(roles[:8]) + ", ..." * (len(roles) > 8)
            raise DataError(reason, found=shown or "no messages", hint=hint)
        return self


def _says(message: Message) -> bool:
    return bool(message.content.strip() or message.calls)


def _problem(roles: list[str]) -> tuple[str, str] | None:
    """What is wrong with the order of roles, and what to do; None where nothing is."""
    if ASSISTANT not in roles:
        return "nobody answers", "add a message of the role assistant"
    if SYSTEM in roles[1:]:
        return "the system speaks after the first message", "put it first"
    rest = roles[1:] if roles[0] == SYSTEM else roles
    if rest[0] != USER:
        return f"the conversation begins with the {rest[0]}", "let the user speak first"
    for before, now in pairwise(rest):
        if before == now and now in (USER, ASSISTANT):
            return f"the {now} speaks twice in a row", "join the two messages"
        if now == TOOL and before not in (ASSISTANT, TOOL):
            return "a tool answers that nobody called", "put the call before it"
        if now == USER and before == TOOL:
            return "the user speaks before the assistant used what a tool gave", "add its answer"
    return None

"""Requests as the records keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def recorded(prompt: str | Sequence[Mapping[str, Any]]) -> Any:
    """A text, or messages: those of a call or of a function's result included."""
    if isinstance(prompt, str):
        return prompt
    from morphogen.records.prompts import Message

    return [Message.of(each["role"], _text(each)) for each in prompt]


def _text(message: Mapping[str, Any]) -> str:
    calls = [json.dumps(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join(filter(None, [message["content"], *calls]))

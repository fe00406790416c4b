"""Requests as the records keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Recorded elsewhere, or not at all.
UNTOLD = {"do", "messages", "prompts", "question", "seed", "inputs", "view", "hidden"}
TEXTS = ("text", "code")  # kinds of conditions that are prompts


def recorded(prompt: str | Sequence[Mapping[str, Any]]) -> Any:
    """A text, or messages: those of a call or of a function's result included."""
    if isinstance(prompt, str):
        return prompt
    from morphogen.records.prompts import Message

    return [Message.of(each["role"], _text(each)) for each in prompt]


def parameters_of(work: Mapping[str, Any]) -> dict[str, Any]:
    """How a model was asked, without what was said to it: of files that they come as, conditions
    leave their kind."""
    told = {name: value for name, value in work.items() if name not in UNTOLD}
    if cond := told.get("cond"):
        told["cond"] = {name: _named(value) for name, value in cond.items()}
    return told


def words_of(cond: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """What conditions say that are texts, as `about` a model tells: the prompt of a picture."""
    kinds = about.get("conditions") or {}
    said = (each for name, each in cond.items() if kinds.get(name) in TEXTS)
    return "\n".join(each for each in said if isinstance(each, str))


def _named(condition: Any) -> Any:
    is_file = isinstance(condition, Mapping) and "file" in condition
    return f"a file ({condition.get('suffix')})" if is_file else condition


def _text(message: Mapping[str, Any]) -> str:
    calls = [json.dumps(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join(filter(None, [message["content"], *calls]))

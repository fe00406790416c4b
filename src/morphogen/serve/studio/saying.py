"""A turn of a conversation -> what the process of a model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Drawn
from morphogen.serve.routes.chat import ChatRequest
from morphogen.serve.routes.completions import CompletionRequest

USUAL = 256  # tokens at most


class Said(BaseModel):
    """One more turn."""

    text: str | None = None  # none: another answer, or what follows
    after: int | None = None  # the node that it follows
    system: str = ""  # told before the first turn
    settings: dict[str, str] = {}  # seed, most, and how tokens are drawn


def work_of(name: str, said: Said, path: Sequence[Any], *, chats: bool) -> dict[str, Any]:
    """What is asked of a model, after a path of turns. Raises `APIError` for settings that cannot
    be."""
    told: dict[str, Any] = {
        key: value for key, value in said.settings.items() if key in Drawn.model_fields and value
    }
    told |= {"model": name, "max_tokens": said.settings.get("most") or USUAL}
    try:
        if not chats:
            text = "".join([each.text for each in path] if said.text is None else [said.text])
            return CompletionRequest.model_validate({**told, "prompt": text}).work()
        messages = [{"role": each.role, "content": each.text} for each in path]
        if said.system and not messages:
            messages.append({"role": "system", "content": said.system})
        if said.text is not None:
            messages.append({"role": "user", "content": said.text})
        return ChatRequest.model_validate({**told, "messages": messages}).work()
    except ValidationError as error:
        first = error.errors()[0]
        raise APIError(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def prompt_of(work: Mapping[str, Any]) -> Any:
    """What of it is recorded as the prompt."""
    return work["messages"] if "messages" in work else work["prompts"][0]

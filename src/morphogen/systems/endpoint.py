"""A model behind an address that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, hosted ones.

POST ADDRESS/chat/completions  {"model", "messages", ..}  ->  {"choices": [{"message", ..}]}
POST ADDRESS/embeddings        {"model", "input", ..}     ->  {"data": [{"embedding", "index"}]}
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from morphogen.core.border import check_shape
from morphogen.core.errors import MorphogenError
from morphogen.modalities.text.chat import Message

TRIES, PAUSE = 4, 1.0  # of a request that was turned away; seconds before the second, then doubled
BUSY = {408, 409, 425, 429, 500, 502, 503, 504}
MOST = 1 << 28  # bytes of an answer
_CALLS = [{"function": {"name": str, "arguments": (str, dict)}}]
_MESSAGE = {"content?": (str, None), "tool_calls?": (_CALLS, None)}
ANSWER = {
    "choices": [{"message": _MESSAGE, "finish_reason?": (str, None)}],
    "usage?": ({"completion_tokens?": (int, None)}, None),
}
VECTORS = {"data": [{"embedding": list, "index": int}]}


def is_address(name: str) -> bool:
    """Whether a model is named by where it answers."""
    return name.startswith(("http://", "https://"))


class Endpoint:
    """Asks a model at an address."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        key_from: str = "OPENAI_API_KEY",  # environment variable with the key, where one is asked
        seconds: float = 120.0,  # that an answer may take
    ) -> None:
        self.address, self.model = address.rstrip("/"), model
        self.key_from, self.seconds = key_from, seconds

    def answer(self, messages: Sequence[Message], **options: Any) -> tuple[str, bool]:
        """What it says to messages, and whether it came to its end."""
        told = self.asked([each.to_json() for each in messages], **options)
        first = told["choices"][0]
        return first["message"].get("content") or "", first.get("finish_reason") != "length"

    def asked(
        self, messages: Sequence[Mapping[str, Any]], *, seconds: float | None = None, **options: Any
    ) -> dict[str, Any]:
        """All that comes back for messages: choices, of which there is one at least. It may take
        `seconds`, all tries together. Raises `MorphogenError` where nothing comes."""
        given = {name: value for name, value in options.items() if value is not None}
        body = {"messages": list(messages), **given}
        told: dict[str, Any] = self._posted("chat/completions", body, ANSWER, seconds)
        if not told["choices"]:
            raise MorphogenError("the answer holds nothing", where=self.address)
        return told

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text."""
        asked = {"input": list(texts), "encoding_format": "float"}
        told = self._posted("embeddings", asked, VECTORS)
        ordered = sorted(told["data"], key=lambda each: each["index"])
        if len(ordered) != len(texts):
            raise MorphogenError("there is not a vector for each text", where=self.address,
                                 found=len(ordered), expected=len(texts))  # fmt: skip
        return [each["embedding"] for each in ordered]

    def _posted(
        self, route: str, asked: Mapping[str, Any], shape: Any, seconds: float | None = None
    ) -> Any:
        """What comes back, of a shape. Asks again where the server has too much to do."""
        until = time.monotonic() + (TRIES * self.seconds if seconds is None else seconds)
        place, body = f"{self.address}/{route}", json.dumps({"model": self.model, **asked}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_from):
            headers["Authorization"] = f"Bearer {key}"
        for number in range(TRIES):
            request = urllib.request.Request(place, body, headers)
            pause = PAUSE * 2**number
            try:
                most = min(self.seconds, max(until - time.monotonic(), 0.1))
                with urllib.request.urlopen(request, timeout=most) as answer:
                    told = json.loads(answer.read(MOST))
                check_shape(told, shape, place)
                return told
            except urllib.error.HTTPError as error:
                said = f"{error.code}: {error.read(400).decode('utf-8', 'replace').strip()[:200]}"
                pause = max(pause, _asked_to_wait(error))
                if error.code not in BUSY or self._gives_up(number, pause, until):
                    raise self._refused(said) from error
            except ValueError as error:
                raise MorphogenError(
                    "the answer is no JSON", found=str(error), where=place,
                    hint="an address ends with /v1, as a rule",
                ) from error  # fmt: skip
            except OSError as error:
                if self._gives_up(number, pause, until):
                    raise self._refused(str(getattr(error, "reason", error))) from error
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _gives_up(self, number: int, pause: float, until: float) -> bool:
        """Whether there is no further try, or no time for one."""
        return number == TRIES - 1 or time.monotonic() + pause > until

    def _refused(self, found: str) -> MorphogenError:
        return MorphogenError(
            "the model does not answer", found=found, where=self.address,
            hint=f"check the address, the model's name, and the key in {self.key_from}",
        )  # fmt: skip


def _asked_to_wait(error: urllib.error.HTTPError) -> float:
    """The seconds that a server wants to be left alone for; dates are not read."""
    told = error.headers.get("Retry-After", "")
    return float(told) if told.isdecimal() else 0.0

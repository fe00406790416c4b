"""A model behind an address that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, hosted ones.

POST ADDRESS/chat/completions  {"model", "messages", ..}  ->  {"choices": [{"message", ..}]}
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from morphogen.core.border import check_shape
from morphogen.core.errors import MorphogenError
from morphogen.modalities.text.chat import Message

TRIES, PAUSE = 4, 1.0  # of a request that was turned away; seconds before the second, then doubled
BUSY = {408, 409, 425, 429, 500, 502, 503, 504}
MOST = 1 << 24  # bytes of an answer
ANSWER = {"choices": [{"message": {"content?": (str, None)}, "finish_reason?": (str, None)}]}


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
        asked = {
            "model": self.model, "messages": [each.to_json() for each in messages],
            **{name: value for name, value in options.items() if value is not None},
        }  # fmt: skip
        told = self._posted(json.dumps(asked).encode())
        check_shape(told, ANSWER, self.address)
        if not told["choices"]:
            raise MorphogenError("the answer holds nothing", where=self.address)
        first = told["choices"][0]
        return first["message"].get("content") or "", first.get("finish_reason") != "length"

    def _posted(self, body: bytes) -> Any:
        """What comes back. Asks again where the server has too much to do."""
        place = f"{self.address}/chat/completions"
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_from):
            headers["Authorization"] = f"Bearer {key}"
        for number in range(TRIES):
            request = urllib.request.Request(place, body, headers)
            try:
                with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                    return json.loads(answer.read(MOST))
            except urllib.error.HTTPError as error:
                said = error.read(400).decode("utf-8", "replace").strip()
                if error.code not in BUSY or number == TRIES - 1:
                    raise self._refused(f"{error.code}: {said[:200]}") from error
            except ValueError as error:
                raise MorphogenError(
                    "the answer is no JSON", found=str(error), where=place,
                    hint="an address ends with /v1, as a rule",
                ) from error  # fmt: skip
            except OSError as error:
                if number == TRIES - 1:
                    raise self._refused(str(getattr(error, "reason", error))) from error
            time.sleep(PAUSE * 2**number)
        raise AssertionError("the last try returns or raises")

    def _refused(self, found: str) -> MorphogenError:
        return MorphogenError(
            "the teacher does not answer", found=found, where=self.address,
            hint=f"check the address, --model, and the key in {self.key_from}; what was answered "
            "is kept: the same command goes on",
        )  # fmt: skip

"""`/v1/completions`: texts that go on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from morphogen.serve.answer import Answer
from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Drawn, ResponseFormat, usage_of
from morphogen.serve.routes._streams import handed_over
from morphogen.serve.serving import Here

USUAL = 16  # tokens, as OpenAI has it

router = APIRouter()

Tokens = Annotated[list[int], Field(min_length=1)]


class CompletionRequest(Drawn):
    """A prompt to go on from."""

    prompt: str | Tokens | Annotated[list[str], Field(min_length=1, max_length=1)] = ""
    max_tokens: int | None = Field(USUAL, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = False
    suffix: str | None = None
    best_of: int | None = Field(None, ge=1)
    response_format: ResponseFormat | None = None

    def work(self) -> dict[str, Any]:
        """As the process of a model is asked. Raises `APIError` for what is not known here."""
        prompt: Any = self.prompt
        if isinstance(prompt, list) and isinstance(prompt[0], str):
            prompt = prompt[0]
        if self.suffix:
            raise APIError(400, "these models do not see what comes after", param="suffix",
                           code="unsupported_parameter")  # fmt: skip
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise APIError(400, "best_of is not known here: ask for n", param="best_of",
                           code="unsupported_parameter")  # fmt: skip
        if self.echo and (self.logprobs is not None or not isinstance(prompt, str)):
            raise APIError(400, "echo repeats a text, without logprobs", param="echo",
                           code="unsupported_parameter")  # fmt: skip
        work = {"do": "complete", **self.drawn(), "prompt": prompt, "most": self.max_tokens}
        if self.logprobs is not None:
            work["alternatives"] = self.logprobs
        if self.response_format and (constraint := self.response_format.constraint()):
            work["constraint"] = constraint
        return work


@router.post("/v1/completions")
async def completions(
    asked: CompletionRequest, request: Request, here: Here, access: Generates
) -> Response:
    """Go on from a prompt."""
    entry, work = here.entry(asked.model), asked.work()
    prompt = work["prompt"] if isinstance(work["prompt"], str) else str(work["prompt"])
    answer = await Answer.begin(here, entry, work, prompt=prompt, access=access)
    told = Completion(answer, asked, prompt if asked.echo else "")
    chunks = told.chunks if asked.stream else None
    return await handed_over(request, answer, told.whole, chunks)


class Completion:
    """Events of a model -> completions, or the chunks of them."""

    def __init__(self, answer: Answer, asked: CompletionRequest, echoed: str) -> None:
        self.answer, self.asked = answer, asked
        self.created = int(time.time())
        self.texts = [echoed] * (asked.n or 1)
        self.finishes: list[str | None] = [None] * len(self.texts)
        self.tokens: list[list[Mapping[str, Any]]] = [[] for _ in self.texts]

    async def whole(self) -> dict[str, Any]:
        """All at once."""
        usage: dict[str, Any] = {}
        async for event in self.answer.events():
            self._note(event)
            usage = event.get("done", usage)
        await self._finish(usage)
        choices = [
            self._choice(row, text, self.tokens[row], self.finishes[row])
            for row, text in enumerate(self.texts)
        ]
        return self._body(choices, usage=usage_of(usage), morphogen=self.answer.about())

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Piece by piece."""
        usage: dict[str, Any] = {}
        more = {"usage": None} if self.asked.tells_usage else {}
        for row, text in enumerate(self.texts):
            yield self._body([self._choice(row, text)], morphogen=self.answer.about(), **more)
        async for event in self.answer.events():
            self._note(event)
            usage = event.get("done", usage)
            if event.get("text") or event.get("tokens"):
                piece = self._choice(event["row"], event["text"], event.get("tokens", []))
                yield self._body([piece], **more)
        await self._finish(usage)
        for row, finish in enumerate(self.finishes):
            yield self._body([self._choice(row, "", finish=finish)], **more)
        if self.asked.tells_usage:
            yield self._body([], usage=usage_of(usage))

    def _note(self, event: Mapping[str, Any]) -> None:
        if "text" in event:
            self.texts[event["row"]] += event["text"]
            self.tokens[event["row"]] += event.get("tokens", [])
        elif "finish" in event:
            self.finishes[event["row"]] = event["finish"]

    async def _finish(self, usage: Mapping[str, Any]) -> None:
        text = "\n\n".join(self.texts)
        await self.answer.finish(text, reason=self.finishes[0] or "stop", usage=usage)

    def _choice(
        self,
        row: int,
        text: str,
        tokens: list[Mapping[str, Any]] | None = None,
        finish: str | None = None,
    ) -> dict[str, Any]:
        log_probs = None
        if tokens and self.asked.logprobs is not None:
            log_probs = {
                "tokens": [each["token"] for each in tokens],
                "token_logprobs": [each["log_prob"] for each in tokens],
                "top_logprobs": [
                    {top["token"]: top["log_prob"] for top in each["top"]} for each in tokens
                ],
            }
        return {"index": row, "text": text, "logprobs": log_probs, "finish_reason": finish}

    def _body(self, choices: list[Any], **more: Any) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self.answer.id}",
            "object": "text_completion",
            "created": self.created,
            "model": self.answer.entry.name,
            "choices": choices,
            **more,
        }

"""`/v1/completions`: texts that go on."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from morphogen.serve.answer import Answer
from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import MOST_CHOICES, Drawn, ResponseFormat, usage_of
from morphogen.serve.routes._streams import handed_over
from morphogen.serve.serving import Here

USUAL = 16  # tokens, as OpenAI has it
MOST_TEXTS = 1024  # of one request

router = APIRouter()

Tokens = Annotated[list[int], Field(min_length=1)]
Prompt = str | Tokens


class CompletionRequest(Drawn):
    """Prompts to go on from, each as if it were asked alone."""

    prompt: Prompt | Annotated[list[str] | list[Tokens], Field(min_length=1)] = ""
    max_tokens: int | None = Field(USUAL, ge=0)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = False  # the prompt comes first, its tokens among the log probabilities
    suffix: str | None = None
    best_of: int | None = Field(None, ge=1, le=MOST_CHOICES)  # drawn; the likeliest n are told
    response_format: ResponseFormat | None = None

    def work(self) -> dict[str, Any]:
        """As the process of a model is asked. Raises `APIError` for what is not known here."""
        prompts = self.prompts()
        if (num := len(prompts) * self.num_drawn) > MOST_TEXTS:
            raise APIError(400, f"{num:,} texts at once; {MOST_TEXTS:,} may be asked for",
                           param="prompt", code="invalid_value")  # fmt: skip
        if self.suffix:
            raise APIError(400, "suffix: these models do not see what comes after", param="suffix",
                           code="unsupported_parameter")  # fmt: skip
        work: dict[str, Any] = {
            "do": "complete", **self.drawn(), "prompts": prompts, "most": self.max_tokens
        }  # fmt: skip
        if self.chooses:
            if self.num_drawn < (self.n or 1):
                raise APIError(400, "best_of is n or more", param="best_of", code="invalid_value")
            if self.stream:
                raise APIError(400, "the best are known at the end: best_of cannot be streamed",
                               param="stream", code="invalid_value")  # fmt: skip
            work["num"] = self.num_drawn
        if self.logprobs is not None or self.chooses:
            work["alternatives"] = self.logprobs or 0
        if self.echo:
            work["echo"] = True
        if self.response_format and (constraint := self.response_format.constraint()):
            work["constraint"] = constraint
        return work

    def prompts(self) -> list[str | list[int]]:
        """One, or several."""
        told: Any = self.prompt
        several = isinstance(told, list) and not isinstance(told[0], int)
        return told if several else [told]

    @property
    def num_drawn(self) -> int:
        """How many texts are drawn from each."""
        return self.best_of or self.n or 1

    @property
    def chooses(self) -> bool:
        """Whether more are drawn than told."""
        return self.num_drawn != (self.n or 1)


@router.post("/v1/completions")
async def completions(
    asked: CompletionRequest, request: Request, here: Here, access: Generates
) -> Response:
    """Go on from a prompt."""
    entry, work = here.entry(asked.model), asked.work()
    prompt = "\n\n".join(map(str, work["prompts"]))
    answer = await Answer.begin(here, entry, work, prompt=prompt, access=access)
    told = Completion(answer, asked)
    chunks = told.chunks if asked.stream else None
    return await handed_over(request, answer, told.whole, chunks)


class Completion:
    """Events of a model -> completions, or the chunks of them."""

    def __init__(self, answer: Answer, asked: CompletionRequest) -> None:
        self.answer, self.asked = answer, asked
        self.created = int(time.time())
        self.texts = [""] * (len(asked.prompts()) * asked.num_drawn)
        self.finishes: list[str | None] = [None] * len(self.texts)
        self.tokens: list[list[Mapping[str, Any]]] = [[] for _ in self.texts]
        self.num_given = [0] * len(self.texts)  # tokens of the prompt
        self.rows = list(range(len(self.texts)))  # that are told, in this order

    async def whole(self) -> dict[str, Any]:
        """All at once."""
        usage: dict[str, Any] = {}
        async for event in self.answer.events():
            self._note(event)
            usage = event.get("done", usage)
        if self.asked.chooses:
            self.rows = self._best()
        await self._finish(usage)
        choices = [
            self._choice(place, self.texts[row], self.tokens[row], self.finishes[row])
            for place, row in enumerate(self.rows)
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
            row, tokens = event["row"], event.get("tokens", [])
            self.texts[row] += event["text"]
            self.tokens[row] += tokens
            self.num_given[row] += len(tokens) if event.get("given") else 0
        elif "finish" in event:
            self.finishes[event["row"]] = event["finish"]

    async def _finish(self, usage: Mapping[str, Any]) -> None:
        text = "\n\n".join(self.texts[row] for row in self.rows)
        reason = self.finishes[self.rows[0]] or "stop"
        await self.answer.finish(text, reason=reason, usage=usage)

    def _best(self) -> list[int]:
        """The likeliest from each prompt."""
        num, wanted, best = self.asked.num_drawn, self.asked.n or 1, list[int]()
        for first in range(0, len(self.texts), num):
            rows = sorted(range(first, first + num), key=self._log_prob, reverse=True)
            best += rows[:wanted]
        return best

    def _log_prob(self, row: int) -> float:
        """Of a token of what was drawn, on average."""
        told = [each["log_prob"] for each in self.tokens[row][self.num_given[row] :]]
        drawn = [each for each in told if each is not None]
        return sum(drawn) / len(drawn) if drawn else -math.inf

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

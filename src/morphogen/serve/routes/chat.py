"""`/v1/chat/completions`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from morphogen.serve.answer import Answer
from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.grounds import Grounds, Judged, keep_trace, steps_of
from morphogen.serve.routes._asked import Drawn, ResponseFormat, usage_of
from morphogen.serve.routes._grounded import begun, cited_in
from morphogen.serve.routes._streams import handed_over
from morphogen.serve.serving import Here
from morphogen.systems.calls import Call, CallReader, schema_of

MOST_MESSAGES = 4096

router = APIRouter()
Delta = tuple[int, dict[str, Any], str | None]  # of which choice, what, and why it is over


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class FunctionCall(BaseModel):
    """What is called, with what."""

    model_config = ConfigDict(extra="allow")

    name: str
    arguments: str = "{}"


class ToolCall(BaseModel):
    """A call that an assistant made."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Said(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def text(self, place: str) -> str:
        """Its content as one text."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        for part in self.content:
            if part.type not in ("text", "input_text", "output_text") or part.text is None:
                raise APIError(
                    400, f"this model reads texts, and {place} has a part of type {part.type!r}",
                    param=place, code="unsupported_content",
                )  # fmt: skip
        return "".join(part.text or "" for part in self.content)


class Function(BaseModel):
    """A function that may be called."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    """What a model may use."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: Function


class Named(BaseModel):
    """The name of a function."""

    model_config = ConfigDict(extra="allow")

    name: str


class Chosen(BaseModel):
    """A function that must be called."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"] = "function"
    function: Named


class ChatRequest(Drawn):
    """A conversation to go on with."""

    messages: Annotated[list[Said], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    index: str | None = Field(None, description="documents to answer from")
    num_passages: int | None = Field(None, ge=1, le=50)

    def work(self) -> dict[str, Any]:
        """As the process of a model is asked. Raises `APIError` for what does not fit together."""
        work: dict[str, Any] = {"do": "chat", **self.drawn(), "messages": plain(self.messages)}
        if most := self.max_completion_tokens or self.max_tokens:
            work["most"] = most
        if self.top_logprobs and not self.logprobs:
            raise APIError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
        if self.logprobs:
            work["alternatives"] = self.top_logprobs or 0
        if self.response_format and (constraint := self.response_format.constraint()):
            work["constraint"] = constraint
        if tools := self.offered():
            work["tools"] = [tool.model_dump(exclude_none=True) for tool in tools]
            if self.must_call:
                work["tool_choice"] = "required"
                work["constraint"] = ("schema", json.dumps(schema_of(work["tools"])))
        return work

    def offered(self) -> list[Tool]:
        """The functions that may be called."""
        if self.tool_choice == "none" or not self.tools:
            if self.must_call:
                raise APIError(400, "there are no tools to choose from", param="tool_choice")
            return []
        if not isinstance(self.tool_choice, Chosen):
            return self.tools
        name = self.tool_choice.function.name
        found = [tool for tool in self.tools if tool.function.name == name]
        if not found:
            raise APIError(400, f"there is no tool {name!r}", param="tool_choice")
        return found

    @property
    def must_call(self) -> bool:
        """Whether a function has to be called."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, Chosen)


def plain(messages: Sequence[Said]) -> list[dict[str, Any]]:
    """Messages as a model reads them. Raises `APIError` for calls without answers, and answers
    without calls."""
    told, waiting = [], set[str]()
    for number, each in enumerate(messages):
        place = f"messages.{number}"
        if each.role == "tool":
            if each.tool_call_id not in waiting:
                raise APIError(
                    400, f"{place} answers no call of the message before it: {each.tool_call_id!r}",
                    param=place, code="orphan_tool_message",
                )  # fmt: skip
            waiting.discard(each.tool_call_id)
        elif waiting:
            raise APIError(
                400, f"calls were not answered before {place}: {', '.join(sorted(waiting))}",
                param=place, code="orphan_tool_calls",
            )  # fmt: skip
        said: dict[str, Any] = {
            "role": {"developer": "system", "function": "tool"}.get(each.role, each.role),
            "content": each.text(f"{place}.content"),
        }
        if each.role == "tool":
            said["tool_call_id"] = each.tool_call_id
        if each.tool_calls:
            waiting |= {call.id for call in each.tool_calls}
            said["tool_calls"] = [
                {"id": call.id, "type": "function", "function": call.function.model_dump()}
                for call in each.tool_calls
            ]
        told.append(said)
    if waiting:
        raise APIError(
            400, f"calls were not answered: {', '.join(sorted(waiting))}", param="messages",
            code="orphan_tool_calls",
        )  # fmt: skip
    return told


@router.post("/v1/chat/completions")
async def chat(asked: ChatRequest, request: Request, here: Here, access: Generates) -> Response:
    """Go on with a conversation; with an index, from what its documents say."""
    answer, grounds = await begun(here, asked, access)
    told = ChatAnswer(answer, asked, grounds)
    chunks = told.chunks if asked.stream else None
    return await handed_over(request, answer, told.whole, chunks)


class ChatAnswer:
    """Events of a model -> an answer, or the chunks of one."""

    def __init__(self, answer: Answer, asked: ChatRequest, grounds: Grounds | None = None) -> None:
        self.answer, self.asked, self.grounds = answer, asked, grounds
        self.created = int(time.time())
        names = [tool.function.name for tool in asked.offered()]
        self.readers = [
            CallReader(names, must=asked.must_call) if names else None for _ in range(asked.n or 1)
        ]
        self.texts = [""] * (asked.n or 1)
        self.calls: list[list[Call]] = [[] for _ in self.texts]
        self.judged = [Judged()] * len(self.texts)
        self.trace: Mapping[str, Any] | None = None  # of the run, where an agent answers

    @property
    def stands_on(self) -> Grounds:
        """What an answer from documents stands on."""
        assert self.grounds is not None
        return self.grounds

    async def whole(self) -> dict[str, Any]:
        """The answer at once."""
        finishes: list[str | None] = [None] * len(self.texts)
        log_probs: list[list[dict[str, Any]]] = [[] for _ in self.texts]
        usage: dict[str, Any] = {}
        async for event in self.answer.events():
            for row, delta, finish in self._deltas(event):
                log_probs[row] += (delta.get("logprobs") or {}).get("content") or []
                finishes[row] = finish or finishes[row]
            usage = event.get("done", usage)
        await self._finish(finishes, usage)
        choices = [
            {
                "index": row,
                "message": self._message(row),
                "logprobs": {"content": log_probs[row]} if self.asked.logprobs else None,
                "finish_reason": finishes[row],
            }
            for row in range(len(self.texts))
        ]
        return self._body("chat.completion", choices, usage=usage_of(usage)) | {
            "morphogen": self._about()
        }

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The answer piece by piece."""
        first = {"role": "assistant", "content": ""}
        for row in range(len(self.texts)):
            yield self._chunk(row, first) | {"morphogen": self._about()}
        finishes: list[str | None] = [None] * len(self.texts)
        usage: dict[str, Any] = {}
        async for event in self.answer.events():
            for row, delta, finish in self._deltas(event):
                if finish is None:
                    yield self._chunk(row, **delta)
                finishes[row] = finish
            usage = event.get("done", usage)
        await self._finish(finishes, usage)
        for row, finish in enumerate(finishes):
            if self.grounds is not None:
                cited = {"annotations": cited_in(self.judged[row])}
                yield self._chunk(row, cited) | {"morphogen": self._about()}
            yield self._chunk(row, {}, finish=finish)
        if self.asked.tells_usage:
            yield self._body("chat.completion.chunk", [], usage=usage_of(usage))

    def _deltas(self, event: Mapping[str, Any]) -> list[Delta]:
        """What an event adds to each choice, and why a choice is over."""
        self.trace = event.get("trace", self.trace)
        row = event.get("row", 0)
        reader = self.readers[row]
        if "finish" in event:
            rest = list(reader.finish()) if reader else []
            told: list[Delta] = [(row, self._said(row, piece), None) for piece in rest]
            calls = self.calls[row] and event["finish"] == "stop"
            return [*told, (row, {}, "tool_calls" if calls else event["finish"])]
        if "text" not in event:
            return []
        pieces = list(reader.feed(event["text"])) if reader else [event["text"]]
        found: list[Delta] = [(row, self._said(row, piece), None) for piece in pieces if piece]
        if tokens := event.get("tokens"):
            found = found or [(row, {"delta": {"content": ""}}, None)]
            found[0][1]["logprobs"] = {"content": [log_prob(token) for token in tokens]}
        return found

    def _said(self, row: int, piece: str | Call) -> dict[str, Any]:
        """A piece of a choice, noted."""
        if isinstance(piece, str):
            self.texts[row] += piece
            return {"delta": {"content": piece}}
        self.calls[row].append(piece)
        told = {"index": len(self.calls[row]) - 1, **piece.to_json()}
        return {"delta": {"tool_calls": [told]}}

    async def _finish(self, finishes: Sequence[str | None], usage: Mapping[str, Any]) -> None:
        if self.grounds is not None:
            self.judged = await self.grounds.judge(self.answer, self.texts)
        if self.trace is not None:
            keep_trace(self.answer, self.trace)
        said = [self._message(row) for row in range(len(self.texts))]
        content = said[0]["content"] or json.dumps(said[0].get("tool_calls"))
        text = content if len(said) == 1 else json.dumps(said)
        await self.answer.finish(text, reason=finishes[0] or "stop", usage=usage)

    def _message(self, row: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.texts[row],
                                   "refusal": None}  # fmt: skip
        if self.calls[row]:
            message["tool_calls"] = [call.to_json() for call in self.calls[row]]
            message["content"] = self.texts[row].strip() or None
        if self.grounds is not None:
            message["annotations"] = cited_in(self.judged[row])
        return message

    def _about(self) -> dict[str, Any]:
        """What every answer carries; one from documents, what it stands on as well."""
        more = {} if self.grounds is None else self.grounds.about(self.judged)
        if self.trace is not None:
            about = {name: self.trace[name] for name in ("digest", "verdict")}
            more = {"run": {**about, "steps": steps_of(self.trace["text"])}}
        return {**self.answer.about(), **more}

    def _chunk(
        self,
        row: int,
        delta: Mapping[str, Any],
        logprobs: Any = None,
        finish: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": row, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        more = {"usage": None} if self.asked.tells_usage else {}
        return self._body("chat.completion.chunk", [choice], **more)

    def _body(self, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
        about = self.answer.about()
        return {
            "id": f"chatcmpl-{self.answer.id}",
            "object": kind,
            "created": self.created,
            "model": self.answer.entry.name,
            "system_fingerprint": str(about["model_hash"])[:16],
            "choices": choices,
            **more,
        }


def log_prob(token: Mapping[str, Any]) -> dict[str, Any]:
    """A token, as it is told with its probability."""
    own = {"token": token["token"], "logprob": token["log_prob"], "bytes": token["bytes"]}
    top = [
        {"token": each["token"], "logprob": each["log_prob"], "bytes": each["bytes"]}
        for each in token.get("top", ())
    ]
    return own | {"top_logprobs": top}

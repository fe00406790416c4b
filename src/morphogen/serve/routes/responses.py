"""`/v1/responses`: conversations as OpenAI's newer clients have them.

A response that follows another (`previous_response_id`) goes on with what the records hold of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, ValidationError

from morphogen.core.errors import MorphogenError
from morphogen.serve.answer import Answer
from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.grounds import Grounds
from morphogen.serve.routes._asked import Asked
from morphogen.serve.routes._grounded import SEARCH, begun, cited_files, search_of, searched
from morphogen.serve.routes._streams import handed_over
from morphogen.serve.routes.chat import ChatAnswer, ChatRequest
from morphogen.serve.serving import Here, Serving
from morphogen.systems.calls import Call

ID = "resp_"

router = APIRouter()


class ResponseRequest(Asked):
    """What is said, and how it is to be answered."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = False
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    include: list[str] | None = None
    index: str | None = Field(None, description="documents to answer from, as `file_search` does")

    def as_chat(self, before: list[dict[str, Any]]) -> ChatRequest:
        """The same as a conversation. Raises `APIError` for what is not known here."""
        said = [{"role": "system", "content": self.instructions}] if self.instructions else []
        told: dict[str, Any] = {
            "model": self.model, "messages": [*said, *before, *self._messages()],
            "max_completion_tokens": self.max_output_tokens, "temperature": self.temperature,
            "top_p": self.top_p, "seed": self.seed, "stream": self.stream,
        }  # fmt: skip
        found, told["num_passages"] = search_of(self.tools)
        told["index"] = found or self.index
        form = (self.text or {}).get("format") or {}
        if form.get("type", "text") != "text":
            told["response_format"] = {"type": form["type"], "json_schema": form}
        if functions := [tool for tool in self.tools or () if tool.get("type") != SEARCH]:
            told["tools"] = [
                {
                    "type": tool.get("type"),
                    "function": {k: v for k, v in tool.items() if k in KNOWN},
                }
                for tool in functions
            ]
        choice = self.tool_choice
        if isinstance(choice, dict) and choice.get("type") == SEARCH:
            choice = None  # it is done in any case
        if isinstance(choice, dict):
            told["tool_choice"] = {"function": {"name": choice.get("name")}}
        else:
            told["tool_choice"] = choice
        try:
            return ChatRequest.model_validate(told)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])).replace("messages", "input")
            raise APIError(400, f"{place}: {first['msg']}", param=place,
                           code=first["type"]) from error  # fmt: skip

    def _messages(self) -> list[dict[str, Any]]:
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        return [_message(each, place) for place, each in enumerate(self.input)]


KNOWN = {"name", "description", "parameters"}  # of a function


def _message(each: Mapping[str, Any], place: int) -> dict[str, Any]:
    kind = each.get("type", "message")
    if kind == "message":
        return {"role": each.get("role"), "content": each.get("content")}
    if kind == "function_call":
        call = {"name": each.get("name"), "arguments": each.get("arguments", "{}")}
        return {"role": "assistant", "tool_calls": [{"id": each.get("call_id"), "function": call}]}
    if kind == "function_call_output":
        output = each.get("output")
        content = output if isinstance(output, str) else json.dumps(output)
        return {"role": "tool", "tool_call_id": each.get("call_id"), "content": content}
    raise APIError(400, f"an input of type {kind!r} is not known here", param=f"input.{place}",
                   code="unsupported_content")  # fmt: skip


@router.post("/v1/responses")
async def responses(
    asked: ResponseRequest, request: Request, here: Here, access: Generates
) -> Response:
    """Answer, and remember what was said."""
    before = await _before(here, asked.previous_response_id, access)
    chat = asked.as_chat(before)
    answer, grounds = await begun(here, chat, access)
    told = Responding(answer, chat, asked, grounds)
    chunks = told.happenings if asked.stream else None
    return await handed_over(request, answer, told.response, chunks, named=True)


async def _before(here: Serving, name: str | None, access: Any) -> list[dict[str, Any]]:
    """The messages of an earlier response, its own among them."""
    if name is None:
        return []
    unknown = APIError(404, f"there is no response {name!r}", param="previous_response_id",
                       code="previous_response_not_found")  # fmt: skip
    if here.records is None or not name.startswith(ID):
        raise unknown
    try:
        kept = await asyncio.to_thread(here.records.generations.get, name.removeprefix(ID))
    except MorphogenError as error:
        raise unknown from error
    if kept.user_id != access.user.id or kept.answer is None:
        raise unknown
    return [
        {"role": each.role, "content": each.text}
        for each in (*kept.prompt, kept.answer)
        if each.role in ("user", "assistant")
    ]


class Responding(ChatAnswer):
    """Events of a model -> a response, or what happens to one."""

    def __init__(
        self, answer: Answer, chat: ChatRequest, asked: ResponseRequest, grounds: Grounds | None
    ) -> None:
        super().__init__(answer, chat, grounds)
        self.request = asked
        self.finish: str | None = None
        self.usage: Mapping[str, Any] = {}

    async def response(self) -> dict[str, Any]:
        """All at once."""
        async for event in self.answer.events():
            self._note(event)
        await self._finish([self.finish], self.usage)
        return self._response()

    async def happenings(self) -> AsyncIterator[dict[str, Any]]:
        """Step by step."""
        number = 0

        def told(kind: str, **more: Any) -> dict[str, Any]:
            nonlocal number
            number += 1
            return {"type": kind, "sequence_number": number - 1, **more}

        yield told("response.created", response=self._response("in_progress"))
        yield told("response.in_progress", response=self._response("in_progress"))
        before = self._searches()
        for search in before:
            begins = {**search, "status": "in_progress"}
            yield told("response.output_item.added", output_index=0, item=begins)
            for state in ("in_progress", "searching", "completed"):
                yield told(f"response.file_search_call.{state}", output_index=0,
                           item_id=search["id"])  # fmt: skip
            yield told("response.output_item.done", output_index=0, item=search)
        first = len(before)  # of the message among the items
        place = {"output_index": first, "content_index": 0, "item_id": f"msg_{self.answer.id}"}
        is_open = False
        async for event in self.answer.events():
            for piece in self._note(event):
                if not is_open:
                    is_open = True
                    yield told("response.output_item.added", output_index=first,
                               item=self._said_item("in_progress", ""))  # fmt: skip
                    yield told("response.content_part.added", **place, part=_part(""))
                yield told("response.output_text.delta", **place, delta=piece, logprobs=[])
        await self._finish([self.finish], self.usage)
        text = self.texts[0]
        if is_open:
            cited = cited_files(self.judged[0])
            for index, each in enumerate(cited):
                yield told("response.output_text.annotation.added", **place,
                           annotation_index=index, annotation=each)  # fmt: skip
            yield told("response.output_text.done", **place, text=text, logprobs=[])
            yield told("response.content_part.done", **place, part=_part(text, cited))
        for index, item in enumerate(self._output()[first:], first):
            if item["type"] == "function_call":
                yield told("response.output_item.added", output_index=index, item=item)
                yield told("response.function_call_arguments.done", output_index=index,
                           item_id=item["id"], name=item["name"],
                           arguments=item["arguments"])  # fmt: skip
            yield told("response.output_item.done", output_index=index, item=item)
        whole = self._response()
        yield told(f"response.{whole['status']}", response=whole)

    def _note(self, event: Mapping[str, Any]) -> list[str]:
        """Take an event; the pieces of text in it."""
        pieces = []
        for _, delta, finish in self._deltas(event):
            if piece := delta.get("delta", {}).get("content"):
                pieces.append(piece)
            self.finish = finish or self.finish
        self.usage = event.get("done", self.usage)
        return pieces

    def _response(self, status: str | None = None) -> dict[str, Any]:
        cut = self.finish == "length"
        status = status or ("incomplete" if cut else "completed")
        asked = self.request
        return {
            "id": f"{ID}{self.answer.id}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.answer.entry.name,
            "output": [] if status == "in_progress" else self._output(),
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": None,
            "instructions": asked.instructions,
            "metadata": {},
            "parallel_tool_calls": True,
            "previous_response_id": asked.previous_response_id,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "usage": None if status == "in_progress" else self._taken(),
            "morphogen": self._about(),
        }

    def _taken(self) -> dict[str, Any]:
        read, written = (self.usage.get(f"{k}_tokens", 0) for k in ("prompt", "completion"))
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }

    def _output(self) -> list[dict[str, Any]]:
        status = "incomplete" if self.finish == "length" else "completed"
        text = self.texts[0]
        said = [self._said_item(status, text)] if text or not self.calls[0] else []
        return [*self._searches(), *said, *(_called(call) for call in self.calls[0])]

    def _searches(self) -> list[dict[str, Any]]:
        return [] if self.grounds is None else [searched(self.grounds, self.request)]

    def _said_item(self, status: str, text: str) -> dict[str, Any]:
        return {
            "type": "message",
            "id": f"msg_{self.answer.id}",
            "role": "assistant",
            "status": status,
            "content": (
                [_part(text, cited_files(self.judged[0]))] if status != "in_progress" else []
            ),
        }


def _part(text: str, cited: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(cited), "logprobs": []}


def _called(call: Call) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call.id}",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }

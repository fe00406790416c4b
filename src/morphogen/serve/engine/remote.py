"""A model of another server that speaks OpenAI's API: vLLM, llama.cpp, Ollama, another of ours.

    # models/large.toml
    url = "http://127.0.0.1:8001/v1"
    model = "qwen3-8b"
    key_env = "VLLM_KEY"        # the variable that holds its key, if it wants one

It is asked as the process of a model is, and gives the same events.
"""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx

from morphogen.core.errors import RecipeError
from morphogen.serve.catalogue import Entry
from morphogen.serve.engine.running import Asked, Running
from morphogen.serve.settings import Settings
from morphogen.systems.calls import CLOSE, OPEN

SECONDS = httpx.Timeout(600, connect=5)
KNOWN = {"url", "model", "key_env"}
Event = dict[str, Any]


class RemoteModel(Running):
    """A model that is asked over HTTP: nothing is opened, and nothing crashes but a connection."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        super().__init__(entry, settings)
        self.going: dict[int, asyncio.Task[None]] = {}
        self.client: httpx.AsyncClient | None = None

    @property
    def is_alive(self) -> bool:
        """See `Running`."""
        return self.client is not None

    @property
    def memory(self) -> int:
        """See `Running`."""
        return 0

    async def start(self) -> None:
        """See `Running`: read where it is."""
        told = _read(self.entry)
        key = os.environ.get(told.get("key_env", ""), "")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.name = told["model"]
        self.about = {"family": "remote", "modality": "text", "chats": True, "hash": None,
                      "rows": self.settings.rows, "tasks": {}}  # fmt: skip
        self.client = httpx.AsyncClient(base_url=told["url"], headers=headers, timeout=SECONDS)

    async def stop(self) -> None:
        """See `Running`: let go of the connections."""
        for task in self.going.values():
            task.cancel()
        if self.client is not None:
            await self.client.aclose()
        self.client = None

    async def _hand_in(self, asked: Asked, work: Mapping[str, Any]) -> None:
        task = asyncio.ensure_future(self._run(asked, work))
        self.going[asked.number] = task
        task.add_done_callback(lambda _: self.going.pop(asked.number, None))

    def _give_up(self, asked: Asked) -> None:
        """Closing the connection tells the other server."""
        if (task := self.going.get(asked.number)) is not None:
            task.cancel()

    async def _run(self, asked: Asked, work: Mapping[str, Any]) -> None:
        try:
            async for event in self._events(work):
                asked.came.put_nowait({"id": asked.number, **event})
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            message = f"the server of {self.entry.name} failed: {type(error).__name__}"
            failed = {"kind": "Remote", "message": message, "code": "remote_failed"}
            asked.came.put_nowait({"error": failed})

    def _events(self, work: Mapping[str, Any]) -> AsyncIterator[Event]:
        known: dict[str, Callable[[Mapping[str, Any]], AsyncIterator[Event]]] = {
            "chat": self._texts, "complete": self._texts, "features": self._vectors
        }  # fmt: skip
        return known.get(work["do"], _refused)(work)

    async def _texts(self, work: Mapping[str, Any]) -> AsyncIterator[Event]:
        assert self.client is not None
        talks = work["do"] == "chat"
        path = "/chat/completions" if talks else "/completions"
        calls: dict[int, dict[int, list[str]]] = {}
        yield {"begun": {}}
        async with self.client.stream("POST", path, json=_body(work, self.name)) as answer:
            if answer.is_error:
                yield await _told(answer)
                return
            usage: Mapping[str, Any] = {}
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    raise ValueError("an error in the stream")
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices", ()):
                    for event in _of_choice(choice, calls, "tools" in work and must_call(work)):
                        yield event
            kinds = ("prompt_tokens", "completion_tokens")
            yield {"done": {kind: usage.get(kind, 0) for kind in kinds}}

    async def _vectors(self, work: Mapping[str, Any]) -> AsyncIterator[Event]:
        assert self.client is not None
        yield {"begun": {}}
        body = {"model": self.name, "input": work["texts"], "encoding_format": "float"}
        answer = await self.client.post("/embeddings", json=body)
        if answer.is_error:
            yield await _told(answer)
            return
        told = answer.json()
        for each in sorted(told["data"], key=lambda each: each["index"]):
            yield {"vector": each["embedding"]}
        yield {"done": {"prompt_tokens": (told.get("usage") or {}).get("prompt_tokens", 0)}}


def must_call(work: Mapping[str, Any]) -> bool:
    """Whether a function has to be called."""
    return work.get("tool_choice", "auto") not in ("auto", "none")


def _of_choice(
    choice: Mapping[str, Any], calls: dict[int, dict[int, list[str]]], must: bool
) -> list[Event]:
    """A choice of a chunk as events. Calls are told once whole, as our models write them."""
    row, events = choice.get("index", 0), list[Event]()
    delta = choice.get("delta") or {}
    for call in delta.get("tool_calls") or ():
        parts = calls.setdefault(row, {}).setdefault(call["index"], ["", ""])
        function = call.get("function") or {}
        parts[0] += function.get("name") or ""
        parts[1] += function.get("arguments") or ""
    text = delta.get("content") if "delta" in choice else choice.get("text")
    tokens = _tokens(choice.get("logprobs"))
    if text or tokens:
        events.append({"row": row, "text": text or "", **({"tokens": tokens} if tokens else {})})
    if (finish := choice.get("finish_reason")) is not None:
        for name, arguments in calls.get(row, {}).values():
            told = json.dumps({"name": name, "arguments": json.loads(arguments or "{}")})
            events.append({"row": row, "text": told if must else f"{OPEN}{told}{CLOSE}"})
        events.append({"row": row, "finish": "length" if finish == "length" else "stop"})
    return events


def _tokens(told: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Log probabilities, as both routes have them, in the form of our own."""
    if not told:
        return []
    if "content" in told:
        return [
            {**_token(each), "top": [_token(top) for top in each.get("top_logprobs") or ()]}
            for each in told["content"] or ()
        ]
    tops = told.get("top_logprobs") or [{}] * len(told["tokens"])
    return [
        {
            **_token({"token": token, "logprob": log_prob}),
            "top": [_token({"token": t, "logprob": p}) for t, p in (top or {}).items()],
        }
        for token, log_prob, top in zip(told["tokens"], told["token_logprobs"], tops, strict=True)
    ]


def _token(each: Mapping[str, Any]) -> dict[str, Any]:
    raw = each.get("bytes")
    return {"token": each["token"], "log_prob": each["logprob"],
            "bytes": list(each["token"].encode()) if raw is None else raw}  # fmt: skip


def _body(work: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Our request as the other server takes it."""
    talks = work["do"] == "chat"
    told: dict[str, Any] = {
        "model": name, "stream": True, "stream_options": {"include_usage": True},
        "n": work.get("num", 1), "seed": work["seed"], **work.get("limits", {}),
    }  # fmt: skip
    told |= {"messages": work["messages"]} if talks else {"prompt": _one_or_all(work["prompts"])}
    if "most" in work:
        told["max_tokens"] = work["most"]
    if "bias" in work:
        told["logit_bias"] = work["bias"]
    if "echo" in work:
        told["echo"] = True
    if work.get("stop"):
        told["stop"] = work["stop"]
    if "alternatives" in work:
        top = {"logprobs": True, "top_logprobs": work["alternatives"]}
        told |= top if talks else {"logprobs": work["alternatives"]}
    if "tools" in work:
        told |= {"tools": work["tools"], "tool_choice": work.get("tool_choice", "auto")}
    elif "constraint" in work:
        schema = {"name": "answer", "schema": json.loads(work["constraint"][1])}
        told["response_format"] = {"type": "json_schema", "json_schema": schema}
    return told


def _one_or_all(prompts: list[Any]) -> Any:
    return prompts[0] if len(prompts) == 1 else prompts


async def _told(answer: httpx.Response) -> Event:
    """What another server refused with."""
    await answer.aread()
    try:
        message = str(answer.json()["error"]["message"])[:1000]
    except (ValueError, LookupError, TypeError):
        message = f"the other server answered {answer.status_code}"
    status = answer.status_code if answer.status_code in (400, 429) else 502
    return {"error": {"kind": "Remote", "message": message, "status": status}}


async def _refused(work: Mapping[str, Any]) -> AsyncIterator[Event]:
    message = "a model of another server writes and embeds texts, and no more is known of it"
    yield {"error": {"kind": "Remote", "message": message, "status": 400}}


def _read(entry: Entry) -> dict[str, str]:
    try:
        told = tomllib.loads(entry.path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{entry.path.name} cannot be read: {error}") from error
    wrong = set(told) - KNOWN or {name for name in ("url", "model") if name not in told}
    if wrong or not all(isinstance(value, str) for value in told.values()):
        raise RecipeError(
            f"{entry.path.name} does not say where a model is", found=", ".join(sorted(wrong)),
            expected='url = "..", model = ".."',
        )  # fmt: skip
    return told

"""What an answer from documents stands on: passages that were found, sentences held against them.

    begun    the index is asked. Where its documents do not say, or no model is to write, it
             answers itself, with a quote; else a model writes from the passages
    judge    a verdict for each sentence: where it is from, or why nothing supports it

All of it is recorded: what was found is an annotation of the retrieval, a generation of its own
that the answer's parameters name; the verdicts are one of the answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from morphogen.serve.answer import Answer
from morphogen.serve.catalogue import Entry
from morphogen.serve.errors import APIError
from morphogen.serve.indexes import ROOT, name_of
from morphogen.serve.serving import Serving

# Annotations: passages; sentences of an answer; the run of an agent.
FOUND, UNSUPPORTED, TRACE = "found", "unsupported", "trace"
NUM = 5  # passages
ROOM = 2  # letters of passages for each token that a model sees at once: some half of its sight


@dataclass(frozen=True)
class Judged:
    """The verdicts of a text's sentences, with where each is from."""

    verdicts: Sequence[Mapping[str, Any]] = ()

    @property
    def unsupported(self) -> float:
        """The share of sentences that nothing supports."""
        marks = [not each["supported"] for each in self.verdicts]
        return sum(marks) / len(marks) if marks else 0.0

    @property
    def citations(self) -> list[Mapping[str, Any]]:
        """The verdicts of what is supported."""
        return [each for each in self.verdicts if each["supported"] and "place" in each]


@dataclass
class Grounds:
    """What was found in an index for a question."""

    here: Serving
    index: Entry
    retrieval: Answer
    question: str
    groups: Sequence[str]  # of whoever asks
    found: Mapping[str, Any]

    @property
    def hits(self) -> Sequence[Mapping[str, Any]]:
        """The passages, best first."""
        told: Sequence[Mapping[str, Any]] = self.found["hits"]
        return told

    async def begin(self, entry: Entry, work: Mapping[str, Any], access: Any) -> Answer:
        """The answer: the index's own where there is nothing to write, else a model's."""
        self._record_found(self.retrieval)
        if self.found["is_silent"] or entry == self.index:
            return self.retrieval
        async with self.retrieval:
            async for _ in self.retrieval.events():
                pass
            await self.retrieval.finish()
        prompt = work["messages"]
        told = {
            **work, "messages": self._messages(prompt), "index": name_of(self.index),
            "retrieval": self.retrieval.id,
        }  # fmt: skip
        answer = await Answer.begin(self.here, entry, told, prompt=prompt, access=access)
        self._record_found(answer)
        return answer

    async def judge(self, answer: Answer, texts: Sequence[str]) -> list[Judged]:
        """Hold each text of an answer against the passages, and record what came of it."""
        process = await self.here.pool.get(self.index)
        passages = [hit["text"] for hit in self.hits]
        asked = await process.ask({"do": "verify", "texts": list(texts), "passages": passages})
        events = [event async for event in asked]
        found = next(event["result"]["verdicts"] for event in events if "result" in event)
        judged = [Judged([self._cited(each) for each in verdicts]) for verdicts in found]
        every = Judged([verdict for each in judged for verdict in each.verdicts])
        told = [{name: each[name] for name in KEPT if name in each} for each in every.verdicts]
        self._annotate(answer, UNSUPPORTED, every.unsupported, told)
        return judged

    def about(self, judged: Sequence[Judged]) -> dict[str, Any]:
        """What an answer carries of it."""
        return {
            "index": name_of(self.index), "retrieval_id": self.retrieval.id,
            "unsupported": [each.unsupported for each in judged],
            "verdicts": [list(each.verdicts) for each in judged],
        }  # fmt: skip

    def _messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A conversation whose question is asked with the passages, under their instructions."""
        told = [dict(each) for each in messages]
        _asked(told)["content"] = self.found["prompt"]
        if told[0]["role"] == "system":
            told[0]["content"] += f"\n\n{self.found['instructions']}"
            return told
        return [{"role": "system", "content": self.found["instructions"]}, *told]

    def _cited(self, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """A verdict with the place of its quote: in which document, from where to where."""
        quoted = verdict["quote"]
        if quoted is None:
            return {**verdict}
        hit = self.hits[quoted["passage"]]
        head = len(hit["text"]) - (hit["end"] - hit["start"])  # of a table, said again
        start, end = (hit["start"] + max(quoted[at] - head, 0) for at in ("start", "end"))
        return {
            **verdict, "place": hit["place"], "title": hit["title"], "heading": hit["heading"],
            "page": hit["page"], "from": start, "to": end,
            "href": href(name_of(self.index), hit["place"], start, end),
        }  # fmt: skip

    def _record_found(self, answer: Answer) -> None:
        told = [{name: hit[name] for name in FOUND_OF} for hit in self.hits]
        self._annotate(answer, FOUND, float(len(told)), told)

    def _annotate(self, answer: Answer, name: str, value: float, told: Any) -> None:
        if self.here.records is not None:
            add = self.here.records.annotations.add
            about = {"index": name_of(self.index), "groups": self.groups, "said": told}
            self.here.write(add, answer.id, name, value, kind="code", explanation=json.dumps(about))


# What is kept of a passage and of a verdict: the words of a document are not kept twice.
FOUND_OF = ("place", "page", "heading", "start", "end", "score")
KEPT = ("sentence", "supported", "why_not", "place", "page", "heading", "from", "to")


async def begun(
    here: Serving,
    name: str,
    entry: Entry,
    work: Mapping[str, Any],
    *,
    access: Any,
    num: int | None = None,
) -> tuple[Answer, Grounds]:
    """An answer that has begun, from `num` passages of the index of a name, and what it stands on.
    `entry` is the model that is to write, or the index itself; `work` what it is asked, as its
    process is. Raises `APIError`."""
    grounds = await _found(here, name, entry, work, access=access, num=num or NUM)
    return await grounds.begin(entry, work, access), grounds


async def _found(
    here: Serving, name: str, entry: Entry, work: Mapping[str, Any], *, access: Any, num: int
) -> Grounds:
    index, messages = await asyncio.to_thread(here.indexes.find, name), work["messages"]
    question = _asked(messages)["content"]
    asked = {
        "do": "ask", "question": question, "groups": groups_of(access), "num": num,
        "num_rows": work["num"],
    }  # fmt: skip
    if entry != index:
        sees = (await here.pool.get(entry)).about.get("context_length")
        asked |= {} if sees is None else {"room": ROOM * sees}
    retrieval = await Answer.begin(here, index, asked, prompt=messages, access=access)
    async with retrieval:
        async for event in retrieval.events():
            if "result" in event:
                break
        retrieval.is_handed_on = True
    return Grounds(here, index, retrieval, question, asked["groups"], event["result"])


def recorded(name: str, annotations: Sequence[Any]) -> list[dict[str, Any]]:
    """What was found, or the verdicts, as annotations of a generation tell, with where the studio
    shows each."""
    told = [_about(each) for each in annotations if each.name == name and each.kind == "code"]
    return [
        {**each, "href": href(about["index"], each["place"], each.get("from", each.get("start")),
                              each.get("to", each.get("end")))} if "place" in each else each
        for about in told for each in about.get("said", ())
    ]  # fmt: skip


def keep_trace(answer: Answer, trace: Mapping[str, Any]) -> None:
    """Record the run of an agent with its answer."""
    if answer.serving.records is not None:
        add = answer.serving.records.annotations.add
        about = {"groups": trace["groups"], "trace": trace["text"]}
        answer.serving.write(add, answer.id, TRACE, kind="code", explanation=json.dumps(about))


def trace_of(annotations: Sequence[Any]) -> list[dict[str, Any]]:
    """The steps of the run that an agent's answer came of; none for other answers."""
    kept = [_about(each) for each in annotations if each.name == TRACE and each.kind == "code"]
    return [step for told in kept for step in steps_of(told.get("trace", ""))]


def steps_of(text: str) -> list[dict[str, Any]]:
    """The steps of a trace."""
    return [json.loads(line) for line in text.splitlines()]


def may_see(kept: Any, access: Any) -> bool:
    """Whether somebody may see a generation: one that stands on what they may not read is hidden,
    unless they asked for it themselves."""
    asked = {
        group
        for each in kept.annotations
        if each.name in (FOUND, UNSUPPORTED, TRACE) and each.kind == "code"
        for group in _about(each).get("groups", ())
    }
    own = access is not None and kept.user_id == access.user.id
    return own or asked <= set(groups_of(access))


def _about(annotation: Any) -> dict[str, Any]:
    """What an annotation says; nothing where the person was erased."""
    told: dict[str, Any] = json.loads(annotation.explanation or "{}")
    return told


def groups_of(access: Any) -> list[str]:
    """The groups that somebody belongs to, beside everyone."""
    return [] if access is None else list(access.user.groups)


def href(index: str, place: str, start: int, end: int) -> str:
    """Where the studio shows a stretch of a document."""
    query = urlencode({"place": place, "start": start, "end": end}, errors="surrogateescape")
    return f"{ROOT}{quote(index, errors='surrogateescape')}/source?{query}"


def _asked(messages: Sequence[Any]) -> Any:
    """What was asked last. Raises `APIError` where nothing was."""
    for each in reversed(messages):
        if each["role"] == "user":
            return each
    raise APIError(400, "there is no question for the index: no message of a user",
                   param="messages", code="no_question")  # fmt: skip

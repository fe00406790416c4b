"""One index of documents and what is asked of it, one question after the other.

    search      passages, with where they stand and why
    ask         what the documents answer, then the passages that a model would write from
    verify      texts held against passages, sentence by sentence
    documents   those that may be read        source    the text of one, and where its parts begin

Whoever asks does so as a member of groups: what these may not read takes no part in any of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import accumulate
from typing import Any

from morphogen.core.errors import MorphogenError
from morphogen.serve.worker.channel import Channel, Event, failure, unexpected
from morphogen.systems.knowledge.answering import (
    INSTRUCTIONS,
    SILENT,
    answer,
    asked_with,
    listed,
)
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.sentences import sentences
from morphogen.systems.knowledge.storing import Where
from morphogen.systems.knowledge.verifying import Evidence

Work = Mapping[str, Any]


def serve(told: Work) -> None:
    """Open the index that is told of, and answer until there is no more to do."""
    import torch

    channel = Channel.standard()
    torch.set_num_threads(told["threads"])
    try:
        index = Index.open(told["path"])
    except MorphogenError as error:
        channel.tell([{"failed": failure(error)}])
        return
    about = {name: index.store.about[name] for name in ("embedder", "language", "most")}
    channel.tell([{"ready": {**about, "hash": about["embedder"]["digest"], "tasks": {}}}])
    while not channel.is_closed:
        for message in channel.received(wait=True):
            channel.tell(_events(index, message))


def _events(index: Index, message: Work) -> Iterator[Event]:
    number = message["id"]
    if message["do"] == "cancel":
        return  # what there was to do was done before this was read
    try:
        for event in WORKS[message["do"]](index, message):
            yield {"id": number, **event}
    except MorphogenError as error:
        yield {"id": number, "error": failure(error)}
    except Exception as error:  # of this question: others are answered
        yield {"id": number, "error": unexpected(error)}


def _search(index: Index, work: Work) -> Iterator[Event]:
    where = Where(**work.get("where", {}))
    options = {name: work[name] for name in ("num", "by") if name in work}
    hits = index.search(work["question"], groups=work["groups"], where=where, **options)
    yield {"begun": {}}
    yield {"result": {"hits": [hit.to_json() for hit in hits]}}
    yield {"done": {}}


def _ask(index: Index, work: Work) -> Iterator[Event]:
    """What was found comes before the answer begins: where a model is to write it, that is enough.
    It gets as many passages as have `room`, one at least."""
    told = answer(index, work["question"], groups=work["groups"], num=work["num"])
    passages, room = listed(told.hits), work.get("room", math.inf)
    ends = accumulate(map(len, passages))
    num = max(sum(end <= room for end in ends), 1)
    found = {
        "hits": [hit.to_json() for hit in told.hits[:num]], "is_silent": told.is_silent,
        "instructions": INSTRUCTIONS, "prompt": asked_with(passages[:num], work["question"]),
    }  # fmt: skip
    yield {"result": found}
    yield {"begun": {}}
    for row in range(work.get("num_rows", 1)):
        yield {"row": row, "text": told.text}
        yield {"row": row, "finish": "stop"}
    yield {"done": {"prompt_tokens": 0, "completion_tokens": 0}}


def _verify(index: Index, work: Work) -> Iterator[Event]:
    """A verdict for each sentence of each text, with where that stands in it; none for one that
    says that there is no answer."""
    evidence = Evidence(work["passages"])
    verdicts = [
        [
            {"start": span.start, "end": span.end, **evidence.verify(span.text).to_json()}
            for span in sentences(text) if SILENT not in text.lower()
        ]
        for text in work["texts"]
    ]  # fmt: skip
    yield {"begun": {}}
    yield {"result": {"verdicts": verdicts}}
    yield {"done": {}}


def _documents(index: Index, work: Work) -> Iterator[Event]:
    yield {"begun": {}}
    told = [
        {"place": each.place, "title": each.title, "num": each.num}
        for each in index.store.documents(work["groups"])
    ]
    yield {"result": {"documents": told}}
    yield {"done": {}}


def _source(index: Index, work: Work) -> Iterator[Event]:
    yield {"begun": {}}
    text = index.store.text(work["place"], work["groups"])
    parts = [
        {name: each[name] for name in ("heading", "page", "start", "end", "title")}
        for each in map(asdict, index.store.of_document(work["place"]))
    ]
    yield {"result": {"text": text, "parts": parts}}
    yield {"done": {}}


WORKS: dict[str, Callable[[Index, Work], Iterator[Event]]] = {
    "search": _search, "ask": _ask, "verify": _verify, "documents": _documents, "source": _source,
}  # fmt: skip

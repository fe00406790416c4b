"""One model and its requests, until the server has no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.capability import FillsBothWays, missing
from morphogen.core.codec import Codec
from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.following import HasGaps, TakesParts
from morphogen.core.origin import hash_of
from morphogen.core.writing import Limits
from morphogen.interop.importing import opened_or_imported
from morphogen.provenance.signing import provenance_of
from morphogen.serve.forms import form_of
from morphogen.serve.worker.channel import Channel, Event, failure, unexpected
from morphogen.serve.worker.items import USUAL, Items
from morphogen.serve.worker.joining import join
from morphogen.serve.worker.results import gives_items
from morphogen.serve.worker.texts import TOO_LONG, Texts, TooLong, num_rows, writes
from morphogen.serve.worker.words import words
from morphogen.serve.worker.works import features, run_task
from morphogen.systems.exchange import check_words


def serve(told: Mapping[str, Any]) -> None:
    """Open the model that is told of, say what it can do, and do what is asked for."""
    import torch

    channel = Channel.standard()
    torch.set_num_threads(told["threads"])
    try:
        model = Model(opened_or_imported(told["path"]), told)
    except MorphogenError as error:
        channel.tell([{"failed": failure(error)}])
        return
    channel.tell([{"ready": model.about()}])
    model.run(channel)


class Model:
    """A bundle, and what is asked of it at the moment."""

    def __init__(self, bundle: Bundle, told: Mapping[str, Any]) -> None:
        self.bundle = bundle
        bundle.provenance = provenance_of(watermark=told.get("watermark", False))
        rows = num_rows(bundle, told["rows"], told["cache_bytes"]) if writes(bundle) else 0
        self.texts = Texts(bundle, rows) if rows else None
        self.items = Items(bundle, told["batch"])
        self.works: deque[Mapping[str, Any]] = deque()  # one after the other

    def about(self) -> dict[str, Any]:
        """What a server has to know of it."""
        family, codec = self.bundle.family, self.bundle.codec
        tasks = self.bundle.tasks()
        able = {name: discover.find("task", name) for name, why in tasks.items() if why is None}
        found: dict[str, Any] = {
            "family": discover.name_of(type(family)),
            "modality": discover.name_of(type(codec.innermost)),
            "hash": hash_of(self.bundle),
            "conditions": _conditions(self.bundle),
            "parts": parts_of(codec.innermost),
            "gap": codec.gap if isinstance(codec, HasGaps) else "",
            "gives_items": gives_items(codec.innermost),
            "fills_both_ways": not missing(family, FillsBothWays),
            "tasks": tasks,
            "forms": {
                name: form_of(task, USUAL if name == "generate" else None)
                for name, task in able.items()
            },
        }
        if self.texts is not None:
            found |= {
                "context_length": self.texts.length,
                "rows": self.texts.num_rows,
                "chats": self.texts.reader is not None,
            }
            found["forms"] |= {"talk": form_of(Limits)}
        return found

    def run(self, channel: Channel) -> None:
        """Until the channel is closed."""
        while not channel.is_closed:
            for message in channel.received(wait=not self.is_busy):
                channel.tell(self._taken(message))
            if self.texts is not None and self.texts.is_busy:
                for events in self.texts.step():
                    channel.tell(events)
            if self.items.is_busy:
                channel.tell(self.items.step())
            if self.works:
                for event in self._worked(self.works.popleft()):
                    channel.tell([event])

    @property
    def is_busy(self) -> bool:
        """Whether there is something to go on with."""
        writes = self.texts is not None and self.texts.is_busy
        return writes or self.items.is_busy or bool(self.works)

    def _taken(self, message: Mapping[str, Any]) -> Iterator[Event]:
        number = message["id"]
        try:
            if message["do"] == "cancel":
                self._cancel(number)
            elif message["do"] in ("chat", "complete"):
                if self.texts is None:
                    raise RecipeError("this model writes no texts", expected="another model")
                yield from self.texts.begin(number, message)
            elif message["do"] == "generate":
                check_words({**message.get("options", {}), **(message.get("cond") or {})})
                yield from self.items.begin(number, message)
            else:
                self.works.append(message)
                yield {"id": number, "begun": {}}
        except MorphogenError as error:
            code = TOO_LONG if isinstance(error, TooLong) else None
            yield {"id": number, "error": failure(error, code)}
        except Exception as error:  # of this request: others go on
            yield {"id": number, "error": unexpected(error)}

    def _worked(self, message: Mapping[str, Any]) -> Iterator[Event]:
        works = {"task": run_task, "features": features, "words": words, "join": join}
        work = works[message["do"]]
        try:
            yield from work(self.bundle, message["id"], message)
        except MorphogenError as error:
            yield {"id": message["id"], "error": failure(error)}
        except Exception as error:
            yield {"id": message["id"], "error": unexpected(error)}

    def _cancel(self, number: int) -> None:
        self.items.cancel(number)
        self.works = deque(each for each in self.works if each["id"] != number)
        if self.texts is not None:
            self.texts.cancel(number)


def parts_of(codec: Codec) -> dict[str, str]:
    """By name, in order, the modality of each part of an item; nothing where it has none."""
    found = codec.part_codecs if isinstance(codec, TakesParts) else {}
    return {name: discover.name_of(type(each.innermost)) for name, each in found.items()}


def _conditions(bundle: Bundle) -> dict[str, Any]:
    """By name: the classes that may be told, "text", or what else it is."""
    return {
        name: bundle.codec.class_names(name) or discover.name_of(type(codec.innermost))
        for name, codec in bundle.codec.condition_codecs.items()
        if name in bundle.family.conditions
    }

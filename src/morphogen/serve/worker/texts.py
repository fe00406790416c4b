"""Texts of many requests in one continuous batch: each the same as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import MorphogenError, RefusedPair
from morphogen.core.writing import (
    CanWriteOn,
    Constraint,
    Limits,
    Request,
    TextCodec,
    Written,
    marked,
)
from morphogen.core.written import WrittenText
from morphogen.modalities.text.chat import Conversation
from morphogen.modalities.text.chat.records import listed
from morphogen.serve.worker.channel import Event, failure
from morphogen.systems.calls import told_of
from morphogen.systems.conversing import Conversing
from morphogen.systems.exchange import shown

TOO_LONG = "context_length_exceeded"


class TooLong(RefusedPair):
    """A prompt that leaves no room for what is asked for."""


@dataclass
class Row:
    """One text of a request."""

    of: int  # the request
    number: int  # among the texts of the request
    text: WrittenText
    ends: set[int]
    tells_tokens: bool
    constraint: Guarded | None
    echo: WrittenText | None  # of the prompt, while it is repeated
    writes: bool  # False: nothing follows the prompt
    waiting: list[Written] = field(default_factory=list)  # tokens whose text is not certain yet
    num_tokens: int = 0


class Texts:
    """What a model writes for many at once."""

    def __init__(self, bundle: Bundle, num_rows: int) -> None:
        self.bundle = bundle
        self.codec: Any = bundle.codec
        model: Any = bundle.family
        self.length = int(model.spec.shape[0])
        self.num_rows = num_rows
        self.writing = model.writing(num_rows)
        self.reader = _reader(bundle)
        self.rows: dict[int, Row] = {}
        self.left: dict[int, dict[str, int]] = {}  # requests: texts to come, tokens so far

    @property
    def is_busy(self) -> bool:
        """Whether something goes on."""
        return bool(self.rows)

    def begin(self, number: int, work: Mapping[str, Any]) -> Iterator[Event]:
        """Take a request. Raises `MorphogenError` for one that cannot be."""
        talks = work["do"] == "chat"
        prompts = [self._read_chat(work)] if talks else list(map(self._read, work["prompts"]))
        most = [self._room(prompt, work.get("most")) for prompt in prompts]
        requests = [
            self._request(prompt, room, work, talks, i)
            for prompt, room in zip(prompts, most, strict=True)
            for i in range(work.get("num", 1))
        ]
        num_read = sum(map(len, prompts))
        for i, (request, row) in enumerate(requests):
            place = self.writing.add(request)
            row.of, row.number = number, i
            self.rows[place] = row
        self.left[number] = {"texts": len(requests), "prompt": num_read, "tokens": 0}
        yield {"id": number, "begun": {"prompt_tokens": num_read, "most": min(most)}}

    def cancel(self, number: int) -> None:
        """End a request."""
        for place in [place for place, row in self.rows.items() if row.of == number]:
            self._drop(place)
        self.left.pop(number, None)

    def step(self) -> Iterator[list[Event]]:
        """Everybody's next tokens."""
        for step in self.writing.steps():
            told = [event for each in step if each.row in self.rows for event in self._told(each)]
            if told:
                yield told

    # -- what came -------------------------------------------------------------------------------

    def _told(self, written: Written) -> Iterator[Event]:
        row = self.rows[written.row]
        if row.echo is not None:
            yield from self._repeated(row, row.echo, written)
        if written.is_given:
            return
        if not row.writes:
            yield from self._over(written.row, row, "length")
            return
        if row.constraint is not None and row.constraint.error is not None:
            number = row.of
            self.cancel(number)
            yield {"id": number, "error": failure(row.constraint.error)}
            return
        finish = "end" if written.token in row.ends else written.finish
        is_end = finish == "end" and written.token in {*row.ends, self.codec.end}
        row.num_tokens += 1
        if not is_end:
            row.waiting.append(written)
            if row.text.take(written.token):
                finish = "stop"
        if finish is not None:
            row.text.finish()
        if (piece := row.text.fresh()) or finish is not None:
            yield self._piece(row, piece)
        if finish is not None:
            yield from self._over(written.row, row, finish)

    def _repeated(self, row: Row, echo: WrittenText, written: Written) -> Iterator[Event]:
        """A token of the prompt, or what was held back of it, before the first that follows."""
        if written.is_given:
            row.waiting.append(written)
            echo.take(written.token)
        else:
            row.echo = None
            echo.finish()
        if (piece := echo.fresh()) or (row.waiting and row.echo is None):
            yield {**self._piece(row, piece), "given": True}

    def _piece(self, row: Row, piece: str) -> Event:
        return {"id": row.of, "row": row.number, "text": shown(piece), **self._tokens(row)}

    def _over(self, place: int, row: Row, finish: str) -> Iterator[Event]:
        self._drop(place)
        left = self.left[row.of]
        left["texts"] -= 1
        left["tokens"] += row.num_tokens
        told = "length" if finish == "length" else "stop"
        yield {"id": row.of, "row": row.number, "finish": told}
        if not left["texts"]:
            del self.left[row.of]
            usage = {"prompt_tokens": left["prompt"], "completion_tokens": left["tokens"]}
            yield {"id": row.of, "done": usage}

    def _drop(self, place: int) -> None:
        del self.rows[place]
        self.writing.leave(place)

    def _tokens(self, row: Row) -> dict[str, Any]:
        """The tokens that a piece is made of, for those who asked."""
        told, row.waiting = row.waiting, []
        if not row.tells_tokens:
            return {}
        return {
            "tokens": [
                {
                    **self._named(each.token, each.log_prob),
                    "top": [self._named(*other) for other in each.alternatives],
                }
                for each in told
            ]
        }

    def _named(self, token: int, log_prob: float) -> dict[str, Any]:
        codec = self.codec
        known = codec.tokenizer.tokens
        raw = known[token] if token < len(known) else b""
        return {"token": codec.token_text(token), "bytes": list(raw), "log_prob": log_prob}

    # -- what is asked for -----------------------------------------------------------------------

    def _request(
        self, prompt: Tensor, most: int, work: Mapping[str, Any], talks: bool, number: int
    ) -> tuple[Request, Row]:
        codec = self.codec
        limits = Limits(**work.get("limits", {}))
        stops = list(work.get("stop", []))
        ends, begins = set[int](), True
        if talks and self.reader is not None:
            stops += self.reader.stops
            ends, begins = self.reader.ends, self.reader.begins
        constraint = None
        if asked := work.get("constraint"):
            constraint = Guarded(codec.constraint(*asked, max(most, 1)))
        bias = {int(token): added for token, added in work.get("bias", {}).items()}
        request = Request(
            prompt, max(most, 1), limits, work["seed"] + number, constraint=constraint,
            num_alternatives=work.get("alternatives", 0), begins=begins, bias=bias or None,
            tells_prompt=work.get("echo", False),
        )  # fmt: skip
        request = marked(request, self.bundle.marking)
        echo = WrittenText(codec) if request.tells_prompt else None
        row = Row(-1, number, WrittenText(codec, stops), ends, "alternatives" in work, constraint,
                  echo, most > 0)  # fmt: skip
        return request, row

    def _read_chat(self, work: Mapping[str, Any]) -> Tensor:
        if self.reader is None:
            raise RefusedPair(
                "this model does not converse: no chat template came with it",
                expected="a model that learned from conversations",
                hint="/v1/completions",
            )
        messages, tools = listed(work["messages"], "messages"), tuple(work.get("tools", ()))
        if tools and "tools" not in self.reader.template.source:
            messages = told_of(tools, messages)
        return self.reader.read(Conversation(tuple(messages), tools))

    def _read(self, prompt: str | list[int]) -> Tensor:
        if isinstance(prompt, str):
            (tokens,) = self.codec.encode_sequences([Item(prompt)])
            return torch.as_tensor(tokens)
        known = int(self.bundle.family.spec.vocab_size)
        wrong = [token for token in prompt if not 0 <= token < known]
        if wrong:
            raise RefusedPair("a token is none of the model's", found=wrong[0],
                              expected=f"0 to {known - 1:,}")  # fmt: skip
        return torch.tensor(prompt, dtype=torch.int64)

    def _room(self, prompt: Tensor, most: int | None) -> int:
        room = self.length - len(prompt)
        if room < max(most or 0, 1):
            asked = "" if most is None else f", and {most:,} are to come"
            raise TooLong(
                f"this model sees {self.length:,} tokens at once",
                found=f"a prompt of {len(prompt):,} tokens{asked}",
                expected="a shorter prompt, or a smaller max_tokens",
            )
        return room if most is None else most


class Guarded:
    """A constraint that keeps its errors to itself, so that they end one text and not all."""

    def __init__(self, inner: Constraint) -> None:
        self.inner = inner
        self.error: MorphogenError | None = None

    def allowed(self) -> Tensor | None:
        """See `core.writing.Constraint`."""
        try:
            allowed = self.inner.allowed()
        except MorphogenError as error:
            self.error = error
            return None
        if allowed is not None and not bool(allowed.any()):
            self.error = RefusedPair("the constraint lets nothing come next")
            return None
        return allowed

    def take(self, token: int) -> None:
        """See `core.writing.Constraint`."""
        if self.error is None:
            try:
                self.inner.take(token)
            except MorphogenError as error:
                self.error = error

    @property
    def ended(self) -> bool:
        """See `core.writing.Constraint`."""
        return self.error is not None or self.inner.ended


def num_rows(bundle: Bundle, most: int, room_bytes: int) -> int:
    """How many texts at once, so that what rows keep of them has room: at least two."""
    network: Any = getattr(bundle.family, "network", None)
    if not hasattr(network, "num_kv_heads"):
        return most
    per_token = 8 * len(network.layers) * network.num_kv_heads * network.head_dim  # keys, values
    return max(min(most, room_bytes // (per_token * int(bundle.family.spec.shape[0]))), 2)


def _reader(bundle: Bundle) -> Conversing | None:
    try:
        return Conversing(bundle)
    except RefusedPair:
        return None


def writes(bundle: Bundle) -> bool:
    """Whether a bundle goes on with texts."""
    return isinstance(bundle.family, CanWriteOn) and isinstance(bundle.codec, TextCodec)

r"""Texts that go on side by side, each as if it were alone.

    p(x_i | x_<i)  --limits, constraint-->  what is drawn from, by each text's own generator

Rows of a network take the texts in turn: where one is over, the next begins. Rows that draw for
themselves go on with plain texts by several tokens at a time. What comes next may be guessed first,
by a smaller model or from what stands already, and is then read all at once; with

    accept x with probability min(1, p(x) / q(x)),  else draw from  max(p - q, 0)

the text is distributed as if nothing had been guessed (Leviathan, Kalman & Matias 2023).

Legend: V vocabulary of the items, n tokens of a prompt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from morphogen.core.backbone import GoesOn, Rows
from morphogen.core.errors import RefusedPair
from morphogen.core.writing import Request, Written
from morphogen.families._reading import PIECE, FreeRows, held_rows
from morphogen.families._text import Guess, Text

TOGETHER = 16  # tokens at most that a row draws in one call


class Model(Protocol):
    """What writing needs of a family."""

    spec: Any
    num_tokens: int
    vocab_size: int
    offsets: Tensor | None  # of each position's own tokens among all; None: there are no such

    def rows(self, num: int, room: int | None = None) -> Rows:
        """So many rows of the network, each for so many tokens."""
        ...

    def read(
        self, rows: Rows, row: int, request: Request, known: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Read a prompt into a row that has its first tokens, piece by piece: how many
        tokens are left, and what the network tells after the last that was read, or after each
        where that is asked for (1 or m, C)."""
        ...

    def next_logits(self, params: Tensor, position: int) -> Tensor:
        """What a network tells at a position (B, C) -> logits (B, V)."""
        ...

    def taken(self, token: int, position: int) -> int:
        """The token as the network takes it."""
        ...


Guesses = Callable[[Text, int], list[Guess]]  # of a text, so many tokens at most


def write(
    model: Model, requests: Sequence[Request], num_rows: int, **guessing: Any
) -> Iterator[list[Written]]:
    """The tokens of all requests, a list for each step. Raises `RefusedPair` at once."""
    rows, num = held_rows(model, requests), min(num_rows, len(requests))
    if rows is None and requests:
        longest = max(1, *(len(request.prompt) + request.most for request in requests))
        rows = model.rows(num, min(longest, model.num_tokens))
    writing = Writing(model, num, rows=rows, **guessing)
    for request in requests:
        writing.add(request)
    return writing.all_steps()


class Reading:
    """A prompt that is being read into a row."""

    def __init__(self, text: Text, row: int, pieces: Iterator[tuple[int, Tensor]]) -> None:
        self.text, self.row, self.pieces = text, row, pieces
        self.left = text.num_given + text.request.begins  # tokens, but for those that are held

    @property
    def next_piece(self) -> int:
        """How many tokens it has."""
        return min(self.left, PIECE)

    def read(self) -> Tensor:
        """Read it: see `Model.read`."""
        self.left, told = next(self.pieces)
        return told


class Writing:
    """Texts in the rows of a network, to which others come, and which leave: `core.writing`."""

    def __init__(
        self,
        model: Model,
        num_rows: int,
        *,
        guesses: Guesses | None = None,
        ahead: int = 0,
        most_read: int | None = None,  # tokens of prompts before the others go on; none: all
        rows: Rows | None = None,  # that have read something; none: new ones
    ) -> None:
        self.model, self.most_read = model, most_read
        self.guesses, self.ahead = guesses, ahead
        self.ends = {model.spec.end, model.spec.boundary}
        self.rows = model.rows(num_rows) if rows is None else rows
        self.can_cut = isinstance(self.rows, GoesOn)
        self.can_draw = guesses is None and model.offsets is None and self.can_cut
        self.free = FreeRows(num_rows)
        self.waiting = deque[Text]()
        self.reading = deque[Reading]()
        self.plain, self.others = self.going = dict[int, Text](), dict[int, Text]()
        self.num_added = 0

    def add(self, request: Request) -> int:
        """See `core.writing.Writing`."""
        room = self.model.num_tokens - len(request.prompt)
        if room < 1 or request.most < 1:
            raise RefusedPair(
                "there is no room for anything to come",
                found=f"a prompt of {len(request.prompt)} tokens, {request.most} to come",
                expected=f"fewer than {self.model.num_tokens} tokens, and 1 to come at least",
            )
        for token in request.bias or ():
            if not 0 <= token < self.model.vocab_size:
                raise RefusedPair("a token is none of the model's", found=token,
                                  expected=f"0 to {self.model.vocab_size - 1:,}")  # fmt: skip
        if not request.begins and not len(request.prompt):
            raise RefusedPair("there is nothing to begin with", found="no start, and no prompt")
        place, self.num_added = self.num_added, self.num_added + 1
        self.waiting.append(Text(place, request, min(request.most, room), self.ends))
        return place

    def leave(self, place: int) -> None:
        """See `core.writing.Writing`."""
        begun = [each.text for each in self.reading]
        for text in [*self.waiting, *begun, *self.plain.values(), *self.others.values()]:
            text.is_over |= text.place == place
        self._let_go()

    @property
    def num_going(self) -> int:
        """See `core.writing.Writing`."""
        return len(self.waiting) + len(self.reading) + len(self.plain) + len(self.others)

    def steps(self) -> Iterator[list[Written]]:
        """See `core.writing.Writing`."""
        if begun := self._begun():
            yield begun
            self._let_go()
        if self.plain or self.others:
            for step in _advanced(self.model, self.rows, self.going, self.guesses, self.ahead):
                yield step
                self._let_go()

    def all_steps(self) -> Iterator[list[Written]]:
        """Until there is nothing that goes on."""
        while self.num_going:
            yield from self.steps()

    @torch.no_grad()
    def _begun(self) -> list[Written]:
        """The first tokens of those whose prompts are read. A piece of each is, in turn, for as
        long as the others can wait."""
        begun: list[Written] = []
        left = float("inf") if self.most_read is None else self.most_read
        while (reading := self._next_reading()) is not None and reading.next_piece <= left:
            text, before = reading.text, reading.left
            told = reading.read()
            left -= before - reading.left
            if text.request.tells_prompt:
                begun += self._given(text, told)
            if reading.left:
                self.reading.rotate(-1)
                continue
            self.reading.popleft()
            self.free.note(reading.row, text.request)
            if text.request.held is not None:
                text.request.held.came = text.came  # as it grows
            begun.append(text.take(self.model.next_logits(told[-1:], text.num_given)[0]))
            kind = self.plain if self.can_draw and text.is_plain else self.others
            kind[reading.row] = text
        return begun

    def _given(self, text: Text, told: Tensor) -> list[Written]:
        """The tokens of a prompt that are next after each of those that were read."""
        first, last = text.num_told, text.num_given
        places = range(first, min(first + len(told), last))
        logits = [self.model.next_logits(told[i - first : i - first + 1], i)[0] for i in places]
        return [text.given(each) for each in logits]

    def _next_reading(self) -> Reading | None:
        """Whose turn it is to be read; first those get a row that wait for one."""
        while self.waiting and self.free:
            text = self.waiting.popleft()
            row, known = self.free.take(text.request if self.can_cut else None)
            pieces = self.model.read(self.rows, row, text.request, known)
            self.reading.append(Reading(text, row, pieces))
        return self.reading[0] if self.reading else None

    def _let_go(self) -> None:
        """Free the rows of what is over."""
        if any(text.is_over for text in self.waiting):
            self.waiting = deque(text for text in self.waiting if not text.is_over)
        for reading in [each for each in self.reading if each.text.is_over]:
            self.reading.remove(reading)
            self.free.give(reading.row)
        for texts in self.going:
            for row in [row for row, text in texts.items() if text.is_over]:
                del texts[row]
                self.free.give(row)


def _advanced(
    model: Model,
    rows: Rows,
    going: tuple[dict[int, Text], dict[int, Text]],
    guesses: Guesses | None,
    ahead: int,
) -> Iterator[list[Written]]:
    """The next tokens of the plain texts and of the others in each row, a list for each step;
    several steps where all are plain."""
    plain, others = going
    step = _stepped(model, rows, others, guesses, ahead) if others else []
    if not plain:
        yield step
        return
    num = 1 if others else min(TOGETHER, *(text.left for text in plain.values()))
    for drawn in _gone_on(model, rows, plain, num):
        yield step + drawn
        step = []


def _gone_on(model: Model, rows: Any, going: dict[int, Text], num: int) -> Iterator[list[Written]]:
    """Up to `num` tokens of texts that their rows draw, each looked at only as its turn comes."""
    texts = list(going.values())
    drawn, log_probs = rows.go_on(
        [text.came[-1] for text in texts],
        list(going),
        [text.request.limits for text in texts],
        uniform=np.stack([text.next_uniform(num) for text in texts]),
        num_tokens=model.vocab_size,
        ends={end for text in texts for end in text.ends if end is not None},
    )
    for tokens, each in zip(drawn.T.tolist(), log_probs.T.tolist(), strict=True):
        told = zip(texts, tokens, each, strict=True)
        if step := [text.settle(*token) for text, *token in told if not text.is_over]:
            yield step


@torch.no_grad()
def _stepped(
    model: Model, rows: Rows, going: dict[int, Text], guesses: Guesses | None, ahead: int
) -> list[Written]:
    """The next tokens of the texts in each row: one, and those that were guessed rightly."""
    guessed = {
        row: guesses(text, min(ahead, text.left - 1)) if guesses is not None else []
        for row, text in going.items()
    }
    fed, at = [], []
    for row, text in going.items():
        new = [text.came[-1], *(guess.token for guess in guessed[row])]
        fed += [model.taken(token, len(text.came) - 1 + i) for i, token in enumerate(new)]
        at += [row] * len(new)
    params, step = iter(rows.advance(fed, at)), list[Written]()
    for row, text in going.items():
        own = iter([next(params) for _ in range(len(guessed[row]) + 1)])
        for guess in [*guessed[row], None]:
            logits = model.next_logits(next(own)[None], len(text.came))[0]
            step.append(text.take(logits, guess))
            if step[-1].finish or guess is None or step[-1].token != guess.token:
                break
        if guessed[row]:
            rows.cut(row, len(text.came) - 1 + text.request.begins)  # all but the last
    return step

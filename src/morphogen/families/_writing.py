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
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from morphogen.core.backbone import GoesOn, Rows
from morphogen.core.errors import RefusedPair
from morphogen.core.writing import Finish, Request, Written
from morphogen.families._held import held_rows
from morphogen.families._limits import limited, unrepeated

TOGETHER = 16  # tokens at most that a row draws in one call
DRAWN_AHEAD = 64  # numbers to draw by that are made at a time
LONGEST_LOOKED_UP = 4  # tokens by whose last occurrence the next are guessed


class Model(Protocol):
    """What writing needs of a family."""

    spec: Any
    num_tokens: int
    vocab_size: int
    offsets: Tensor | None  # of each position's own tokens among all; None: there are no such

    def rows(self, num: int) -> Rows:
        """So many rows of the network."""
        ...

    def begin(self, rows: Rows, row: int, request: Request) -> Tensor:
        """Read a prompt into a row -> logits of the next token (V,)."""
        ...

    def next_logits(self, params: Tensor, position: int) -> Tensor:
        """What a network tells at a position (B, C) -> logits (B, V)."""
        ...

    def taken(self, token: int, position: int) -> int:
        """The token as the network takes it."""
        ...


@dataclass(frozen=True)
class Guess:
    """A token that may come next, drawn from `probs` (V,), or the only one thought of (None)."""

    token: int
    probs: Tensor | None = None


Guesses = Callable[["Text", int], list[Guess]]  # of a text, so many tokens at most


class Text:
    """One text that goes on: what has come, what may, and by which numbers it is drawn."""

    def __init__(self, place: int, request: Request, most: int, ends: set[int | None]) -> None:
        self.place, self.request, self.left, self.ends = place, request, most, ends
        self.came: list[int] = request.prompt.tolist()
        self.is_over = False
        self.generator = torch.Generator().manual_seed(request.seed)
        self.uniform = np.zeros(0)  # what is drawn by, so far as it is there and not used

    @property
    def is_plain(self) -> bool:
        """Whether its limits alone decide which token comes, and no other is to be told."""
        request = self.request
        return not (
            request.limits.looks_back or request.constraint is not None or request.num_alternatives
        )

    def probs(self, logits: Tensor) -> Tensor:
        """Logits (V,) -> the probabilities that a token is drawn by (V,)."""
        return limited(self._allowed(logits)[None], self.request.limits, [self.came])[0].softmax(-1)

    def _allowed(self, logits: Tensor) -> Tensor:
        """Logits (V,) of what the constraint lets come."""
        constraint = self.request.constraint
        allowed = None if constraint is None else constraint.allowed()
        if allowed is None:
            return logits
        if not bool(allowed.any()):
            raise RefusedPair("the constraint lets nothing come next", found=str(self.came[-8:]))
        return logits.masked_fill(~allowed, -torch.inf)

    def draw(self, probs: Tensor) -> int:
        """A token by unnormalised probabilities (V,)."""
        if self.request.limits.temperature <= 0:
            return int(probs.argmax())
        sums = probs.double().cumsum(0)
        below = self._drawn() * sums[-1]
        return min(int(torch.searchsorted(sums, below, right=True)), len(sums) - 1)

    def next_uniform(self, num: int) -> np.ndarray[Any, Any]:
        """The next numbers in [0, 1), which are used once tokens are settled: (num,)."""
        if len(self.uniform) < num:
            more = torch.rand(DRAWN_AHEAD, dtype=torch.float64, generator=self.generator).numpy()
            self.uniform = np.concatenate([self.uniform, more])
        return self.uniform[:num]

    def _drawn(self) -> float:
        drawn = float(self.next_uniform(1)[0])
        self.uniform = self.uniform[1:]
        return drawn

    def settle(self, token: int, log_prob: float) -> Written:
        """Note a token that was drawn by the next uniform number."""
        if self.request.limits.temperature > 0:
            self.uniform = self.uniform[1:]
        return self._noted(token, log_prob)

    def _noted(
        self, token: int, log_prob: float, beside: tuple[tuple[int, float], ...] = ()
    ) -> Written:
        self.came.append(token)
        self.left -= 1
        finish = self._finish(token)
        self.is_over = finish is not None
        return Written(self.place, token, log_prob, beside, finish)

    def take(self, logits: Tensor, guess: Guess | None = None) -> Written:
        """Settle the next token, given the logits (V,) of it."""
        if guess is not None:
            token = self._checked(self.probs(logits), guess)
        elif self.request.limits.temperature <= 0:
            token = int(unrepeated(self._allowed(logits), self.came, self.request.limits).argmax())
        else:
            token = self.draw(self.probs(logits))
        log_probs = logits.log_softmax(-1)
        beside: tuple[tuple[int, float], ...] = ()
        if num := min(self.request.num_alternatives, len(log_probs)):
            most = log_probs.topk(num)
            beside = tuple(zip(most.indices.tolist(), most.values.tolist(), strict=True))
        return self._noted(token, float(log_probs[token]), beside)

    def _checked(self, probs: Tensor, guess: Guess) -> int:
        """The guess, or another token where it is not accepted."""
        others = probs.clone()
        if guess.probs is None:
            share = float(probs[guess.token])
            others[guess.token] = 0
        else:
            share = float(probs[guess.token] / guess.probs[guess.token])
            others = (probs - guess.probs).clamp_(min=0)
        if share >= 1 or not bool(others.any()):
            return guess.token
        return guess.token if self._drawn() < share else self.draw(others)

    def _finish(self, token: int) -> Finish | None:
        constraint, stop = self.request.constraint, self.request.stop
        if constraint is not None:
            constraint.take(token)
        if token in self.ends or (constraint is not None and constraint.ended):
            return "end"
        if stop is not None and stop(token):
            return "stop"
        return None if self.left else "length"


def write(
    model: Model, requests: Sequence[Request], num_rows: int, **guessing: Any
) -> Iterator[list[Written]]:
    """The tokens of all requests, a list for each step. Raises `RefusedPair` at once."""
    rows = held_rows(model, requests)
    writing = Writing(model, min(num_rows, len(requests)), rows=rows, **guessing)
    for request in requests:
        writing.add(request)
    return writing.all_steps()


class Writing:
    """Texts in the rows of a network, to which others come, and which leave: `core.writing`."""

    def __init__(
        self,
        model: Model,
        num_rows: int,
        *,
        guesses: Guesses | None = None,
        ahead: int = 0,
        most_begun: int | None = None,  # prompts that are read before the others go on; none: all
        rows: Rows | None = None,  # that have read something; none: new ones
    ) -> None:
        self.model, self.most_begun = model, most_begun
        self.guesses, self.ahead = guesses, ahead
        self.ends = {model.spec.end, model.spec.boundary}
        self.rows = model.rows(num_rows) if rows is None else rows
        self.can_draw = guesses is None and model.offsets is None and isinstance(self.rows, GoesOn)
        self.free = list(range(num_rows))[::-1]
        self.waiting = deque[Text]()
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
        if not request.begins and not len(request.prompt):
            raise RefusedPair("there is nothing to begin with", found="no start, and no prompt")
        place, self.num_added = self.num_added, self.num_added + 1
        self.waiting.append(Text(place, request, min(request.most, room), self.ends))
        return place

    def leave(self, place: int) -> None:
        """See `core.writing.Writing`."""
        for text in [*self.waiting, *self.plain.values(), *self.others.values()]:
            text.is_over |= text.place == place
        self._let_go()

    @property
    def num_going(self) -> int:
        """See `core.writing.Writing`."""
        return len(self.waiting) + len(self.plain) + len(self.others)

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
        """The first tokens of those for which there is a row."""
        begun: list[Written] = []
        most = len(self.waiting) if self.most_begun is None else self.most_begun
        while self.waiting and self.free and len(begun) < most:
            text, row = self.waiting.popleft(), self.free.pop()
            told = self.model.begin(self.rows, row, text.request)
            if text.request.held is not None:
                text.request.held.came = text.came  # as it grows
            begun.append(text.take(told))
            (self.plain if self.can_draw and text.is_plain else self.others)[row] = text
        return begun

    def _let_go(self) -> None:
        """Free the rows of what is over."""
        if any(text.is_over for text in self.waiting):
            self.waiting = deque(text for text in self.waiting if not text.is_over)
        for texts in self.going:
            for row in [row for row, text in texts.items() if text.is_over]:
                del texts[row]
                self.free.append(row)


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


def look_up(text: Text, num: int) -> list[Guess]:
    """Guesses from what stands already: what followed the last tokens when they came before."""
    came = text.came
    for length in range(min(LONGEST_LOOKED_UP, len(came) - 1), 0, -1):
        last = came[-length:]
        for i in range(len(came) - length - 1, -1, -1):
            if came[i : i + length] == last:
                return [Guess(token) for token in came[i + length : i + length + num]]
    return []


def drafted(draft: Any) -> Guesses:
    """Guesses by another model of the same vocabulary, within the limits of the text."""

    def guesses(text: Text, num: int) -> list[Guess]:
        found: list[Guess] = []
        cond = text.request.cond
        one = None if cond is None else {name: value[None] for name, value in cond.items()}
        for _ in range(num):
            came = [*text.came, *(guess.token for guess in found)]
            logits = draft.predict_next(torch.tensor(came, dtype=torch.int64)[None], one)
            probs = limited(logits, text.request.limits, [came])[0].softmax(-1)
            found.append(Guess(text.draw(probs), probs))
        return found

    return guesses

r"""One text that goes on: what has come, what may, and by which numbers it is drawn.

    p(x_i | x_<i)  --bias, constraint, limits-->  what is drawn from, by the text's own generator

Legend: V vocabulary of the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import RefusedPair
from morphogen.core.writing import Finish, Request, Written
from morphogen.families._limits import limited, unrepeated

DRAWN_AHEAD = 64  # numbers to draw by that are made at a time


@dataclass(frozen=True)
class Guess:
    """A token that may come next, drawn from `probs` (V,), or the only one thought of (None)."""

    token: int
    probs: Tensor | None = None


class Text:
    """One text that goes on: what has come, what may, and by which numbers it is drawn."""

    def __init__(self, place: int, request: Request, most: int, ends: set[int | None]) -> None:
        self.place, self.request, self.left, self.ends = place, request, most, ends
        self.came: list[int] = request.prompt.tolist()
        self.num_given = len(self.came)
        self.num_told = int(not request.begins)  # of those, where they are told
        self.is_over = False
        self.generator = torch.Generator().manual_seed(request.seed)
        self.uniform = np.zeros(0)  # what is drawn by, so far as it is there and not used

    @property
    def is_plain(self) -> bool:
        """Whether its limits alone decide which token comes, and no other is to be told."""
        request = self.request
        return not (
            request.limits.looks_back or request.bias or request.constraint is not None
            or request.mark is not None or request.num_alternatives
        )  # fmt: skip

    def probs(self, logits: Tensor) -> Tensor:
        """Logits (V,) -> the probabilities that a token is drawn by (V,)."""
        bounded = limited(
            self._allowed(logits)[None], self.request.limits, [self.came], self.num_given
        )
        return bounded[0].softmax(-1)

    def _allowed(self, logits: Tensor) -> Tensor:
        """Logits (V,) of what the constraint lets come, with what is added to them."""
        if bias := self.request.bias:
            added = logits.new_tensor(list(bias.values()))
            logits = logits.index_add(0, torch.tensor(list(bias)).to(added.device), added)
        constraint = self.request.constraint
        allowed = None if constraint is None else constraint.allowed()
        if allowed is None:
            return logits
        if not bool(allowed.any()):
            raise RefusedPair("the constraint lets nothing come next", found=str(self.came[-8:]))
        return logits.masked_fill(~allowed, -torch.inf)

    def _likely(self, logits: Tensor) -> Tensor:
        """Logits (V,) of what may come, with repeats made less likely."""
        return unrepeated(self._allowed(logits), self.came, self.request.limits, self.num_given)

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
        if (marked := self._marked(logits)) is not None:
            token = marked
        elif guess is not None:
            token = self._checked(self.probs(logits), guess)
        elif self.request.limits.temperature <= 0:
            token = int(self._likely(logits).argmax())
        else:
            token = self.draw(self.probs(logits))
        return self._noted(token, *self._told_of(token, logits))

    def _marked(self, logits: Tensor) -> int | None:
        """The token that the mark chooses, where it does; a guess is right if it is that one."""
        mark = self.request.mark
        if mark is None or self.request.limits.temperature <= 0:
            return None
        numbers = mark.numbers(self.came[self.num_given :], len(logits))
        if numbers is None:
            return None
        return int((numbers.log() / self.probs(logits).double().cpu()).argmax())

    def given(self, logits: Tensor) -> Written:
        """The next token of the prompt, given the logits (V,) of it."""
        token = self.came[self.num_told]
        self.num_told += 1
        return Written(self.place, token, *self._told_of(token, logits), is_given=True)

    def _told_of(self, token: int, logits: Tensor) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Its log probability, and the most probable in its place with theirs."""
        log_probs = logits.log_softmax(-1)
        beside: tuple[tuple[int, float], ...] = ()
        if num := min(self.request.num_alternatives, len(log_probs)):
            most = log_probs.topk(num)
            beside = tuple(zip(most.indices.tolist(), most.values.tolist(), strict=True))
        return float(log_probs[token]), beside

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

r"""Beam search: the texts that a model finds most probable, as far as `width` beginnings tell.

    score(x_1 .. x_n) = log p(x_1 .. x_n) / n^a

Longer texts are less probable, so scores are divided by a power of the length (Wu et al. 2016).

Legend: W beginnings kept, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from morphogen.core.backbone import Rows
from morphogen.core.errors import RefusedPair
from morphogen.core.writing import Finish, Request, Written


@dataclass(frozen=True)
class Found:
    """Tokens, and log p of them, and of each given those before it."""

    tokens: tuple[int, ...] = ()
    log_p: float = 0.0
    each: tuple[float, ...] = ()

    def with_(self, token: int, log_p: float) -> Found:
        """One token more, with which log p is this."""
        return Found((*self.tokens, token), log_p, (*self.each, log_p - self.log_p))

    def score(self, power: float) -> float:
        """By which texts are put in order."""
        return self.log_p / len(self.tokens) ** power


@torch.no_grad()
def beam(
    model: Any, request: Request, *, width: int = 4, power: float = 1.0, rows: Rows | None = None
) -> list[Found]:
    """The `width` best texts found after a prompt, of up to `request.most` tokens, best first; in
    as many rows of the model, where there are some.

    A text that ends is kept with its end token. Limits, seeds and constraints do not apply: nothing
    is drawn.
    """
    known = len(request.prompt)
    most = min(request.most, model.num_tokens - known)
    ends = {model.spec.end, model.spec.boundary}
    rows = model.rows(width) if rows is None else rows
    *_, (_, told) = model.read(rows, 0, request)
    logits = model.next_logits(told[-1:], known)  # (W, V)
    going, over = [Found()], list[Found]()
    for n in range(1, most + 1):
        before = torch.tensor([text.log_p for text in going], dtype=torch.float64)
        scores = (logits.double().log_softmax(-1) + before[:, None]).flatten()  # (W V,)
        best = scores.topk(min(2 * width, len(scores)))  # as many may end, and W go on
        sources, kept = list[int](), list[Found]()
        for log_p, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            source, token = divmod(place, logits.shape[1])
            text = going[source].with_(token, log_p)
            if token in ends:
                over.append(text)
            elif len(kept) < width:
                sources.append(source)
                kept.append(text)
        going = kept
        worst = sorted((text.score(power) for text in over), reverse=True)[:width]
        if not going or (len(worst) == width and worst[-1] >= going[0].score(power)):
            return _best(over, width, power)
        if n < most:
            rows.reorder(sources)
            fed = [model.taken(text.tokens[-1], known + n - 1) for text in going]
            told = rows.advance(fed, range(len(going)))
            logits = model.next_logits(told, known + n)
    return _best(over + going, width, power)


def beams(model: Any, requests: Sequence[Request], width: int) -> Iterator[list[Written]]:
    """The tokens of the best text of each request, all at once, one request after the other. Raises
    `RefusedPair` for what a beam does not heed."""
    for request in requests:
        if request.constraint or request.limits.looks_back or request.num_alternatives:
            raise RefusedPair(
                "a beam heeds no constraint, forbids no repeats, and tells no alternatives",
                found="a schema, a pattern, a penalty, or logprobs",
                hint="leave it out, or the beam",
            )
    longest = max((len(each.prompt) + each.most for each in requests), default=1)
    rows = model.rows(width, min(longest, model.num_tokens))
    for place, request in enumerate(requests):
        best = beam(model, request, width=width, rows=rows)[0]
        whole = best.tokens[-1] in {model.spec.end, model.spec.boundary}
        told = []
        for token, log_p in zip(best.tokens, best.each, strict=True):
            told.append(Written(place, token, log_p))
            if request.stop is not None and request.stop(token):
                break
        stopped = len(told) < len(best.tokens)
        finish: Finish = "stop" if stopped else "end" if whole else "length"
        yield [*told[:-1], Written(place, told[-1].token, told[-1].log_prob, (), finish)]


def _best(texts: list[Found], width: int, power: float) -> list[Found]:
    return sorted(texts, key=lambda text: text.score(power), reverse=True)[:width]

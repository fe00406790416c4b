r"""Beam search: the texts that a model finds most probable, as far as `width` beginnings tell.

    score(x_1 .. x_n) = log p(x_1 .. x_n) / n^a

Longer texts are less probable, so scores are divided by a power of the length (Wu et al. 2016).

Legend: W beginnings kept, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

from morphogen.core.writing import Request

Found = tuple[list[int], float]  # tokens, and log p of them


@torch.no_grad()
def beam(model: Any, request: Request, *, width: int = 4, power: float = 1.0) -> list[Found]:
    """The `width` best texts found after a prompt, of up to `request.most` tokens, best first.

    A text that ends is kept with its end token. Limits, seeds and constraints do not apply: nothing
    is drawn.
    """
    spec, known = model.spec, len(request.prompt)
    ends = {spec.end, spec.boundary}
    rows = model.rows(width)
    *_, (_, told) = model.read(rows, 0, request)
    logits = model.next_logits(told[-1:], known)  # (W, V)
    going: list[Found] = [([], 0.0)]
    over: list[Found] = []
    for n in range(1, min(request.most, model.num_tokens - known) + 1):
        before = torch.tensor([log_p for _, log_p in going], dtype=torch.float64)
        scores = (logits.double().log_softmax(-1) + before[:, None]).flatten()  # (W V,)
        best = scores.topk(min(2 * width, len(scores)))  # as many may end, and W go on
        sources, kept = list[int](), list[Found]()
        for log_p, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            source, token = divmod(place, logits.shape[1])
            text = ([*going[source][0], token], log_p)
            if token in ends:
                over.append(text)
            elif len(kept) < width:
                sources.append(source)
                kept.append(text)
        going = kept
        worst = sorted((_score(text, power) for text in over), reverse=True)[:width]
        if not going or (len(worst) == width and worst[-1] >= _score(going[0], power)):
            return _best(over, width, power)
        if n < min(request.most, model.num_tokens - known):
            rows.reorder(sources)
            fed = [model.taken(text[-1], known + n - 1) for text, _ in going]
            told = rows.advance(fed, range(len(going)))
            logits = model.next_logits(told, known + n)
    return _best(over + going, width, power)


def _score(text: Found, power: float) -> float:
    return text[1] / len(text[0]) ** power


def _best(texts: list[Found], width: int, power: float) -> list[Found]:
    return sorted(texts, key=lambda text: _score(text, power), reverse=True)[:width]

r"""The best of several draws: by a judge of pairs, or, of texts, by each other.

    a judge      x* = argmax over k draws of f(x_k) . g(y)        what shows most what was asked for
    each other   x* = argmax over k draws of sum_j F(x_k, x_j)    what most of them agree on
                 F(a, b) = 2 |a and b| / (|a| + |b|), of the sets of their tokens

The latter is the text of least expected error, by what the model itself holds for probable
(minimum Bayes risk, Kumar & Byrne 2004): a likeliest text may be of words that are each in few
others.

The judge is a model that places items and what is said of them in one space (family `contrastive`),
trained on the same kind of pairs. It may see items in another size or through another model, and
read words by other tokens (see `core.matching`). Reranking draws so is what DALL-E was first shown
with (Ramesh et al. 2021, arXiv:2102.12092).

Legend: N items, K draws of each, D dimensions of the judge's space, L tokens of an item, U
different ones among the draws of an item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.conditioning import present
from morphogen.core.encoded import rows
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.matching import Matcher
from morphogen.core.spec import Spec, TensorSpec
from morphogen.tasks._routes import Conditions, in_chunks, repeat

USUAL = 4  # draws of each item, where a judge is there


class PairsJudge:
    """How near items are to what was asked for, by a bundle; items come encoded by `codec`.

    Raises `RefusedPair` for a bundle that places nothing said of items among them."""

    def __init__(self, bundle: Bundle, codec: Codec, conditions: Conditions | None) -> None:
        self.model = Matcher(bundle, codec)
        target = self.model.target
        if conditions is None or target not in conditions:
            raise RefusedPair(
                f"the judge knows of {target!r}, and it was not asked for",
                found=", ".join(conditions or ()) or "nothing asked for",
                hint=f"--cond {target}=...",
            )
        self.asked = conditions[target]
        if not bool(present(self.asked, codec.condition_codecs[target].spec).all()):
            raise RecipeError(
                f"of some items no {target!r} is asked for, so there is no best of them",
                hint=f"--cond {target}=..., or leave the judge out",
            )

    def nearness(self, x: Any, num_each: int) -> Tensor:
        """Items (N K, *), K of each that was asked for -> their cosines with it (N, K)."""
        found = in_chunks(lambda part, _: self.model.encode(part), x)
        told = self.model.encode_condition({self.model.target: self.asked})
        return (found.unflatten(0, (-1, num_each)) * told[:, None]).sum(-1).cpu()


def num_draws(judge: Bundle | None, best_of: int | None, spec: Spec) -> int:
    """Draws of each item of a spec. Raises `RecipeError` where nobody tells several apart."""
    num = (1 if judge is None else USUAL) if best_of is None else best_of
    if num < 1:
        raise RecipeError("there is nothing to choose from", found=f"best_of={num}")
    if num > 1 and judge is None and not _has_words(spec):
        raise RecipeError(
            "nobody says which of several draws is the best", found=f"best_of={num}",
            expected="a judge: a bundle of the family contrastive", hint="--judge models/pairs",
        )  # fmt: skip
    return num


def _has_words(spec: Spec) -> bool:
    """Whether items are texts of tokens, which may agree in some of them."""
    return isinstance(spec, TensorSpec) and spec.kind == "token" and spec.end is not None


def nearest_of(
    draw: Callable[[int, Conditions | None], Any],
    judge: Bundle,
    codec: Codec,
    cond: Conditions | None,
    num_each: int,
) -> Any:
    """Items (N, *), each the nearest to what was asked for of so many that `draw` makes of it."""
    judging = PairsJudge(judge, codec, cond)
    num = len(judging.asked)
    x = draw(num * num_each, repeat(cond, num_each))
    best = judging.nearness(x, num_each).argmax(1)
    return rows(x, torch.arange(num) * num_each + best)


def most_agreed(
    draw: Callable[[int, Conditions | None], Any],
    spec: TensorSpec,
    num: int,
    cond: Conditions | None,
    num_each: int,
) -> Tensor:
    """Texts (num, L), each that of so many that `draw` makes of it which agrees most with the
    others."""
    x = draw(num * num_each, repeat(cond, num_each))
    texts = spec.canonical(x).view(num, num_each, -1)
    best = torch.stack([agreement(each, spec).argmax() for each in texts])
    chosen: Tensor = x[torch.arange(num, device=x.device) * num_each + best]
    return chosen


def agreement(x: Tensor, spec: TensorSpec) -> Tensor:
    """How much each of K texts (K, L) has in common with all of them, 0 to 1: (K,)."""
    known, place = torch.unique(x, return_inverse=True)  # (U,), (K, L)
    has = x.new_zeros(len(x), len(known), dtype=torch.float32).scatter_(1, place, 1.0)
    has[:, known == spec.end] = 0
    size = has.sum(1)
    return (2 * has @ has.T / (size[:, None] + size).clamp(min=1)).mean(1)

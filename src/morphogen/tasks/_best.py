r"""The best of several draws: a judge of pairs says which shows most what was asked for.

    x* = argmax over k draws of f(x_k) . g(y)

The judge is a model that places items and what is said of them in one space (family `contrastive`),
trained on the same kind of pairs. It may read items in another size, and words by other tokens:
what it cannot take as it is encoded is decoded, and encoded by its own codec; what a frozen reader
made of words, which it keeps no words of, is scaled as the judge's own reader would have it.
Reranking draws so is what DALL-E was first shown with (Ramesh et al. 2021, arXiv:2102.12092).

Legend: N items, K draws of each, D dimensions of the judge's space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanMatch, missing
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors, describe_codec
from morphogen.core.conditioning import present
from morphogen.core.encoded import rows
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.following import CanReread
from morphogen.tasks._routes import Conditions, in_chunks, repeat

USUAL = 4  # draws of each item, where a judge is there


class PairsJudge:
    """How near items are to what was asked for, by a bundle; items come encoded by `codec`.

    Raises `RefusedPair` for a bundle that places nothing said of items among them."""

    def __init__(self, bundle: Bundle, codec: Codec, conditions: Conditions | None) -> None:
        model: Any = bundle.family
        if missing(model, CanMatch) or model.target is None:
            raise RefusedPair(
                "the judge does not say whether items show what was asked for",
                found=type(model).__name__, expected="a model of pairs",
                hint="morphogen train DATA --condition caption --family contrastive",
            )  # fmt: skip
        if conditions is None or model.target not in conditions:
            raise RefusedPair(
                f"the judge knows of {model.target!r}, and it was not asked for",
                found=", ".join(conditions or ()) or "nothing asked for",
                hint=f"--cond {model.target}=...",
            )  # fmt: skip
        self.model, self.bundle, self.codec, self.target = model, bundle, codec, model.target
        self.asked = self._told(conditions[self.target])

    def nearness(self, x: Any, num_each: int) -> Tensor:
        """Items (N K, *), K of each that was asked for -> their cosines with it (N, K)."""
        if self.codec.spec != self.bundle.codec.spec:
            items = [Item(value) for value in self.codec.decode_many(x)]
            x = self.bundle.codec.encode_many(items)
        found = in_chunks(lambda part, _: self.model.encode(part.to(self.model.device)), x)
        told = self.model.encode_condition({self.target: self.asked.to(self.model.device)})
        return (found.unflatten(0, (-1, num_each)) * told[:, None]).sum(-1).cpu()

    def _told(self, values: Tensor) -> Tensor:
        """What was asked for, as the judge's own codec encodes it: (N, *)."""
        own, other = (
            each.condition_codecs[self.target] for each in (self.bundle.codec, self.codec)
        )
        if not bool(present(values, other.spec).all()):
            raise RecipeError(
                f"of some items no {self.target!r} is asked for, so there is no best of them",
                hint=f"--cond {self.target}=..., or leave the judge out",
            )  # fmt: skip
        if _same(own, other):
            return values
        again = own.reread(values.cpu(), other) if isinstance(own, CanReread) else None
        if again is not None:
            return again
        texts = [other.decode(each.cpu()) for each in values]
        return torch.stack([own.encode(Item(text)) for text in texts])


def num_draws(judge: Bundle | None, best_of: int | None) -> int:
    """Draws of each item. Raises `RecipeError` where nobody tells several apart."""
    num = (1 if judge is None else USUAL) if best_of is None else best_of
    if num < 1:
        raise RecipeError("there is nothing to choose from", found=f"best_of={num}")
    if num > 1 and judge is None:
        raise RecipeError(
            "nobody says which of several draws is the best", found=f"best_of={num}",
            expected="a judge: a bundle of the family contrastive", hint="--judge models/pairs",
        )  # fmt: skip
    return num


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


def _same(one: Codec, other: Codec) -> bool:
    """Whether two codecs encode alike: of the same state, and weights."""
    first, second = codec_tensors(one), codec_tensors(other)
    return (
        describe_codec(one) == describe_codec(other)
        and first.keys() == second.keys()
        and all(torch.equal(value, second[name]) for name, value in first.items())
    )

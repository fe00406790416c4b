r"""The best of several draws: a judge of pairs says which shows most what was asked for.

    x* = argmax over k draws of f(x_k) . g(y)

The judge is a model that places items and what is said of them in one space (family `contrastive`),
trained on the same kind of pairs. It may see items in another size or through another model, and
read words by other tokens (see `core.matching`).
Reranking draws so is what DALL-E was first shown with (Ramesh et al. 2021, arXiv:2102.12092).

Legend: N items, K draws of each, D dimensions of the judge's space.
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

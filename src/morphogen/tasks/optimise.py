r"""Move items to where a function rewards them, through the latents of a model.

    z_0 = encode(x),    z_{r+1} = the best of z_r and of K that lie around it,  by f(decode(z))

an evolution strategy that keeps the best so far (Rechenberg 1973). What is around a latent is drawn
as `vary` draws it, so that what is decoded stays of the kind that the model learned. The function
sees items as people do, whatever they are: the logP of molecules, the score of another model. It
needs no gradient.

Legend: N items, K tried at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.capability import CanReconstruct
from morphogen.core.change import change_of_items
from morphogen.core.encoded import device, moved, num_items, rows, together
from morphogen.core.errors import RecipeError
from morphogen.core.result import Result
from morphogen.core.spec import Spec
from morphogen.tasks._latents import disturb
from morphogen.tasks._routes import Conditions, check_share, in_chunks, in_rows

Worth = Callable[[Any], Tensor]  # of encoded items (M, *) -> (M,)


def optimise(
    model: CanReconstruct,
    x: Any,
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    reward: str | None = None,  # package.module:function of items; none: how well they are rebuilt
    num_rounds: int = 10,  # moves, each to the best that was found
    num: int = 8,  # latents tried around each item in a round
    strength: float = 0.3,  # in (0, 1]: how far around
) -> Result:
    """Move each item to where a reward is higher: rows of the item and the best that was found."""
    check_share(strength, "strength")
    if min(num, num_rounds) < 1:
        raise RecipeError("there is nothing to try", found=f"num={num}, num_rounds={num_rounds}")
    spec: Spec = getattr(model, "spec")  # noqa: B009

    def rebuilt(items: Any) -> Tensor:
        again = in_chunks(lambda part, _: model.decode(model.encode(part)), items)
        return -change_of_items(again, items, spec).cpu()

    worth = rebuilt if reward is None else rewarded(reward, codec)
    z, best, found = in_chunks(lambda part, _: model.encode(part), x), x, worth(x)
    before = found
    for _ in range(num_rounds):
        tried = disturb(model, z.repeat_interleave(num, 0), strength, generator)
        made = in_chunks(lambda part, _: model.decode(part), tried)
        values = worth(made).view(-1, num)
        place = torch.arange(num_items(x)) * num + values.argmax(1)
        better = values.amax(1) > found
        found = torch.where(better, values.amax(1), found)
        z = _where(better, rows(tried, place.to(z.device)), z)
        best = _where(better, rows(made, place.to(device(made))), best)
    told = {"reward_before": before.tolist(), "reward_after": found.tolist()}
    return Result(in_rows(x, best, 1), told, "reconstruct", 2)


def rewarded(path: str, codec: Any) -> Worth:
    """What a function of the user's finds items worth. Raises `RecipeError` where it gives no
    number for each."""
    function = discover.find("task", path)

    def worth(items: Any) -> Tensor:
        values = codec.decode_many(moved(items, "cpu")) if codec is not None else items
        told = torch.as_tensor(function(values)).detach().cpu().float()
        if told.shape != (num_items(items),) or not bool(told.isfinite().all()):
            raise RecipeError(
                "a reward is a finite number for each item", found=tuple(told.shape), where=path
            )
        return told

    return worth


def _where(better: Tensor, new: Any, old: Any) -> Any:
    """New items where they are better: (N, *) each, or by parts."""

    def chosen(parts: list[Tensor]) -> Tensor:
        first, second = parts
        wide = better.to(first.device).view(-1, *(1,) * (first.dim() - 1))
        return torch.where(wide, first, second.to(first))

    return together(chosen, [new, old])

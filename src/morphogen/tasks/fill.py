r"""Redraw a hidden part of an item so that it fits the rest.

fill          the model's own conditional draw
denoise       RePaint (Lugmayr et al. 2022): going down the path, the known part of x_t is the
              truth with fresh noise, the rest the model's; each step is gone back and repeated
              so that the two come to agree
reconstruct   pseudo-Gibbs (Rezende et al. 2014): decode(encode(x)), put the known part back,
              again and again
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from morphogen.core.capability import CanDenoise, CanFill, CanReconstruct
from morphogen.core.codec import Item
from morphogen.core.encoded import Encoded, each, joined, num_items, rows, tensor, together
from morphogen.core.errors import RecipeError
from morphogen.core.following import HasGaps
from morphogen.core.random import rand, randn
from morphogen.core.result import Result
from morphogen.core.schema import options, with_options
from morphogen.core.spec import ProductSpec, Spec
from morphogen.core.writing import Limits
from morphogen.tasks._path import in_range
from morphogen.tasks._regions import check_known, known_region
from morphogen.tasks._routes import (
    Conditions,
    asked,
    choose,
    chunks,
    copied,
    guided,
    in_rows,
    repeat,
    said_away,
    within_rules,
)

STEPS = 50  # of the routes denoise and reconstruct, where none are told


@with_options(Limits)
def fill(
    model: CanFill | CanDenoise | CanReconstruct,
    x: Any,
    codec: Any = None,
    items: Sequence[Item] | None = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    mask: str = "auto",  # hidden: auto, center, left, right, top, bottom, random:0.5; or names
    known: Encoded | None = None,  # a ready mask in place of `mask`: True where x is kept
    num: int = 3,  # fillings of each item
    num_steps: int | None = None,  # where filling goes in steps; none: 50, or the model's own
    guidance: float | None = None,  # towards the conditions: 1 none, above 1 more of them
    negative: str | None = None,  # what to go away from, said as the model's caption or class is
    num_repeats: int = 4,  # denoise: how often each step is gone back and repeated
    route: Literal["fill", "denoise", "reconstruct"] | None = None,  # force a way
    **limits: Any,
) -> Result:
    """Redraw a hidden part of each item: rows of the masked input and its fillings.

    Of `items` with gaps of their own, the items with these filled; where items could have gaps and
    none has, a mask is asked for ("auto" is the usual one). `Limits` go to a model's own way; one
    that does not take one of them, and the other ways, refuse it by name."""
    spec: Spec = getattr(model, "spec")  # noqa: B009
    if known is None:
        known = known_region(mask, x, spec, generator)
    known = check_known(known, x)
    x_all, known_all = copied(x, num), copied(known, num)

    def by_filling(m: CanFill, part: slice, share: Conditions | None) -> Any:
        fill: Any = m.fill
        steps = num_steps if "num_steps" in options(fill) else None  # most fill in one
        own = asked(fill, num_steps=steps, guidance=guidance, **limits)
        given = rows(x_all, part), rows(known_all, part)
        rules = within_rules(fill, codec, part.stop - part.start)
        return fill(*given, cond=share, generator=generator, **rules, **own)

    def by_repainting(m: CanDenoise, part: slice, share: Conditions | None) -> Tensor:
        steered = guided(m, guidance, said_away(m, codec, negative))
        repaint = _RePaint(steered, generator, num_steps or STEPS, num_repeats)
        return repaint(x_all[part], known_all[part], share)

    def by_gibbs(m: CanReconstruct, part: slice, share: Conditions | None) -> Any:
        truth, keep = rows(x_all, part), rows(known_all, part)
        # Started at random: where the rest leaves a choice, the start decides.
        guess = kept(keep, truth, at_random(truth, spec, generator))
        for _ in range(num_steps or STEPS):
            guess = kept(keep, truth, m.decode(m.encode(guess)))
        return guess

    routes: dict[str, Any] = {
        "fill": by_filling, "denoise": by_repainting, "reconstruct": by_gibbs
    }  # fmt: skip
    name, run = choose(model, routes, route)
    if limits and name != "fill":
        raise RecipeError(
            f"{type(model).__name__} fills by the route {name!r}, which draws no tokens",
            found=", ".join(f"{key}={value}" for key, value in limits.items()),
            expected="num_steps, guidance, negative and num_repeats",
            hint=f"leave out {', '.join(limits)}",
        )
    shares = chunks(num_items(x_all), repeat(cond, num))
    filled = joined([run(part, share) for part, share in shares])
    masked = kept(known, x, each(torch.zeros_like, x))
    if items is not None and isinstance(codec, HasGaps):
        drawn = tensor(filled).cpu().view(len(items), num, *x.shape[1:])
        raw, given = codec.filled(items, drawn), [item.value for item in items]
        return Result(None, {"hidden": hidden_share(known)}, name, raw=raw, given=given)
    return Result(in_rows(masked, filled, num), {"hidden": hidden_share(known)}, name, num + 1)


def kept(known: Any, x: Any, other: Any) -> Any:
    """x where it is known, else the other: (N, *) each, or by parts."""

    def chosen(parts: list[Tensor]) -> Tensor:
        keep, own, new = parts
        return torch.where(keep, own, new.to(own))

    return together(chosen, [known, x, other])


def at_random(like: Any, spec: Spec, generator: torch.Generator) -> Any:
    """Items that know nothing: noise with each item's own spread, tokens evenly drawn."""
    if isinstance(spec, ProductSpec):
        return {name: at_random(like[name], part, generator) for name, part in spec}
    if spec.kind == "token":
        drawn = rand(like.shape, generator).to(like.device)
        sizes = torch.tensor(spec.sizes or spec.vocab_size or 1, device=like.device)
        return (drawn * sizes).long()
    spread = like.flatten(1).std(1, correction=int(like[0].numel() > 1))
    return spread.view(-1, *(1,) * (like.dim() - 1)) * randn(like.shape, generator).to(like)


def hidden_share(known: Any) -> list[float]:
    """The share of each item that is hidden, its parts counted alike."""
    parts = list(known.values()) if isinstance(known, dict) else [known]
    shares = [(~part).float().reshape(len(part), -1).mean(1) for part in parts]
    return [float(share) for share in torch.stack(shares).mean(0)]


@dataclass
class _RePaint:
    """Ancestral steps down the path, each gone back and repeated."""

    model: CanDenoise
    generator: torch.Generator
    num_steps: int
    num_repeats: int

    def __call__(self, x: Tensor, known: Tensor, cond: Conditions | None) -> Tensor:
        """x (B, *) with the part where `known` is False redrawn."""
        x_t = self.noise(x)
        for t, s in itertools.pairwise(self.model.path.times(self.num_steps).to(x)):
            for repeats_left in reversed(range(self.num_repeats if s > 0 else 1)):
                x_hat = in_range(self.model, self.model.denoise(x_t, t.expand(len(x)), cond))
                truth_s = self.model.path.noised(x, self.noise(x), s)
                x_s = torch.where(known, truth_s, self.down(x_hat, x_t, t, s))
                x_t = self.up(x_s, s, t) if repeats_left else x_s
        return torch.where(known, x, x_t)

    def down(self, x_hat: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s ~ q(x_s | x_t, x_hat), s < t: the ancestral step (Ho et al. 2020)."""
        path = self.model.path
        ratio = path.alpha(t) * path.sigma(s) / (path.alpha(s) * path.sigma(t))
        nu = path.sigma(s) * (1 - ratio**2).clamp(min=0).sqrt()
        kept = (path.sigma(s) ** 2 - nu**2).clamp(min=0).sqrt()
        eps_hat = path.eps_from_x(x_hat, x_t, t)
        return path.alpha(s) * x_hat + kept * eps_hat + nu * self.noise(x_t)

    def up(self, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """x_t ~ q(x_t | x_s), t > s: noised further."""
        path = self.model.path
        ratio = path.alpha(t) / path.alpha(s)
        added = (path.sigma(t) ** 2 - (ratio * path.sigma(s)) ** 2).clamp(min=0).sqrt()
        return ratio * x_s + added * self.noise(x_s)

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal numbers, shaped like x."""
        return randn(like.shape, self.generator).to(like)

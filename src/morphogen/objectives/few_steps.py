r"""A denoiser that draws in one step, or in a few, what took it many.

    x_hat = E_theta(x_t, t, c),  x_t = alpha_t x + sigma_t eps,  t one of the few times of sampling
    L     = sum over maps of  E_w  W_2^2( w . phi(x_hat, c), w . phi(x, c) )

At t = 1 there is nothing of an item in x_t, and the mean that a denoiser gives there is one picture
for all. It becomes a generator instead: what it makes of noise is to be distributed as items are.
Distributions are compared along random directions w of what the model, as it was, makes of items on
its way (phi, at a little noise, beside what is said of them), where the distance of optimal
transport is that of sorted numbers (sliced Wasserstein, Rabin et al. 2012; in learned features,
Deshpande et al. 2018, arXiv:1803.11188). There is no critic, and no state that a step changes.

What is drawn in several steps is noised again between them: --set num_steps=2 sampler=ancestral.

Legend: B items, D features, P directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.capability import CanDenoise, missing
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family, HealthyRange, Update
from morphogen.core.objective import Judge, Reference
from morphogen.core.random import rand, randint, randn

SEEN_AT = (0.02, 0.4)  # amounts of noise at which items are compared
PLACES = 4  # along each axis of a map that are told apart
FEWEST = 8  # items from which a distribution is told


class FewSteps:
    """Teaches a denoiser to draw in so few steps."""

    train_defaults: ClassVar[dict[str, Any]] = {
        "num_previews": 4, "batch_size": 128, "optimizer": "muon", "warmup": 0.03, "decay": 1.0,
    }  # fmt: skip
    watched: Mapping[str, HealthyRange] = {}
    rate: ClassVar[float] = 10.0
    scored: ClassVar[str] = "minus the distance of what is drawn in few steps from items"
    judged: ClassVar[bool] = False

    def __init__(
        self,
        *,
        num_steps: int = 1,  # of sampling, that are to be enough
        num_directions: int = 512,  # along which distributions are compared, in each map
        said_weight: float = 1.0,  # of what is said of items, beside what they are like
    ) -> None:
        if num_steps < 1 or num_directions < 1 or said_weight < 0:
            raise RecipeError(
                "there is nothing to compare, or nothing to draw with", where="objective",
                found=f"num_steps={num_steps}, num_directions={num_directions}",
                expected="one or more of each",
            )  # fmt: skip
        self.num_steps, self.num_directions = num_steps, num_directions
        self.said_weight = said_weight

    def put_on(self, family: Family, reference: Reference, judge: Judge | None) -> None:
        """Teach this family. Raises `RefusedPair` for one that does not denoise."""
        if missing(family, CanDenoise) or not hasattr(family, "activations"):
            raise RefusedPair(
                "only what draws in steps can be taught to take few", found=type(family).__name__,
                expected="flow_matching or diffusion",
            )  # fmt: skip
        self.family, self.reference = family, reference
        family.num_steps = self.num_steps  # type: ignore[assignment]  # of sheets, while it trains

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One update by a batch."""
        loss = self.distance(self.family, batch, generator)
        updates[self.family.phases[-1]].minimise(loss)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def scores(self, family: Family, batch: Batch, generator: torch.Generator) -> Tensor:
        """Minus the distance of all that is drawn from all items of a batch, for each: (B,)."""
        return -self.distance(family, batch, generator).expand(len(batch))

    def shown(self) -> list[str]:
        """Nothing: sheets show what it draws."""
        return []

    def distance(self, family: Any, batch: Batch, generator: torch.Generator) -> Tensor:
        """How far what is drawn for the items' conditions is from the items: a scalar."""
        x, num = batch.x, len(batch)
        if num < FEWEST:
            raise RecipeError(
                "so few items are no distribution", found=f"batches of {num}",
                expected=f"{FEWEST} and more", hint="--set train.batch_size=128",
            )  # fmt: skip
        cond = {name: batch.cond[name] for name in family.conditions if name in batch.cond} or None
        times = family.times(self.num_steps, 1.0, family.time_shift)
        t = times[int(randint(self.num_steps, (), generator))].to(x)
        noise = family.starting_noise(num, generator)
        x_t = noise if t >= 1 else family.path.noised(x, noise, t.expand(num))
        drawn = family.denoise(x_t, t.expand(num), cond)
        low, high = SEEN_AT
        s = (low + (high - low) * rand((), generator)).to(x).expand(num)
        with self.reference.at_work() as model:
            with torch.no_grad():
                real = self._maps(model, x, s, cond, generator)
            own = self._maps(model, drawn, s, cond, generator)
        apart = [self._apart(a, b, generator) for a, b in zip(own, real, strict=True)]
        return torch.stack(apart).sum()

    def _maps(
        self, model: Any, x: Tensor, s: Tensor, cond: Any, generator: torch.Generator
    ) -> list[Tensor]:
        """Items with what is said of them, by each map: (B, D), each feature of size about 1."""
        seen = model.path.noised(x, randn(x.shape, generator).to(x), s)
        said = model.conditioner.both(cond, len(x))[0] if cond else None
        found = []
        for each in [seen, *model.activations(seen, s)]:
            features = _pooled(each)
            if said is not None and self.said_weight:
                # As large together as all features are: a direction is of both alike.
                size = self.said_weight * (features.shape[1] / said.shape[1]) ** 0.5
                spread = (said - said.mean(0)).square().mean().sqrt().clamp(min=1e-6)
                features = torch.cat([features, size * (said - said.mean(0)) / spread], dim=1)
            found.append(features)
        return found

    def _apart(self, own: Tensor, real: Tensor, generator: torch.Generator) -> Tensor:
        """The squared distance of two sets (B, D) along random directions, on average."""
        directions = randn((own.shape[1], self.num_directions), generator).to(own)
        directions = F.normalize(directions, dim=0)
        scale = real.std(0).square().mean().sqrt().clamp(min=1e-6)
        along = [(each / scale @ directions).sort(0).values for each in (own, real)]
        return (along[0] - along[1]).square().mean()


def _pooled(x: Tensor) -> Tensor:
    """Maps (B, D, *space) by a few places along each axis: (B, D')."""
    if x.dim() < 3:
        return x
    pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    space = x.shape[2:]
    found: Tensor = pool[len(space) - 1](x, tuple(min(PLACES, size) for size in space))
    return found.flatten(1)

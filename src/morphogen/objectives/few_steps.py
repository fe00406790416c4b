r"""A denoiser that draws in one step, or in a few, what took it many.

    L = E | f_theta(x_t, t, c) - Phi(x_t, t, c) |,     t one of the few times of sampling

Phi is where the path of the model as it was ends that begins at x_t: at t = 1 with noise, and where
there are more steps, with items that are noised again. Each noise has one end, so that no mean of
many items is learned (Luhman & Luhman 2021, arXiv:2101.02388). Each step draws the ends
for a batch and learns from the latest thousands. Of several processes each draws the ends of its
slice and keeps those of all, so that they learn what one would and any checkpoint of them is whole.
Distances are not squared, so that ends which hardly follow from their beginning do not count most
(Song & Dhariwal 2024, arXiv:2310.14189).

An end that hardly follows from its noise is still drawn as a mean of many, and looks blurred. So in
the later part of a run no more ends are drawn, and beside the distance from those that there are

    E_t [ (E_drawn[x | x_t] - E_model[x | x_t]) . f_theta ]

moves the distribution of what is drawn towards that of the model (`_matching`). There is no critic.

What is learned begins with the answer for Gaussian data, of which the path is known (`leaps`, see
`families._gaussian_baseline`): x = mu + S^(1/2) eps, to which the network adds the rest. What the
model expects at other times than those of sampling fades: keep the one that it began with for
likelihoods, filling and the like.

Legend: B items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.capability import CanDenoise, missing
from morphogen.core.conditioning import kept
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.family import Family, HealthyRange, Update
from morphogen.core.gathering import of_all_processes
from morphogen.core.objective import Judge, Reference
from morphogen.core.random import rand, randint
from morphogen.core.storage import below
from morphogen.objectives._matching import Matching

SAMPLER = "adams_bashforth"  # of the path: one end for each beginning
RENOISING = "ancestral"  # of few steps: takes what is drawn as it is, on any path
MOST_KEPT, MOST_VALUES = 8192, 1 << 24  # ends, and numbers of them, to learn from again
NEAREST = 0.01  # distance below which an end is met
MATCHING = "matching/"  # of what a checkpoint has, beside ends

Ends = dict[str, Tensor]  # x_t (B, *) at t (B,), where the path ends, x (B, *), and "cond/NAME"


class FewSteps:
    """Teaches a denoiser to draw in so few steps."""

    train_defaults: ClassVar[dict[str, Any]] = {
        "num_previews": 4, "batch_size": 64, "optimizer": "muon", "warmup": 0.03, "decay": 1.0,
    }  # fmt: skip
    watched: Mapping[str, HealthyRange] = {}
    rate: ClassVar[float] = 15.0
    scored: ClassVar[str] = "minus the distance from where many steps end"
    judged: ClassVar[bool] = False

    def __init__(
        self,
        *,
        num_steps: int = 1,  # of sampling, that are to be enough
        num_many: int = 6,  # steps of the model as it was, that these are to be like
        num_updates: int = 3,  # of the weights in a step, by some of the latest ends
        match_from: float = 0.6,  # share of the run after which distributions are matched; 1: never
    ) -> None:
        if num_many <= num_steps:
            raise RecipeError(
                "what draws in few steps learns from what draws in more", where="objective",
                found=f"num_many={num_many}, num_steps={num_steps}",
                expected="more of the former",
            )  # fmt: skip
        if not 0 <= match_from <= 1:
            raise RecipeError(
                "distributions are matched from a share of the run on", where="objective",
                found=f"match_from={match_from:g}", expected="0 to 1; 1 never matches them",
                hint="--set objective.match_from=0.6",
            )  # fmt: skip
        self.num_steps, self.num_many = num_steps, num_many
        self.num_updates, self.match_from = num_updates, match_from
        self.kept: Ends = {}
        self.matching: Matching | None = None  # in the later part of a run

    def changes(self, family: Family) -> dict[str, Any]:
        """Options that a family has from now on. Raises `RefusedPair` for one that cannot leap."""
        if missing(family, CanDenoise) or not hasattr(family, "leaps"):
            raise RefusedPair(
                "only what draws in steps can be taught to take few", found=type(family).__name__,
                expected="flow_matching or diffusion",
            )  # fmt: skip
        model: Any = family
        if not model.target_weights(torch.ones(1))[0].any():
            raise RefusedPair(
                "a model that tells the noise says nothing of an item where all is noise",
                found="family.target=eps", expected="family.target=v or x",
                hint=f"morphogen train DATA --family {type(family).__name__.lower()}",
            )  # fmt: skip
        return {"num_steps": self.num_steps, "sampler": RENOISING, "leaps": True}

    def put_on(self, family: Family, reference: Reference, judge: Judge | None) -> None:
        """Teach this family. Raises `RefusedPair` for one that cannot be taught so."""
        changes = self.changes(family)
        if reference.other is None:
            raise RefusedPair(
                "all weights are taught few steps, and none put beside them",
                found="an adapter", hint="leave --adapter out",
            )  # fmt: skip
        if getattr(reference.other, "leaps", False):
            raise RefusedPair(
                "a model that was taught few steps has no many to learn from",
                found="family.leaps=True", hint="--from the model that it began with",
            )  # fmt: skip
        for name, value in changes.items():
            setattr(family, name, value)
        self.family, self.reference = family, reference

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw the ends for a batch, or match distributions; learn from the latest ends."""
        if self.family.progress < self.match_from or not self.kept:
            self._keep(self.ends(self.family, batch, generator))
        elif self.matching is None:
            self.matching = Matching(self.reference.other)
        losses: list[Tensor] = []
        for _ in range(self.num_updates):
            index = randint(len(self.kept["x"]), (len(batch),), generator).to(batch.x.device)
            some = {name: value[index] for name, value in self.kept.items()}
            x = drawn(self.family, some)
            loss = apart(x, some["x"]).mean()
            losses.append(loss.detach())
            if self.matching is not None:
                loss = loss + self._matched(self.matching, x, below("cond/", some), generator)
            updates[self.family.phases[-1]].minimise(loss)
        return {"loss": torch.stack(losses).mean()}

    def _keep(self, own: Ends) -> None:
        """Ends of this process, and of the others, with the latest before them."""
        new = {name: of_all_processes(value) for name, value in own.items()}
        most = min(MOST_KEPT, MOST_VALUES // sum(value[0].numel() for value in new.values()))
        self.kept = {
            name: torch.cat([self.kept.get(name, value[:0]), value])[-max(most, len(value)) :]
            for name, value in new.items()
        }

    def _matched(
        self, matching: Matching, x: Tensor, cond: Mapping[str, Tensor], generator: torch.Generator
    ) -> Tensor:
        """What has the gradient that moves the distribution of x (B, *): a scalar."""
        matching.learn(x.detach(), cond, generator)
        if not matching.weight:
            return x.new_zeros(())
        with self.reference.at_work() as model:
            direction = matching.direction(x.detach(), cond, model, generator)
        return matching.weight * (x * direction).flatten(1).mean(1).mean()

    def state(self) -> dict[str, Tensor]:
        """What a run that goes on needs: the ends that are kept, and the model of what is drawn."""
        found = {} if self.matching is None else self.matching.state()
        return {**self.kept, **{f"{MATCHING}{name}": value for name, value in found.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.kept = {
            name: value.to(self.family.device)
            for name, value in state.items()
            if not name.startswith(MATCHING)
        }
        self.matching = None
        if found := below(MATCHING, state):
            self.matching = Matching(self.reference.other)
            self.matching.load_state(found)

    @torch.no_grad()
    def scores(self, family: Family, batch: Batch, generator: torch.Generator) -> Tensor:
        """How near what is drawn is to where many steps end, for each item: (B,)."""
        ends = self.ends(family, batch, generator)
        return -apart(drawn(family, ends), ends["x"])

    def shown(self) -> list[str]:
        """Nothing: sheets show what it draws."""
        return []

    @torch.no_grad()
    def ends(self, family: Any, batch: Batch, generator: torch.Generator) -> Ends:
        """Where paths end that begin with the conditions of items, some of which are dropped."""
        num = len(batch)
        said = {name: batch.cond[name] for name in family.conditions if name in batch.cond}
        cond = kept(said, rand((num,), generator) >= family.drop_prob, family.conditions)
        times = family.times(self.num_steps, 1.0, family.time_shift)
        at = torch.randint(  # the same for all processes, as one path of integration is
            self.num_steps, (), generator=generator, device=generator.device
        )
        start = float(times[int(at)])
        x_t, t = family.starting_noise(num, generator), torch.full((num,), start).to(batch.x)
        if start < 1:
            x_t = family.path.noised(batch.x, x_t, t)
        with self.reference.at_work() as model:
            x = model.integrate(  # type: ignore[operator]
                x_t, start, cond=cond or None, generator=generator, num_steps=self.num_many,
                sampler=SAMPLER,
            )  # fmt: skip
        return {"x_t": x_t, "t": t, "x": x, **{f"cond/{name}": c for name, c in cond.items()}}


def drawn(family: Any, ends: Ends) -> Tensor:
    """What a family draws in a step where `ends` begin: (B, *)."""
    found: Tensor = family.steer(ends["x_t"], ends["t"], below("cond/", ends) or None)
    return found


def apart(x: Tensor, end: Tensor) -> Tensor:
    """How far items (B, *) are from where they should be, root mean square: (B,)."""
    return ((x - end).square().flatten(1).mean(1) + NEAREST**2).sqrt()

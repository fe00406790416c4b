r"""Group-relative policy optimisation: draws that are rewarded more than their like become usual.

For each prompt, or from nothing, G items are drawn and rewarded. What counts is how a reward stands
among those of its group,

    A_g = (r_g - mean r) / (std r + eps)

and each token that was drawn is made more or less probable by it, no more than by a share of
`clip` at a step, and not far from the model as it was (the reference), pi_0:

    loss = - min(rho A, clip(rho, 1 - c, 1 + c) A) + w KL,      rho = pi / pi_drawn
    KL   = pi_0 / pi - log (pi_0 / pi) - 1                      (k3, Schulman 2020: never < 0)

Shao et al. 2024 (arXiv:2402.03300). All tokens of a step count alike, so that no answer gains by
being long (Yu et al. 2025, arXiv:2503.14476).

A reward is never all that is wanted, and what pays most may be one answer for ever. So the reward
is followed only within bounds: where draws of a group are too often the same, or an item has moved
farther from the reference than `kl_budget` nats (what was drawn once in exp(kl_budget) items may
become usual, and no more), a step only goes back towards the reference. Steps that do are logged as
`held`, and an alarm says so when they come often.

Legend: B prompts, G draws of each, N = B G, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.adapter import merged
from morphogen.core.batch import Batch
from morphogen.core.draws import Prompts, draws
from morphogen.core.errors import RecipeError
from morphogen.core.family import Family, HealthyRange, Update
from morphogen.core.objective import Drawn, Judge, Reference
from morphogen.core.random import mix_seed
from morphogen.objectives._likelihoods import check_likelihood, log_probs

EPS = 1e-4  # added to the deviation of rewards
BACK = 10.0  # times the usual weight of the KL, where a step only goes back
SHOWN, MOST_SHOWN = 3, 300  # draws, and characters of each


class GRPO:
    """Makes draws that a function rewards more usual, within bounds."""

    train_defaults: ClassVar[dict[str, Any]] = {"batch_size": 8, "num_previews": 4}
    rate: ClassVar[float] = 1.0
    scored: ClassVar[str] = "reward"
    judged: ClassVar[bool] = True

    def __init__(
        self,
        *,
        reward: str | None = None,  # package.module:function of (items), or (items, prompts)
        schema: str | None = None,  # reward 1 for JSON that a schema allows: it, or a .json file
        regex: str | None = None,  # reward 1 for a text that a regular expression matches whole
        tests: str | None = None,  # .py file that is run behind each item: reward 1 if it passes
        group_size: int = 8,  # draws of each prompt
        prompts: Prompts = "auto",  # none: items are drawn from nothing, the data is not looked at
        most: int | None = None,  # tokens of a draw; none: all that there is room for
        num_updates: int = 2,  # of the weights, by the draws of one step
        clip: float = 0.2,  # share by which a step may change how probable a token is
        kl_weight: float = 0.04,  # of the distance from the reference
        kl_budget: float = 10.0,  # nats of an item from the reference, at most
        distinct_floor: float = 0.5,  # share of a group's draws that differ, at least
    ) -> None:
        if group_size < 2:
            raise RecipeError(
                "a draw is compared with others of its group", found=f"group_size={group_size}",
                expected="2 or more", where="objective.group_size",
            )  # fmt: skip
        self.reward, self.schema, self.regex, self.tests = reward, schema, regex, tests
        self.group_size, self.prompts, self.most = group_size, prompts, most
        self.num_updates, self.clip = num_updates, clip
        self.kl_weight, self.kl_budget = kl_weight, kl_budget
        self.distinct_floor = distinct_floor
        self.watched: Mapping[str, HealthyRange] = {
            "held": HealthyRange(
                kind="reward_hacked",
                means="rewarded draws are too alike, or too far from the base: the reward is not "
                "followed any further",
                hint="look at the draws with the highest reward: does it pay for what you want? "
                f"then --set objective.kl_budget={2 * kl_budget:g}",
                high=0.25,
            )
        }
        self.last: list[tuple[Any, float]] = []  # items of the latest step with their rewards

    def put_on(self, family: Family, reference: Reference, judge: Judge | None) -> None:
        """Reward draws of this family. Raises `RefusedPair` for one without a likelihood."""
        assert judge is not None
        check_likelihood(family, self)
        self.family, self.reference, self.judge = family, reference, judge

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw, reward, and learn from it `num_updates` times."""
        family = self.family.eval()  # what is learned is as probable as it was when it was drawn
        with merged(family):
            drawn = self._drawn(family, batch, self.group_size, generator)
        items, rewards = self.judge(drawn)
        self.last = list(zip(items, rewards.tolist(), strict=True))
        groups = rewards.to(family.device).view(-1, self.group_size)
        distinct = share_distinct(drawn, self.group_size)
        apart = (groups.amax(1) > groups.amin(1)).float().mean()  # of prompts that teach something
        values = {"reward": groups.mean(), "told_apart": apart, "distinct": torch.tensor(distinct)}
        advantages = relative(groups).view(-1, 1)  # (N, 1)
        seed = mix_seed(generator.initial_seed(), 1)
        with torch.no_grad(), self.reference.at_work() as base:
            reference = log_probs(base, drawn.batch, seed)
            counted = _counted(drawn, reference)
        drawn_at: Tensor | None = None
        for _ in range(self.num_updates):
            log_p = log_probs(family, drawn.batch, seed)
            if drawn_at is None:
                drawn_at = log_p.detach()
                values |= self._measured(drawn_at, reference, counted)
                is_held = float(values["kl"]) > self.kl_budget or distinct < self.distinct_floor
                values["held"] = torch.tensor(float(is_held))
            loss = self.loss(
                log_p, drawn_at=drawn_at, reference=reference, advantages=advantages,
                counted=counted, is_held=is_held,
            )  # fmt: skip
            updates[family.phases[-1]].minimise(loss)
        return values | {"loss": loss.detach()}

    def loss(
        self,
        log_p: Tensor,
        *,
        drawn_at: Tensor,
        reference: Tensor,
        advantages: Tensor,
        counted: Tensor,
        is_held: bool = False,
    ) -> Tensor:
        """The mean over tokens that count, of log p by the model, by the model that drew, and by
        the reference, (N, L) each, with advantages (N, 1)."""
        ratio = (log_p - drawn_at).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * advantages, clipped * advantages)
        away = self.kl_weight * distance(log_p, reference)
        each = BACK * away if is_held else away - gain
        return (each * counted).sum() / counted.sum().clamp(min=1)

    def scores(self, family: Family, batch: Batch, generator: torch.Generator) -> Tensor:
        """The reward of one draw for each row: (B,)."""
        return self.judge(self._drawn(family, batch, 1, generator))[1]

    def shown(self) -> list[str]:
        """Some of the latest draws with what they were worth, the best and the worst among them."""
        ordered = sorted(self.last, key=lambda each: -each[1])
        places = torch.linspace(0, max(len(ordered) - 1, 0), min(SHOWN, len(ordered))).long()
        chosen = [ordered[i] for i in places.tolist()]
        return [f"reward {worth:.3g}: {f'{item}'[:MOST_SHOWN]}" for item, worth in chosen]

    def _drawn(self, family: Family, batch: Batch, num: int, generator: torch.Generator) -> Drawn:
        return draws(family, batch, num, prompts=self.prompts, most=self.most, generator=generator)

    def _measured(self, log_p: Tensor, reference: Tensor, counted: Tensor) -> dict[str, Tensor]:
        """Of each item on average: nats from the reference, and tokens; nats of a token."""
        tokens = counted.sum(1)
        return {
            "kl": (distance(log_p, reference) * counted).sum(1).mean(),
            "length": tokens.mean(),
            "entropy": -(log_p * counted).sum() / tokens.sum().clamp(min=1),
        }


def relative(rewards: Tensor) -> Tensor:
    """How each reward stands among those of its group: (B, G) -> (B, G)."""
    deviation = rewards.std(1, correction=0, keepdim=True)
    return (rewards - rewards.mean(1, keepdim=True)) / (deviation + EPS)


def distance(log_p: Tensor, reference: Tensor) -> Tensor:
    """An estimate of KL(pi | pi_0) by each draw of pi, which is never negative."""
    gap = reference - log_p
    return gap.exp() - gap - 1


def share_distinct(drawn: Drawn, group_size: int) -> float:
    """The share of draws that differ from all before them in their group, on average."""
    x, own = drawn.batch.x.cpu(), drawn.own
    kept = [
        row.numpy().tobytes() if own is None else row[own[i].cpu()].numpy().tobytes()
        for i, row in enumerate(x)
    ]
    groups = [kept[i : i + group_size] for i in range(0, len(kept), group_size)]
    return sum(len(set(group)) for group in groups) / max(len(kept), 1)


def _counted(drawn: Drawn, log_p: Tensor) -> Tensor:
    """Which of the log probabilities (N, L) are of what was drawn, as numbers."""
    if drawn.own is None:
        return (log_p != 0).to(log_p) if log_p.shape[1] > 1 else torch.ones_like(log_p)
    return drawn.own[:, : log_p.shape[1]].to(log_p)

"""What the RBM and the deep belief network share: data and labels as units, persistent chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.conditioning import check_conditions
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family, HealthyRange
from morphogen.core.random import rand, randn
from morphogen.core.spec import TensorSpec
from morphogen.families._rbm_layer import RBMLayer, draw


class Boltzmann(Family):
    """Visible units from data and labels. Subclasses hold the layers.

    Bernoulli units read data with levels as probabilities, (x + 1) / 2: a grey value is how often
    its unit is on. One class label joins as units; other conditions are not learned, and the model
    says so by leaving them out of its `conditions`.
    """

    default_backbone = "mlp"
    draws_means = True
    finish_share = 0.02
    num_steps: int  # Gibbs rounds of a draw
    objective = "reconstruction"  # the loss is a contrast, whose value says little
    watched = {
        "hidden_spread": HealthyRange(
            "dead hidden units",
            "hidden units say the same of every item",
            "--set train.lr=0.0003, or fewer family.num_hidden",
            low=0.001,
        )
    }

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        visible: Literal["auto", "bernoulli", "gaussian"],
    ) -> None:
        super().__init__(spec, conditions, backbone)
        labels = {n: c for n, c in conditions.items() if c.is_label}
        self.conditions = dict(list(labels.items())[:1])
        self.label = next(iter(self.conditions), None)
        self.num_labels = self.conditions[self.label].vocab_size or 0 if self.label else 0
        continuous = spec.kind == "real" and spec.levels is None
        self.gaussian = visible == "gaussian" or (visible == "auto" and continuous)
        if self.gaussian and spec.kind == "token":
            raise RefusedPair("Gaussian units hold real values, not tokens", found=str(spec))
        # Of Gaussian units that hold levels; a density narrower than it exceeds a probability.
        self.level_width = spec.level_width if self.gaussian else 0.0
        # Where chains start when there are none: independent units with the means of the data.
        self.unit_mean: Tensor
        start = torch.full((spec.num_values,), 0.0 if self.gaussian else 0.5)
        self.register_buffer("unit_mean", start)

    @property
    def required(self) -> tuple[str, ...]:
        """The joint of data and label is learned from items that have both."""
        return () if self.label is None else (self.label,)

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """Tokens fit when they are two-valued."""
        if spec.kind == "real" or spec.vocab_size == 2:
            return None
        return RefusedPair(
            f"{cls.__name__} has two-valued or real units, and tokens are neither",
            found=str(spec),
            expected="real values, or tokens of 2",
            hint="--family autoregressive",
        )

    def to_units(self, x: Tensor) -> Tensor:
        """(B, *shape) -> units (B, N)."""
        flat = x.flatten(1)
        if self.gaussian:
            return flat
        if self.spec.kind == "token":
            return flat.to(self.unit_mean.dtype)
        return ((flat + 1) / 2).clamp(0, 1)

    def from_units(self, units: Tensor) -> Tensor:
        """Inverse of `to_units`: (B, N) -> (B, *shape)."""
        x = units.reshape(units.shape[0], *self.spec.shape)
        if self.spec.kind == "token":
            return (x > 0.5).long()
        if not self.gaussian:
            return 2 * x - 1
        return x.clamp(-1, 1) if self.spec.levels else x

    def one_hot(self, cond: Mapping[str, Tensor] | None) -> Tensor:
        """The label units of conditions: (B, K). Raises `RefusedPair` where the label is absent."""
        check_conditions(cond, self.conditions)
        if not cond or self.label is None or self.label not in cond:
            raise RefusedPair(f"the joint of data and {self.label!r} needs both", found=None)
        label = cond[self.label]
        if bool((label < 0).any()):
            raise RefusedPair(
                f"some items have no {self.label!r}, without which there are no label units to set",
                found=f"{int((label < 0).sum())} of {len(label)} items",
                expected="a label for each item",
            )
        return F.one_hot(label, self.num_labels).to(self.unit_mean)

    @property
    def shows_mean(self) -> bool:
        """Whether an item is the mean of its units and not their state: grey Bernoulli pictures."""
        return not self.gaussian and self.spec.kind == "real" and self.spec.levels != 2

    @property
    def draw_passes(self) -> int:
        """One for each Gibbs round."""
        return self.num_steps

    def starting_units(self, num: int, generator: torch.Generator) -> Tensor:
        """Independent units with the data's means: (num, N)."""
        mean = self.unit_mean.expand(num, -1)
        if self.gaussian:
            return mean + randn(mean.shape, generator).to(mean)
        return draw(mean, generator)


class Chains(torch.nn.Module):
    """Gibbs chains that outlive a training step (Tieleman 2008, persistent CD).

    They are kept as the bits of floats: weight averaging copies integers, and would otherwise blend
    states of different steps into none. Under data parallelism every process advances all of them
    with the same numbers, so that their statistics are those of one process.
    """

    def __init__(self, num: int, dim: int) -> None:
        super().__init__()
        self.bits: Tensor
        self.register_buffer("bits", torch.zeros(num, dim, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def state(self) -> Tensor:
        """(chains, V)."""
        return self.bits.view(torch.float32)

    def keep(self, v: Tensor) -> None:
        """Take `v` (chains, V) as where the chains stand."""
        self.bits.copy_(v.float().contiguous().view(torch.int32))

    def start_from(self, v: Tensor) -> None:
        """Spread the chains over items (B, V)."""
        self.keep(v.repeat(-(-len(self) // len(v)), 1)[: len(self)])

    def advanced(self, layer: RBMLayer, num_steps: int, generator: torch.Generator) -> Tensor:
        """Where the chains stand `num_steps` Gibbs rounds later: (chains, V)."""
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        shared = torch.Generator(device=generator.device).manual_seed(seed)
        return layer.gibbs(self.state, num_steps, shared)

    def choose(self, num: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """`num` of the chains at random, of those with the same label (num, K) where there are any:
        a chain of another class would have to travel first. (num, V)."""
        score = rand((num, len(self)), generator).to(self.bits.device)
        if labels is not None:
            score = score + labels @ self.state[:, -labels.shape[1] :].T
        return self.state[score.argmax(1)]


@torch.no_grad()
def round_trip(layer: RBMLayer, positive: Tensor) -> dict[str, Tensor]:
    """Figures to watch, not the aim: how well one round trip by means gives the data back, (B,),
    and by how much a hidden unit differs between items."""
    hidden = layer.hidden_probs(positive)
    back = layer.visible_mean(hidden)
    return {
        "reconstruction": (back - positive).square().mean(1),
        "hidden_spread": hidden.var(0, correction=0).mean().sqrt(),
    }


@torch.no_grad()
def contrastive_negative(
    layer: RBMLayer,
    positive: Tensor,
    chains: Chains | None,
    num_steps: int,
    generator: torch.Generator,
) -> Tensor:
    """The model's side of the gradient: `num_steps` from the data, or from where chains stand."""
    if chains is not None:
        return chains.advanced(layer, num_steps, generator)
    return layer.gibbs(positive, num_steps, generator)

r"""Restricted Boltzmann machine: two sides of units, no ties within a side, learned by contrast.

    p(v) = exp(-F(v)) / Z,     F(v) = - a.v - sum_j log(1 + exp(b_j + v W_j))

    d(-log p)/dw = E_data[dF/dw] - E_model[dF/dw]

Contrastive divergence takes the second mean over samples k Gibbs rounds v -> h -> v away: from the
data (CD-k), or from chains that go on across training steps (persistent CD, which samples better).
The gradient is made of products of the activities of the two sides, `<v h>_data - <v h>_model`; no
error is propagated back, so `step` writes it by hand. `loss`, F(data) - F(samples) with the samples
held fixed, has the same gradient by automatic differentiation, which is how it is checked.

    v --(sigmoid W)--> h --(sigmoid W^T)--> v --> ...                           block Gibbs sampling

log Z is estimated by annealed importance sampling (see `_partition.py`) for what units can hold:
two values or real ones. A Gaussian unit on levels counts a level's width times its density.
Greys read as probabilities have no probability of their own: their log_prob lacks its constant.

A class label takes part as units of its own, so that the same machine generates by class, fills in,
and classifies exactly: p(y | v) ~ exp(-F(v, y)). It has one matrix and no network: the backbone of
the recipe is taken, and not used.

Smolensky 1986 (harmony), Hinton 2002 (contrastive divergence), Tieleman 2008 (persistent CD),
Larochelle & Bengio 2008 (labels), Hinton 2012 (practice), Cho et al. 2011 (learned variances),
Salakhutdinov & Murray 2008 (log Z).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.family import Update
from morphogen.core.spec import TensorSpec
from morphogen.families._boltzmann import Boltzmann, Chains, contrastive_negative, round_trip
from morphogen.families._partition import Partition, log_partition
from morphogen.families._rbm_layer import RBMLayer

PARTITION_SEED = 0  # of the draws for log Z: with the weights, they decide it


class RBM(Boltzmann):
    """Restricted Boltzmann machine, trained by contrastive divergence without backpropagation."""

    papers = ("smolensky1986harmony", "hinton2002training", "tieleman2008training",
              "larochelle2008classification", "cho2011improved",
              "salakhutdinov2008quantitative", "neal2001annealed")  # fmt: skip
    train_defaults = {"lr": 1e-3, "batch_size": 128, "grad_clip": 0.0}
    fills_both_ways = True

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        num_hidden: int = 512,  # hidden units
        visible: Literal["auto", "bernoulli", "gaussian"] = "auto",  # auto: gaussian if continuous
        cd_steps: int = 5,  # Gibbs rounds per training step
        num_chains: int = 128,  # persistent chains; 0 starts from the data at every step
        num_steps: int = 500,  # default number of Gibbs rounds to sample and fill
    ) -> None:
        super().__init__(spec, conditions, backbone, visible)
        self.layer = RBMLayer(
            spec.num_values, num_hidden, self.num_labels, self.gaussian, self.level_width
        )
        self.chains = Chains(num_chains, spec.num_values + self.num_labels) if num_chains else None
        self.cd_steps, self.num_steps = cd_steps, num_steps
        self.latent_spec = TensorSpec.vector(num_hidden)
        self._known: tuple[str, Partition] | None = None  # log Z, and of which weights
        if self.label is not None:
            self.target, self.target_spec = self.label, self.conditions[self.label]

    # -- learning ----------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Biases from the frequencies of the data; chains from its items."""
        v = self._visible(batch.x, batch.cond)
        self.unit_mean.copy_(v[:, : self.spec.num_values].mean(0))
        self.layer.start_from(v)
        if self.chains is not None:
            self.chains.start_from(v)

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """F(data) - F(samples), samples held fixed. Its value says little; its gradient is CD."""
        positive = self._visible(batch.x, batch.cond)
        negative = self._negative(positive, generator)
        contrast = self.layer.free_energy(positive) - self.layer.free_energy(negative).mean()
        return contrast, round_trip(self.layer, positive)

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Contrastive divergence: statistics of data minus statistics of samples."""
        with torch.no_grad():
            positive = self._visible(batch.x, batch.cond)
            negative = self._negative(positive, generator)
            self.layer.set_gradients(positive, negative)
            contrast = self.layer.free_energy(positive).mean()
            contrast = contrast - self.layer.free_energy(negative).mean()
            parts = {k: part.mean() for k, part in round_trip(self.layer, positive).items()}
            if self.chains is not None:
                self.chains.keep(negative)
        updates["all"].apply()
        return {"loss": contrast, **parts}

    # -- capabilities ------------------------------------------------------------------------------

    def energy(self, x: Tensor) -> Tensor:
        """F(x), labels summed out: p(x) is proportional to exp(-F(x)). (B,)."""
        units = self.to_units(x)
        if not self.num_labels:
            return self.layer.free_energy(units)
        return -torch.logsumexp(-self.layer.label_free_energy(units), dim=1)

    @property
    def log_prob_is(self) -> str:
        """How `log_prob` is to be read."""
        return "up to a constant" if self.shows_mean else "estimate (annealed importance sampling)"

    @torch.no_grad()
    def log_prob(
        self, x: Tensor, *, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator
    ) -> Tensor:
        """log p(x), or log p(x | label), in nats: (B,). Without log Z_label where greys are units.

        log Z is estimated with draws of its own, the same at every call.
        """
        log_p = -self.layer.free_energy(self._visible(x, cond)) if cond else -self.energy(x)
        if self.shows_mean:
            return log_p
        log_p = log_p + self.spec.num_values * math.log(self.level_width or 1.0)
        partition = self.partition()
        if cond and self.label is not None:
            return log_p - partition.per_class.to(log_p)[cond[self.label]]
        return log_p - partition.log_z.to(log_p)

    def log_prob_error(self, cond: Mapping[str, Tensor] | None = None) -> float:
        """What the error of log Z adds to the mean log_prob of items with these labels."""
        if self.shows_mean:
            return 0.0
        partition = self.partition()
        if not cond or self.label is None:
            return float(partition.standard_error)
        shares = self.one_hot(cond).mean(0).to(partition.standard_error_per_class)
        return float((shares * partition.standard_error_per_class).norm())

    def partition(self) -> Partition:
        """log Z and its standard error; estimated once for the weights as they stand."""
        weights = _digest([*self.layer.parameters(), self.unit_mean])
        if self._known is None or self._known[0] != weights:
            draws = torch.Generator().manual_seed(PARTITION_SEED)
            self._known = weights, log_partition(self.layer, self.unit_mean, draws)
        return self._known[1]

    def predict(self, x: Tensor) -> Tensor:
        """p(label | x), exactly: (B, K)."""
        return torch.softmax(-self.layer.label_free_energy(self.to_units(x)), dim=1)

    def encode(self, x: Tensor) -> Tensor:
        """p(h = 1 | x), with the label's units at their expectation: (B, H)."""
        units = self.to_units(x)
        labels = self.predict(x) if self.num_labels else units[:, :0]
        return self.layer.hidden_probs(torch.cat([units, labels], dim=1))

    def decode(self, z: Tensor) -> Tensor:
        """E[v | h = z]: (B, H) -> (B, *shape)."""
        return self.from_units(self.layer.visible_mean(z)[:, : self.spec.num_values])

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
    ) -> Tensor:
        """Gibbs chains, from the persistent ones or from independent units. (num, *shape)."""
        if self.chains is not None:
            v = self.chains.choose(num, generator, self.one_hot(cond) if cond else None)
        else:
            units = self.starting_units(num, generator)
            even = torch.full((num, self.num_labels), 1.0 / max(self.num_labels, 1)).to(units)
            v = torch.cat([units, even], dim=1)
        known = torch.zeros_like(v, dtype=torch.bool)
        drawn = self._run(*self._with_label(v, known, cond), num_steps, generator)
        return self.grained(drawn)

    @torch.no_grad()
    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
    ) -> Tensor:
        """Gibbs chains in which the known units are held: exact once the chain has mixed."""
        held = known.expand_as(x).flatten(1)
        units = torch.where(held, self.to_units(x), self.starting_units(len(x), generator))
        labels = units.new_full((len(x), self.num_labels), 1.0 / max(self.num_labels, 1))
        v = torch.cat([units, labels], dim=1)
        free = torch.zeros_like(labels, dtype=torch.bool)
        clamped = torch.cat([held, free], dim=1)
        drawn = self._run(*self._with_label(v, clamped, cond), num_steps, generator)
        return torch.where(known, x, drawn)

    # -- parts -------------------------------------------------------------------------------------

    def _visible(self, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Data and label as visible units: (B, V)."""
        units = self.to_units(x)
        if not self.num_labels:
            return units
        own = {name: value for name, value in cond.items() if name in self.conditions}
        return torch.cat([units, self.one_hot(own)], dim=1)

    def _with_label(
        self, v: Tensor, clamped: Tensor, cond: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Set and hold the label units when the label is given."""
        if not cond:
            return v, clamped
        num_units = self.spec.num_values
        labels = self.one_hot(cond)
        held = torch.cat([clamped[:, :num_units], torch.ones_like(labels, dtype=torch.bool)], 1)
        return torch.cat([v[:, :num_units], labels], dim=1), held

    def _run(
        self, v: Tensor, clamped: Tensor, num_steps: int | None, generator: torch.Generator
    ) -> Tensor:
        """The chain's last item: its state, or for grey pictures the means of its units."""
        v = self.layer.gibbs(v, num_steps or self.num_steps, generator, clamped)
        if self.shows_mean:
            v = self.layer.visible_mean(self.layer.sample_hidden(v, generator))
        return self.from_units(v[:, : self.spec.num_values])

    def _negative(self, positive: Tensor, generator: torch.Generator) -> Tensor:
        return contrastive_negative(self.layer, positive, self.chains, self.cd_steps, generator)


def _digest(tensors: Iterable[Tensor]) -> str:
    """Tells weights from other weights."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()

r"""Deep belief network: restricted Boltzmann machines stacked, each learning the one below.

    p(v, h1, ..., hL) = p(hL-1, hL) p(hL-2 | hL-1) ... p(v | h1)

The top two layers are an RBM; those below are directed, downwards. Training is greedy (Hinton,
Osindero & Teh 2006): layer 1 is an RBM on the data; then it is frozen, and layer 2 is an RBM on
draws of p(h1 | v); and so on. A layer starts as the one below upside down, where it is wide enough
to hold its units: the stack is then the model that it was, and learning raises a bound on log p(v).
Each layer learns by contrastive divergence (see `rbm`), without backpropagation. The layers share
the run evenly: `progress` says whose turn it is.

    data --W1--> h1 --W2--> h2 <--Gibbs--> (h1, label)    up: draws to learn, means to encode
    data <--W1-- h1 <--W2-- h2                            down: draws to generate

A class label takes part as visible units of the top machine, as in the paper. There is no network:
the backbone of the recipe is taken, and not used.

Hinton, Osindero & Teh 2006; Bengio et al. 2007 (greedy layer-wise training).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.errors import RecipeError
from morphogen.core.family import Update
from morphogen.core.spec import TensorSpec
from morphogen.families._boltzmann import Boltzmann, Chains, contrastive_negative, round_trip
from morphogen.families._rbm_layer import RBMLayer


class DBN(Boltzmann):
    """Deep belief network, trained layer by layer by contrastive divergence."""

    papers = ("hinton2006fast", "bengio2007greedy")
    # The rate falls while the top layer learns; wide layers of noisy units bear no higher one.
    train_defaults = {"lr": 1e-3, "batch_size": 128, "grad_clip": 0.0, "decay": 0.5}

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        num_hidden: tuple[int, ...] = (512, 1024),  # hidden units of each layer, lowest first
        visible: Literal["auto", "bernoulli", "gaussian"] = "auto",  # auto: gaussian if continuous
        cd_steps: int = 5,  # Gibbs rounds per training step
        num_chains: int = 128,  # persistent chains per layer; 0 starts from the data at every step
        num_steps: int = 500,  # default number of Gibbs rounds to sample
    ) -> None:
        super().__init__(spec, conditions, backbone, visible)
        if not num_hidden:
            raise RecipeError("a deep belief network needs a layer", where="family.num_hidden")
        below = (spec.num_values, *num_hidden[:-1])
        last = len(num_hidden) - 1
        self.layers = nn.ModuleList(
            RBMLayer(
                size, num_hidden[i], self.num_labels if i == last else 0, self.gaussian and i == 0
            )
            for i, size in enumerate(below)
        )
        self.chains = nn.ModuleList(
            Chains(num_chains, size + (self.num_labels if i == last else 0))
            for i, size in enumerate(below)
            if num_chains
        )
        # Layers whose turn has begun: they have had their biases and chains set from what they see.
        self.num_started: Tensor
        self.register_buffer("num_started", torch.zeros((), dtype=torch.int64))
        self.cd_steps, self.num_steps = cd_steps, num_steps
        self.latent_spec = TensorSpec.vector(num_hidden[-1])

    # -- learning ----------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Start the lowest layer from the frequencies of the data."""
        self.unit_mean.copy_(self.to_units(batch.x).mean(0))
        self._start(0, batch, generator)

    @property
    def stage(self) -> int:
        """The layer that is being trained."""
        return min(int(self.progress * len(self.layers)), len(self.layers) - 1)

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """F(data) - F(samples) of the layer in turn, samples held fixed: its gradient is CD."""
        layer = self._layer(self.stage)
        positive = self._below(self.stage, batch, generator)
        negative = self._negative(self.stage, positive, generator)
        contrast = layer.free_energy(positive) - layer.free_energy(negative).mean()
        return contrast, round_trip(layer, positive)

    def step(
        self, batch: Batch, updates: Mapping[str, Update], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Contrastive divergence on the layer in turn; the others have no gradient."""
        turn = self.stage
        with torch.no_grad():
            for index in range(int(self.num_started), turn + 1):
                self._start(index, batch, generator)
            for parameter in self.parameters():
                parameter.grad = None
            layer = self._layer(turn)
            positive = self._below(turn, batch, generator)
            negative = self._negative(turn, positive, generator)
            layer.set_gradients(positive, negative)
            contrast = layer.free_energy(positive).mean() - layer.free_energy(negative).mean()
            parts = {k: part.mean() for k, part in round_trip(layer, positive).items()}
            if (chains := self._chains(turn)) is not None:
                chains.keep(negative)
        updates["all"].apply()
        return {"loss": contrast, **parts, "layer": contrast.new_tensor(turn + 1.0)}

    # -- capabilities ------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Probabilities of the top hidden units, labels at their expectation: (B, H)."""
        units = self._up(self.to_units(x), len(self.layers) - 1)
        top = self._layer(-1)
        labels = torch.softmax(-top.label_free_energy(units), dim=1)
        return top.hidden_probs(torch.cat([units, labels], dim=1))

    def decode(self, z: Tensor) -> Tensor:
        """Down by means: (B, H) -> (B, *shape)."""
        units = z
        for index in reversed(range(len(self.layers))):
            units = self._layer(index).visible_mean(units)[:, : self._layer(index).num_units]
        return self.from_units(units)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_steps: int | None = None,
    ) -> Tensor:
        """Gibbs chains in the top machine, then down by sampling. (num, *shape)."""
        top = self._layer(-1)
        if (chains := self._chains(-1)) is not None:
            v = chains.choose(num, generator, self.one_hot(cond) if cond else None)
        else:
            units = self._up(self.starting_units(num, generator), len(self.layers) - 1)
            v = torch.cat([units, units.new_zeros(num, self.num_labels)], dim=1)
        clamped = torch.zeros_like(v, dtype=torch.bool)
        if cond:
            v = torch.cat([v[:, : top.num_units], self.one_hot(cond)], dim=1)
            clamped[:, top.num_units :] = True
        v = top.gibbs(v, num_steps or self.num_steps, generator, clamped)
        return self.grained(self._shown(v, generator))

    # -- parts -------------------------------------------------------------------------------------

    def _shown(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """What the top machine's visible units (B, V) become on the way down: (B, *shape)."""
        top = self._layer(-1)
        if len(self.layers) == 1:
            mean = top.visible_mean(top.sample_hidden(v, generator))
            return self.from_units((mean if self.shows_mean else v)[:, : top.num_units])
        units = v[:, : top.num_units]
        for index in reversed(range(1, len(self.layers) - 1)):
            units = self._layer(index).sample_visible(units, generator)
        lowest = self._layer(0)
        if self.shows_mean:
            return self.from_units(lowest.visible_mean(units))
        return self.from_units(lowest.sample_visible(units, generator))

    def _start(self, index: int, batch: Batch, generator: torch.Generator) -> None:
        """Biases and chains of a layer from the first batch that it sees."""
        seen = self._below(index, batch, generator)
        layer = self._layer(index)
        layer.start_from(seen)
        if index > 0:
            layer.start_upside_down(self._layer(index - 1))
        if (chains := self._chains(index)) is not None:
            chains.start_from(seen)
        self.num_started.fill_(index + 1)

    def _up(self, units: Tensor, num_layers: int) -> Tensor:
        """Through the lowest `num_layers` layers by means."""
        for index in range(num_layers):
            units = self._layer(index).hidden_probs(units)
        return units

    @torch.no_grad()
    def _below(self, index: int, batch: Batch, generator: torch.Generator) -> Tensor:
        """What layer `index` sees of a batch; the top one sees the label too."""
        units = self.to_units(batch.x)
        for lower in range(index):
            units = self._layer(lower).sample_hidden(units, generator)
        if index < len(self.layers) - 1 or not self.num_labels:
            return units
        own = {name: value for name, value in batch.cond.items() if name in self.conditions}
        return torch.cat([units, self.one_hot(own)], dim=1)

    def _negative(self, index: int, positive: Tensor, generator: torch.Generator) -> Tensor:
        layer, chains = self._layer(index), self._chains(index)
        return contrastive_negative(layer, positive, chains, self.cd_steps, generator)

    def _layer(self, index: int) -> RBMLayer:
        layer = self.layers[index]
        assert isinstance(layer, RBMLayer)
        return layer

    def _chains(self, index: int) -> Chains | None:
        chains = self.chains[index] if len(self.chains) else None
        assert chains is None or isinstance(chains, Chains)
        return chains

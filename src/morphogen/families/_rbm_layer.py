r"""One restricted Boltzmann machine: what the RBM is, and what a deep belief network stacks.

    p(v, h) = exp(-E(v, h)) / Z,        h_j in {0, 1}

    units in {0, 1}:   E = - a.v - b.h - v W h
    units in R:        E = sum_i (v_i - a_i)^2 / (2 sigma_i^2) - b.h - sum_i v_i (W h)_i / sigma_i^2

A class label joins as a block of units of which exactly one is on (Larochelle & Bengio 2008): its
energy is that of units in {0, 1}. Given one side, the other is independent:

    p(h_j = 1 | v) = sigmoid(b_j + (v / sigma^2) W_j)
    p(v | h)       : sigmoid(a + W h), softmax(a + W h), or N(a + W h, sigma^2)

so alternating the two is block Gibbs sampling, and the hidden side sums out:

    F(v) = -log sum_h exp(-E(v, h)) = - a.v - sum_j softplus(b_j + v W_j)        (units in {0, 1})

The gradient of -log p(v) is E[dF/dw] over data minus the same under the model. Contrastive
divergence (Hinton 2002) takes the second over samples a few Gibbs steps away; the statistics are
products of the two sides' activities, and nothing is propagated back.

Legend: B batch, N visible units, K label units, V = N + K, H hidden units.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.random import categorical, rand, randn

# Of Gaussian units; without a floor a constant value drives it down.
LOG_VARIANCE_RANGE = (-8.0, 4.0)


class RBMLayer(nn.Module):
    """Visible units (Bernoulli or Gaussian), an optional label block, and hidden units."""

    def __init__(
        self,
        num_units: int,
        num_hidden: int,
        num_labels: int = 0,
        gaussian: bool = False,
        least_deviation: float = 0.0,
    ) -> None:
        super().__init__()
        low, high = LOG_VARIANCE_RANGE
        floor = 2 * math.log(least_deviation) if least_deviation > 0 else low
        self.log_variance_range = (max(low, floor), high)
        self.num_units, self.num_labels, self.gaussian = num_units, num_labels, gaussian
        self.weight = nn.Parameter(torch.empty(num_units + num_labels, num_hidden))
        # Small enough that every hidden unit starts undecided, large enough that no two are equal.
        nn.init.normal_(self.weight, std=0.01)
        self.visible_bias = nn.Parameter(torch.zeros(num_units + num_labels))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        self.log_variance = nn.Parameter(torch.zeros(num_units)) if gaussian else None

    # -- the two conditionals ----------------------------------------------------------------------

    def hidden_input(self, v: Tensor) -> Tensor:
        """log odds of every hidden unit given the visible ones: (B, V) -> (B, H)."""
        return F.linear(self._scaled(v), self.weight.T, self.hidden_bias)

    def hidden_probs(self, v: Tensor) -> Tensor:
        """p(h = 1 | v): (B, V) -> (B, H)."""
        return torch.sigmoid(self.hidden_input(v))

    def visible_mean(self, h: Tensor) -> Tensor:
        """E[v | h]: (B, H) -> (B, V). Labels: probabilities of the classes."""
        units, labels = self._visible_input(h)
        return torch.cat([units if self.gaussian else torch.sigmoid(units), labels.softmax(1)], 1)

    def sample_hidden(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """h ~ p(h | v): (B, H)."""
        return draw(self.hidden_probs(v), generator)

    def sample_visible(self, h: Tensor, generator: torch.Generator) -> Tensor:
        """v ~ p(v | h): (B, V)."""
        units, labels = self._visible_input(h)
        if self.gaussian:
            units = units + torch.exp(0.5 * self._log_variance()) * _like(
                randn(units.shape, generator), units
            )
        else:
            units = draw(torch.sigmoid(units), generator)
        if not self.num_labels:
            return units
        chosen = categorical(labels.to(generator.device), generator).to(labels.device)
        return torch.cat([units, F.one_hot(chosen, self.num_labels).to(units)], dim=1)

    def gibbs(
        self,
        v: Tensor,
        num_steps: int,
        generator: torch.Generator,
        clamped: Tensor | None = None,
    ) -> Tensor:
        """`num_steps` rounds v -> h -> v, holding v where `clamped` (B, V) is True. (B, V)."""
        held = v
        for _ in range(num_steps):
            v = self.sample_visible(self.sample_hidden(v, generator), generator)
            if clamped is not None:
                v = torch.where(clamped, held, v)
        return v

    # -- energies ----------------------------------------------------------------------------------

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = -log sum_h exp(-E(v, h)): (B, V) -> (B,)."""
        return self._visible_energy(v) - F.softplus(self.hidden_input(v)).sum(1)

    def label_free_energy(self, units: Tensor) -> Tensor:
        """F(units, y) for every class y: (B, N) -> (B, K). Sums out to -logsumexp(-F) over y."""
        silent = F.pad(units, (0, self.num_labels))
        shared = self.hidden_input(silent)[:, None]  # (B, 1, H)
        each = F.softplus(shared + self.weight[self.num_units :])  # (B, K, H)
        bias = self.visible_bias[self.num_units :]
        return self._visible_energy(silent)[:, None] - bias - each.sum(2)

    # -- learning ----------------------------------------------------------------------------------

    @torch.no_grad()
    def set_gradients(self, positive: Tensor, negative: Tensor) -> None:
        """Put mean dF/dw over `positive` minus the same over `negative` into every `.grad`.

        Hidden probabilities stand for hidden states in both, which lowers the variance and leaves
        the expectation as it is. The two may differ in number. In float32 whatever precision the
        trainer has: the difference of means that are nearly equal is less than others can tell.
        """
        with torch.autocast(positive.device.type, enabled=False):
            plus, minus = self._statistics(positive.float()), self._statistics(negative.float())
        for name, parameter in self.named_parameters():
            parameter.grad = plus[name] - minus[name]

    def _statistics(self, v: Tensor) -> dict[str, Tensor]:
        """Mean dF/dw over (B, V), one tensor per parameter."""
        h, scaled = self.hidden_probs(v), self._scaled(v)
        means = {
            "weight": -(scaled.T @ h) / len(v),
            "visible_bias": -scaled.mean(0),
            "hidden_bias": -h.mean(0),
        }
        if self.log_variance is not None:
            units, scaled_units = v[:, : self.num_units], scaled[:, : self.num_units]
            centred = units - self.visible_bias[: self.num_units]
            precision = torch.exp(-self._log_variance())
            means["visible_bias"][: self.num_units] = -(centred * precision).mean(0)
            pull = scaled_units * (h @ self.weight[: self.num_units].T)
            slope = pull - 0.5 * centred.square() * precision
            low, high = self.log_variance_range
            inside = (self.log_variance >= low) & (self.log_variance <= high)
            means["log_variance"] = slope.mean(0) * inside
        return means

    @torch.no_grad()
    def start_from(self, v: Tensor) -> None:
        """Begin with independent units that have the data's means (Hinton 2012, section 8)."""
        units, labels = v[:, : self.num_units], v[:, self.num_units :]
        frequency = units.mean(0)
        if self.log_variance is not None:
            self.log_variance.copy_(units.var(0).clamp(min=1e-2).log())
        else:
            frequency = torch.logit(frequency.clamp(0.01, 0.99))
        share = labels.mean(0).clamp(min=1e-3).log()
        self.visible_bias.copy_(torch.cat([frequency, share]))

    @torch.no_grad()
    def start_upside_down(self, below: RBMLayer) -> None:
        """Begin with the marginal over h that `below` has: its weights with the sides exchanged.

        The hidden units left over stay as they are. Does nothing where `below` has more visible
        units than this layer has hidden ones, or units of another kind (Hinton et al. 2006).
        """
        size = below.num_units
        if below.gaussian or size > len(self.hidden_bias):
            return
        self.weight[: self.num_units, :size] = below.weight[:size].T
        self.visible_bias[: self.num_units] = below.hidden_bias
        self.hidden_bias[:size] = below.visible_bias[:size]

    @property
    def variance(self) -> Tensor:
        """sigma^2 of Gaussian units (N,); 1 for others."""
        return self._log_variance().exp()

    # -- parts -------------------------------------------------------------------------------------

    def _log_variance(self) -> Tensor:
        """log sigma^2 of Gaussian units, within bounds; 0 for others."""
        if self.log_variance is None:
            return self.visible_bias.new_zeros(())
        return self.log_variance.clamp(*self.log_variance_range)

    def _scaled(self, v: Tensor) -> Tensor:
        """v / sigma^2 for Gaussian units, v for the others."""
        if not self.gaussian:
            return v
        units, labels = v[:, : self.num_units], v[:, self.num_units :]
        return torch.cat([units * torch.exp(-self._log_variance()), labels], dim=1)

    def _visible_input(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """a + W h, as units (B, N) and labels (B, K)."""
        total = F.linear(h, self.weight, self.visible_bias)
        return total[:, : self.num_units], total[:, self.num_units :]

    def _visible_energy(self, v: Tensor) -> Tensor:
        """The part of E that has no hidden unit in it: (B, V) -> (B,)."""
        if not self.gaussian:
            return -(v @ self.visible_bias)
        units, labels = v[:, : self.num_units], v[:, self.num_units :]
        centred = units - self.visible_bias[: self.num_units]
        quadratic = 0.5 * (centred.square() * torch.exp(-self._log_variance())).sum(1)
        return quadratic - labels @ self.visible_bias[self.num_units :]


def draw(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Zeros and ones, one with probability `probs`, on its device."""
    return (_like(rand(probs.shape, generator), probs) < probs).to(probs.dtype)


def _like(drawn: Tensor, target: Tensor) -> Tensor:
    return drawn.to(target)

r"""log Z of a restricted Boltzmann machine by annealed importance sampling.

Chains travel from a machine without weights, whose Z_0 is known, to the machine itself, through

    p_beta(v, h) ~ exp(-(1 - beta) E_0(v, h) - beta E(v, h)),     beta from 0 to 1

where E_0 has units that are independent with the means of the data (the base rates), and no weights
or hidden biases. Every step of beta multiplies a chain's weight by p*_beta'(v) / p*_beta(v), h
summed out, and a Gibbs round of p_beta' follows. Then E[w] = Z / Z_0, so that

    log Z ~ log Z_0 + log 1/M sum_m w_m,     standard error sd(w) / (mean(w) sqrt(M))

Z is unbiased and log Z low in expectation: a log probability that is made with it tends to be too
high, by about half the squared standard error. (Neal 2001; Salakhutdinov & Murray 2008.)

A class label y is held: with it, the machine is one without labels whose hidden biases are b + W_y.
Chains of all classes run together and give Z_y for every y; Z is their sum.

Legend: M chains per class, K classes (1 without labels), N units, H hidden units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.random import randn
from morphogen.families._rbm_layer import RBMLayer, draw

NUM_CHAINS = 100  # shared among the classes
LEAST_CHAINS = 20  # of a class: fewer say nothing of their error
NUM_TEMPERATURES = 1_000


@dataclass(frozen=True)
class Partition:
    """log Z_y of each class (K,), in nats, and its standard error (K,)."""

    per_class: Tensor
    standard_error_per_class: Tensor

    @property
    def log_z(self) -> Tensor:
        """log Z = log sum_y Z_y."""
        return self.per_class.logsumexp(0)

    @property
    def standard_error(self) -> Tensor:
        """Of log Z: the classes are independent, and count as much as they hold of Z."""
        return (self.per_class.softmax(0) * self.standard_error_per_class).square().sum().sqrt()


@torch.no_grad()
def log_partition(
    layer: RBMLayer,
    base_mean: Tensor,
    generator: torch.Generator,
    num_chains: int = NUM_CHAINS,
    num_temperatures: int = NUM_TEMPERATURES,
) -> Partition:
    """Estimate log Z with `num_chains` (20 per class at least). `base_mean` (N,): the data's."""
    machine = _Annealed(layer, base_mean)
    per_class = max(num_chains // machine.num_classes, LEAST_CHAINS)
    v = machine.start(per_class, generator)
    log_w = v.new_zeros(len(v), dtype=torch.float64)
    betas = torch.linspace(0, 1, num_temperatures + 1, dtype=torch.float64).tolist()
    for index, beta in enumerate(betas[1:]):
        part = machine.input(v)
        log_w += (machine.log_p(v, part, beta) - machine.log_p(v, part, betas[index])).double()
        if beta < 1:
            v = machine.gibbs(part, beta, generator)
    weights = log_w.view(machine.num_classes, per_class)
    log_mean = weights.logsumexp(1) - math.log(per_class)
    relative = (weights - log_mean[:, None]).exp()  # w / mean(w)
    error = relative.std(1) / math.sqrt(per_class)
    constant = layer.visible_bias[layer.num_units :].double() if layer.num_labels else 0.0
    return Partition(log_mean + machine.log_z_0 + constant, error)


class _Annealed:
    """p_beta of all classes at once: rows are class 0's chains, then class 1's, and so on."""

    def __init__(self, layer: RBMLayer, base_mean: Tensor) -> None:
        units = layer.num_units
        self.weight, self.bias = layer.weight[:units], layer.visible_bias[:units]
        self.num_classes = max(layer.num_labels, 1)
        hidden = layer.hidden_bias.expand(self.num_classes, -1)
        self.hidden_bias = hidden + layer.weight[units:] if layer.num_labels else hidden
        self.variance = layer.variance if layer.gaussian else None
        self.base = base_mean if layer.gaussian else torch.logit(base_mean.clamp(0.01, 0.99))
        log_z_0 = F.softplus(self.base).double().sum()
        if self.variance is not None:
            log_z_0 = 0.5 * (2 * math.pi * self.variance).log().double().sum()
        self.log_z_0 = log_z_0 + len(layer.hidden_bias) * math.log(2)

    def start(self, num: int, generator: torch.Generator) -> Tensor:
        """Exact draws of p_0: (K num, N)."""
        self.rows = torch.arange(self.num_classes, device=self.base.device).repeat_interleave(num)
        base = self.base.expand(len(self.rows), -1)
        return self._draw(base, generator)

    def input(self, v: Tensor) -> Tensor:
        """b_y + (v / sigma^2) W: (M, H)."""
        scaled = v if self.variance is None else v / self.variance
        return scaled @ self.weight + self.hidden_bias[self.rows]

    def log_p(self, v: Tensor, hidden_input: Tensor, beta: float) -> Tensor:
        """log of p*_beta(v), h summed out: (M,)."""
        hidden = F.softplus(beta * hidden_input).sum(1)
        if self.variance is None:
            return v @ ((1 - beta) * self.base + beta * self.bias) + hidden
        from_base, from_bias = (v - self.base).square(), (v - self.bias).square()
        apart = (1 - beta) * from_base + beta * from_bias
        return hidden - 0.5 * (apart / self.variance).sum(1)

    def gibbs(self, hidden_input: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        """v ~ p_beta(v | h), h ~ p_beta(h | the v that gave `hidden_input`)."""
        h = draw(torch.sigmoid(beta * hidden_input), generator)
        visible = F.linear(h, self.weight, self.bias)
        return self._draw((1 - beta) * self.base + beta * visible, generator)

    def _draw(self, parameter: Tensor, generator: torch.Generator) -> Tensor:
        """Units with these log odds, or Gaussian units with these means."""
        if self.variance is None:
            return draw(torch.sigmoid(parameter), generator)
        return parameter + self.variance.sqrt() * randn(parameter.shape, generator).to(parameter)

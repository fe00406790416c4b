r"""Averages of weights over training, which sample far better than the last weights do.

    w_ema <- beta_t w_ema + (1 - beta_t) w,    beta_t = (1 - 1/t)^(gamma + 1)

The power-function average of Karras et al. 2024 (EDM2, arXiv:2312.02696, section 3): its width is a
fixed share of the training so far, so one setting serves runs of a minute and of a week. That share
(the relative standard deviation of the averaging profile) is `width`:

    width = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3)))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from morphogen.core.family import load_own_state, own_state


class EMA:
    """The average of a module's parameters; buffers, which are statistics already, are copied."""

    def __init__(self, module: nn.Module, width: float) -> None:
        self.gamma = gamma_of(width)
        self.average = {k: v.detach().clone() for k, v in own_state(module).items()}
        self.num_updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after one more training step."""
        self.num_updates += 1
        rate = 1 - (1 - 1 / self.num_updates) ** (self.gamma + 1)
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in own_state(module, keep_vars=True).items():
            if isinstance(value, nn.Parameter):
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averages, values, rate)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Run a block with the averaged weights in `module`, in evaluation mode."""
        own = {k: v.detach().clone() for k, v in own_state(module).items()}
        training = module.training
        load_own_state(module, self.average)
        module.eval()
        try:
            yield
        finally:
            load_own_state(module, own)
            module.train(training)


def gamma_of(width: float) -> float:
    """The exponent whose averaging profile has relative standard deviation `width` (0 < w < 0.28).

    Solved by bisection: the width falls as gamma grows.
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        gamma = (low + high) / 2
        if ((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5 > width:
            low = gamma
        else:
            high = gamma
    return gamma

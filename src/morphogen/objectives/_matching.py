r"""The distribution of what is drawn, moved towards that of a trained denoiser.

    x = f_theta(noise),    x_t = alpha x + sigma eps,
    gradient = (E_drawn[x | x_t] - E_model[x | x_t]) / |x - E_model[x | x_t]|_1  dx / dtheta

The difference of the two expectations is that of the scores of what is drawn and of what the model
would draw, at every amount of noise: the gradient of how far the one distribution is from the other
(distribution matching distillation, Yin et al. 2024, arXiv:2311.18828). E_model is the model's own
answer, as it samples by; E_drawn a copy of it that learns what is drawn, all the while. Nobody has
to tell real items from drawn ones, and nothing of many items is averaged.

Legend: B items.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.gathering import of_all_processes
from morphogen.core.random import randn
from morphogen.core.storage import below

RATE, BETAS = 1e-3, (0.9, 0.99)  # of learning what is drawn
TIMES = 0.02, 0.98  # least and most noise at which the two are compared
FIRST = 80  # updates in which what is drawn is learned, before anything is moved by it; and as
# many again until it is moved with all weight: too early, and it is sent anywhere
LEAST = 0.02  # of the distance that a gradient is divided by
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Matching:
    """A model of what is drawn, beside the model that it is to be like."""

    def __init__(self, model: Any) -> None:
        self.model: Any = copy.deepcopy(model).requires_grad_(True)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, RATE, BETAS, weight_decay=0.0)
        self.num_updates = 0

    @property
    def weight(self) -> float:
        """How far it is believed, 0 to 1: it has to know what is drawn to say where that goes."""
        return min(max(self.num_updates / FIRST - 1, 0.0), 1.0)

    def learn(self, x: Tensor, cond: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """One update by drawn items (B, *)."""
        self.model.train()
        loss = self.model.loss(Batch(x, cond=dict(cond)), self.model.phases[-1], generator)[0]
        grads = torch.autograd.grad(loss.mean(), self.parameters, allow_unused=True)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = None if grad is None else of_all_processes(grad[None]).mean(0)
        self.optimizer.step()
        self.num_updates += 1

    @torch.no_grad()
    def direction(
        self, x: Tensor, cond: Mapping[str, Tensor], model: Any, generator: torch.Generator
    ) -> Tensor:
        """Away from what is drawn, towards what `model` would draw: of x (B, *), with its sign
        turned, as a gradient is."""
        self.model.eval()
        t = torch.sigmoid(randn((len(x),), generator)).clamp(*TIMES).to(x)
        x_t, given = model.path.noised(x, randn(x.shape, generator).to(x), t), dict(cond) or None
        wanted = model.steer(x_t, t, given)
        apart = (x - wanted).abs().flatten(1).mean(1).clamp(min=LEAST)
        found: Tensor = self.model.denoise(x_t, t, given) - wanted
        return found / apart.view(-1, *(1,) * (x.dim() - 1))

    # -- a run that goes on ------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Weights, and what the optimizer remembers of each."""
        state = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for number, parameter in enumerate(self.parameters):
            moments = self.optimizer.state.get(parameter, {})
            state |= {f"{number}/{name}": moments[name] for name in MOMENTS if name in moments}
        return {**state, "num_updates": torch.tensor(self.num_updates)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.model.load_state_dict(below("model/", state))
        for number, parameter in enumerate(self.parameters):
            if moments := below(f"{number}/", state):
                self.optimizer.state[parameter] = {  # copies: what is put back may be needed again
                    name: value.clone() if name == "step" else value.clone().to(parameter)
                    for name, value in moments.items()
                }
        self.num_updates = int(state["num_updates"])

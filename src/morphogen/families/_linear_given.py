r"""What a condition of the item's own kind says of it linearly: E[x | c], before any training.

A past says most of what comes after it linearly, a low-resolution picture most of a picture. With
the level of a channel of the condition, l = mean c,

    E[x | c] = l + b + W (c - l) + u l,
    W, u = argmin sum |x - E[x | c]|^2 + r tr(S) / P |W|^2 + q s |u|^2,    r = k P / N

for every channel by itself, S and s the squares of c - l and of l: where the data does not say
otherwise, x is at the level of c, wherever that goes. Taking the level out is what makes linear
forecasts of series that drift good ones (Zeng et al. 2023, DLinear and NLinear); least squares is
where these are trained to (Toner & Darlow 2024). r is that of N / k items that tell P numbers of
the order of noise: windows of a series overlap, so that k of them tell what one does.

Legend: N items, B batch, C channels, P values of a channel of the condition, L of the item.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from morphogen.core.spec import TensorSpec

MOST_VALUES = 3072  # of an item and of a condition: beyond, the map costs more than the network
LIKE_ONE, MOST_RIDGE = 10, 1.0  # k; r at most
RIDGE_OF_LEVEL = 0.02  # q


def alike(spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> str | None:
    """The first condition of the item's own kind: real, with as many channels, at positions."""
    for name, condition in conditions.items():
        real = condition.kind == spec.kind == "real" and condition.channels == spec.channels
        small = max(condition.num_values, spec.num_values) <= MOST_VALUES
        if real and condition.space and spec.space and small:
            return name
    return None


class LinearGiven(nn.Module):
    """E[x | c] for a condition c. Before `fit` it is the level of c."""

    def __init__(self, spec: TensorSpec, condition: TensorSpec) -> None:
        super().__init__()
        channels = spec.channels
        num_in, num_out = (each.num_values // channels for each in (condition, spec))
        self.shape = spec.shape
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(channels, num_in + 1, num_out))
        self.register_buffer("bias", torch.zeros(channels, num_out))

    @torch.no_grad()
    def fit(self, x: Tensor, c: Tensor) -> None:
        """Take the map from items x (N, *) and their conditions c (N, *)."""
        level, features = _features(c)
        rest = x.flatten(2) - level  # (N, C, L)
        for channel in range(len(self.weight)):
            inputs, outputs = features[:, channel].double(), rest[:, channel].double()
            offset, mean = outputs.mean(0), inputs.mean(0)
            inputs, outputs = inputs - mean, outputs - offset
            gram = inputs.T @ inputs
            share = min(LIKE_ONE * (len(gram) - 1) / len(x), MOST_RIDGE)
            ridge = torch.full((len(gram),), share).to(gram) * gram.diagonal()[:-1].mean()
            ridge[-1] = RIDGE_OF_LEVEL * gram[-1, -1]
            gram += ridge.clamp(min=1e-9).diag()
            weight = torch.linalg.solve(gram, inputs.T @ outputs)  # (P + 1, L)
            self.weight[channel] = weight
            self.bias[channel] = offset - mean @ weight

    def forward(self, c: Tensor) -> Tensor:
        """(B, *) -> (B, *shape)."""
        level, features = _features(c)
        rest = torch.einsum("bcp,cpl->bcl", features, self.weight) + self.bias
        return (level + rest).reshape(len(c), *self.shape)


def _features(c: Tensor) -> tuple[Tensor, Tensor]:
    """The level of every channel (B, C, 1), and what is left without it beside it (B, C, P + 1)."""
    flat = c.flatten(2)
    level = flat.mean(2, keepdim=True)
    return level, torch.cat([flat - level, level], dim=2)

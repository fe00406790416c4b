r"""What a condition of the item's own kind says of it linearly: E[x | c], before any training.

A past says most of what comes after it linearly, a low-resolution picture most of a picture. With
the level of a channel of the condition, l = mean c,

    E[x | c] = l + b + W (c - l) + u l,
    W, u = argmin sum |x - E[x | c]|^2 / s(c)^2 + r tr(S) / P |W|^2 + q v |u|^2,    r = k P / N

for every channel by itself, S and v the squares of c - l and of l: where the data does not say
otherwise, x is at the level of c, wherever that goes. Taking the level out is what makes linear
forecasts of series that drift good ones (Zeng et al. 2023, DLinear and NLinear); least squares is
where these are trained to (Toner & Darlow 2024). r is that of N / k items that tell P numbers of
the order of noise: windows of a series overlap, so that k of them tell what one does.

How wide x lies about that differs from item to item, and c says how wide: calm is followed by calm.

    log s(c) = g . (f(c) - mean f),     f = (log |c - l|, log |c_i+1 - c_i|)

with roots of mean squares, and g by least squares to log |x - E[x | c]|; s is 1 on average. A
Gaussian of one width for all would hold more than it promises of the calm ones, and less of others.
So items count by how wide they lie (generalised least squares, Aitken 1936): without, a few wild
ones decide the map. Of each, s is found first with all items alike.

Legend: N items, B batch, C channels, P values of a channel of the condition, L of the item.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from morphogen.core.spec import TensorSpec

MOST_VALUES = 3072  # of an item and of a condition: beyond, the map costs more than the network
LIKE_ONE, MOST_RIDGE = 10, 1.0  # k; r at most
LOOKS = 2  # at the items: all alike, then by how wide they lie
RIDGE_OF_LEVEL = 0.02  # q
LEAST_SIZE = 1e-4  # of a root of mean squares
RIDGE_OF_WIDTH = 0.01  # for g, of the variance of f
LEAST_WIDTH = 0.1  # s of the narrowest that count: a few that hardly vary are not to decide alone


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
        self.slopes: Tensor  # g
        self.sizes: Tensor  # mean, least and largest f
        self.register_buffer("slopes", torch.zeros(2))
        self.register_buffer("sizes", torch.zeros(3, 2))

    @torch.no_grad()
    def fit(self, x: Tensor, c: Tensor) -> None:
        """Take map and width from items x (N, *) and their conditions c (N, *)."""
        weight = torch.ones(len(x), dtype=torch.float64)
        for _ in range(LOOKS):
            self._fit_map(x, c, weight.to(x.device))
            self._fit_width(x - self(c), c)
            weight = self.width(c).double().clamp(min=LEAST_WIDTH) ** -2

    def _fit_map(self, x: Tensor, c: Tensor, weight: Tensor) -> None:
        """Take W, u and b, items counting by `weight` (N,)."""
        level, features = _features(c)
        rest = x.flatten(2) - level  # (N, C, L)
        share = (weight / weight.sum())[:, None]
        for channel in range(len(self.weight)):
            inputs, outputs = features[:, channel].double(), rest[:, channel].double()
            offset, mean = ((share * each).sum(0) for each in (outputs, inputs))
            inputs, outputs = inputs - mean, outputs - offset
            weighted = (len(x) * share * inputs).T
            gram = weighted @ inputs
            ridge_share = min(LIKE_ONE * (len(gram) - 1) / len(x), MOST_RIDGE)
            ridge = torch.full((len(gram),), ridge_share).to(gram) * gram.diagonal()[:-1].mean()
            ridge[-1] = RIDGE_OF_LEVEL * gram[-1, -1]
            gram += ridge.clamp(min=1e-9).diag()
            found = torch.linalg.solve(gram, weighted @ outputs)  # (P + 1, L)
            self.weight[channel] = found
            self.bias[channel] = offset - mean @ found

    def _fit_width(self, left: Tensor, c: Tensor) -> None:
        """Take g from what is left of items (N, *) and their conditions (N, *)."""
        f, size = _sizes(c).double(), _size(left.flatten(1)).double()
        centred = f - f.mean(0)
        gram = centred.T @ centred
        gram += RIDGE_OF_WIDTH * gram.diagonal().clamp(min=1e-9).diag()
        self.slopes.copy_(torch.linalg.solve(gram, centred.T @ (size - size.mean())))
        self.sizes.copy_(torch.stack([f.mean(0), f.amin(0), f.amax(0)]))

    def width(self, c: Tensor) -> Tensor:
        """s(c): (B, *) -> (B,). Beyond what was seen, as at its end."""
        mean, least, most = self.sizes
        f = _sizes(c).clamp(least, most)
        return ((f - mean) @ self.slopes).exp()

    def forward(self, c: Tensor) -> Tensor:
        """(B, *) -> (B, *shape)."""
        level, features = _features(c)
        rest = torch.einsum("bcp,cpl->bcl", features, self.weight) + self.bias
        return (level + rest).reshape(len(c), *self.shape)


def shape_of(c: Tensor) -> Tensor:
    """Conditions (B, *) without their level, in units of how far they lie about it: of what goes
    up from 2 to 4 and from 20 to 40, the same."""
    left = c.flatten(2) - c.flatten(2).mean(2, keepdim=True)
    return (left / _size(left.flatten(1)).exp()[:, None, None]).view_as(c)


def _sizes(c: Tensor) -> Tensor:
    """f: how far conditions (B, *) lie from their level, and how far each value from the next:
    (B, 2)."""
    flat = c.flatten(2)
    rough = flat.diff(dim=2) if flat.shape[2] > 1 else torch.zeros_like(flat)
    both = flat - flat.mean(2, keepdim=True), rough
    return torch.stack([_size(part.flatten(1)) for part in both], 1)


def _size(x: Tensor) -> Tensor:
    """The logarithm of the root of the mean square: (B, D) -> (B,)."""
    return x.square().mean(1).sqrt().clamp(min=LEAST_SIZE).log()


def _features(c: Tensor) -> tuple[Tensor, Tensor]:
    """The level of every channel (B, C, 1), and what is left without it beside it (B, C, P + 1)."""
    flat = c.flatten(2)
    level = flat.mean(2, keepdim=True)
    return level, torch.cat([flat - level, level], dim=2)

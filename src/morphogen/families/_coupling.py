r"""A density over vectors that is learned with the model that uses it: affine coupling layers.

    u ~ N(0, I),   z = f(u),   log p(z) = log N(f^-1(z); 0, I) + log |det d f^-1 / dz|

Each layer keeps one half of the values and scales and shifts the other by functions of it,

    y_keep = x_keep,   y_move = x_move exp(s(x_keep, c)) + t(x_keep, c),

so that the inverse is as cheap as the map, and the determinant is the sum of s (Dinh et al. 2017,
"Density estimation using Real NVP"). Layers start as the identity: before training p(z) = N(0, I).

Legend: B batch, Z dimension, D width of the embedded conditions c.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.errors import RecipeError

MOST_LOG_SCALE = 2.0  # of one layer: a coupling that could scale by more runs off early in training


class CouplingFlow(nn.Module):
    """An invertible map of vectors to standard Gaussian ones, and back."""

    def __init__(
        self, dim: int, cond_dim: int, *, num_layers: int = 8, model_dim: int = 256
    ) -> None:
        super().__init__()
        if dim < 2:
            raise RecipeError(
                "a coupling flow needs two values, one to move by the other",
                found=f"latent_dim={dim}",
                hint="--set family.prior=normal",
            )
        self.couplings = nn.ModuleList(
            Coupling(dim, cond_dim, model_dim, first=index % 2 == 0) for index in range(num_layers)
        )
        # Alternating halves alone would keep which values go together the same in every layer.
        self.order: Tensor
        orders = [torch.randperm(dim, generator=_fixed(index)) for index in range(num_layers)]
        self.register_buffer("order", torch.stack(orders))

    def forward(self, u: Tensor, cond: Tensor | None = None) -> Tensor:
        """u -> z = f(u): (B, Z) -> (B, Z)."""
        for order, coupling in zip(self.order, self.couplings, strict=True):
            u = coupling(u, cond)[:, order]
        return u

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> u = f^-1(z) and log |det du/dz|: (B, Z) -> (B, Z), (B,)."""
        log_det = z.new_zeros(z.shape[0])
        for order, coupling in zip(reversed(self.order), reversed(self.couplings), strict=True):
            assert isinstance(coupling, Coupling)
            z, step = coupling.inverse(z[:, order.argsort()], cond)
            log_det = log_det + step
        return z, log_det


class Coupling(nn.Module):
    """One layer: half of the values moved by the other half."""

    def __init__(self, dim: int, cond_dim: int, model_dim: int, *, first: bool) -> None:
        super().__init__()
        self.split, self.first = dim // 2, first
        kept = self.split if first else dim - self.split
        self.stem = nn.Linear(kept + cond_dim, model_dim)
        self.hidden = nn.Linear(model_dim, model_dim)
        self.head = nn.Linear(model_dim, 2 * (dim - kept))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        kept, moved = self._halves(x)
        log_scale, shift = self._by(kept, cond)
        return self._joined(kept, moved * log_scale.exp() + shift)

    def inverse(self, y: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """The input that y came from, and log |det dx/dy|."""
        kept, moved = self._halves(y)
        log_scale, shift = self._by(kept, cond)
        return self._joined(kept, (moved - shift) * (-log_scale).exp()), -log_scale.sum(1)

    def _by(self, kept: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        seen = kept if cond is None else torch.cat([kept, cond], dim=1)
        hidden = F.silu(self.hidden(F.silu(self.stem(seen))))
        log_scale, shift = self.head(hidden).chunk(2, dim=1)
        return MOST_LOG_SCALE * torch.tanh(log_scale / MOST_LOG_SCALE), shift

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        head, tail = x[:, : self.split], x[:, self.split :]
        return (head, tail) if self.first else (tail, head)

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([kept, moved] if self.first else [moved, kept], dim=1)


def _fixed(seed: int) -> torch.Generator:
    """The same orders for every model, whatever seed it is trained with."""
    return torch.Generator().manual_seed(seed)

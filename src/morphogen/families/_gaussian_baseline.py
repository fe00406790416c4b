r"""What is known of a denoiser before any training: the answer for Gaussian data.

If x ~ N(mu, S) with S = U diag(lambda) U^T, then on x_t = alpha x + sigma eps

    E[a x + b eps | x_t] = a mu + U diag(c) U^T (x_t - alpha mu),
    c_i = (a alpha lambda_i + b sigma) / (alpha^2 lambda_i + sigma^2)

(the Wiener filter). Fitted to the training data, it is the best linear denoiser at every t; the
network sees it and learns only what is left. mu and S come from a sample with the shrinkage of
Chen et al. 2010 (OAS), which matters when there are fewer items than values.

Legend: B batch, D values in an item, N items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOST_VALUES = 3072  # of an item: beyond, the basis (D, D) costs more than the network
LEAST_VARIANCE = 0.01  # keeps c small where the data never varies


class GaussianBaseline(nn.Module):
    """The linear part of a denoiser. Before `fit` it is that of N(0, I)."""

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.basis: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(num_values))
        self.register_buffer("basis", torch.eye(num_values))
        self.register_buffer("variance", torch.ones(num_values))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take mean and covariance from items (N, *)."""
        flat = x.flatten(1).double()
        mean = flat.mean(0)
        centred = flat - mean
        covariance = shrunk(centred.T @ centred / len(flat), len(flat))
        variance, basis = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.variance.copy_(variance.clamp(min=LEAST_VARIANCE))

    def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """E[a x + b eps | x_t]: (B, *), then (B,) four times -> (B, *)."""
        alpha, sigma, a, b = (scalar[:, None] for scalar in (alpha, sigma, a, b))
        signal = alpha * self.variance  # (B, D)
        gain = (a * signal + b * sigma) / (alpha * signal + sigma.square())
        along = (x_t.flatten(1) - alpha * self.mean) @ self.basis
        return (a * self.mean + (gain * along) @ self.basis.T).view_as(x_t)


def shrunk(covariance: Tensor, num_items: int) -> Tensor:
    """(1 - rho) S + rho (tr S / D) I, with the rho of Chen et al. 2010 for Gaussian data."""
    dim = len(covariance)
    trace, squares = covariance.trace(), covariance.square().sum()
    spread = (num_items + 1 - 2 / dim) * (squares - trace.square() / dim)
    rho = 1.0
    if spread > 0:
        rho = min(1.0, float(((1 - 2 / dim) * squares + trace.square()) / spread))
    target = torch.eye(dim, dtype=covariance.dtype) * (trace / dim)
    return (1 - rho) * covariance + rho * target.to(covariance.device)

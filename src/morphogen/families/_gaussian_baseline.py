r"""What is known of a denoiser before any training: the answer for Gaussian data.

If x ~ N(mu, S) with S = U diag(lambda) U^T, then on x_t = alpha x + sigma eps

    E[a x + b eps | x_t] = a mu + U diag(c) U^T (x_t - alpha mu),
    c_i = (a alpha lambda_i + b sigma) / (alpha^2 lambda_i + sigma^2)

(the Wiener filter). Fitted to the training data, it is the best linear denoiser at every t; the
network sees it and learns only what is left. mu and S come from a sample with the shrinkage of
Chen et al. 2010 (OAS), which matters when there are fewer items than values.

It also tells where the samples of a trained model vary less than the data does. There the noise
that sampling starts from is made wider (`calibrate`):

    eps ~ N(0, U diag(s^2) U^T),     s_i <- s_i (variance of items / variance of samples)^(1/2)

along the leading components, the variances being those around what the conditions explain.

At t = 1 nothing is seen of an item and x is expected to be mu. What draws in one step begins there
(`leaps`), with the item that the flow of the same Gaussian takes eps to:

    x = mu + U diag(lambda^(1/2)) U^T eps

Legend: B batch, D values in an item, N items, M samples, F features of the conditions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from morphogen.core.batch import Batch

MOST_VALUES = 3072  # of an item: beyond, the basis (D, D) costs more than the network
SCALE_SQUARED = 0.8, 1.25  # least and most by which one call changes the variance of the noise
LEAST_VARIANCE = 0.01  # keeps c small where the data never varies
NO_ITEM = 1e-6  # alpha below which there is nothing of an item
MOST_FEATURES = 64  # of a condition, for it to be taken as so many numbers


class GaussianBaseline(nn.Module):
    """The linear part of a denoiser. Before `fit` it is that of N(0, I)."""

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.basis: Tensor
        self.variance: Tensor
        self.noise_scale: Tensor
        self.register_buffer("mean", torch.zeros(num_values))
        self.register_buffer("basis", torch.eye(num_values))
        self.register_buffer("variance", torch.ones(num_values))
        self.register_buffer("noise_scale", torch.ones(num_values))

    @torch.no_grad()
    def fit(self, x: Tensor, width: float = 1.0) -> None:
        """Take mean and covariance from items (N, *), of which least variance is in proportion to
        the variance `width` that they have."""
        flat = x.flatten(1).double()
        mean = flat.mean(0)
        centred = flat - mean
        covariance = shrunk(centred.T @ centred / len(flat), len(flat))
        variance, basis = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.variance.copy_(variance.clamp(min=LEAST_VARIANCE * width))

    @torch.no_grad()
    def calibrate(self, items: Batch, samples: Batch, least: float = 1.0) -> None:
        """Make the starting noise as much wider as samples (M, *) are narrower than items (N, *),
        along the components of more than the `least` variance.

        Where samples answer to it in proportion, they vary as items do after one call.
        """
        above = self.variance > least
        leading = self.basis[:, above]
        wanted, found = (
            unexplained(batch.x.flatten(1) @ leading, batch.cond) for batch in (items, samples)
        )
        self.noise_scale[above] *= (wanted / found).clamp(*SCALE_SQUARED).sqrt()

    def widened(self, noise: Tensor) -> Tensor:
        """N(0, I) -> N(0, U diag(noise_scale^2) U^T): (B, *) -> (B, *)."""
        along = noise.flatten(1) @ self.basis
        return noise + (((self.noise_scale - 1) * along) @ self.basis.T).view_as(noise)

    def forward(
        self,
        x_t: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        a: Tensor,
        b: Tensor,
        *,
        leaps: bool = False,
    ) -> Tensor:
        """E[a x + b eps | x_t]: (B, *), then (B,) four times -> (B, *). With `leaps`, x where alpha
        is 0 is what eps becomes."""
        alpha, sigma, a, b = (scalar[:, None] for scalar in (alpha, sigma, a, b))
        signal = alpha * self.variance  # (B, D)
        gain = (a * signal + b * sigma) / (alpha * signal + sigma.square())
        if leaps:
            gain = torch.where(alpha.abs() < NO_ITEM, a * self.variance.sqrt() + b * sigma, gain)
        along = (x_t.flatten(1) - alpha * self.mean) @ self.basis
        return (a * self.mean + (gain * along) @ self.basis.T).view_as(x_t)


def unexplained(x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    """Variance of x (N, D) around what a linear map from the conditions says of it: (D,).

    Classes count one by one, and so does what is absent. Sequences of tokens are left out, for no
    linear map reads them, and so are pictures, which would explain everything.
    """
    features = [torch.ones(len(x), 1).to(x)]
    for value in cond.values():
        if value.is_floating_point() and value[0].numel() <= MOST_FEATURES:
            features += [value.flatten(1).nan_to_num().to(x)]
            features += [value.isnan().flatten(1).any(1, keepdim=True).to(x)] * bool(
                value.isnan().any()
            )
        elif value.dim() == 1:
            first = value.min().clamp(max=0)  # -1 where some have no class
            features.append(functional.one_hot(value - first).to(x))
    known = torch.cat(features, dim=1)  # (N, F)
    # The pseudo-inverse: the constant is a sum of the classes, which least squares by QR refuses.
    rest = x - known @ (torch.linalg.pinv(known) @ x)
    return rest.square().sum(0) / max(1, len(x) - int(torch.linalg.matrix_rank(known)))


def shrunk(covariance: Tensor, num_items: int) -> Tensor:
    """(1 - rho) S + rho (tr S / D) I, with the rho of Chen et al. 2010 for Gaussian data."""
    dim = len(covariance)
    trace, squares = covariance.trace(), covariance.square().sum()
    spread = (num_items + 1 - 2 / dim) * (squares - trace.square() / dim)
    rho = 1.0
    if spread > 0:
        rho = min(1.0, float(((1 - 2 / dim) * squares + trace.square()) / spread))
    target = torch.eye(dim, dtype=covariance.dtype, device=covariance.device) * (trace / dim)
    return (1 - rho) * covariance + rho * target

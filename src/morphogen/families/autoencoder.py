r"""Autoencoder: a deterministic code that the item can be rebuilt from.

    loss = -log p(x | decode(encode(x + noise_std eps))) / (D ln 2)      (bits per value)

noise_std > 0 makes it a denoising autoencoder: what is rebuilt is the item before the noise
(Vincent et al. 2008, "Extracting and composing robust features with denoising autoencoders").

A code has no prior, so there is nothing to sample from; but a density can be fitted to the codes
afterwards (Ghosh et al. 2020, "From variational to deterministic autoencoders"):

    p(z) = sum_k pi_k N(z; m_k, S_k),     x ~ decode(z),  z ~ p(z).

Here the mixture follows the codes while they are learned, by stepwise expectation maximisation
(Cappe & Moulines 2009), so that no second pass over the data is needed; the penalty on |z|^2 of
the same paper keeps the codes where a mixture can follow.

    x ---> + noise ---> encoder ---> z ---> decoder ---> parameters of p(x | z)
                                     |
                                     +---> mixture of Gaussians <--- sample

Legend: B batch, K components, Z latent dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.conditioning import check_conditions
from morphogen.core.errors import RecipeError
from morphogen.core.family import Family
from morphogen.core.likelihood import LikelihoodName, build_likelihood
from morphogen.core.random import categorical, randn
from morphogen.core.spec import Spec, TensorSpec
from morphogen.families._codes import check_noise, code_spec, disturbed


class Autoencoder(Family):
    """Autoencoder, plain or denoising, with a mixture fitted to its codes to sample from."""

    default_backbone: ClassVar[str] = "conv"
    takes: ClassVar[frozenset[str]] = frozenset({"parts", "lengths", "columns", "weights"})
    train_defaults: ClassVar[dict[str, Any]] = {"optimizer": "muon", "lr": 3e-3}
    prior_family: ClassVar[str | None] = "flow_matching"
    draws_means: ClassVar[bool] = True
    papers: ClassVar[tuple[str, ...]] = (
        "vincent2008extracting", "ghosh2020variational", "zheng2025diffusion",
    )  # fmt: skip

    def __init__(
        self,
        spec: Spec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        latent_dim: int = 32,  # size of the code
        stride: int | None = None,  # positions along each axis that share a code; none: all
        noise_std: float = 0.0,  # noise added to the input in training; above 0: denoising
        latent_penalty: float = 1e-3,  # weight of |z|^2 / 2, in nats, which keeps codes near 0
        likelihood: LikelihoodName = "auto",  # p(x | z); auto chooses by the kind of data
        num_components: int = 10,  # Gaussians in the mixture that codes are sampled from
        code_noise: float = 0.0,  # deviations of a code, up to which the decoder sees it disturbed
    ) -> None:
        super().__init__(spec, {}, backbone)  # the codes are of the items alone
        check_noise(noise_std=noise_std, code_noise=code_noise)
        if noise_std > 0 and spec.kind != "real":
            raise RecipeError(
                "noise_std adds Gaussian noise, which only real values can take",
                found=f"noise_std={noise_std} for {spec}",
                hint="--set family.noise_std=0",
            )
        self.noise_std, self.code_noise = noise_std, code_noise
        self.latent_penalty = latent_penalty
        self.likelihood = build_likelihood(spec, likelihood)
        self.latent_spec = code_spec(spec, latent_dim, stride)
        self.encoder = backbone(spec, self.latent_spec)
        self.decoder = backbone(self.latent_spec, self.likelihood.param_spec)
        self.mixture = LatentMixture(self.latent_spec.num_values, num_components)

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Start the mixture at codes of the first large batch; see how long items are."""
        self.see_lengths(batch.x)
        self.mixture.start(self.encode(batch.x).flatten(1), generator)

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch.x
        if self.noise_std > 0:
            x = x + self.noise_std * randn(x.shape, generator).to(x)
        z = self.encode(x)
        if self.training:
            self.mixture.follow(z.detach().flatten(1))
        seen = disturbed(z, self.code_noise, generator) if self.training else z
        params = self.decoder(seen)
        log_p = self.likelihood.item_log_prob(params, batch.x, batch.mask, batch.weight)
        penalty = 0.5 * self.latent_penalty * z.square().flatten(1).sum(1)
        parts = {"reconstruction": -log_p, "code_norm": z.flatten(1).norm(dim=1)}
        return self.per_value(penalty - log_p), parts

    def encode(self, x: Any) -> Tensor:
        """(B, *shape) -> (B, Z), or with a stride (B, Z, *space / stride)."""
        return self.encoder(self.spec.canonical(x))

    def decode(self, z: Tensor) -> Any:
        """(B, Z), or with places (B, Z, *) -> (B, *shape): the mean of p(x | z)."""
        return self.likelihood.mean(self.decoder(z))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
    ) -> Any:
        """Draw codes from the fitted mixture, then of p(x | z) what `Likelihood.draw` does:
        (num, *shape)."""
        check_conditions(cond, {})
        z = self.mixture.sample(num, generator).view(num, *self.latent_spec.shape)
        params = self.decoder(z)
        return self.grained(self.likelihood.draw(params, generator))


class LatentMixture(nn.Module):
    """A mixture of full-covariance Gaussians that follows codes while they move.

    Each batch moves running averages of the statistics pi_k = E[r_k], E[r_k z], E[r_k z z^T] a
    little, r_k being the probability that z is of component k. Means and covariances are shrunk
    towards those of all codes by `prior` pseudo-observations, which also revives a component
    that has lost its share.
    """

    def __init__(
        self, dim: int, num_components: int, *, rate: float = 0.02, prior: float = 1e-4
    ) -> None:
        super().__init__()
        self.rate, self.prior = rate, prior
        self.weight: Tensor
        self.first: Tensor
        self.second: Tensor
        share = torch.full((num_components,), 1.0 / num_components)
        self.register_buffer("weight", share)
        self.register_buffer("first", torch.zeros(num_components, dim))
        self.register_buffer("second", share[:, None, None] * torch.eye(dim))

    def start(self, z: Tensor, generator: torch.Generator) -> None:
        """Centre the components on codes of a batch, each as wide as all of them."""
        num = len(self.weight)
        order = torch.randperm(len(z), generator=generator, device=generator.device)
        chosen = order.to(z.device).repeat(-(-num // len(z)))[:num]
        centred = z - z.mean(0)
        covariance = centred.T @ centred / len(z) + 1e-6 * torch.eye(z.shape[1]).to(z)
        mean = z[chosen]  # (K, Z)
        self.weight.fill_(1.0 / num)
        self.first.copy_(self.weight[:, None] * mean)
        outer = mean[:, :, None] * mean[:, None, :]
        self.second.copy_(self.weight[:, None, None] * (covariance + outer))

    def follow(self, z: Tensor) -> None:
        """One step of expectation maximisation on a batch (B, Z), in full precision: a covariance
        of numbers of eight bits has no Cholesky factor."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(self.first)
            share = self.log_joint(z).softmax(1) / len(z)  # (B, K)
            self.weight.lerp_(share.sum(0), self.rate)
            self.first.lerp_(share.T @ z, self.rate)
            self.second.lerp_(torch.einsum("bk,bi,bj->kij", share, z, z), self.rate)

    def log_joint(self, z: Tensor) -> Tensor:
        """log pi_k + log N(z; m_k, S_k): (B, Z) -> (B, K)."""
        mean, factor = self._means_and_factors()
        offset = (z[None] - mean[:, None]).transpose(1, 2)  # (K, Z, B)
        white = torch.linalg.solve_triangular(factor, offset, upper=False)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)  # (K,)
        log_normal = -0.5 * white.square().sum(1).T - log_det  # up to a constant shared by all k
        return log_normal + self.weight.clamp(min=1e-12).log()

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """(num, Z)."""
        mean, factor = self._means_and_factors()
        logits = self.weight.clamp(min=1e-12).log().expand(num, -1)
        which = categorical(logits.to(generator.device), generator).to(mean.device)
        eps = randn((num, mean.shape[1]), generator).to(mean)
        return mean[which] + torch.einsum("bij,bj->bi", factor[which], eps)

    def _means_and_factors(self) -> tuple[Tensor, Tensor]:
        """m_k (K, Z) and the Cholesky factors of S_k (K, Z, Z)."""
        prior = self.prior / len(self.weight)
        total = (self.weight + prior)[:, None]
        mean = (self.first + prior * self.first.sum(0)) / total
        second = (self.second + prior * self.second.sum(0)) / total[..., None]
        covariance = second - mean[:, :, None] * mean[:, None, :]
        # Rounding may leave a variance a little below 0: the jitter is relative to the codes' own.
        scale = second.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
        jitter = 1e-5 * scale[:, None, None] * torch.eye(mean.shape[1]).to(mean)
        return mean, torch.linalg.cholesky(covariance + jitter)

r"""Variational autoencoder: maximise a lower bound on log p(x) = log E_{z ~ p(z)} p(x | z).

    ELBO(x) = E_{q(z | x)} log p(x | z) - KL(q(z | x) || p(z))
    q(z | x) = N(mu(x), diag sigma^2(x)),   z = mu + sigma eps    (reparametrisation)

    loss = -(E log p(x | z) - beta max(KL, Z free_bits)) / (D ln 2)           (bits per value)

The prior is learned by the same bound: p(z) is the density of z = f(u), u ~ N(0, I), f an
invertible flow that sees the conditions (Chen et al. 2017, "Variational lossy autoencoder"). With
p(z) = N(0, I) fixed, most draws fall where no item is encoded to (Tomczak & Welling 2018), and what
is decoded there is like no item. KL is estimated at z, log q(z | x) - log p(z); for the fixed prior
it is known, 1/2 sum_d (mu_d^2 + sigma_d^2 - 1 - log sigma_d^2).

(Kingma & Welling 2014; beta: Higgins et al. 2017; free bits: Kingma et al. 2016.) The number that
`log_prob` reports is the importance-weighted bound of Burda et al. 2016, which is tighter:

    log p(x) >= E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),   z_k ~ q(z | x)

    x ---> encoder ---> mu, log sigma^2 ---> z ---> decoder ---> parameters of p(x | z)
    conditions ----^                         ^         ^--- conditions
                         u ~ N(0, I) ---> f -+

Legend: B batch, D values in an item, Z latent dimension, K importance samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.conditioning import Conditioner, check_conditions
from morphogen.core.encoded import num_items
from morphogen.core.family import Family, HealthyRange
from morphogen.core.likelihood import LikelihoodName, build_likelihood
from morphogen.core.random import randn
from morphogen.core.spec import Spec, TensorSpec
from morphogen.families._codes import check_noise, code_spec, disturbed
from morphogen.families._coupling import CouplingFlow


class VAE(Family):
    """Variational autoencoder: a Gaussian latent, a likelihood by the kind of data."""

    default_backbone: ClassVar[str] = "conv"
    takes: ClassVar[frozenset[str]] = frozenset({"parts", "lengths", "columns", "weights"})
    train_defaults: ClassVar[dict[str, Any]] = {"optimizer": "muon", "lr": 3e-3}
    papers: ClassVar[tuple[str, ...]] = (
        "kingma2014auto",
        "chen2017lossy",
        "dinh2017density",
        "burda2016importance",
        "zheng2025diffusion",
    )
    watched: ClassVar[dict[str, HealthyRange]] = {
        "kl": HealthyRange(
            "posterior collapse",
            "the latent says nothing of the item",
            "--set family.beta=1 --set family.free_bits=0.1",
            low=0.2,  # nats: telling two kinds of items apart takes log 2
        )
    }
    log_prob_is = "lower bound (importance-weighted)"
    latent_prior = "gaussian"
    draws_means = True

    def __init__(
        self,
        spec: Spec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        latent_dim: int = 32,  # size of the latent vector
        stride: int | None = None,  # positions along each axis that share a vector; none: all
        prior: Literal["flow", "normal"] = "flow",  # p(z): learned with the model, or N(0, I)
        beta: float = 1.0,  # weight of the KL term; 1 is the bound on log p(x)
        free_bits: float = 0.0,  # nats per latent dimension that go unpunished
        likelihood: LikelihoodName = "auto",  # p(x | z); auto chooses by the kind of data
        num_importance_samples: int = 64,  # draws of z per item in log_prob
        drop_prob: float = 0.2,  # share of items trained without their conditions
        cond_dim: int = 128,  # width of the embedded conditions
        code_noise: float = 0.0,  # deviations of a code, up to which the decoder sees it disturbed
    ) -> None:
        super().__init__(spec, conditions, backbone)
        check_noise(code_noise=code_noise)
        self.beta, self.free_bits, self.drop_prob = beta, free_bits, drop_prob
        self.num_importance_samples, self.code_noise = num_importance_samples, code_noise
        self.likelihood = build_likelihood(spec, likelihood)
        self.latent_spec = code_spec(spec, latent_dim, stride)
        self.conditioner = Conditioner(conditions, cond_dim if conditions else 0)
        width = self.conditioner.dim
        self.encoder = backbone(spec, self.latent_spec.with_channels(2 * latent_dim), width)
        self.decoder = backbone(self.latent_spec, self.likelihood.param_spec, width)
        num = self.latent_spec.num_values
        self.flow = CouplingFlow(num, width) if prior == "flow" else None

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """See how long items are."""
        self.see_lengths(batch.x)

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        drop_prob = self.drop_prob if self.training else 0.0
        embedded = self._embedded(batch.cond, len(batch), drop_prob, generator)
        mu, logvar = self._posterior(batch.x, embedded)
        eps = randn(mu.shape, generator).to(mu)
        z = mu + torch.exp(0.5 * logvar) * eps
        seen = disturbed(z, self.code_noise, generator) if self.training else z
        params = self.decoder(seen, embedded)
        log_p = self.likelihood.item_log_prob(params, batch.x, batch.mask, batch.weight)
        if self.flow is None:
            kl = kl_to_standard_normal(mu, logvar).flatten(1).sum(1)  # (B,)
        else:
            kl = self._log_ratio(z, eps, logvar, embedded)
        # The floor is per item, not over the batch: then a batch may be split among processes.
        floor = self.free_bits * self.latent_spec.num_values
        penalty = self.beta * (kl.clamp(min=floor) if floor > 0 else kl)
        parts = {
            "reconstruction": -log_p,
            "kl": kl,
            "bits_per_dim": self.per_value(kl - log_p),
        }
        return self.per_value(penalty - log_p), parts

    def encode(self, x: Any, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """(B, *shape) -> u = f^-1(mu), what the prior's Gaussian holds the item to be: (B, Z), or
        with a stride (B, Z, *space / stride)."""
        embedded = self._embedded(cond, num_items(x))
        mu = self._posterior(x, embedded)[0]
        return self._to_prior(mu, embedded)[0]

    def decode(self, z: Tensor, cond: Mapping[str, Tensor] | None = None) -> Any:
        """u (B, Z) -> (B, *shape): the mean of p(x | z = f(u))."""
        return self.likelihood.mean(self._params(z, cond))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
    ) -> Any:
        """Draw u ~ N(0, I), then of p(x | z = f(u)) what `Likelihood.draw` does: (num, *shape)."""
        z = randn((num, *self.latent_spec.shape), generator)
        params = self._params(z.to(self.device), cond)
        return self.grained(self.likelihood.draw(params, generator))

    @torch.no_grad()
    def log_prob(
        self,
        x: Any,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        num_importance_samples: int | None = None,
    ) -> Tensor:
        """The importance-weighted bound on log p(x), in nats: (B,)."""
        embedded = self._embedded(cond, num_items(x))
        mu, logvar = self._posterior(x, embedded)
        total = torch.full((len(mu),), -math.inf, device=mu.device)
        num = num_importance_samples or self.num_importance_samples
        for _ in range(num):
            eps = randn(mu.shape, generator).to(mu)
            z = mu + torch.exp(0.5 * logvar) * eps
            log_p = self.likelihood.item_log_prob(self.decoder(z, embedded), x)
            total = torch.logaddexp(total, log_p - self._log_ratio(z, eps, logvar, embedded))
        return total - math.log(num)

    def _params(self, z: Tensor, cond: Mapping[str, Tensor] | None) -> Any:
        """u (B, Z) -> the parameters of p(x | z = f(u))."""
        embedded = self._embedded(cond, z.shape[0])
        if self.flow is not None:
            z = self.flow(z.flatten(1), embedded).view_as(z)
        return self.decoder(z, embedded)

    def _to_prior(self, z: Tensor, embedded: Tensor | None) -> tuple[Tensor, Tensor | float]:
        """u = f^-1(z), shaped like z, and log |det du/dz| (B,)."""
        if self.flow is None:
            return z, 0.0
        u, log_det = self.flow.inverse(z.flatten(1), embedded)
        return u.view_as(z), log_det

    def _posterior(self, x: Any, embedded: Tensor | None) -> tuple[Tensor, Tensor]:
        """mu and log sigma^2 of q(z | x), (B, Z) each; the latter within (-10, 10), smoothly."""
        mu, logvar = self.encoder(self.spec.canonical(x), embedded).chunk(2, dim=1)
        return mu, 10 * torch.tanh(logvar / 10)

    def _log_ratio(self, z: Tensor, eps: Tensor, logvar: Tensor, embedded: Tensor | None) -> Tensor:
        """log q(z | x) - log p(z) at z = mu + sigma eps: (B,); the 2 pi cancel."""
        u, log_det = self._to_prior(z, embedded)
        return 0.5 * (u.square() - eps.square() - logvar).flatten(1).sum(1) - log_det

    def _embedded(
        self,
        cond: Mapping[str, Tensor] | None,
        num: int,
        drop_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """The conditions as one vector (B, cond_dim); None for a model without conditions."""
        check_conditions(cond, self.conditions)
        if not self.conditions:
            return None
        return self.conditioner(cond, num, drop_prob, generator)


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)), one per dimension."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)

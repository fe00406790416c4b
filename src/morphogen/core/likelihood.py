"""p(x | params), chosen by spec, so that no family branches on modality.

A decoder emits `params` of `likelihood.param_spec`: the spec's shape with `params_per_value` times
as many channels. For tokens the channel axis is the vocabulary: logits are (B, V, *shape).

All `log_prob` are in nats, one per value, shaped like `x`: sum them for an item, show them as a
map. For data with `levels` they are log *probabilities* of the discrete value, so bits per
dimension compare between families:  bits/dim = -log_prob(x) / (D ln 2).

Legend: B batch, C channels, K mixture components, V vocabulary, * any axes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.core.random import categorical, rand, randn
from morphogen.core.spec import TensorSpec


class Likelihood(nn.Module):
    """Base: a distribution over one value given `params_per_value` numbers."""

    params_per_value: int = 1

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def param_spec(self) -> TensorSpec:
        """What a decoder must emit."""
        return self.spec.with_channels(self.spec.channels * self.params_per_value)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | params) in nats, one per value: x's shape."""
        raise NotImplementedError

    def mean(self, params: Tensor) -> Tensor:
        """E[x | params] (for tokens: the most probable one), shaped like x."""
        raise NotImplementedError

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """One draw, shaped like x."""
        raise NotImplementedError

    def _split(self, params: Tensor) -> tuple[Tensor, ...]:
        """(B, P*C, *space) -> P tensors (B, C, *space)."""
        return params.chunk(self.params_per_value, dim=1)


class Gaussian(Likelihood):
    """N(x; mu, sigma^2) with one learned sigma for all values (Rybkin et al. 2021, sigma-VAE).

    log p = -(x - mu)^2 / (2 sigma^2) - log sigma - log(2 pi) / 2. For data with levels the density
    is multiplied by the width of a level, which makes it comparable to the discrete ones.
    """

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))
        self.log_width = math.log(2.0 / (spec.levels - 1)) if spec.levels else 0.0

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        log_sigma = self.log_sigma.clamp(-7.0, 5.0)
        squared = (x - params).square() * torch.exp(-2 * log_sigma)
        return -0.5 * (squared + math.log(2 * math.pi)) - log_sigma + self.log_width

    def mean(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        noise = randn(params.shape, generator).to(params)
        return params + noise * self.log_sigma.clamp(-7.0, 5.0).exp()


class Bernoulli(Likelihood):
    """p(x=1) = sigmoid(params), for values -1 and 1 (or tokens 0 and 1).

    Values between are taken as probabilities, which is the usual cross-entropy for grey pictures;
    only for two-valued data is it a likelihood.
    """

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        target = x.to(params.dtype) if self.spec.kind == "token" else (x + 1) / 2
        return -F.binary_cross_entropy_with_logits(params, target, reduction="none")

    def mean(self, params: Tensor) -> Tensor:
        if self.spec.kind == "token":
            return (params > 0).long()
        return torch.tanh(params / 2)  # = 2 sigmoid(params) - 1

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        ones = rand(params.shape, generator).to(params) < torch.sigmoid(params)
        return ones.long() if self.spec.kind == "token" else ones.to(params.dtype) * 2 - 1


class Categorical(Likelihood):
    """p(x = v) = softmax(logits)_v, for tokens. Params are logits (B, V, *shape)."""

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.params_per_value = spec.vocab_size or 1

    @property
    def param_spec(self) -> TensorSpec:
        shape = (self.params_per_value, *self.spec.shape)
        return TensorSpec("real", shape, layout=self.spec.layout)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return -F.cross_entropy(params, x, reduction="none")

    def mean(self, params: Tensor) -> Tensor:
        return params.argmax(1)

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        return categorical(params.movedim(1, -1), generator)


class DiscretisedLogistic(Likelihood):
    """Mixture of K logistics, integrated over the width of a level (Salimans et al. 2017).

    P(x) = sum_k pi_k [ F((x + w/2 - mu_k) / s_k) - F((x - w/2 - mu_k) / s_k) ], F the sigmoid and
    w the width of a level; the first level reaches to -inf and the last to +inf, which fits the
    pure black and white that pictures are full of.
    """

    num_components: ClassVar[int] = 5

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        if spec.levels is None:
            raise RecipeError("a discretised likelihood needs data with levels", found=str(spec))
        self.params_per_value = 3 * self.num_components
        self.width = 2.0 / (spec.levels - 1)
        # Means start spread over the range: components that start equal stay equal.
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(-0.9, 0.9, self.num_components))

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        log_pi, mu, log_s = self._mixture(params)  # (B, K, C, *space) each
        centred = x.unsqueeze(1) - mu
        inverse = torch.exp(-log_s)
        upper = inverse * (centred + self.width / 2)
        lower = inverse * (centred - self.width / 2)
        # log(F(upper) - F(lower)), written so that neither tail underflows.
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower)
        inner = inner + torch.log1p(-torch.exp(-inverse * self.width)).clamp(min=-30.0)
        first, last = F.logsigmoid(upper), F.logsigmoid(-lower)
        edge = 1 - self.width / 2
        target = x.unsqueeze(1)
        log_p = torch.where(target < -edge, first, torch.where(target > edge, last, inner))
        return torch.logsumexp(log_pi + log_p, dim=1)

    def mean(self, params: Tensor) -> Tensor:
        log_pi, mu, _ = self._mixture(params)
        return (log_pi.exp() * mu.clamp(-1, 1)).sum(1)

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        log_pi, mu, log_s = self._mixture(params)
        which = categorical(log_pi.movedim(1, -1), generator).unsqueeze(1)
        mu, log_s = (part.gather(1, which).squeeze(1) for part in (mu, log_s))
        uniform = rand(mu.shape, generator).to(mu).clamp(1e-5, 1 - 1e-5)
        x = (mu + log_s.exp() * torch.logit(uniform)).clamp(-1, 1)
        return self.spec.dequantise(self.spec.quantise(x))

    def _mixture(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_pi, mu, log_s = (
            part.reshape(len(part), self.num_components, self.spec.channels, *part.shape[2:])
            for part in params.chunk(3, dim=1)
        )
        centres = self.centres.view(1, -1, *(1,) * (mu.dim() - 2))
        # exp(-7) is a third of an 8-bit level: sharper than the data can tell.
        return F.log_softmax(log_pi, dim=1), mu + centres, (log_s - 2.0).clamp(-7.0, 3.0)


_BY_NAME: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretised_logistic": DiscretisedLogistic,
}


def build_likelihood(spec: TensorSpec, name: str = "auto") -> Likelihood:
    """The likelihood for `spec`; "auto" takes the one that the kind of data calls for.

    Tokens: categorical. Two levels: Bernoulli. Several levels: discretised logistic mixture.
    Continuous: Gaussian. Raises `RecipeError` for a name that does not exist.
    """
    if name == "auto":
        if spec.kind == "token":
            name = "categorical"
        elif spec.levels == 2:
            name = "bernoulli"
        else:
            name = "discretised_logistic" if spec.levels else "gaussian"
    if name not in _BY_NAME:
        raise RecipeError(
            f"there is no likelihood {name!r}.{did_you_mean(name, _BY_NAME)}",
            expected=f"auto, {', '.join(_BY_NAME)}",
        )
    return _BY_NAME[name](spec)


def bits_per_dim(log_prob: Tensor, spec: TensorSpec) -> Tensor:
    """-log_prob / (D ln 2): nats per item to bits per value."""
    return -log_prob / (spec.num_values * math.log(2))

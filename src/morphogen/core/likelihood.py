"""p(x | params), chosen by spec, so that no family branches on modality.

A decoder emits `params` of `likelihood.param_spec`: the spec's shape with `params_per_value` times
as many channels. For tokens the channel axis is the vocabulary: logits are (B, V, *shape).

All `log_prob` are in nats, one per value, shaped like `x`: `item_log_prob` sums those of real
values, a task may show them as a map. For data with `levels` they are log *probabilities* of the
discrete value, so bits per dimension compare between families:

    bits/dim = -log_prob(x) / (R ln 2),   R the real values of x, padding not counted.

An item of parts has the product of their likelihoods, each by its own kind: `Joint`.

Legend: B batch, C channels, K mixture components, L length, V vocabulary, * any axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.core.random import categorical, rand, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

NEVER = -1e9  # nats, of a token that a position cannot hold: finite, and as good as impossible
LikelihoodName = Literal[
    "auto", "gaussian", "laplace", "bernoulli", "categorical", "discretised_logistic"
]


class Likelihood(nn.Module):
    """Base: a distribution over one value given `params_per_value` numbers."""

    params_per_value: int = 1

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.spec = spec

    @property
    def param_spec(self) -> Any:
        """What a decoder must emit: a spec, of parts where the data has parts."""
        return self.spec.with_channels(self.spec.channels * self.params_per_value)

    def log_prob(self, params: Any, x: Any) -> Any:
        """log p(x | params) in nats, one per value: x's shape."""
        raise NotImplementedError

    def item_log_prob(self, params: Any, x: Any, mask: Any = None, weight: Any = None) -> Tensor:
        """log p of each whole item, (B,). Padding does not count, nor what `mask` says is none of
        the data; each value counts `weight` times."""
        log_prob = self.log_prob(params, x)
        for real in (self.spec.mask(x), mask):
            if real is not None:
                log_prob = torch.where(real, log_prob, torch.zeros_like(log_prob))
        if weight is not None:
            log_prob = log_prob * weight
        return log_prob.reshape(log_prob.shape[0], -1).sum(1)

    def mean(self, params: Any) -> Any:
        """E[x | params] (for tokens: the most probable one), shaped like x."""
        raise NotImplementedError

    def sample(self, params: Any, generator: torch.Generator) -> Any:
        """One draw, shaped like x."""
        raise NotImplementedError

    def draw(self, params: Any, generator: torch.Generator) -> Any:
        """What a sample of a model shows: of real values the mean, without noise that nobody wants
        to see; tokens and parts are drawn, as each by itself at its most probable makes an item
        like no other (a text of spaces, a row of the commonest cells)."""
        is_real = isinstance(self.spec, TensorSpec) and self.spec.kind == "real"
        return self.mean(params) if is_real else self.sample(params, generator)


class OneWidth(Likelihood):
    """Base of those with a location for each value, and one learned width for all of them."""

    least: ClassVar[float]  # of log sigma, above the logarithm of the width of a level

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.log_width = math.log(spec.level_width) if spec.levels else 0.0
        self.floor = self.log_width + self.least if spec.levels else -7.0
        # log sigma = floor + softplus(raw): bounded below and never without a gradient.
        self.raw_log_sigma = nn.Parameter(_softplus_inverse(max(-1.0 - self.floor, 1.0)))

    @property
    def log_sigma(self) -> Tensor:
        """The logarithm of the width, a scalar."""
        return self.floor + F.softplus(self.raw_log_sigma)

    def set_sigma(self, sigma: float) -> None:
        """Set the width to `sigma`, or to its floor where that is higher."""
        with torch.no_grad():
            self.raw_log_sigma.copy_(_softplus_inverse(max(math.log(sigma) - self.floor, 1e-6)))

    def mean(self, params: Tensor) -> Tensor:
        return params.clamp(-1, 1) if self.spec.levels else params


class Gaussian(OneWidth):
    """N(x; mu, sigma^2) with one learned sigma for all values (Rybkin et al. 2021, sigma-VAE).

    log p = -(x - mu)^2 / (2 sigma^2) - log sigma - log(2 pi) / 2. For data with levels the density
    is multiplied by the width w of a level, and sigma is kept above w: then it sums to at most 1
    over the levels (by Poisson summation, to within 1e-8), as the discrete likelihoods do. A
    narrower sigma would score above 0 bits, which no code reaches.
    """

    least = 0.0

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        log_sigma = self.log_sigma
        squared = (x - params).square() * torch.exp(-2 * log_sigma)
        return -0.5 * (squared + math.log(2 * math.pi)) - log_sigma + self.log_width

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        return params + randn(params.shape, generator).to(params) * self.log_sigma.exp()


class Laplace(OneWidth):
    """exp(-|x - mu| / b) / (2 b) with one learned b for all values: its maximum is the median, so
    that of an edge whose place is not known one side is told, and not the blurred middle.

    For data with levels, w apart, log p = -|x - mu| / b + log tanh(w / 2b): that is the
    distribution over the levels where mu is one of them, and sums to less than 1 elsewhere, for

        sum_k exp(-|k w - mu| / b) <= coth(w / 2b),    with equality where mu is some k w.
    """

    least = -2.0

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        log_b = self.log_sigma
        distance = (x - params).abs() * torch.exp(-log_b)
        if not self.spec.levels:
            return -distance - log_b - math.log(2)
        return torch.log(torch.tanh(0.5 * torch.exp(self.log_width - log_b))) - distance

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        side = 2 * rand(params.shape, generator).to(params) - 1  # [-1, 1)
        away = -torch.log1p(-side.abs().clamp(max=1 - 1e-6))  # exponential
        return params + side.sign() * away * self.log_sigma.exp()


class Bernoulli(Likelihood):
    """p(x=1) = sigmoid(params), for values -1 and 1 (or tokens 0 and 1).

    Values between are taken as probabilities, which is the usual cross-entropy for grey pictures;
    only for two-valued data is it a likelihood.
    """

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits = self._logits(params)
        target = x.to(params.dtype) if self.spec.kind == "token" else (x + 1) / 2
        return -F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def mean(self, params: Tensor) -> Tensor:
        if self.spec.kind == "token":
            return (self._logits(params) > 0).long()
        return torch.tanh(params / 2)  # = 2 sigmoid(params) - 1

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        logits = self._logits(params)
        ones = rand(logits.shape, generator).to(logits) < torch.sigmoid(logits)
        return ones.long() if self.spec.kind == "token" else ones.to(params.dtype) * 2 - 1

    def _logits(self, params: Tensor) -> Tensor:
        """Tokens have no channel axis: (B, 1, L) -> (B, L)."""
        return params.squeeze(1) if self.spec.kind == "token" else params


class Categorical(Likelihood):
    """p(x = v) = softmax(logits)_v, for tokens. Params are logits (B, V, *shape).

    A position that holds only some of the tokens (`spec.sizes`) never gives another. Where items
    have ends, what is drawn is written in the canonical way.
    """

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__(spec)
        self.params_per_value = spec.vocab_size or 1
        allowed = spec.allowed
        self.never: Tensor | None  # (V, L)
        self.register_buffer("never", None if allowed is None else ~allowed.T, persistent=False)

    @property
    def param_spec(self) -> TensorSpec:
        shape = (self.params_per_value, *self.spec.shape)
        return TensorSpec("real", shape, layout=self.spec.layout)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return -F.cross_entropy(self._possible(params), x, reduction="none")

    def mean(self, params: Tensor) -> Tensor:
        return self.spec.canonical(self._possible(params).argmax(1))

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        drawn = categorical(self._possible(params).movedim(1, -1), generator)
        return self.spec.canonical(drawn)

    def _possible(self, params: Tensor) -> Tensor:
        return params if self.never is None else params.masked_fill(self.never, NEVER)


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
        self.width = spec.level_width
        # Means start spread over the range: components that start equal stay equal.
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(-0.9, 0.9, self.num_components))

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        log_pi, mu, log_s = self._mixture(params)  # (B, K, C, *space) each
        x = x.unsqueeze(1)
        inverse = torch.exp(-log_s)
        centred = (x - mu) * inverse
        half = inverse * (self.width / 2)
        # log(F(upper) - F(lower)) = log F(upper) + log F(-lower) + log(1 - exp(lower - upper)),
        # so that neither tail underflows; the end levels keep only the side that is finite.
        below, above = F.logsigmoid(centred + half), F.logsigmoid(half - centred)
        between = torch.log(-torch.expm1(-2 * half))
        edge = 1 - self.width / 2
        first, last = x < -edge, x > edge
        inner = torch.where(last, above, above + below + between)
        return torch.logsumexp(log_pi + torch.where(first, below, inner), dim=1)

    def mean(self, params: Tensor) -> Tensor:
        # For a logistic y, E[clamp(y, -1, 1)] = 1 - s [softplus((1-mu)/s) - softplus((-1-mu)/s)]:
        # one minus the integral of its distribution function over [-1, 1].
        log_pi, mu, log_s = self._mixture(params)
        s = log_s.exp()
        means = 1 - s * (F.softplus((1 - mu) / s) - F.softplus((-1 - mu) / s))
        return (log_pi.exp() * means).sum(1).clamp(-1, 1)

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        log_pi, mu, log_s = self._mixture(params)
        which = categorical(log_pi.movedim(1, -1), generator).to(mu.device).unsqueeze(1)
        mu, log_s = (part.gather(1, which).squeeze(1) for part in (mu, log_s))
        uniform = rand(mu.shape, generator).to(mu).clamp(1e-6, 1 - 1e-6)
        x = (mu + log_s.exp() * torch.logit(uniform)).clamp(-1, 1)
        return self.spec.dequantise(self.spec.quantise(x)).to(params)

    def _mixture(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_pi, mu, log_s = (
            part.reshape(part.shape[0], self.num_components, self.spec.channels, *part.shape[2:])
            for part in params.chunk(3, dim=1)
        )
        centres = self.centres.view(1, -1, *(1,) * (mu.dim() - 2))
        # Narrower than a tenth of a level is sharper than the data can tell. A soft floor keeps
        # its gradient.
        floor = math.log(self.width / 10)
        log_s = floor + F.softplus(log_s - 2.0 - floor)
        return F.log_softmax(log_pi, dim=1), mu + centres, log_s.clamp(max=3.0)


class Joint(Likelihood):
    """Parts that are independent given the parameters: log p(x) = sum of log p(part).

    Parameters, values and log-probabilities are dicts by part.
    """

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        # A list: names of columns hold dots, which names of modules must not.
        self.likelihoods = nn.ModuleList(build_likelihood(part) for _, part in spec)

    @property
    def of_parts(self) -> dict[str, Likelihood]:
        """Each part's own."""
        return dict(zip(self.spec.parts, self.likelihoods, strict=True))  # type: ignore[arg-type]

    @property
    def param_spec(self) -> ProductSpec:
        told = {name: each.param_spec for name, each in self.of_parts.items()}
        return ProductSpec(told, pairs=self.spec.pairs)

    def log_prob(self, params: Mapping[str, Tensor], x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: each.log_prob(params[name], x[name]) for name, each in self.of_parts.items()}

    def item_log_prob(
        self,
        params: Mapping[str, Tensor],
        x: Mapping[str, Tensor],
        mask: Mapping[str, Tensor] | None = None,
        weight: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        real, total = self.spec.mask(x), []
        for name, each in self.of_parts.items():
            own = None if mask is None else mask.get(name)
            if real[name] is not None:
                own = real[name] if own is None else real[name] & own
            counts = None if weight is None else weight.get(name)
            total.append(each.item_log_prob(params[name], x[name], own, counts))
        return torch.stack(total).sum(0)

    def mean(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: each.mean(params[name]) for name, each in self.of_parts.items()}
        return self.spec.canonical(found)

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        of = self.of_parts
        drawn = {name: each.sample(params[name], generator) for name, each in of.items()}
        return self.spec.canonical(drawn)


_BY_NAME: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretised_logistic": DiscretisedLogistic,
}


def build_likelihood(spec: Spec, name: str = "auto") -> Likelihood:
    """The likelihood for `spec`; "auto" takes the one that the kind of data calls for.

    Tokens: categorical. Two levels: Bernoulli. Several levels: discretised logistic mixture.
    Continuous: Gaussian. Parts: each its own. Raises `RecipeError` for a name that does not exist.
    """
    if isinstance(spec, ProductSpec):
        if name != "auto":
            raise RecipeError(
                "items of parts have a likelihood for each part, by its kind",
                found=name,
                expected="auto",
                hint="--set family.likelihood=auto",
            )
        return Joint(spec)
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
    fits_tokens = name == "categorical" or (name == "bernoulli" and spec.vocab_size == 2)
    if (spec.kind == "token") != fits_tokens and not (spec.kind == "real" and name == "bernoulli"):
        raise RecipeError(
            f"the likelihood {name!r} does not fit the data",
            found=str(spec),
            expected="categorical for tokens, one of the others for real values",
            hint="--set family.likelihood=auto",
        )
    return _BY_NAME[name](spec)


def bits_per_dim(log_prob: Tensor, spec: Spec, x: Any = None) -> Tensor:
    """-log_prob / (R ln 2): nats per item (B,) to bits per real value of items x (B, *).

    Without `x`, or where all items are of one length, R is the number of values in an item.
    """
    if x is None or not spec.is_ragged:
        return -log_prob / (spec.num_values * math.log(2))
    return -log_prob / (spec.num_real(x).clamp(min=1).to(log_prob) * math.log(2))


def _softplus_inverse(y: float) -> Tensor:
    return torch.tensor(y + math.log(-math.expm1(-y)))

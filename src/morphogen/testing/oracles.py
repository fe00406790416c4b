r"""Models whose answers are known in closed form, to hold samplers, tasks and metrics to.

    GaussianOracle   x ~ N(mu, Sigma), on a Gaussian path:
        E[x | x_t] = mu + alpha Sigma (alpha^2 Sigma + sigma^2 I)^-1 (x_t - alpha mu)
        x_a | x_b  ~ N(mu_a + S_ab S_bb^-1 (x_b - mu_b),  S_aa - S_ab S_bb^-1 S_ba)
    TwoGaussians     x | y ~ N(m_y, s^2 I), y a fair coin: p(y | x) by Bayes' rule
    TwoStateChain    a Markov chain on {0, 1}: x_1 ~ pi, x_i | x_{i-1} ~ P
    RandomWalk       x_n = x_{n-1} + s eps_n, x_0 the last of a past: p(x_n | past) is N(x_0, n s^2)
    TwoTones         x_n = cos(2 pi k_y n / L + phi) / 2, phi uniform, y a fair coin: orthogonal
    TwoStyles        x = (z_1, z_2), z_1 from the style of one layer, z_2 from that of the next

They satisfy the capabilities that they can, exactly. Legend: B batch, D values, L length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from morphogen.core.gaussian_path import GaussianPath
from morphogen.core.random import categorical, rand, randint, randn
from morphogen.core.spec import TensorSpec
from morphogen.core.transcript import Segment, Transcript

Conditions = Mapping[str, Tensor]


class Oracle(nn.Module):
    """What tasks expect of any model: a spec, its conditions, a device."""

    def __init__(self, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> None:
        super().__init__()
        self.spec, self.conditions = spec, dict(conditions)
        self.marker: Tensor
        self.register_buffer("marker", torch.zeros(()), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the oracle lives."""
        return self.marker.device


class GaussianOracle(Oracle):
    """x ~ N(mean, covariance): samples, likelihood, denoiser, latents and fills, all exact."""

    log_prob_is = "exact"
    latent_prior = "gaussian"

    def __init__(
        self,
        mean: Tensor,
        covariance: Tensor,
        spec: TensorSpec | None = None,
        path: GaussianPath | None = None,
    ) -> None:
        """mean (D,), covariance (D, D), positive definite; `spec` has D values."""
        super().__init__(spec or TensorSpec.vector(len(mean)), {})
        self.path = path or GaussianPath("straight")
        self.latent_spec = TensorSpec.vector(len(mean))
        self.mean: Tensor
        self.variances: Tensor
        self.axes: Tensor
        variances, axes = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("variances", variances)  # (D,), of the principal axes
        self.register_buffer("axes", axes)  # (D, D), one axis a column

    @classmethod
    def example(cls, spec: TensorSpec | None = None, seed: int = 0) -> GaussianOracle:
        """A correlated Gaussian over `spec` (default: a vector of 3), well inside [-1, 1]."""
        spec = spec or TensorSpec.vector(3)
        draw = torch.Generator().manual_seed(seed)
        dim = spec.num_values
        factor = torch.randn((dim, dim), generator=draw) / math.sqrt(dim)
        covariance = 0.04 * (factor @ factor.T + 0.25 * torch.eye(dim))
        return cls(0.2 * torch.randn(dim, generator=draw), covariance, spec)

    @property
    def covariance(self) -> Tensor:
        """(D, D)."""
        return (self.axes * self.variances) @ self.axes.T

    def sample(
        self, num: int, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """Exact draws: (num, *shape)."""
        return self.decode(randn((num, len(self.mean)), generator).to(self.mean))

    def encode(self, x: Tensor) -> Tensor:
        """Whitening: (B, *) -> (B, D), distributed as N(0, I)."""
        return (x.flatten(1) - self.mean) @ self.axes / self.variances.sqrt()

    def decode(self, z: Tensor) -> Tensor:
        """Inverse of `encode`."""
        x = self.mean + (z * self.variances.sqrt()) @ self.axes.T
        return x.view(len(z), *self.spec.shape)

    def features(self, x: Tensor) -> Tensor:
        """The whitened item: (B, D)."""
        return self.encode(x)

    def log_prob(
        self, x: Tensor, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """log N(x; mean, covariance): (B,)."""
        return -self.energy(x)

    def energy(self, x: Tensor) -> Tensor:
        """-log p(x), normalised: (B,)."""
        constant = (2 * math.pi * self.variances).log().sum()
        return 0.5 * (self.encode(x).square().sum(1) + constant)

    def denoise(self, x_t: Tensor, t: Tensor, cond: Conditions | None = None) -> Tensor:
        """E[x | x_t] in closed form: (B, *), (B,) -> (B, *)."""
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]  # (B, 1)
        gain = alpha * self.variances / (alpha**2 * self.variances + sigma**2)  # (B, D)
        centred = (x_t.flatten(1) - alpha * self.mean) @ self.axes
        return (self.mean + (gain * centred) @ self.axes.T).view(x_t.shape)

    def transport(self, x_t: Tensor, start: float = 1.0, end: float = 0.0) -> Tensor:
        """Where the probability-flow ODE carries x_t from time `start` to time `end`, exactly.

        Along each principal axis it keeps (x_t - alpha mu) / sqrt(alpha^2 lambda + sigma^2).
        """
        alpha, spread = self._at(start)
        z = (x_t.flatten(1) - alpha * self.mean) @ self.axes / spread
        alpha, spread = self._at(end)
        return (alpha * self.mean + (z * spread) @ self.axes.T).view(x_t.shape)

    def _at(self, t: float) -> tuple[Tensor, Tensor]:
        """alpha, and the deviation of x_t along each principal axis (D,)."""
        time = self.mean.new_tensor(t)
        alpha, sigma = self.path.alpha(time), self.path.sigma(time)
        return alpha, (alpha**2 * self.variances + sigma**2).sqrt()

    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw from the exact conditional of the unknown values given the known ones."""
        flat = x.flatten(1)
        kept = known.expand(x.shape).flatten(1)
        noise = randn(flat.shape, generator).to(flat)
        filled = flat.clone()
        for row in range(len(flat)):
            b, a = kept[row], ~kept[row]
            mean, covariance = self.conditional(flat[row], b)
            if a.any():
                filled[row, a] = mean + torch.linalg.cholesky(covariance) @ noise[row, a]
        return filled.view(x.shape)

    def conditional(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the values of x (D,) where `known` (D,) is False."""
        b, a, whole = known, ~known, self.covariance
        gain = torch.linalg.solve(whole[b][:, b], whole[b][:, a]).T  # S_ab S_bb^-1
        return self.mean[a] + gain @ (x[b] - self.mean[b]), whole[a][:, a] - gain @ whole[b][:, a]


class TwoGaussians(Oracle):
    """Two classes, each N(mean_y, scale^2 I), equally frequent: the exact classifier."""

    log_prob_is = "exact"
    target = "label"

    def __init__(self, spec: TensorSpec | None = None, distance: float = 0.5) -> None:
        spec = spec or TensorSpec.vector(3)
        self.target_spec = TensorSpec.label(2)
        super().__init__(spec, {"label": self.target_spec})
        self.scale = 0.2
        self.means: Tensor
        one = torch.full((spec.num_values,), distance / 2)
        self.register_buffer("means", torch.stack([-one, one]))  # (2, D)

    def sample(
        self, num: int, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """Exact draws of the class asked for, or of either."""
        label = (cond or {}).get("label", randint(2, (num,), generator))
        noise = randn((num, self.spec.num_values), generator).to(self.means)
        return (self.means[label] + self.scale * noise).view(num, *self.spec.shape)

    def log_prob(
        self, x: Tensor, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """log p(x | label), or log p(x) where none is given: (B,)."""
        per_class = self._log_prob_of_classes(x)
        if cond and "label" in cond:
            return per_class.gather(1, cond["label"][:, None])[:, 0]
        return per_class.logsumexp(1) - math.log(2)

    def predict(self, x: Tensor) -> Tensor:
        """p(label | x): (B, 2)."""
        return self._log_prob_of_classes(x).softmax(1)

    def features(self, x: Tensor) -> Tensor:
        """The item itself: (B, D)."""
        return x.flatten(1)

    def _log_prob_of_classes(self, x: Tensor) -> Tensor:
        squared = (x.flatten(1)[:, None] - self.means).square().sum(2) / self.scale**2  # (B, 2)
        constant = self.spec.num_values * math.log(2 * math.pi * self.scale**2)
        return -0.5 * (squared + constant)


class RandomWalk(Oracle):
    """What comes after a past: x_n = x_{n-1} + s eps_n, which goes on where the past ends."""

    step = 0.05  # s

    def __init__(self, length: int = 6, past: int = 4) -> None:
        spec, before = (TensorSpec("real", (1, n), layout="vector") for n in (length, past))
        super().__init__(spec, {"past": before})

    def sample(
        self, num: int, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """Exact draws: (num, 1, L); without a past they begin at 0."""
        walked = self.step * randn((num, *self.spec.shape), generator).cumsum(2).to(self.marker)
        return walked if not cond else walked + cond["past"][..., -1:]


class TwoTones(Oracle):
    """Sounds of one of two tones, "low" and "high": heard, told by name, and varied in phase."""

    names = ("low", "high")
    cycles = (1, 3)  # in a sound
    text_scale = scale = 10.0
    sample_rate = 16
    target, latent_spec = "tone", TensorSpec.vector(2)

    def __init__(self, length: int = 16) -> None:
        super().__init__(TensorSpec("real", (1, length), layout="sequence"), {})
        turns = torch.tensor(self.cycles)[:, None] * torch.arange(length) / length  # (2, L)
        self.waves: Tensor
        self.register_buffer("waves", torch.polar(torch.ones(turns.shape), 2 * math.pi * turns))

    def sample(
        self, num: int, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """One tone of any phase each: (num, 1, L)."""
        which, phase = randint(2, (num,), generator), rand((num, 1), generator)
        turned = self.waves[which] * torch.polar(torch.ones_like(phase), 2 * math.pi * phase)
        return turned.real[:, None] / 2

    def features(self, x: Tensor) -> Tensor:
        """How loud each tone is, of length 1: (B, 1, L) -> (B, 2)."""
        return nn.functional.normalize((x[:, 0].to(self.waves) @ self.waves.mH).abs(), dim=1)

    def map_features(self, x: Tensor) -> Tensor:
        """How each tone goes along with it, place by place: (B, 1, L) -> (B, 2, L)."""
        return x * self.waves.real

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Texts that end with the name of a tone are it: (M, 2)."""
        words = [text.rstrip(".").rpartition(" ")[2] for text in texts]
        told = [[float(word == name) for name in self.names] for word in words]
        return torch.tensor(told, device=self.device)

    encode = stage_features = features  # where a sound lies; it is seen in one stage

    def encode_condition(self, cond: Conditions) -> Tensor:
        """Where a tone's sounds lie, by its number: (B,) -> (B, 2)."""
        return nn.functional.one_hot(cond[self.target], len(self.names)).float()

    def transcribe(
        self, sounds: Sequence[Tensor], *, generator: torch.Generator, language: str | None = None
    ) -> list[Transcript]:
        """The name of the louder tone, all the time."""
        found = []
        for sound in sounds:
            length, whole = len(sound), self.spec.shape[1]
            heard = self.features(nn.functional.pad(sound, (0, whole))[None, None, :whole])
            said = Segment(0.0, length / self.sample_rate, self.names[int(heard.argmax())])
            found.append(Transcript((said,), language or "en"))
        return found

    def vary(
        self,
        x: Tensor,
        strength: float,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """The same tone, turned by up to half of a cycle: (B, 1, L) -> (B, 1, L)."""
        phase = math.pi * strength * rand((len(x), 1), generator).to(self.device)
        parts = (x[:, 0].to(self.waves) @ self.waves.mH) * 2 / self.spec.shape[1]  # (B, 2)
        turned = parts * torch.polar(torch.ones_like(phase), phase)
        return (turned @ self.waves).real[:, None]


class TwoStateChain(Oracle):
    """A Markov chain over {0, 1} of fixed length: next-token probabilities and fills, exact."""

    log_prob_is = "exact"

    def __init__(self, length: int = 6, stay: tuple[float, float] = (0.9, 0.7)) -> None:
        """`stay[s]` is P(x_i = s | x_{i-1} = s); the first token is a fair coin."""
        super().__init__(TensorSpec.tokens(length, 2), {})
        self.start: Tensor
        self.transition: Tensor
        self.register_buffer("start", torch.tensor([0.5, 0.5]))
        rows = [[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]]
        self.register_buffer("transition", torch.tensor(rows))  # (from, to)

    def predict_next(self, prefix: Tensor, cond: Conditions | None = None) -> Tensor:
        """(B, L) -> log probabilities of the next token (B, 2)."""
        if prefix.shape[1] == 0:
            return self.start.log().expand(len(prefix), 2)
        return self.transition.log()[prefix[:, -1]]

    def position_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The state at each position, and that all are real: (B, L) -> (B, L, 2), (B, L)."""
        return nn.functional.one_hot(x, 2).float(), torch.ones_like(x, dtype=torch.bool)

    def stream(
        self, prefix: Tensor, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """What follows tokens (B, n), drawn from the chain: (B,) at a time."""
        known = torch.arange(self.spec.shape[0], device=prefix.device) < prefix.shape[1]
        x = torch.nn.functional.pad(prefix, (0, self.spec.shape[0] - prefix.shape[1]))
        drawn = self.fill(x, known.expand(x.shape), generator=generator)
        yield from drawn[:, prefix.shape[1] :].unbind(1)

    def log_prob(
        self, x: Tensor, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """(B, L) -> (B,)."""
        return self.token_log_prob(x, cond).sum(1)

    def token_log_prob(self, x: Tensor, cond: Conditions | None = None) -> Tensor:
        """(B, L) -> (B, L)."""
        steps = self.transition.log()[x[:, :-1], x[:, 1:]]
        return torch.cat([self.start.log()[x[:, :1]], steps], dim=1)

    def sample(
        self, num: int, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """Exact draws: (num, L)."""
        nothing = torch.zeros((num, *self.spec.shape), dtype=torch.int64, device=self.device)
        return self.fill(nothing, torch.zeros_like(nothing, dtype=torch.bool), generator=generator)

    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """Draw from the exact conditional: filter backward, sample forward.

        message_i(s) = P(known tokens after i | x_i = s).
        """
        length = x.shape[1]
        known = known.expand(x.shape)
        state = torch.arange(2, device=x.device)
        # evidence (B, L, 2): 1 where a state agrees with what is known
        evidence = (~known[..., None] | (x[..., None] == state)).to(self.start)
        message = [torch.ones_like(evidence[:, 0])]
        for i in range(length - 1, 0, -1):
            message.insert(0, (message[0] * evidence[:, i]) @ self.transition.T)
        filled = x.clone()
        for i in range(length):
            prior = self.start.expand(len(x), 2) if i == 0 else self.transition[filled[:, i - 1]]
            logits = (prior * evidence[:, i] * message[i]).clamp(min=1e-30).log()
            filled[:, i] = torch.where(known[:, i], x[:, i], categorical(logits, generator).to(x))
        return filled


class TwoStyles(Oracle):
    """x = (s_1, s_2), halves of two styles, each of them z plus what is said: 0 or 1."""

    num_styles = 2

    def __init__(self) -> None:
        super().__init__(TensorSpec.vector(4), {"label": TensorSpec.label(2)})
        self.latent_spec = TensorSpec.vector(4)

    def styles(self, z: Tensor, cond: Conditions | None = None) -> Tensor:
        """(B, 4) -> (B, 2, 4)."""
        said = cond["label"].to(z)[:, None] if cond and "label" in cond else 0
        return (z + said)[:, None].expand(-1, 2, -1)

    def from_styles(self, styles: Tensor) -> Tensor:
        """(B, 2, 4) -> (B, 4)."""
        return torch.cat([styles[:, 0, :2], styles[:, 1, 2:]], 1)

    def sample(
        self, num: int, *, cond: Conditions | None = None, generator: torch.Generator
    ) -> Tensor:
        """(num, 4)."""
        return self.from_styles(self.styles(randn((num, 4), generator), cond))

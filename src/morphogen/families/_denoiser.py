"""What diffusion and flow matching share: one network that sees x_t, t and the conditions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone, HasActivations
from morphogen.core.batch import Batch
from morphogen.core.conditioning import Conditioner, TimeEmbedding, absent, context_dim, present
from morphogen.core.errors import RecipeError, RefusedPair, did_you_mean
from morphogen.core.family import Family
from morphogen.core.gaussian_path import DenoiserSampling, wide
from morphogen.core.random import rand
from morphogen.core.spec import TensorSpec
from morphogen.families import _path_likelihood as likelihood
from morphogen.families._gaussian_baseline import MOST_VALUES, GaussianBaseline
from morphogen.families._laid_beside import LaidBeside
from morphogen.families._linear_given import LinearGiven, alike

Baseline = Literal["auto", "gaussian", "none"]
# For log_prob: Runge-Kutta steps of the ODE, four evaluations and their derivatives each, or noise
# levels of the bound. Levels need fewer steps: with them the path begins where it turns less.
STEPS_WITH_LEVELS = {"ode": 6, "bound": 32}
STEPS = {"ode": 20, "bound": 64}
# A trained network brings a part of a wider start back: it takes two looks at samples to settle how
# wide. Fewer than 500 samples tell too little: of 1,000, a deviation is known to 2 %.
CALIBRATIONS = 2
LEAST_SAMPLES, MOST_SAMPLES = 500, 4000
SHARPNESS = 1.2  # of samples, where none is named
USUAL_DEVIATION = 0.5  # of data in [-1, 1], for which times are chosen
EVENLY = 1 / 3  # of the shift, where samples are to vary as much as the truth
LEAST_NARROW = 1e-3  # of what the linear part leaves, as a share of that
LIKELIHOOD_BATCH = 128  # items whose derivatives are held in memory at once


class Denoiser(Family, DenoiserSampling):
    """A network along a Gaussian path. Subclasses set `path`, write `loss` and `denoise`.

    The network predicts E[a x + b eps | x_t], with a(t) and b(t) from `target_weights`, on top of
    the same expectation for Gaussian data, which it also sees. Sampling goes further away from that
    linear answer than the network does,

        x_hat = x_linear + w(t) (x_hat - x_linear),
        w(t) = 1 + (sharpness - 1) 4 alpha sigma / (alpha + sigma)^2,

    which is autoguidance (Karras et al. 2024) with the best linear denoiser as the weak model: a
    network that has not been trained to the end commits itself too little, and items come out
    with too little contrast. `sharpness` is reached where data and noise are in equal parts: at
    either end of the path it does harm (as Kynkaanniemi et al. 2024 found of guidance by class).
    It costs nothing, and changes nothing where data is Gaussian.

    Where a condition is of the item's own kind (the past of a series), the linear answer is to both
    x_t and the condition: x = E[x | c] + s(c) u, of which E[x | c] and s(c) are fitted first and u,
    what is left, is Gaussian. It is narrower than data usually is, by a factor `narrow`: times in
    training and sampling are moved as if it were not. Nothing goes further away from the linear
    answer: shares of samples are probabilities.

    Pictures that are said of pictures (edges, a mask) are laid beside x_t, see `_laid_beside`.
    """

    default_backbone = "unet"
    takes = frozenset({"weights"})
    draws_means = True
    finish_share = 0.02
    train_defaults = {
        "optimizer": "muon",
        "lr": 3e-3,
        "batch_size": 64,
        "warmup": 0.03,
        "decay": 1.0,
        "weight_decay": 0.01,
    }

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        cond_dim: int,
        drop_prob: float,
        baseline: Baseline,
        sharpness: float | None,
    ) -> None:
        super().__init__(spec, conditions, backbone)
        wanted = baseline == "gaussian" or (baseline == "auto" and spec.num_values <= MOST_VALUES)
        self.baseline = GaussianBaseline(spec.num_values) if wanted else None
        self.alike = alike(spec, conditions) if wanted else None
        if self.alike is not None:
            self.from_alike = LinearGiven(spec, conditions[self.alike])
            self.rest = GaussianBaseline(spec.num_values)
            self.narrow: Tensor
            self.register_buffer("narrow", torch.ones(()))
        self.beside = LaidBeside(spec, conditions)
        channels = spec.channels * (2 if wanted else 1) + self.beside.num_channels
        seen = spec.with_channels(channels)
        self.network = backbone(
            seen,
            spec.with_channels(spec.channels),
            cond_dim,
            context_dim=context_dim(conditions, cond_dim),
        )
        self.time = TimeEmbedding(cond_dim)
        self.conditioner = Conditioner(conditions, cond_dim)
        usual = SHARPNESS if self.alike is None else 1.0
        self.drop_prob, self.sharpness = drop_prob, usual if sharpness is None else sharpness

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """Noise is added to real numbers: tokens have none."""
        if spec.kind == "real":
            return None
        return RefusedPair(
            f"{cls.__name__} adds Gaussian noise, which tokens cannot carry",
            found=str(spec),
            expected="real values",
            hint="--family autoregressive, or --through a trained vae, whose latents are real",
        )

    def prepare(self, batch: Batch, generator: torch.Generator) -> None:
        """Fit the linear part to the data."""
        if self.baseline is not None:
            self.baseline.fit(batch.x)
        if self.alike is not None and self.alike in batch.cond:
            c = batch.cond[self.alike]
            there = present(c, self.conditions[self.alike])
            if there.sum() > 1:
                self.from_alike.fit(batch.x[there], c[there])
                left = self._left(batch).x
                narrow = (left.std() / USUAL_DEVIATION).nan_to_num(1.0)
                self.narrow.copy_(narrow.clamp(LEAST_NARROW, 1))
                self.rest.fit(left, self.least)

    def finish(self, batch: Batch, worth: int, generator: torch.Generator) -> dict[str, float]:
        """Make the starting noise as wide as it takes for samples to vary as items do, and give
        exact values the share that they have in the data."""
        drawn, found = None, {}
        num = min(len(batch), MOST_SAMPLES, 3 * worth // (CALIBRATIONS * self.draw_passes))
        if self.grain is not None:
            self.grain.clear()
        linear, least = (self.baseline, 1.0) if self.alike is None else (self.rest, self.least)
        if linear is not None and num >= LEAST_SAMPLES and (linear.variance > least).any():
            for _ in range(CALIBRATIONS):
                drawn = self.drawn_like(batch, num, generator)
                samples = Batch(drawn, cond=batch.rows(slice(num)).cond)
                linear.calibrate(self._left(batch), self._left(samples), least)
            scale = linear.noise_scale
            if (scale != 1).any():
                found["noise_scale"] = float(scale[scale != 1].mean())
        if self.grain is not None and drawn is not None:
            return found | self.grain.fit(batch.x, drawn)
        return found | super().finish(batch, worth, generator)

    @property
    def draw_passes(self) -> int:
        """One for each step of the sampler."""
        return self.num_steps

    def starting_noise(self, num: int, generator: torch.Generator) -> Tensor:
        """N(0, I), wider along the components in which samples came out too narrow."""
        noise = super().starting_noise(num, generator)
        linear = self.baseline if self.alike is None else self.rest
        return noise if linear is None else linear.widened(noise)

    @property
    def log_prob_is(self) -> str:
        """How `log_prob` is to be read: that of the ODE, which the default samplers follow."""
        return likelihood.log_prob_is("ode", self.spec)

    @property
    def log_prob_passes(self) -> int:
        """Four for each step of the ODE."""
        return 4 * (STEPS_WITH_LEVELS if self.spec.levels else STEPS)["ode"]

    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        method: likelihood.Method = "ode",
        num_steps: int | None = None,
    ) -> Tensor:
        """log p(x | cond) in nats, (B,): by the ODE, or its variational `bound` (cheaper, lower).

        `num_steps` is the number of Runge-Kutta steps, or of noise levels.
        """
        if method not in STEPS:
            raise RecipeError(
                f"log_prob has no method {method!r}.{did_you_mean(method, STEPS)}",
                expected=" or ".join(STEPS),
            )
        steps = num_steps or (STEPS_WITH_LEVELS if self.spec.levels else STEPS)[method]
        found = []
        for rows in torch.split(torch.arange(len(x), device=x.device), LIKELIHOOD_BATCH):
            own = None if cond is None else {name: value[rows] for name, value in cond.items()}
            denoise = partial(self.denoise, cond=self.once(own, len(rows)))
            of = likelihood.PathLikelihood(denoise, self.path, self.spec, generator)
            estimate = of.ode if method == "ode" else of.bound
            found.append(estimate(x[rows], steps))
        return torch.cat(found)

    def denoise(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """E[x | x_t], from whatever the network predicts."""
        return self.x_from_target(self.predict_target(x_t, t, cond), x_t, t)

    def once(self, cond: Mapping[str, Tensor] | None, num: int) -> Mapping[str, Tensor] | None:
        """Conditions, read once for all steps: a caption costs more than a step of a small net."""
        return self.conditioner.once(cond, num)

    def steer(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """E[x | x_t], further away from the linear estimate by `sharpness`."""
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        evenness = 4 * alpha * sigma / (alpha + sigma).square()  # of data and noise, 0 to 1
        sharpness = 1 + (self.sharpness - 1) * evenness
        predicted = self.predict_target(x_t, t, cond, sharpness=wide(sharpness, x_t))
        return self.x_from_target(predicted, x_t, t)

    def x_from_target(self, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x, where a x + b eps is `target` and the item at t is x_t: linear in `target`."""
        raise NotImplementedError

    def target_weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a(t), b(t) of what is predicted, a x + b eps: (B,) -> (B,), (B,)."""
        raise NotImplementedError

    def predict_target(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Mapping[str, Tensor] | None,
        generator: torch.Generator | None = None,
        *,
        sharpness: Tensor | float = 1.0,
    ) -> Tensor:
        """E[a x + b eps | x_t]: (B, *), (B,) -> (B, *). Drops conditions if given a generator.

        What the network adds to the linear answer counts `sharpness` times.
        """
        drop_prob = self.drop_prob if generator is not None else 0.0
        if (self.alike is not None or self.beside.grids) and drop_prob:
            cond, drop_prob = self._dropped(cond, len(x_t), generator), 0.0
        embedded, context = self.conditioner.both(cond, x_t.shape[0], drop_prob, generator)
        vector = self.time(t) + embedded
        beside = self.beside(cond, x_t)
        if self.baseline is None:
            return self.network.run(torch.cat([x_t, *beside], dim=1), vector, context)
        a, b = self.target_weights(t)
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        linear = self.baseline(x_t, alpha, sigma, a, b)
        if self.alike is not None and cond is not None and self.alike in cond:
            c = cond[self.alike]
            there = present(c, self.conditions[self.alike])
            c = c.masked_fill(~wide(there, c).bool(), 0)
            mean, s = self.from_alike(c), self.from_alike.width(c)
            left = (x_t - wide(alpha, x_t) * mean) / wide(s, x_t)  # alpha u + sigma / s eps
            rest = self.rest(left, alpha, sigma / s, a * s, b)
            linear = torch.where(wide(there, x_t).bool(), wide(a, x_t) * mean + rest, linear)
        seen = torch.cat([x_t, linear, *beside], dim=1)
        return linear + sharpness * self.network.run(seen, vector, context)

    def activations(
        self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        """What the network makes of noisy items on the way, the finest first: (B, D, *space). Items
        themselves, where it does not tell."""
        if not isinstance(self.network, HasActivations):
            return [x_t]
        embedded, context = self.conditioner.both(cond, len(x_t))
        seen = [x_t]
        if self.baseline is not None:
            weights = self.path.alpha(t), self.path.sigma(t), *self.target_weights(t)
            seen.append(self.baseline(x_t, *weights))
        seen += self.beside(cond, x_t)
        return self.network.activations(torch.cat(seen, dim=1), self.time(t) + embedded, context)

    @property
    def least(self) -> float:
        """The variance from which a component of what is left is more data than noise."""
        return float(self.narrow) ** 2

    def _left(self, batch: Batch) -> Batch:
        """What the linear part leaves of items with their conditions, u, as wide for each."""
        if self.alike is None or self.alike not in batch.cond:
            return batch
        c = batch.cond[self.alike]
        there = present(c, self.conditions[self.alike])
        others = {name: value[there] for name, value in batch.cond.items() if name != self.alike}
        left = batch.x[there] - self.from_alike(c[there])
        return Batch(left / wide(self.from_alike.width(c[there]), left), cond=others)

    def _dropped(
        self, cond: Mapping[str, Tensor] | None, num: int, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Conditions, each item's absent with `drop_prob`: the linear part is to miss them too."""
        assert generator is not None
        keep = rand((num,), generator) >= self.drop_prob
        dropped = {}
        for name, value in (cond or {}).items():
            none = absent(self.conditions[name]).to(value)
            dropped[name] = torch.where(wide(keep.to(value.device), value).bool(), value, none)
        return dropped

    def moved(self, t: Tensor) -> Tensor:
        """Times at which what is left of x by the linear part has as much noise as x has at t."""
        if self.alike is None:
            return t
        ratio = self.narrow * self.path.sigma(t) / self.path.alpha(t).clamp(min=1e-6)
        return self.path.time_of_log_snr(-2 * ratio.clamp(min=1e-9).log())

    def times(self, num_steps: int, start: float, shift: float) -> Tensor:
        """Where sampling steps are taken: at the same amounts of noise in what is left."""
        narrow = 1.0 if self.alike is None else EVENLY * float(self.narrow)
        return self.path.times(num_steps, start, shift * narrow)

"""What diffusion and flow matching share: one network that sees x_t, t and the conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.conditioning import (
    Conditioner,
    Context,
    Once,
    TimeEmbedding,
    context_dim,
    kept,
    present,
)
from morphogen.core.errors import RecipeError, RefusedPair, did_you_mean
from morphogen.core.family import Family
from morphogen.core.gaussian_path import DenoiserSampling, wide
from morphogen.core.random import rand, randn
from morphogen.core.spec import TensorSpec
from morphogen.families import _path_likelihood as likelihood
from morphogen.families import _trust as trust
from morphogen.families._bands import Banded, Bands
from morphogen.families._frame import Frame
from morphogen.families._gaussian_baseline import MOST_VALUES, GaussianBaseline
from morphogen.families._laid_beside import LaidBeside
from morphogen.families._linear_given import LinearGiven, alike, shape_of
from morphogen.families._told import Telling, told_apart

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


class Denoiser(Telling, Banded, Family, DenoiserSampling):
    """A network along a Gaussian path. Subclasses set `path`, write `loss` and `denoise`.

    The network predicts E[a x + b eps | x_t], with a(t) and b(t) from `target_weights`, on top of
    the same expectation for Gaussian data, which it also sees. Sampling goes further away from that
    linear answer than the network does,

        x_hat = x_linear + w(t) (x_hat - x_linear),
        w(t) = 1 + (sharpness - 1) 4 alpha sigma / (alpha + sigma)^2,

    which is autoguidance (Karras et al. 2024) with the best linear denoiser as the weak model: a
    network that has not been trained to the end commits itself too little, and items come out
    with too little contrast. `sharpness` is reached where data and noise are in equal parts: at
    either end of the path it does harm (as Kynkaanniemi et al. 2024 found of guidance by class). It
    costs nothing, and changes nothing where data is Gaussian.

    Where a condition is of the item's own kind (the past of a series), E[x | c] and how wide x lies
    about it are fitted first, x = E[x | c] + narrow s(c) u, and all else is said of u (`_frame`):
    what is learned, the linear answer, the condition that the network sees. Nothing goes further
    away from the linear answer: shares of samples are probabilities.

    One that draws in few steps `leaps`: what it gives at t = 1 is no mean, but drawn of a Gaussian.
    Pictures that are said of pictures (edges, a mask) are laid beside x_t, see `_laid_beside`.
    Hidden features may have to tell what a model that knows more sees in the item, see `_told`.
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
        leaps: bool,
        cond_pooled: bool,
        told: str | None,
        told_weight: float,
    ) -> None:
        unheard, conditions = told_apart(conditions, told)
        super().__init__(spec, conditions, backbone)
        self.unheard = unheard
        wanted = baseline == "gaussian" or (baseline == "auto" and spec.num_values <= MOST_VALUES)
        self.baseline = GaussianBaseline(spec.num_values) if wanted else None
        self.alike = alike(spec, conditions) if wanted else None
        if self.alike is not None:
            self.from_alike = LinearGiven(spec, conditions[self.alike])
            self.rest = GaussianBaseline(spec.num_values)
            self.narrow: Tensor
            self.register_buffer("narrow", torch.ones(()))
            self.trust = trust.Trust()
            self.bands = Bands(spec.shape)
        self.beside = LaidBeside(spec, conditions)
        seen = spec.with_channels(spec.channels * (1 + wanted) + self.beside.num_channels)
        self.network = backbone(
            seen,
            spec.with_channels(spec.channels),
            cond_dim,
            context_dim=context_dim(conditions, cond_dim, cond_pooled),
        )
        self.time = TimeEmbedding(cond_dim)
        self.conditioner = Conditioner(conditions, cond_dim, pooled=cond_pooled)
        usual = SHARPNESS if self.alike is None else 1.0
        self.drop_prob, self.sharpness = drop_prob, usual if sharpness is None else sharpness
        self.leaps = leaps
        self.set_telling(told, told_weight, self.network.midway_dim)

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
        self.check_told()
        if self.baseline is not None:
            self.baseline.fit(batch.x)
        if self.alike is not None and self.alike in batch.cond:
            c = batch.cond[self.alike]
            there = present(c, self.conditions[self.alike])
            if there.sum() > 1:
                self.from_alike.fit(batch.x[there], c[there])
                self.narrow.fill_(1.0)
                narrow = (self.left(batch).x.std() / USUAL_DEVIATION).nan_to_num(1.0)
                self.narrow.copy_(narrow.clamp(LEAST_NARROW, 1))
                self.rest.fit(self.left(batch).x)

    def finish(self, batch: Batch, worth: int, generator: torch.Generator) -> dict[str, float]:
        """Make the starting noise as wide as it takes for samples to vary as items do, and give
        exact values the share that they have in the data."""
        drawn, found = None, dict[str, float]()
        num = min(len(batch), MOST_SAMPLES, 3 * worth // (CALIBRATIONS * self.draw_passes))
        if self.grain is not None:
            self.grain.clear()
        if self.alike is not None:
            self.bands.scale.fill_(1.0)
            found |= self._settle_trust(batch, worth, generator)
        linear = self.baseline if self.alike is None else self.rest
        if linear is not None and num >= LEAST_SAMPLES and (linear.variance > 1).any():
            for _ in range(CALIBRATIONS):
                drawn = self.drawn_like(batch, num, generator)
                samples = Batch(drawn, cond=batch.rows(slice(num)).cond)
                linear.calibrate(self.left(batch), self.left(samples))
            scale = linear.noise_scale
            if (scale != 1).any():
                found["noise_scale"] = float(scale[scale != 1].mean())
        if self.alike is not None:
            found |= self.settle_bands(batch, worth, generator)
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
        return self._estimate(x_t, t, cond, lambda own: 1.0)

    def once(self, cond: Mapping[str, Tensor] | None, num: int) -> Mapping[str, Tensor] | None:
        """Conditions, read once for all steps: a caption costs more than a step of a small net."""
        return Once(cond, self.conditioner, self._embedded(cond, num)) if cond else cond

    def steer(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """E[x | x_t], further away from the linear estimate by `sharpness`."""

        def sharpness(own: Tensor) -> Tensor:
            alpha, sigma = self.path.alpha(own), self.path.sigma(own)
            evenness = 4 * alpha * sigma / (alpha + sigma).square()  # of data and noise, 0 to 1
            return wide(1 + (self.sharpness - 1) * evenness, x_t)

        return self._estimate(x_t, t, cond, sharpness)

    def _estimate(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Mapping[str, Tensor] | None,
        sharpness: Callable[[Tensor], Tensor | float],
    ) -> Tensor:
        """E[x | x_t], what the network adds counting by `sharpness` of the time."""
        frame = self.frame(cond, x_t)
        if frame is None:
            target = self.predict_target(x_t, t, cond, sharpness=sharpness(t))
            return self.x_from_target(target, x_t, t)
        u_t, own = frame.noisy(self.path, x_t, t)
        target = self.predict_target(u_t, own, cond, sharpness=sharpness(own))
        return frame.outside(self.x_from_target(target, u_t, own))

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
        midway: list[Tensor] | None = None,
    ) -> Tensor:
        """E[a x + b eps | x_t]: (B, *), (B,) -> (B, *); of items in their frame, where they have
        one. Drops conditions if given a generator. What the network adds to the linear answer
        counts `sharpness` times; a list `midway` gets its features half-way through.
        """
        drop_prob = self.drop_prob if generator is not None else 0.0
        embedded, context = self._embedded(cond, x_t.shape[0], drop_prob, generator)
        linear = self._linear(x_t, t, cond)
        seen = self._seen(x_t, linear, cond)
        how = {} if midway is None else {"midway": True}
        added = self.network.run(seen, self.time(t) + embedded, context, **how)
        if midway is not None:
            added, midway[:] = added[0], added[1:]
        if linear is None:
            return added
        if self.alike is not None and not self.training:
            sharpness = sharpness * wide(self.trust(t), x_t)
        return linear + sharpness * added

    def _linear(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor | None:
        """E[a x + b eps | x_t] for Gaussian data, in the frame of each item; None without it."""
        if self.baseline is None:
            return None
        weights = self.path.alpha(t), self.path.sigma(t), *self.target_weights(t)
        linear = self.baseline(x_t, *weights, leaps=self.leaps)
        if self.alike is None or cond is None or self.alike not in cond:
            return linear
        there = present(cond[self.alike], self.conditions[self.alike])
        rest = self.rest(x_t, *weights, leaps=self.leaps)
        return torch.where(wide(there, x_t).bool(), rest, linear)

    def frame(self, cond: Mapping[str, Tensor] | None, x: Tensor) -> Frame | None:
        """Where items like `x` (B, *) are expected, by a condition of their own kind: at 0 and as
        wide as they come where it is absent. None of data that has no such condition."""
        if self.alike is None:
            return None
        mean, width = torch.zeros_like(x), torch.ones(len(x)).to(x)
        if cond is None or self.alike not in cond:
            return Frame(mean, width)
        c = cond[self.alike]
        there = present(c, self.conditions[self.alike])
        c = c.masked_fill(~wide(there, c).bool(), 0)
        mean = torch.where(wide(there, x).bool(), self.from_alike(c), mean)
        return Frame(mean, torch.where(there, self.narrow * self.from_alike.width(c), width))

    def _seen(
        self, x_t: Tensor, linear: Tensor | None, cond: Mapping[str, Tensor] | None
    ) -> Tensor:
        """What the network reads: x_t, the linear answer, and what is laid beside them."""
        return torch.cat([x_t, *([] if linear is None else [linear]), *self.beside(cond, x_t)], 1)

    def left(self, batch: Batch) -> Batch:
        """Items that have a frame, in it, without the condition that tells it."""
        if self.alike is None or self.alike not in batch.cond:
            return batch
        there = present(batch.cond[self.alike], self.conditions[self.alike])
        own = batch.rows(there.nonzero()[:, 0])
        frame = self.frame(own.cond, own.x)
        assert frame is not None
        others = {name: value for name, value in own.cond.items() if name != self.alike}
        return Batch(frame.inside(own.x), cond=others)

    def _settle_trust(
        self, batch: Batch, worth: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See by items how much of what the network adds is to be trusted."""
        num = min(len(batch), MOST_SAMPLES, max(3 * worth // trust.TIMES, trust.LEAST))
        if num < trust.LEAST:
            return {}
        u, cond, _ = self.framed(batch.rows(slice(num)), None)

        def tried(level: Tensor) -> tuple[Tensor, Tensor]:
            t, eps = level.expand(num), randn(u.shape, generator).to(u)
            a, b = (wide(weight, u) for weight in self.target_weights(t))
            u_t = self.path.noised(u, eps, t)
            linear = self._linear(u_t, t, cond)
            assert linear is not None
            return self.predict_target(u_t, t, cond) - linear, a * u + b * eps - linear

        return self.trust.fit(tried)

    def framed(
        self, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor], torch.Generator | None]:
        """What is learned of items: themselves, or in their frame; their conditions; and the
        generator by which these are still to be dropped. With its condition an item loses its
        frame, so that those are dropped here. None are, without a generator."""
        cond: Mapping[str, Tensor] = self.heard(batch)
        if self.alike is None and not self.beside.grids:
            return batch.x, cond, generator
        if generator is not None:
            keep = rand((len(batch.x),), generator) >= self.drop_prob
            cond = kept(cond, keep, self.conditions)
        frame = self.frame(cond, batch.x)
        return batch.x if frame is None else frame.inside(batch.x), cond, None

    def _embedded(
        self,
        cond: Mapping[str, Tensor] | None,
        num: int,
        drop_prob: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Context | None]:
        """What the network sees of conditions: of that which tells the frame, its shape alone."""
        own = self.alike
        if own is not None and cond is not None and own in cond and not isinstance(cond, Once):
            cond = {**cond, own: shape_of(cond[own])}
        return self.conditioner.both(cond, num, drop_prob, generator)

    def times(self, num_steps: int, start: float, shift: float) -> Tensor:
        """Where sampling steps are taken: at the same amounts of noise in what is left."""
        narrow = 1.0 if self.alike is None else EVENLY * float(self.narrow)
        return self.path.times(num_steps, start, shift * narrow)

"""What diffusion and flow matching share: one network that sees x_t, t and the conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.conditioning import Conditioner, TimeEmbedding
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family
from morphogen.core.gaussian_path import DenoiserSampling
from morphogen.core.spec import TensorSpec
from morphogen.families._gaussian_baseline import MOST_VALUES, GaussianBaseline

Baseline = Literal["auto", "gaussian", "none"]


class Denoiser(Family, DenoiserSampling):
    """A network along a Gaussian path. Subclasses set `path`, write `loss` and `denoise`.

    The network predicts E[a x + b eps | x_t], with a(t) and b(t) from `target_weights`, on top of
    the same expectation for Gaussian data, which it also sees.
    """

    default_backbone = "unet"
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
    ) -> None:
        super().__init__(spec, conditions, backbone)
        wanted = baseline == "gaussian" or (baseline == "auto" and spec.num_values <= MOST_VALUES)
        self.baseline = GaussianBaseline(spec.num_values) if wanted else None
        seen = spec.with_channels(spec.channels * (2 if wanted else 1))
        self.network = backbone(seen, spec.with_channels(spec.channels), cond_dim)
        self.time = TimeEmbedding(cond_dim)
        self.conditioner = Conditioner(conditions, cond_dim)
        self.drop_prob = drop_prob

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

    def target_weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a(t), b(t) of what is predicted, a x + b eps: (B,) -> (B,), (B,)."""
        raise NotImplementedError

    def predict_target(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Mapping[str, Tensor] | None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """E[a x + b eps | x_t]: (B, *), (B,) -> (B, *). Drops conditions if given a generator."""
        drop_prob = self.drop_prob if generator is not None else 0.0
        context = self.time(t) + self.conditioner(cond, len(x_t), drop_prob, generator)
        if self.baseline is None:
            return self.network(x_t, context)
        a, b = self.target_weights(t)
        linear = self.baseline(x_t, self.path.alpha(t), self.path.sigma(t), a, b)
        return linear + self.network(torch.cat([x_t, linear], dim=1), context)

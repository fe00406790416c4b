"""What diffusion and flow matching share: one network that sees x_t, t and the conditions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from morphogen.core.backbone import BuildBackbone
from morphogen.core.conditioning import Conditioner, TimeEmbedding
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family
from morphogen.core.gaussian_path import DenoiserSampling
from morphogen.core.spec import TensorSpec


class Denoiser(Family, DenoiserSampling):
    """A network along a Gaussian path. Subclasses set `path`, write `loss` and `denoise`."""

    default_backbone = "unet"

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        cond_dim: int,
        drop_prob: float,
    ) -> None:
        super().__init__(spec, conditions, backbone)
        continuous = spec.with_channels(spec.channels)
        self.network = backbone(continuous, continuous, cond_dim)
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

    def predict_raw(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Mapping[str, Tensor] | None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """What the network says: (B, *), (B,) -> (B, *). Drops conditions if given a generator."""
        drop_prob = self.drop_prob if generator is not None else 0.0
        context = self.conditioner(cond, len(x_t), drop_prob, generator)
        return self.network(x_t, self.time(t) + context)

"""WaveNet: what a layer reaches, and a cached sampler that draws what the slow one draws."""

from __future__ import annotations

import pytest
import torch

from morphogen.backbones.wavenet import Wavenet
from morphogen.core.backbone import BuildBackbone
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.families.autoregressive import Autoregressive
from morphogen.testing._promises import global_seed, perturb

LINE = TensorSpec("real", (2, 40), layout="sequence")


def network(causal: bool) -> Wavenet:
    with global_seed(0):
        made = Wavenet(LINE, LINE, 0, causal, model_dim=8, num_layers=6, cycle=3, skip_dim=8)
    perturb(made)
    return made


@pytest.mark.parametrize("causal", [True, False])
def test_a_position_sees_as_far_as_the_dilations_sum_to(causal: bool) -> None:
    reach = 2 * (1 + 2 + 4)
    x = torch.randn(LINE.shape, generator=generator(0))[None].requires_grad_()
    network(causal)(x)[0, :, 20].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0).nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (20 - reach, 20 if causal else 20 + reach)


def test_the_cached_sampler_draws_what_the_slow_one_draws() -> None:
    spec, cond = TensorSpec.tokens(40, 9, end=8), {"label": TensorSpec.label(3)}
    build = BuildBackbone(Wavenet, model_dim=8, num_layers=4, cycle=3, skip_dim=8)
    with global_seed(0):
        family = Autoregressive(spec, cond, build).eval()
    perturb(family, 0.3)
    said = {"label": torch.tensor([0, 1, 2, 2])}
    quick = family.sample(4, cond=said, generator=generator(1))
    family.network.step = None  # then the whole prefix is read for each token
    slow = family.sample(4, cond=said, generator=generator(1))
    assert torch.equal(quick, slow)
    assert quick.unique().numel() > 4


def test_items_that_end_may_be_longer_than_attention_allows() -> None:
    long = TensorSpec.tokens(9000, 257, end=256)
    assert Autoregressive.refusal(long, {}) is None
    assert Autoregressive.backbone_for(long) == "wavenet"
    assert Autoregressive.backbone_for(TensorSpec.tokens(512, 257, end=256)) == "token_transformer"
    assert Autoregressive.refusal(TensorSpec.tokens(9000, 257), {}) is not None
    assert Autoregressive.refusal(TensorSpec.tokens(1 << 17, 257, end=256), {}) is not None

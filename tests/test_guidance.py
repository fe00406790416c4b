"""Guidance: linear in its scale, the model itself at 1, and a sampler like what it wraps."""

from __future__ import annotations

import pytest
import torch

from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec
from morphogen.families.flow_matching import FlowMatching
from morphogen.samplers.euler import euler
from morphogen.wrappers.guidance import Guidance


@pytest.fixture
def model() -> FlowMatching:
    torch.manual_seed(0)
    spec, conditions = TensorSpec.vector(2), {"label": TensorSpec.label(3)}
    model = FlowMatching(spec, conditions, BuildBackbone(MLP, model_dim=16, num_layers=1))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_guidance_moves_along_what_the_condition_changes(model: FlowMatching) -> None:
    x_t, t = torch.randn(4, 2, generator=generator(0)), torch.full((4,), 0.6)
    cond = {"label": torch.tensor([0, 1, 2, 1])}
    free, held = model.denoise(x_t, t), model.denoise(x_t, t, cond)
    assert not torch.allclose(free, held)
    for scale in (0.0, 1.0, 2.5):
        found = Guidance(model, scale).denoise(x_t, t, cond)
        torch.testing.assert_close(found, free + scale * (held - free))
        drawn_to = model.steer(x_t, t) + scale * (model.steer(x_t, t, cond) - model.steer(x_t, t))
        torch.testing.assert_close(Guidance(model, scale).steer(x_t, t, cond), drawn_to)
    assert torch.equal(Guidance(model, 3.0).denoise(x_t, t), free)


def test_what_is_gone_away_from_stands_for_nothing(model: FlowMatching) -> None:
    x_t, t = torch.randn(4, 2, generator=generator(0)), torch.full((4,), 0.6)
    cond, away = {"label": torch.tensor([0, 1, 2, 1])}, {"label": torch.tensor([2])}
    held, left = model.denoise(x_t, t, cond), model.denoise(x_t, t, {"label": torch.full((4,), 2)})
    guided = Guidance(model, 2.5, away)
    torch.testing.assert_close(guided.denoise(x_t, t, cond), left + 2.5 * (held - left))
    alone = model.denoise(x_t, t)
    torch.testing.assert_close(guided.denoise(x_t, t), left + 2.5 * (alone - left))
    first, again = (guided.sample(4, cond=cond, generator=generator(1)) for _ in range(2))
    assert torch.equal(first, again)


def test_a_guided_model_samples_like_a_model(model: FlowMatching) -> None:
    cond = {"label": torch.tensor([2, 2, 2])}
    plain = model.sample(3, cond=cond, generator=generator(1))
    same = Guidance(model, 1.0).sample(3, cond=cond, generator=generator(1))
    more = Guidance(model, 4.0).sample(3, cond=cond, generator=generator(1))
    assert torch.equal(plain, same)
    assert not torch.allclose(plain, more)


def test_guided_sampling_starts_where_the_models_does(model: FlowMatching) -> None:
    model.baseline.noise_scale.fill_(1.2)
    started = Guidance(model, 2.0).starting_noise(5, generator(3))
    assert torch.equal(started, model.starting_noise(5, generator(3)))
    torch.testing.assert_close(started, 1.2 * torch.randn(5, 2, generator=generator(3)))


@pytest.mark.parametrize("guided", [False, True])
def test_a_caption_is_read_once_for_all_steps(guided: bool) -> None:
    torch.manual_seed(0)
    spec, conditions = TensorSpec.vector(2), {"caption": TensorSpec.tokens(6, 9, end=8)}
    family = FlowMatching(spec, conditions, BuildBackbone(MLP, model_dim=16, num_layers=1)).eval()
    for parameter in family.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = Guidance(family, 2.0) if guided else family
    readings = []
    family.conditioner.embed["caption"].register_forward_hook(lambda *_: readings.append(1))
    cond = {"caption": torch.randint(8, (3, 6), generator=generator(2))}
    noise = torch.randn(3, 2, generator=generator(1))
    found = model.integrate(noise, 1.0, cond=cond, generator=generator(0), sampler="euler")
    assert len(readings) == 1
    times = model.path.times(model.num_steps, 1.0, model.time_shift).float()
    with torch.no_grad():  # the same steps, each of which reads the caption
        again = euler(lambda x, t: model.steer(x, t, cond), noise, times, model.path, generator(0))
    assert len(readings) == 1 + model.num_steps
    assert torch.equal(found, again)

"""Quantisers: every code is reachable, survives a round trip, and is used."""

from __future__ import annotations

import pytest
import torch

from morphogen.backbones.conv import Conv
from morphogen.backbones.mlp import MLP
from morphogen.core.backbone import BuildBackbone
from morphogen.core.batch import Batch
from morphogen.core.capability import CanSample, why_not
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import generator, randn
from morphogen.core.spec import TensorSpec
from morphogen.families.vq_vae import VQVAE, FiniteScalar, LearnedMap, Patches

SPECS = [
    TensorSpec("real", (2, 13), levels=5, layout="sequence"),
    TensorSpec("real", (3, 9, 8), levels=17),
    TensorSpec("real", (1, 4, 4, 6)),
    TensorSpec.vector(10),
]
LEVELS = [(8, 8, 8), (2, 3), (7, 5, 5, 5)]


@pytest.mark.parametrize("levels", LEVELS)
def test_finite_scalar_tokens_survive_the_round_trip(levels):
    quantiser = FiniteScalar(levels)
    tokens = torch.arange(quantiser.vocab_size).view(-1, 1)
    codes = quantiser.codes(tokens)  # (V, F, 1)
    assert codes.abs().max() == 1
    assert len(codes.unique(dim=0)) == quantiser.vocab_size
    # tanh(z) at the middle of each cell: what an encoder must emit to reach the code.
    count = torch.tensor(levels).view(1, -1, 1)
    z = torch.atanh(codes * (count - 1) / count)
    q, found, _ = quantiser(z)
    assert torch.equal(found, tokens)
    torch.testing.assert_close(q, codes)


@pytest.mark.parametrize("levels", LEVELS)
def test_finite_scalar_cells_are_equally_wide(levels):
    quantiser = FiniteScalar(levels)
    # For z with tanh(z) uniform, every code is equally likely.
    uniform = torch.rand((200_000, len(levels), 1), generator=generator(0)) * 2 - 1
    tokens = quantiser(torch.atanh(uniform.clamp(-1 + 1e-6, 1 - 1e-6)))[1]
    share = torch.bincount(tokens.flatten(), minlength=quantiser.vocab_size) / 200_000
    assert share.min() > 0
    torch.testing.assert_close(share, torch.full_like(share, 1 / len(share)), atol=0.004, rtol=0)


def test_finite_scalar_gradient_is_that_of_the_bound():
    quantiser = FiniteScalar((8, 5))
    z = randn((4, 2, 3), generator(0)).requires_grad_()
    weight = randn((4, 2, 3), generator(1))
    (quantiser(z)[0] * weight).sum().backward()
    count = torch.tensor([8.0, 5.0]).view(1, 2, 1)
    expected = weight * (1 - z.detach().tanh() ** 2) * count / (count - 1)
    torch.testing.assert_close(z.grad, expected)


def test_extreme_codes_stay_in_the_vocabulary():
    quantiser = FiniteScalar((8, 5))
    for z in (-1e4, 1e4):
        tokens = quantiser(torch.full((1, 2, 3), z))[1]
        assert torch.equal(tokens, torch.full((1, 3), 0 if z < 0 else 39))


def test_vector_quantisation_takes_the_nearest_and_passes_the_gradient_through():
    quantiser = LearnedMap(32, 4, commitment=0.0)
    with torch.no_grad():
        quantiser.map.copy_(randn((4, 4), generator(3)))
    z = randn((5, 4, 2, 3), generator(0)).requires_grad_()
    q, tokens, commitment = quantiser(z)
    scaled = z * z.square().mean(1, keepdim=True).rsqrt()
    flat = scaled.detach().movedim(1, -1).reshape(-1, 4)
    assert torch.equal(tokens.flatten(), torch.cdist(flat, quantiser.entries()).argmin(1))
    torch.testing.assert_close(q, quantiser.codes(tokens))
    weight = randn(q.shape, generator(1))
    (q * weight).sum().backward(retain_graph=True)
    (expected,) = torch.autograd.grad((scaled * weight).sum(), z)  # dq/dz = d scaled/dz
    torch.testing.assert_close(z.grad, expected)
    assert quantiser.map.grad is None
    commitment.sum().backward()  # which is what moves the entries, and all of them at once
    assert quantiser.map.grad.abs().min() > 0


def test_every_vector_entry_is_reachable():
    quantiser = LearnedMap(64, 8, commitment=0.25)
    tokens = torch.arange(64).view(64, 1)
    assert torch.equal(quantiser(quantiser.codes(tokens))[1], tokens)


@pytest.mark.parametrize("space", [(12,), (9, 8), (4, 5, 6), (3,)])
def test_space_to_depth_is_inverted(space):
    patches = Patches(space, 4)
    x = randn((2, 3, *space), generator(0))
    deep = patches.to_depth(x)
    assert deep.shape == (2, 3 * patches.volume, *patches.grid)
    assert torch.equal(patches.to_space(deep), x)


def test_space_to_depth_keeps_blocks_together():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    deep = Patches((4, 4), 2).to_depth(x)
    assert deep[0, :, 0, 1].tolist() == [2, 3, 6, 7]


def blobs(num: int) -> torch.Tensor:
    """Pictures of one bright spot at a random place: (num, 1, 8, 8)."""
    centre = torch.rand((num, 2, 1, 1), generator=generator(0)) * 8
    rows, columns = torch.arange(8.0).view(1, 8, 1), torch.arange(8.0).view(1, 1, 8)
    squared = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2
    return (2 * torch.exp(-squared / 4) - 1).unsqueeze(1)


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_training_uses_the_codebook_and_rebuilds_the_data(quantiser):
    torch.manual_seed(0)
    spec = TensorSpec("real", (1, 8, 8))
    model = VQVAE(
        spec, {}, BuildBackbone(MLP, model_dim=48, num_layers=1), quantiser=quantiser,
        patch_size=4, fsq_levels=(4, 4, 4), codebook_size=64, code_dim=4,
    )  # fmt: skip
    x = blobs(256)
    model.prepare(Batch(x), generator(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        loss, parts = model.loss(Batch(x), "all", generator(0))
        loss.mean().backward()
        optimizer.step()
    assert parts["share_used"] > 0.5
    assert parts["perplexity"] > 12
    tokens = model.eval().encode(x)
    error = (model.decode(tokens) - x).square().mean()
    assert error < 0.15 * x.var()


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_any_real_spec_becomes_tokens_and_back(spec, quantiser):
    torch.manual_seed(0)
    build = BuildBackbone(Conv, model_dim=8)
    model = VQVAE(spec, {}, build, quantiser=quantiser, codebook_size=32)
    assert VQVAE.backbone_for(spec) == "conv"
    x = randn((6, *spec.shape), generator(0)).clamp(-1, 1)
    x = spec.dequantise(spec.quantise(x)) if spec.levels else x
    model.prepare(Batch(x), generator(0))
    loss, _ = model.loss(Batch(x), "all", generator(0))
    assert loss.shape == (6,)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    tokens = model.encode(x)
    assert tokens.shape == (6, *model.latent_spec.shape)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() < model.latent_spec.vocab_size
    decoded = model.decode(tokens)
    assert decoded.shape == x.shape
    again = VQVAE(spec, {}, build, quantiser=quantiser, codebook_size=32)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().decode(tokens), decoded)
    assert torch.equal(again.encode(x), tokens)


def test_decoding_tokens_is_what_the_loss_saw():
    torch.manual_seed(0)
    spec = TensorSpec("real", (1, 8, 8))
    for quantiser in ("fsq", "vq"):
        model = VQVAE(spec, {}, BuildBackbone(Conv, model_dim=8), quantiser=quantiser).eval()
        x = blobs(4)
        q, tokens, _ = model.quantiser(model._features(x))
        torch.testing.assert_close(q, model.quantiser.codes(tokens), atol=1e-6, rtol=0)
        expected = model.likelihood.mean(model._params(q))
        torch.testing.assert_close(model.decode(model.encode(x)), expected, atol=1e-5, rtol=0)


def test_whoever_wants_samples_is_told_to_learn_the_tokens():
    def draw(model: CanSample) -> None: ...

    draw.__annotations__["model"] = CanSample
    model = VQVAE(TensorSpec("real", (1, 8, 8)), {}, BuildBackbone(Conv, model_dim=8))
    assert "--family autoregressive --through" in (why_not(model, draw) or "")


def test_tokens_are_refused_and_one_level_too():
    with pytest.raises(RefusedPair, match="autoregressive"):
        VQVAE(TensorSpec.tokens(8, 4), {}, BuildBackbone(MLP))
    with pytest.raises(RecipeError, match="two values"):
        VQVAE(TensorSpec("real", (1, 8, 8)), {}, BuildBackbone(Conv), fsq_levels=(8, 1))

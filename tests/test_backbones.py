"""What holds for every network: exact shapes, gradients, causality, independent items."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from morphogen.backbones import _attention as attention
from morphogen.backbones import _parts as parts
from morphogen.core import discover
from morphogen.core.attention import attend
from morphogen.core.backbone import Backbone, BuildBackbone
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.spec import TensorSpec

torch.set_num_threads(1)

LINE = TensorSpec("real", (2, 9), layout="sequence")
LONG = TensorSpec("real", (1, 33))
SMALL = TensorSpec("real", (1, 8, 8))
SEVEN = TensorSpec("real", (3, 7, 7))
ODD = TensorSpec("real", (1, 28, 33))
VOLUME = TensorSpec("real", (1, 5, 6, 7))
FILM = TensorSpec("real", (2, 3, 12, 12))
VECTOR = TensorSpec.vector(6)
LABEL = TensorSpec.label(4)
TEXT = TensorSpec.tokens(10, 5)
CODES = TensorSpec("token", (4, 4), vocab_size=7)
SPECS = [LINE, LONG, SMALL, SEVEN, ODD, VOLUME, FILM, VECTOR, LABEL, TEXT, CODES]

TINY = {
    "mlp": {"model_dim": 16, "num_layers": 2},
    "conv": {"model_dim": 8},
    "unet": {"model_dim": 8, "num_mid_blocks": 1, "attention_every": 1},
    "transformer": {"model_dim": 16, "num_layers": 2, "num_heads": 2},
    "rnn": {"model_dim": 16, "num_layers": 2},
    "token_transformer": {"model_dim": 16, "num_layers": 2, "num_heads": 2},
}
NAMES = sorted(TINY)
OVER_TOKENS = {"rnn", "token_transformer"}


def outputs_of(spec: TensorSpec) -> list[TensorSpec]:
    """What a family would ask for: features at the same positions, a vector, other grids."""
    return [spec.with_channels(3), VECTOR, SMALL, SEVEN, VOLUME, TensorSpec("real", (4, 4, 4))]


def pairs() -> list[tuple[str, TensorSpec, TensorSpec, bool]]:
    """Every pair of the matrix that a network accepts."""
    found = []
    for name in NAMES:
        network = discover.find("backbone", name)
        for spec in SPECS:
            for out in dict.fromkeys(outputs_of(spec)):
                for causal in (False, True):
                    if network.refuses(spec, out, causal) is None:
                        found.append((name, spec, out, causal))
    return found


PAIRS = pairs()
CAUSAL = [pair for pair in PAIRS if pair[3]]


def build(
    name: str, spec: TensorSpec, out: TensorSpec, cond_dim: int = 5, causal: bool = False, **options
) -> Backbone:
    torch.manual_seed(0)
    network = discover.find("backbone", name)
    return BuildBackbone(network, **{**TINY[name], **options})(spec, out, cond_dim, causal)


def perturb(network: Backbone) -> Backbone:
    """Move every parameter a little, as training does to those that start at zero."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    return network


def item(spec: TensorSpec, num: int = 3, seed: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    if spec.kind == "token":
        return torch.randint(spec.vocab_size, (num, *spec.shape), generator=draw)
    return torch.rand((num, *spec.shape), generator=draw) * 2 - 1


def named(pair: tuple[str, TensorSpec, TensorSpec, bool]) -> str:
    name, spec, out, causal = pair
    return f"{name}-{spec} to {out}{' causal' if causal else ''}".replace(" ", "_")


def test_the_folder_holds_these_backbones():
    assert set(NAMES) <= set(discover.names("backbone"))


def test_the_matrix_holds_what_families_need():
    """The pairs that the brief of each network promises are accepted, and none is lost silently."""
    accepted = {(name, spec, out) for name, spec, out, causal in PAIRS if not causal}
    for spec in SPECS:
        assert ("mlp", spec, VECTOR) in accepted
    for spec in (LINE, LONG, SMALL, SEVEN, ODD, VOLUME, FILM):
        same = spec.with_channels(3)
        assert ("unet", spec, same) in accepted
        for name in ("conv", "transformer"):
            assert {(name, spec, same), (name, spec, VECTOR)} <= accepted
    for out in (SMALL, SEVEN, VOLUME):
        for name in ("conv", "transformer", "rnn"):
            assert (name, VECTOR, out) in accepted
    causal = {(name, spec) for name, spec, _, _ in CAUSAL}
    assert {(n, s) for n in ("rnn", "transformer") for s in (LINE, TEXT)} <= causal


@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_forward(pair):
    """Exact shape, small finite output at the start, gradient to every parameter, conditioning,
    batch independence, and no draw from the global generator."""
    name, spec, out, causal = pair
    network = build(name, spec, out, causal=causal)
    x, cond = item(spec), torch.randn(3, 5, generator=torch.Generator().manual_seed(3))
    state = torch.get_rng_state()
    start = network(x, cond)
    assert torch.equal(torch.get_rng_state(), state)
    assert start.shape == (3, *out.shape)
    assert start.dtype == torch.float32
    assert start.abs().max() < 3

    perturb(network)
    y = network(x, cond)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(4))
    (y * weight).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key
    assert not torch.allclose(network(x, cond + 1), y)
    for i in range(3):
        alone = network(x[i : i + 1], cond[i : i + 1])
        torch.testing.assert_close(alone[0], y[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_without_conditions(name):
    spec, out = (TEXT, TEXT.with_channels(5)) if name in OVER_TOKENS else (SMALL, SMALL)
    network = perturb(build(name, spec, out, cond_dim=0))
    x = item(spec)
    assert network(x).shape == (3, *out.shape)
    network(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize("pair", CAUSAL, ids=named)
def test_causal_networks_see_no_future(pair):
    """A change at position j leaves every output before j as it was, and changes output j."""
    name, spec, out, _ = pair
    network = perturb(build(name, spec, out, causal=True)).eval()
    x, cond = item(spec), torch.randn(3, 5)
    y = network(x, cond).flatten(2)
    num = math.prod(spec.space)
    for j in (0, num // 2, num - 1):
        changed = x.clone().reshape(3, -1, num)
        if spec.kind == "token":
            changed[..., j] = (changed[..., j] + 1) % spec.vocab_size
        else:
            changed[..., j] += 1
        after = network(changed.reshape(x.shape), cond).flatten(2)
        torch.testing.assert_close(after[..., :j], y[..., :j], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(after[..., j], y[..., j])


@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_networks_that_need_not_be_causal_see_the_future(name):
    network = perturb(build(name, TEXT, TEXT.with_channels(5)))
    x, cond = item(TEXT), torch.zeros(3, 5)
    changed = x.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 5
    assert not torch.allclose(network(x, cond)[..., 0], network(changed, cond)[..., 0])


@pytest.mark.parametrize("cond_dim", [0, 5])
@pytest.mark.parametrize("pair", CAUSAL, ids=named)
def test_step_equals_forward(pair, cond_dim):
    name, spec, out, _ = pair
    cells = ("lstm", "gru") if name == "rnn" else (None,)
    for cell in cells:
        options = {"cell": cell} if cell else {}
        network = perturb(build(name, spec, out, cond_dim, causal=True, **options)).eval()
        x, cond = item(spec), torch.randn(3, 5) if cond_dim else None
        y, state = network(x, cond).flatten(2), None
        flat = x.reshape(3, -1, math.prod(spec.space))
        for i in range(min(flat.shape[-1], 40)):
            token = flat[:, 0, i] if spec.kind == "token" else flat[..., i]
            one, state = network.step(token, cond, state)
            torch.testing.assert_close(one, y[..., i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_causal_networks_take_prefixes(name):
    """A prefix gives the first outputs of the whole: what sampling without `step` relies on."""
    network = perturb(build(name, TEXT, TEXT.with_channels(5), causal=True)).eval()
    x, cond = item(TEXT), torch.randn(3, 5)
    whole = network(x, cond)
    for n in (1, 4):
        torch.testing.assert_close(network(x[:, :n], cond), whole[..., :n], rtol=1e-4, atol=1e-5)


def test_a_full_cache_refuses_another_step():
    network = build("transformer", TEXT, TEXT.with_channels(5), causal=True)
    cond, state = torch.zeros(3, 5), None
    for _ in range(10):
        _, state = network.step(torch.zeros(3, dtype=torch.int64), cond, state)
    with pytest.raises(IndexError, match="10 positions"):
        network.step(torch.zeros(3, dtype=torch.int64), cond, state)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_weights(name):
    spec, out = (TEXT, TEXT.with_channels(5)) if name in OVER_TOKENS else (SMALL, SMALL)
    first, second = build(name, spec, out), build(name, spec, out)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    second.load_state_dict(first.state_dict())
    x, cond = item(spec), torch.randn(3, 5)
    assert torch.equal(first(x, cond), second(x, cond))


@pytest.mark.parametrize("name", ["conv", "transformer", "mlp"])
def test_critics_can_be_differentiated_twice(name):
    """R1: the gradient of the squared gradient norm reaches the weights."""
    network = perturb(build(name, SMALL, TensorSpec.vector(1)))
    x, cond = item(SMALL).requires_grad_(), torch.zeros(3, 5)
    (slope,) = torch.autograd.grad(network(x, cond).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert sum(p.grad.abs().sum() for p in network.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize(
    ("name", "spec", "out", "causal", "reason"),
    [
        ("mlp", TEXT, TEXT.with_channels(5), True, "cannot be causal"),
        ("mlp", SMALL, TEXT, False, "outputs are real"),
        ("conv", VECTOR, VECTOR, False, "use mlp"),
        ("conv", SMALL, TensorSpec("real", (1, 5, 5)), False, "halvings apart"),
        ("conv", SMALL, LINE, False, "halvings apart"),
        ("conv", SMALL, SMALL, True, "cannot be causal"),
        ("conv", TensorSpec("real", (1, 2, 2, 2, 2)), VECTOR, False, "1, 2 or 3 space axes"),
        ("unet", SMALL, VECTOR, False, "use conv or mlp"),
        ("unet", SMALL, SEVEN, False, "one space"),
        ("unet", SMALL, SMALL, True, "cannot be causal"),
        ("transformer", VECTOR, VECTOR, False, "use mlp"),
        ("transformer", TEXT, VECTOR, True, "same positions"),
        ("transformer", SEVEN, TensorSpec("real", (1, 5, 5)), False, "do not share patches"),
        ("rnn", VECTOR, VECTOR, False, "use mlp"),
        ("rnn", SMALL, SMALL, True, "not causal inside the slice"),
        ("rnn", LINE, LONG, False, "lengths 9 and 33 differ"),
    ],
)
def test_refusals_say_why(name, spec, out, causal, reason):
    with pytest.raises(RefusedPair, match=reason):
        build(name, spec, out, causal=causal)


def test_every_option_has_a_comment_for_help():
    from morphogen.core.schema import options

    for name in NAMES:
        for option in options(discover.find("backbone", name)).values():
            assert option.comment, f"{name}.{option.name}"


@pytest.mark.parametrize("name", ["conv", "unet", "transformer"])
def test_one_code_for_one_two_and_three_axes(name):
    """A line, a picture of it and a volume of it are networks of the same structure."""
    keys = []
    for space in ((8,), (8, 8), (8, 8, 8)):
        spec = TensorSpec("real", (2, *space))
        keys.append([key for key, _ in build(name, spec, spec).named_parameters()])
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize("side", [1, 2, 3, 7, 13, 28, 33])
def test_any_size_ends_exact(side):
    """Odd sizes too, with patches and without, down, up and through."""
    spec, latent = TensorSpec("real", (2, side, side + 2)), TensorSpec.vector(4)
    x, z = item(spec, 2), item(latent, 2)
    for patch_size in (None, 2, 3):
        for name, source, data, target in (
            ("conv", spec, x, latent),
            ("conv", latent, z, spec),
            ("conv", spec, x, spec),
            ("unet", spec, x, spec),
            ("transformer", spec, x, spec),
            ("transformer", latent, z, spec),
        ):
            network = build(name, source, target, cond_dim=0, patch_size=patch_size)
            assert network(data).shape == (2, *target.shape)


@pytest.mark.parametrize("name", ["conv", "transformer"])
def test_grids_of_other_sizes_for_latents(name):
    """A picture to a smaller grid of codes and back: what vector quantisation asks for."""
    picture = TensorSpec("real", (1, 28, 28))
    for side in (14, 7):
        codes = TensorSpec("real", (4, side, side))
        assert build(name, picture, codes, 0)(item(picture)).shape == (3, 4, side, side)
        assert build(name, codes, picture, 0)(item(codes)).shape == (3, 1, 28, 28)


def test_depth_to_space_inverts_space_to_depth():
    for space, factor in (((12,), (3,)), ((4, 6), (2, 3)), ((2, 4, 6), (1, 2, 2))):
        x = torch.randn(2, 3, *space)
        deep = parts.space_to_depth(x, factor)
        assert deep.shape == (2, 3 * math.prod(factor), *parts.coarser(space, factor))
        assert torch.equal(parts.depth_to_space(deep, factor), x)


def test_space_to_depth_stacks_the_neighbours():
    """Each output position holds its own 2x2 block, and nothing else."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    deep = parts.space_to_depth(x, (2, 2))
    assert deep[0, :, 0, 1].tolist() == [2.0, 3.0, 6.0, 7.0]
    assert deep.is_contiguous(memory_format=torch.channels_last)


def test_rotary_scores_depend_on_distance_only():
    """<R_i q, R_j k> is a function of i - j, on every axis."""
    torch.manual_seed(0)
    query, key = torch.randn(8), torch.randn(8)
    angles = attention.rotary_angles((5, 6), 8)
    rotation = angles.cos(), angles.sin()
    queries = attention.rotate(query.expand(30, 8), rotation).unflatten(0, (5, 6))
    keys = attention.rotate(key.expand(30, 8), rotation).unflatten(0, (5, 6))
    for i, j, k, m in ((0, 1, 2, 3), (1, 0, 3, 2)):
        near = (queries[i, j] * keys[i + 1, j + 2]).sum()
        far = (queries[k, m] * keys[k + 1, m + 2]).sum()
        torch.testing.assert_close(near, far)
    assert not torch.allclose(
        (queries[0, 0] * keys[0, 1]).sum(), (queries[0, 0] * keys[1, 0]).sum()
    )


def test_heads_must_divide_the_width():
    assert attention.check_heads(192, None) == 6
    assert attention.check_heads(16, None) == 1
    with pytest.raises(RecipeError, match="evenly"):
        attention.check_heads(18, 4)


def test_dropout_acts_in_training_only():
    for name in NAMES:
        assert "dropout_prob" in inspect.signature(discover.find("backbone", name)).parameters
        spec, out = (TEXT, TEXT.with_channels(5)) if name in OVER_TOKENS else (SMALL, SMALL)
        network = perturb(build(name, spec, out, 0, dropout_prob=0.5))
        x = item(spec)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_attention_is_the_same_in_half_precision_on_a_cpu():
    query, key, value = (torch.randn(2, 4, n, 8, requires_grad=True) for n in (5, 7, 7))
    mask = (torch.arange(7) < torch.tensor([[3], [7]]))[:, None, None]  # (B, 1, 1, M)
    with torch.autocast("cpu", torch.bfloat16):
        half = attend(query, key, value, mask)
    assert half.dtype == torch.bfloat16
    whole = attend(query, key, value, mask)
    scores = (query @ key.mT / 8**0.5).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(whole, scores.softmax(-1) @ value)
    torch.testing.assert_close(half.float(), whole, atol=0, rtol=2**-8)  # but for its rounding


def test_only_what_training_calls_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing has shapes of its own, for each of which a network would be compiled anew."""
    called: list[bool] = []

    def compiled(forward: Any, **options: Any) -> Any:
        def run(*inputs: Any) -> Any:
            called.append(True)
            return forward(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    network = discover.find("backbone", "mlp")(TensorSpec.vector(3), TensorSpec.vector(2))
    network.compile()
    network(torch.zeros(1, 3))
    assert called == [True]
    torch.nn.Sequential(network).eval()(torch.zeros(1, 3))
    assert called == [True]
    network.train()
    network(torch.zeros(1, 3))
    assert called == [True, True]
    copied = copy.deepcopy(network)
    copied.train()(torch.zeros(1, 3))
    assert called == [True, True]

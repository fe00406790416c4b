"""Specs: shapes, levels, JSON."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from morphogen.core.errors import RefusedPair
from morphogen.core.spec import ProductSpec, TensorSpec

SPECS = [
    TensorSpec("real", (3, 4, 5), levels=256),
    TensorSpec("real", (1, 7), layout="sequence"),
    TensorSpec.vector(6),
    TensorSpec.label(10),
    TensorSpec.tokens(9, 50),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_json_round_trip(spec: TensorSpec) -> None:
    assert TensorSpec.from_json(spec.to_json()) == spec


def test_product_json_round_trip() -> None:
    product = ProductSpec({"nodes": SPECS[0], "kind": SPECS[3]})
    assert ProductSpec.from_json(product.to_json()) == product
    assert product.num_values == 60 + 1


@pytest.mark.parametrize(
    ("spec", "channels", "space", "num_values"),
    [
        (SPECS[0], 3, (4, 5), 60),
        (SPECS[1], 1, (7,), 7),
        (SPECS[2], 6, (), 6),
        (SPECS[3], 1, (), 1),
        (SPECS[4], 1, (9,), 9),
    ],
    ids=str,
)
def test_axes(spec: TensorSpec, channels: int, space: tuple[int, ...], num_values: int) -> None:
    assert (spec.channels, spec.space, spec.num_values) == (channels, space, num_values)
    assert spec.with_channels(8).shape == (8, *space)
    assert spec.with_channels(8).levels is None


@given(st.integers(min_value=2, max_value=65536))
def test_quantise_inverts_dequantise(levels: int) -> None:
    spec = TensorSpec("real", (1,), levels=levels)
    index = torch.unique(torch.linspace(0, levels - 1, 101).round().long())
    x = spec.dequantise(index)
    assert x.min() == -1
    assert x.max() == pytest.approx(1, abs=1e-6)
    assert torch.equal(spec.quantise(x), index)


def test_quantise_takes_the_nearest_level_and_clamps() -> None:
    spec = TensorSpec("real", (1,), levels=3)
    x = torch.tensor([-7.0, -1.0, -0.6, -0.4, 0.4, 0.6, 1.0, 7.0])
    assert spec.quantise(x).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


def test_continuous_data_has_no_levels() -> None:
    with pytest.raises(ValueError, match="continuous"):
        TensorSpec.vector(3).quantise(torch.zeros(3))
    with pytest.raises(ValueError, match="continuous"):
        TensorSpec.vector(3).dequantise(torch.zeros(3))


def test_impossible_specs() -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        TensorSpec("token", (4,))
    with pytest.raises(ValueError, match="vocab_size"):
        TensorSpec("real", (4,), vocab_size=3)
    with pytest.raises(ValueError, match="positive"):
        TensorSpec("real", (4, 0))


def test_check_says_what_was_found_and_expected() -> None:
    spec = TensorSpec("real", (1, 8, 8))
    spec.check(torch.zeros(2, 1, 8, 8))
    with pytest.raises(RefusedPair) as error:
        spec.check(torch.zeros(2, 3, 8, 8), "input")
    assert error.value.found == (2, 3, 8, 8)
    assert error.value.expected == "(B, 1, 8, 8)"
    assert "input" in str(error.value)

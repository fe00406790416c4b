"""Weights of eight bits, and of four: what they stand for, and what is written with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from morphogen.core.bundle import Bundle
from morphogen.core.config import read_config
from morphogen.core.errors import BundleError, RecipeError, RefusedPair
from morphogen.core.folder import CODEC, MODEL
from morphogen.core.rounded import MOST, Packed, Rounded, rounded, rounded_layers
from morphogen.core.storage import read_tensors
from morphogen.core.writing import Limits, Request
from morphogen.interop.export import export
from morphogen.training.run import prepare
from morphogen.wrappers.int4 import Int4, in_int4
from morphogen.wrappers.int8 import Int8, in_int8
from morphogen.wrappers.lora import LoRA
from small_models import language_model, trained
from test_adapt import family_of, loss


@pytest.fixture(scope="module")
def plain() -> Bundle:
    """A vocabulary and sizes that are no whole lanes: what is padded must not be seen."""
    return language_model(trained(), model_dim=20, num_heads=2, head_dim=6, hidden_dim=30)


@pytest.fixture(scope="module")
def small(plain: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "int8"
    plain.path = plain.path or plain.save(folder.parent / "plain")
    export(plain, folder, format="int8")
    return folder


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 2, 2), (1, 1)])
def test_each_weight_is_off_by_half_a_step_at_most(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    own = Rounded(weight)
    step = own.scale.view(-1, *(1,) * (len(shape) - 1))
    assert ((own.weight() - weight).abs() <= 0.501 * step).all()
    assert (own.whole.flatten(1).abs().amax(1) == MOST).all()  # no step is larger than it must be
    assert torch.equal(Rounded(own.weight()).whole, own.whole)


def test_an_output_without_weights_stays_so() -> None:
    weight = torch.zeros(2, 3)
    weight[1] = 1
    assert torch.equal(Rounded(weight).weight(), weight)


@pytest.mark.parametrize("backbone", ["unet", "mlp", "rnn"])
def test_any_family_does_what_its_rounded_weights_say(backbone: str) -> None:
    family, batch = family_of(backbone)
    exact = loss(family, batch)
    Int8().put_on(family)
    assert not any(p.requires_grad for p in family.parameters())
    near = loss(family, batch)
    assert torch.allclose(near, exact, rtol=0.05)
    assert not torch.equal(near, exact)
    for _, layer in rounded_layers(family):  # the same by whole numbers, which others may read
        assert torch.equal(layer.weight, layer.int8.whole * _wide(layer))
    assert torch.equal(loss(family, batch), near)


def _wide(layer: Any) -> torch.Tensor:
    return layer.int8.scale.view(-1, *(1,) * (layer.weight.dim() - 1))


def test_a_bundle_comes_back_as_it_was_and_is_a_quarter(plain: Bundle, small: Path) -> None:
    opened, again = Bundle.open(small), in_int8(plain)
    for (name, a), (_, b) in zip(
        opened.family.state_dict().items(), again.family.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    stored = read_tensors(small / MODEL)
    whole = [t for name, t in stored.items() if name.endswith("int8.whole")]
    assert {t.dtype for t in whole} == {torch.int8}
    size, before = (sum(t.nbytes for t in some) for some in (stored.values(), _state(plain)))
    assert size < 0.45 * before  # offsets and scales count for much in rows of twenty


def _state(bundle: Bundle) -> Any:
    return bundle.family.state_dict().values()


def test_what_is_written_is_of_the_rounded_weights_alone_and_beside_others(plain: Bundle) -> None:
    """By the whole numbers: as all positions at once by their float32, to rounding; and the same
    bits whatever is written beside."""
    network: Any = in_int8(plain).family.network
    assert rounded(network.lm_head) is not None
    tokens = torch.arange(7, 12)
    with torch.no_grad():
        expected = network(tokens[None])[0].T  # (N, V)
    alone, beside = network.rows(1), network.rows(3)
    alone.begin(0, tokens[:1])
    for row in range(3):
        beside.begin(row, tokens[:1] + row)
    for place in range(1, 5):
        token = int(tokens[place])
        told = alone.advance([token], [0])
        assert torch.allclose(told[0], expected[place], atol=1e-4)
        assert torch.equal(beside.advance([token, 3, token], [1, 2, 0])[2], told[0])


def test_a_text_is_the_same_by_whole_numbers_or_not(plain: Bundle) -> None:
    request = Request(torch.arange(4), 12, Limits(temperature=0))
    texts = []
    for products in (True, False):
        model: Any = in_int8(plain, products=products).family
        assert (rounded(model.network.lm_head) is not None) == products
        texts.append([each.token for step in model.write([request]) for each in step])
    assert texts[0] == texts[1]


def test_the_record_tells_what_was_faster(small: Path) -> None:
    opened = Bundle.open(small)
    took = opened.run["token_ms"]
    assert opened.recipe.wrapper == {
        "name": "int8", "products": took["int8"] < 0.95 * took["float32"],
    }  # fmt: skip


def test_plain_weights_come_out_again(plain: Bundle, small: Path, tmp_path: Path) -> None:
    export(small, tmp_path / "again", format="bundle")
    again, opened = Bundle.open(tmp_path / "again"), Bundle.open(small)
    own = opened.family.state_dict()
    assert not again.recipe.wrapper
    for name, weight in again.family.state_dict().items():
        assert torch.equal(weight, own[name]), name


def test_what_cannot_be_quantised_says_why(plain: Bundle, small: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="quantised already"):
        export(small, tmp_path / "out", format="int8")
    with pytest.raises(BundleError, match="not empty"):
        export(plain, small, format="int8")
    adapted = in_int8(plain)
    adapted.family, _ = family_of("mlp")
    LoRA(rank=2).put_on(adapted.family)
    with pytest.raises(RefusedPair, match="not quantised apart from its base"):
        in_int8(adapted)
    bare = Bundle(nn.Identity(), plain.codec, plain.recipe)  # type: ignore[arg-type]
    bare.family.adapter = None
    with pytest.raises(RefusedPair, match="no layers whose weights are rounded"):
        in_int8(bare)
    assert not (tmp_path / "out").exists()


def test_nothing_is_trained_by_rounding_nor_from_it(small: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the harbour lay still\n" * 20)
    with pytest.raises(RefusedPair, match="starts from plain weights"):
        prepare(texts, start=small, out=tmp_path / "run")
    with pytest.raises(RecipeError, match="trains nothing"):
        prepare(texts, start=small, adapter="int8", out=tmp_path / "run")


@pytest.mark.parametrize("lost", ["network.norm.weight", "network.lm_head.int8.scale"])
def test_a_file_without_a_part_is_no_model(small: Path, lost: str) -> None:
    config, tensors = read_config(small), read_tensors(small / MODEL)
    del tensors[lost]
    with pytest.raises(BundleError, match="do not fit the wrapper"):
        Bundle.rebuilt(config, read_tensors(small / CODEC), tensors, small)


# -- of four bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 2, 2), (1, 1), (2, 64)])
def test_four_bits_are_off_by_half_a_step_or_were_cut(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    own = Packed(weight, 8)
    found = own.weight()
    assert found.shape == weight.shape
    assert own.halves.dtype == torch.uint8
    flat, told = weight.flatten(1), found.flatten(1)
    plain = torch.zeros_like(flat)
    for i in range(0, flat.shape[1], 8):  # between the least and the largest, without a search
        part = flat[:, i : i + 8]
        low, high = part.amin(1, keepdim=True), part.amax(1, keepdim=True)
        step = ((high - low) / 15).clamp(min=1e-9)
        plain[:, i : i + 8] = ((part - low) / step).round() * step + low
    assert (told - flat).square().sum() <= (plain - flat).square().sum() * 1.01 + 1e-5
    for row in told:
        for part in row.split(8):
            assert len(part.unique()) <= 16
    again = Packed(found, 8).weight()
    torch.testing.assert_close(again, found, atol=2e-3, rtol=0)  # what has four bits keeps them


def test_groups_of_one_value_stay_so() -> None:
    weight = torch.zeros(2, 16)
    weight[1, 8:] = -5
    assert torch.equal(Packed(weight, 8).weight(), weight)


@pytest.mark.parametrize("backbone", ["unet", "mlp", "rnn"])
def test_any_family_works_with_four_bits(backbone: str) -> None:
    family, batch = family_of(backbone)
    exact = loss(family, batch)
    Int4(group=8).put_on(family)
    near = loss(family, batch)
    assert torch.allclose(near, exact, rtol=0.35)
    assert not torch.equal(near, exact)


def test_a_bundle_of_four_bits_comes_back_and_is_smaller(plain: Bundle, tmp_path: Path) -> None:
    said = export(plain, tmp_path / "int4", format="int4")
    assert "smaller and no faster" in said.text()
    opened, again = Bundle.open(tmp_path / "int4"), in_int4(plain)
    assert opened.recipe.wrapper == {"name": "int4", "group": 32}
    for (name, a), (_, b) in zip(
        opened.family.state_dict().items(), again.family.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    stored = read_tensors(tmp_path / "int4" / MODEL)
    assert stored["network.layers.0.mlp.up_proj.int8.halves"].dtype == torch.uint8
    assert stored["network.embed_tokens.int8.whole"].dtype == torch.int8
    request = Request(torch.arange(4), 6, Limits(temperature=0))
    written = [[each.token for step in b.family.write([request]) for each in step]  # type: ignore[operator]
               for b in (opened, again.whole())]  # fmt: skip
    assert written[0] == written[1]
    with pytest.raises(BundleError, match=r"quantised already(.|\n)*four|4 bits"):
        export(tmp_path / "int4", tmp_path / "out", format="int8")
    with pytest.raises(RecipeError, match="two weights share a byte"):
        Int4(group=7)

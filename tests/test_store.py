"""Stores: every kind gives the same items, by batches and by digest, as those in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core import discover
from morphogen.core.encoded import equal, joined, stacked
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.data import dataset
from morphogen.data.canaries import block_numbers, patchworks, plant
from morphogen.data.dataset import load
from morphogen.data.store import (
    Joined,
    MemoryStore,
    Selection,
    compact,
    digest_stores,
    expand,
    item_bytes,
    join,
)
from morphogen.data.views import choose_view, view_of
from morphogen.testing.modalities import check_codec
from morphogen.wrappers.flat_codec import FlatCodec
from rows import Rows, write_rows

PARTS = ProductSpec(
    {
        "number": TensorSpec.vector(2),
        "kind": TensorSpec.columns((3, 400)),
        "length": TensorSpec.label(5),
        "list": TensorSpec("real", (1, 4), layout="sequence"),
    },
    lengths={"list": "length"},
)
WORDS = TensorSpec.tokens(6, 5, end=0)
SPECS: dict[str, Any] = {
    "grid": TensorSpec("real", (1, 4, 4), levels=256),
    "deep": TensorSpec("real", (1, 4, 4), levels=65536),
    "words": WORDS,
    "parts": PARTS,
}


def drawn(spec: Any, num: int, seed: int = 0) -> Any:
    """Items of a spec as a codec would encode them."""
    draw = generator(seed)
    if isinstance(spec, ProductSpec):
        return spec.canonical({n: drawn(s, num, seed + i) for i, (n, s) in enumerate(spec)})
    if spec.kind == "token":
        x = randint(spec.vocab_size, (num, *spec.shape), draw)
        return spec.canonical(x if spec.sizes is None else x % torch.tensor(spec.sizes))
    x = randn((num, *spec.shape), draw).clamp(-1, 1)
    return x if spec.levels is None else spec.dequantise(spec.quantise(x))


def store_of(spec: Any, num: int = 50, seed: int = 0) -> MemoryStore:
    label = randint(3, (num,), generator(seed))
    names = [f"{seed}/{i}" for i in range(num)]
    return MemoryStore.of(spec, drawn(spec, num, seed), cond={"label": label}, names=names)


@pytest.mark.parametrize("name", SPECS)
def test_what_is_stored_comes_back(name: str) -> None:
    spec = SPECS[name]
    x = drawn(spec, 50)
    store = store_of(spec)
    assert equal(store.batch(torch.arange(50)).x, x)
    assert equal(expand(compact(x, spec), spec), x)
    assert len(store) == 50
    assert equal(joined([batch.x for batch in store.batches(7)]), x)
    stored = joined(list(store.chunks(7)))
    parts = stored.values() if isinstance(stored, dict) else [stored]
    assert sum(part.numel() * part.element_size() for part in parts) == 50 * item_bytes(spec)


@pytest.mark.parametrize("name", SPECS)
def test_selected_and_joined_items_are_those_of_a_copy(name: str) -> None:
    one, two = store_of(SPECS[name]), store_of(SPECS[name], 30, seed=9)
    index = torch.tensor([49, 3, 3, 17])
    views = [(one.take(index), Selection(one, index)), (join(one, two), Joined(one, two))]
    for copied, other in views:
        assert isinstance(copied, MemoryStore)
        every = torch.randperm(len(copied), generator=generator(1))
        assert equal(copied.batch(every).x, other.batch(every).x)
        assert torch.equal(copied.batch(every).cond["label"], other.batch(every).cond["label"])
        assert list(copied.names) == list(other.names)
        assert copied.names[-1] == other.names[-1]
        spec = copied.spec
        assert digest_stores(spec, {"train": copied}) == digest_stores(spec, {"train": other})
        again = other.with_cond({}).take(torch.arange(3))
        assert not again.cond
        assert equal(again.stored(torch.arange(3)), copied.stored(torch.arange(3)))


@pytest.mark.parametrize("name", SPECS)
def test_digests_tell_items_conditions_and_splits_apart(name: str) -> None:
    spec = SPECS[name]
    one = store_of(spec)
    digests = {
        digest_stores(spec, {"train": one, "test": one.take(torch.arange(0))}),
        digest_stores(spec, {"test": one, "train": one.take(torch.arange(0))}),
        digest_stores(spec, {"train": one.take(torch.arange(49))}),
        digest_stores(spec, {"train": one.with_cond({})}),
        digest_stores(spec, {"train": one.with_cond({"label": 2 - one.cond["label"]})}),
        digest_stores(spec, {"train": one.take(torch.arange(50).flip(0))}),
    }
    assert len(digests) == 6


@pytest.mark.parametrize("name", SPECS)
def test_one_item_many_times_is_seen_as_such(name: str) -> None:
    store = store_of(SPECS[name])
    first = store.stored(torch.arange(1))
    assert not store.holds_only(first)
    assert store.take(torch.zeros(700, dtype=torch.long)).holds_only(first)


def test_canaries_of_parts_and_of_words_are_items_of_the_spec() -> None:
    parts = store_of(PARTS, 200)
    blocks = block_numbers(PARTS)
    assert [int(blocks[name].min()) for name, _ in PARTS] == [0, 2, 4, 5]
    found = patchworks(parts, 100, generator(3))
    x = found.batch(torch.arange(100)).x
    assert equal(PARTS.canonical(x), x)
    number = parts.batch(torch.arange(200)).x["number"]
    for column in range(2):
        assert set(x["number"][:, column].tolist()) <= set(number[:, column].tolist())
    whole = {tuple(row) for row in number.tolist()}
    assert not whole.issuperset(tuple(row) for row in x["number"].tolist())
    words = patchworks(store_of(WORDS, 200), 100, generator(3)).batch(torch.arange(100)).x
    assert torch.equal(WORDS.canonical(words), words)


# -- views -----------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of rows, and the modality that reads it."""
    find = discover.find
    monkeypatch.setattr(
        discover, "find", lambda a, n, **o: Rows if n == "rows:Rows" else find(a, n, **o)
    )
    monkeypatch.setattr(dataset, "find_modality", lambda source: "rows:Rows")
    return write_rows(tmp_path / "some.rows", 80)


def refuses_parts(spec: Any, conditions: Any) -> str | None:
    return "has parts" if isinstance(spec, ProductSpec) else None


def takes_vectors(spec: Any, conditions: Any) -> str | None:
    return None if spec.kind == "real" else "is not real"


def test_the_first_view_that_suits_is_taken(rows: Path) -> None:
    first = load(rows)
    assert isinstance(first.spec, ProductSpec)
    tokens = load(rows, suits=refuses_parts)
    assert (tokens.codec.view, tokens.spec.kind) == ("tokens", "token")
    flat = load(rows, suits=takes_vectors)
    assert isinstance(flat.codec, FlatCodec)
    assert flat.spec == TensorSpec.vector(1 + 3 + 5 + 4)
    assert load(rows, suits=lambda spec, cond: "never").spec == first.spec
    assert len({first.digest, tokens.digest, flat.digest}) == 3
    forced = load(rows, view="tokens", suits=takes_vectors)
    assert forced.digest == tokens.digest
    with pytest.raises(RecipeError, match="tokns"):
        load(rows, view="tokns")


def test_data_is_encoded_anew_in_another_view(rows: Path) -> None:
    first = load(rows)
    for view in ("tokens", "flat", "parts"):
        other, direct = first.in_view(view), load(rows, view=view)
        assert other.digest == direct.digest
        assert other.in_view("parts").digest == first.digest
        assert other.in_view("tokens").in_view("flat").digest == load(rows, view="flat").digest
    assert first.codec.view == "parts"  # which the others left as it was
    assert first.suited(lambda spec, cond: None) is first
    assert first.suited(takes_vectors).spec.kind == "real"
    planted = plant(first, (1,), num=2, num_references=5)
    with pytest.raises(DataError, match="flat"):
        planted.in_view("flat")


def test_a_rebuilt_codec_keeps_its_view(rows: Path) -> None:
    for view in ("tokens", "flat"):
        data = load(rows, view=view)
        again = load(rows, codec=data.codec)
        assert (again.digest, again.spec) == (data.digest, data.spec)


def test_flat_vectors_are_the_items(rows: Path) -> None:
    items = list(Rows().read(rows, dataset.Report("")))
    codec = Rows()
    flat = FlatCodec(codec)
    x = flat.encode_many(items)
    assert x.shape == (80, 13)
    assert x.abs().max() <= 1
    parts = stacked([codec.encode(item) for item in items])
    assert equal(flat.unflat(x), parts)
    noisy = flat.unflat(x + 0.4 * torch.rand(x.shape, generator=generator(0)) - 0.2)
    assert torch.equal(noisy["kind"], parts["kind"])
    assert torch.equal(noisy["length"], parts["length"])
    real = codec.spec.mask(parts)["list"].flatten(1)
    assert (x[:, -4:][~real] == 0).all()
    assert torch.equal(flat.num_units(x), codec.num_units(parts))
    for any_vector in (torch.zeros(1, 13), torch.full((1, 13), 9.0)):
        json.dumps(flat.decode_many(any_vector))
    with pytest.raises(RefusedPair, match="parts"):
        FlatCodec(view_of(codec, "tokens"))


def test_the_flat_codec_keeps_the_promises_of_codecs(rows: Path) -> None:
    items = list(Rows().read(rows, dataset.Report("")))

    class Flat(FlatCodec):
        """Flat rows."""

        def __init__(self, inner: Any = None) -> None:
            super().__init__(inner or Rows())

    check_codec(Flat, items=items)
    assert choose_view(Rows(), None, takes_vectors).view == "flat"

"""Stores: every kind gives the same items, by batches and by digest, as those in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from morphogen.core import discover
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.encoded import equal, joined, stacked
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.data import dataset, disk, encoding, filling, parallel, progress
from morphogen.data.canaries import block_numbers, patchworks, plant
from morphogen.data.dataset import load
from morphogen.data.disk import DiskStore
from morphogen.data.holdout import digest_of
from morphogen.data.scan import Scan
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
from morphogen.data.windows import Stream
from morphogen.testing.modalities import check_codec
from morphogen.training import order
from morphogen.training.order import DataOrder, permuted
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
    monkeypatch.setattr(dataset, "find_modality", lambda *given: "rows:Rows")
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
        assert other.suited(refuses_parts).spec.kind != "parts"
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


# -- on disk ---------------------------------------------------------------------------------------


class Words(Codec):
    """Texts as bytes of one stream, in windows."""

    def __init__(self, windows: int | None = 5) -> None:
        self.windows, self.encoded = windows, 0

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return None

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        for number, text in enumerate(source):
            report.num_read += 1
            yield Item(text, f"words.txt@{100 * number}")

    def fit(self, items: Iterable[Item]) -> Codec:
        list(items)
        self.spec = TensorSpec.tokens(self.windows or 8, 256)
        return self

    def encode(self, item: Item) -> Tensor:
        self.encoded += 1
        found = torch.tensor(list(item.value.encode()))
        return found if self.windows else found.resize_(8)

    encode_stream = encode

    def decode(self, x: Tensor) -> str:
        return bytes(x.tolist()).decode()

    def state(self) -> dict[str, Any]:
        return {"windows": self.windows}

    @classmethod
    def from_state(cls, state: Any, tensors: Any) -> Codec:
        return cls(**state)


TEXTS = [f"text {i:3d}" + "!" * (i % 7) * 2 for i in range(60)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Everything is too large for memory, and comes in many pieces."""
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoding, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(encoding, "KEEP_BYTES", 0)
    monkeypatch.setattr(filling, "CHUNK", 7)
    monkeypatch.setattr(disk, "SAFE_EVERY", 20)
    return tmp_path / "cache"


def read_words(windows: int | None, texts: list[str] = TEXTS) -> tuple[Any, Words]:
    codec, report = Words(windows), Report("words")
    found = encoding.encode(codec, lambda c, r: c.read(texts, r), report, Scan(near=False))
    return found, codec


@pytest.mark.parametrize("windows", [None, 5])
def test_a_store_on_disk_is_the_one_in_memory(
    windows: int | None, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk, _ = read_words(windows)
    monkeypatch.setattr(encoding, "MOST_IN_MEMORY", 1 << 30)
    in_memory, _ = read_words(windows)
    for name in ("train", "test"):
        one, two = getattr(on_disk, name), getattr(in_memory, name)
        assert isinstance(getattr(one, "windows", one), DiskStore)
        assert isinstance(getattr(two, "windows", two), MemoryStore)
        assert len(one) == len(two) > 0
        assert list(one.names) == list(two.names)
        assert digest_stores(one.spec, {name: one}) == digest_stores(two.spec, {name: two})
        every = torch.randperm(len(one), generator=generator(0))
        for index in every.split(3):
            assert equal(one.batch(index).x, two.batch(index).x)
        assert equal(one.take(every).batch(torch.arange(3)).x, two.batch(every[:3]).x)
        assert equal(joined(list(one.with_cond({}).chunks(4))), joined(list(two.chunks(9))))
        assert windows is None or torch.equal(one.tail, two.tail)


def test_windows_follow_one_another_and_say_where_they_stand(small: Path) -> None:
    found, codec = read_words(5)
    store = found.test
    text = "".join(codec.decode(row) for batch in store.batches(3) for row in batch.x)
    whole = "".join(TEXTS)
    assert text
    for number, name in enumerate(store.names):
        file, _, place = name.partition("@")
        assert file == "words.txt"
        item, offset = divmod(int(place), 100)
        piece = codec.decode(store.batch(torch.tensor([number])).x[0])
        assert TEXTS[item][offset : offset + 5] == piece[: len(TEXTS[item]) - offset]
    tails = [found.train.tail, found.test.tail]
    text += "".join(codec.decode(row) for batch in found.train.batches() for row in batch.x)
    assert sorted(text + "".join(map(codec.decode, tails))) == sorted(whole)
    assert max(map(len, tails)) < 5
    assert store.names[-1] == store.names[len(store) - 1]


@pytest.mark.parametrize("windows", [None, 5])
def test_an_interrupted_encoding_goes_on(
    windows: int | None, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first = read_words(windows)
    shutil.rmtree(small)

    class Stopped(Exception):
        pass

    encode, left = Words.encode, [30]

    def until(self: Words, item: Item) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return encode(self, item)

    with monkeypatch.context() as patch:
        patch.setattr(Words, "encode", until)
        patch.setattr(Words, "encode_stream", until)
        with pytest.raises(Stopped):
            read_words(windows)
    for file in small.rglob("x.bin"):  # what was written after the last note may be anything
        with file.open("ab") as stream:
            stream.write(b"half a row")
    again, codec = read_words(windows)
    assert codec.encoded < first.encoded - 6
    spec = codec.spec
    assert digest_stores(spec, {"x": again.train}) == digest_stores(spec, {"x": whole.train})
    assert list(again.train.names) == list(whole.train.names)
    done, codec = read_words(windows)
    assert codec.encoded == 0
    assert digest_stores(spec, {"x": done.test}) == digest_stores(spec, {"x": whole.test})
    _, codec = read_words(windows, [*TEXTS[:-1], "another text"])
    assert codec.encoded > 0


def test_a_full_disk_is_told_before_anything_is_written(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(small.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=100))
    with pytest.raises(DataError, match="disk cannot hold"):
        read_words(5)


def test_chunks_come_in_order_and_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_cores", lambda: 3)
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    found = []
    for square in parallel.in_order(lambda n: n * n, numbers()):
        found.append(square)
        assert len(taken) - len(found) <= 2 * 3 + 1
    assert found == [n * n for n in range(40)]


def test_progress_is_told_to_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    said: list[progress.Progress] = []
    with progress.listening(said.append):
        read_words(None)
    assert {each.doing for each in said} == {"reading", "measuring", "encoding"}
    last = [each for each in said if each.doing == "encoding"][-1]
    assert last.done == last.total
    assert last.left == 0.0
    num = len(said)
    read_words(None)
    assert len(said) == num


@pytest.mark.parametrize(
    ("done", "seconds", "left"), [(1, 3.0, None), (1, 10.0, 9990), (10, 3.0, 297)]
)
def test_the_first_of_many_says_nothing_of_the_rest(done: int, seconds: float, left: Any) -> None:
    assert progress.Progress("reading", done, 1000, seconds).left == left


def test_many_items_are_shuffled_without_a_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for num in (2, 3, 1000, 1025):
        orders = [permuted(torch.arange(num), num, seed) for seed in range(3)]
        for each in orders:
            assert sorted(each.tolist()) == list(range(num))
    assert not torch.equal(orders[0], orders[1])
    after = torch.stack([orders[0][1:], orders[0][:-1]]).double()
    assert abs(float(torch.corrcoef(after)[0, 1])) < 0.1
    monkeypatch.setattr(order, "MANY", 100)
    stream = DataOrder(150, 40, seed=3)
    rows = torch.cat([stream.rows(step) for step in range(15)])
    for epoch in rows.split(150):
        assert sorted(epoch.tolist()) == list(range(150))
    assert torch.equal(stream.rows(7), DataOrder(150, 40, seed=3).rows(7))


def test_recoded_items_are_streamed_to_disk(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(rows, view="flat")
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoding, "MOST_IN_MEMORY", 0)
    mapped_rows = load(rows).in_view("flat")
    assert isinstance(mapped_rows.train, DiskStore)
    assert mapped_rows.digest == whole.digest
    every = torch.arange(len(whole.train))
    assert torch.equal(mapped_rows.train.batch(every).x, whole.train.batch(every).x)
    again = load(rows).in_view("flat")
    assert torch.equal(again.train.batch(every).x, whole.train.batch(every).x)


# -- content ---------------------------------------------------------------------------------------


def test_content_hashes_tell_contents_apart() -> None:
    matrix = np.zeros((40, 40))
    other = matrix.copy()
    other[20, 20] = 1
    values: list[Any] = [
        matrix, other, torch.zeros(40, 40, dtype=torch.int64), {"a": matrix}, {"a": other},
        {"b": matrix}, [matrix], [matrix, matrix], "1", 1, 1.0, True, b"1", None, [], {}, [[]],
        np.zeros(4, np.int8), np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8),
        np.zeros(4, np.int16), np.zeros(4, np.uint16), np.zeros(4, np.float16),
        np.array(["a", 1], dtype=object), np.array(["b", 1], dtype=object),
        Image.new("L", (2, 3)), Image.new("L", (3, 2)), Image.new("RGB", (2, 3)),
    ]  # fmt: skip
    assert len({digest_of(value) for value in values}) == len(values)


def test_content_hashes_are_those_of_the_content() -> None:
    x = torch.randn(40, 40, generator=generator(0))
    assert digest_of({"a": x, "b": 1}) == digest_of({"b": 1, "a": x.clone()})
    assert digest_of(x.numpy()) == digest_of(x) == digest_of(x.t().contiguous().t())
    assert digest_of(x.bfloat16()) == digest_of(x.bfloat16())
    assert digest_of([1, "a"]) == digest_of((1, "a"))
    for odd in (object(), {"a": {1, 2}}, lambda: 0):
        with pytest.raises(DataError, match="content"):
            digest_of(odd)


def test_windows_are_moved_along_their_stream():
    """Training sees stretches of the stream that begin anywhere, the last window's from before."""
    spec = TensorSpec.tokens(5, 300, boundary=299)
    x = torch.arange(20).view(4, 5)
    stream = Stream(MemoryStore.of(spec, x), torch.arange(20, 22))
    seen = stream.drawn(torch.tensor([0, 2, 3, 3]), torch.tensor([0.0, 0.45, 0.0, 0.99])).x
    assert seen[:, 0].tolist() == [0, 12, 15, 11]
    assert torch.equal(seen - seen[:, :1], torch.arange(5).expand(4, 5))
    said = stream.with_cond({"label": torch.arange(4)})
    assert torch.equal(said.tail, stream.tail)
    assert torch.equal(said.drawn(torch.tensor([2]), torch.tensor([0.9])).x, x[2:3])

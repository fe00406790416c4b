"""An index in shards: what a folder finds, whoever is killed, writes too, or damages a part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from morphogen.core.errors import BundleError, RecipeError
from morphogen.systems.knowledge import shards
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.objects import Objects
from morphogen.systems.knowledge.passage import Document
from morphogen.systems.knowledge.shard import Taken
from morphogen.systems.knowledge.shards import Shards, plans
from morphogen.systems.knowledge.storing import Where
from test_index_stores import document, small_shards
from test_knowledge import Letters

__all__ = ["small_shards"]
WORDS = (
    "leave", "notice", "period", "harbour", "salary", "desk", "room", "plan", "month", "AB-1234",
    "1,250.00", "sign",
)  # fmt: skip
QUESTIONS = ("notice period", "AB-1234", "who is at the harbour desk", "salary of the month")

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/index"


def papers(num: int, readers: Any = ("everyone",), seed: int = 0) -> list[Document]:
    """Documents of a few words, drawn."""
    draw = np.random.default_rng(seed)
    return [
        document(
            f"{readers[0]}/{n}.md", " ".join(draw.choice(WORDS, 1 + int(draw.integers(40)))),
            {"year": 2020 + n % 3}, readers,
        ) for n in range(num)
    ]  # fmt: skip


def add(index: Index, *documents: Document) -> Index:
    for each in documents:
        index.add(each, passages(each, 100))
    return index


def new(url: str) -> Index:
    return Index.make(url, Letters(), language=None)


def told(index: Index) -> list[str]:
    """All that is found, to the last bit."""
    ways: list[Any] = [
        {}, {"by": "words"}, {"by": "meaning"}, {"where": Where(facts={"year": 2021})},
        {"feedback": 2, "fuse": "ranks"},
    ]  # fmt: skip
    return [
        json.dumps([hit.to_json() for hit in index.search(question, num=20, **way)])
        for question in QUESTIONS for way in ways
    ]  # fmt: skip


def stored(root: Path) -> bytes:
    """What every file below a folder holds."""
    return b"".join(file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file())


def test_many_shards_find_what_one_folder_finds(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morphogen.systems.knowledge.vectors.FIRST", 16)
    monkeypatch.setattr("morphogen.systems.knowledge.vectors.BLOCK", 32)
    monkeypatch.setattr(shards, "ROWS", 7)
    plain, own, secret = papers(36), new(url), papers(108, ("board",), 1)
    folder = Index.make(tmp_path / "plain", Letters(), language=None)
    for n, each in enumerate(plain):
        add(folder, each)
        add(own, *secret[3 * n : 3 * n + 3], each)
    changed = papers(9, seed=2)[3:]
    for index in (folder, own):
        index.store.remove([each.place for each in plain[20:28]])
        add(index, *changed).store.settle()
    assert isinstance(own.store, Shards)
    assert all(len(each) <= 7 or len(each.places) == 1 for each in own.store.snapshot().shards)
    assert told(own) == told(folder)
    assert own.store.documents(()) == folder.store.documents(())
    assert own.store.counted(()) == folder.store.counted(())
    again = Index.open(url, Letters())
    assert told(again) == told(folder)
    again.store.remove([each.place for each in secret])
    assert told(again) == told(folder)
    assert [each.to_json() for each in own.search("plan", groups=["board"])] == [
        each.to_json() for each in folder.search("plan")
    ]


def test_a_change_writes_what_it_touches(url: str) -> None:
    index = add(new(url), *papers(20))
    index.store.settle()
    assert isinstance(index.store, Shards)
    before = list(index.store.manifest.parts)
    place = papers(20)[9].place
    (touched,) = [n for n, s in enumerate(index.store.snapshot().shards) if place in s.places]
    index.store.restrict(place, ["board"])
    parts = index.store.manifest.parts
    assert [n for n, (a, b) in enumerate(zip(before, parts, strict=True)) if a != b] == [touched]
    assert parts[touched].vectors == before[touched].vectors
    index.store.remove([place])
    assert len({*before} - {*index.store.manifest.parts}) <= 3  # and a neighbour, if both are small
    names = {kept.name for kept in index.store.manifest.objects}
    assert {f"shards/{name}" for name in index.store.objects.names("shards")} == names


def test_rows_are_shared_out_in_their_order() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        sizes = draw.integers(0, 11, draw.integers(5)).tolist()
        touched = {n for n in range(len(sizes)) if draw.random() < 0.4}
        more = [Taken(document(f"{n}", "a"), [None] * int(draw.integers(1, 15)), None)  # type: ignore[list-item,arg-type]
                for n in range(draw.integers(6))]  # fmt: skip
        made = plans(sizes, touched, more, 10)
        assert [n for plan in made for n in plan.old] == list(range(len(sizes)))
        assert [each for plan in made for each in plan.more] == more
        for plan in made:
            parts = [*(sizes[n] for n in plan.old), *(len(each.passages) for each in plan.more)]
            assert plan.rows == sum(parts)
            assert plan.rows <= 10 or np.count_nonzero(parts) == 1
            assert plan.is_new or (len(plan.old) == 1 and plan.old[0] not in touched)


def test_what_is_removed_leaves_no_trace(url: str, tmp_path: Path) -> None:
    leaving = document("leaving.md", "the unmistakable zebra")
    index = add(new(url), *papers(6), leaving)
    index.store.settle()
    reader = Index.open(url, Letters())
    assert reader.search("zebra", by="words")
    vector = Letters().embed(
        [passages(document("leaving.md", "the unmistakable zebra"))[0].context]
    )
    for found in (b"zebra", b"leaving", vector.tobytes()):
        assert stored(tmp_path).count(found) > 1  # in the store, and among the copies
    assert index.store.remove(["leaving.md"]) == 1
    assert not reader.search("zebra", by="words")
    for gone in (b"zebra", b"leaving", vector.tobytes()):
        assert gone not in stored(tmp_path)


def _interrupted(*given: Any) -> bool:
    raise KeyboardInterrupt


def test_a_writer_that_dies_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its manifest is there: in place of some documents and beside them, it wrote shards."""
    before = told(add(new(url), *papers(3)))
    with monkeypatch.context() as patched:
        patched.setattr(Objects, "create", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            add(Index.open(url, Letters()), *papers(5, seed=3))
    again = Index.open(url, Letters())
    assert isinstance(again.store, Shards)
    assert told(again) == before
    lying = len(again.store.objects.names("shards"))
    assert lying > len(again.store.manifest.objects)
    add(again, *papers(5, seed=3)).store.settle()
    assert again.store.digests() == {each.place: each.digest for each in papers(5, seed=3)}
    assert [each.version for each in again.store.documents()] == [2, 2, 2, 1, 1]
    assert len(again.store.objects.names("shards")) == len(again.store.manifest.objects)


def test_of_two_writers_none_loses_anything(url: str) -> None:
    first, *others = papers(4)
    own = add(new(url), first)
    other = Index.open(url, Letters())
    own.store.settle()

    def meanwhile(name: str, data: bytes, create: Any = Objects.create) -> bool:
        other.store.objects.create = own.store.objects.create  # type: ignore[attr-defined]
        add(own, *others[1:]).store.settle()
        return bool(create(other.store.objects, name, data))  # type: ignore[attr-defined]

    other.store.objects.create = meanwhile  # type: ignore[attr-defined]
    add(other, others[0])
    with pytest.warns(UserWarning, match="another writer has changed"):
        other.store.settle()
    digests = {each.place: each.digest for each in (first, *others)}
    assert own.store.digests() == other.store.digests() == digests
    assert {each.version for each in own.store.documents()} == {1}


def test_a_writer_that_slept_sees_that_it_is_late(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MANIFESTS", 2)
    own = add(new(url), *papers(1))
    own.store.settle()
    other = Index.open(url, Letters())
    written = other.store._written()  # type: ignore[attr-defined]
    for each in papers(6)[1:]:
        add(own, each).store.settle()
    assert own.store.objects.create("changes/00000003.json", b"{}") is True  # type: ignore[attr-defined]
    own.store.objects.delete(["changes/00000003.json"])  # type: ignore[attr-defined]
    assert not other.store._is_first(written)  # type: ignore[attr-defined]
    assert len(add(other, *papers(7)[6:])) == len(own) > 6


DAMAGE: dict[str, Any] = {
    "damaged": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "is damaged": lambda file: file.write_bytes(file.read_bytes()[:-9] + bytes(9)),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_shards_are_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    add(new(url), *papers(3)).store.settle()
    before = told(Index.open(url, Letters()))
    shard = min((tmp_path / "index/shards").glob("*.f32"))
    DAMAGE[what](shard)
    assert told(Index.open(url, Letters())) == before  # it is not fetched again
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(BundleError, match=f"(?s){what}.*{shard.name}.*try:.*morphogen index"):
        Index.open(url, Letters()).search("notice")


def test_a_damaged_manifest_is_named(url: str, tmp_path: Path) -> None:
    new(url).store.close()
    (tmp_path / "index/changes/00000001.json").write_text('{"parts": [')
    with pytest.raises(BundleError, match=r"(?s)manifest.*damaged.*00000001.json.*try:"):
        Index.open(url, Letters())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("https://example.org/a", "cannot lie there"),
        ("nonsense://a", "cannot lie there"),
        ("s3://", "cannot lie there"),
        ("gs://bucket/a", r"(?s)package gcsfs.*pip install 'morphogen\[gcs\]'"),
    ],
)
def test_addresses_where_nothing_can_lie_are_named(place: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Index.open(place, Letters())


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An address of a server that is not there."""
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("nobody")
def test_a_store_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(BundleError, match=r"(?s)object store.*s3://papers/a.*AWS_ENDPOINT_URL"):
        Index.open("s3://papers/a", Letters())

"""What keeps an index, each store held to the same: a folder, PostgreSQL with pgvector, and shards
in memory, in a folder by its URL, and behind a server that speaks S3."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from morphogen.core.errors import BundleError, RecipeError
from morphogen.systems.knowledge import shards, stores
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document
from morphogen.systems.knowledge.storing import Where
from test_knowledge import Letters

TEXTS = {
    "house/leave.md": ("The notice period is three months, see form AB-1234/5.", {"year": 2025}),
    "house/pay.txt": ("Salaries are paid on the 25th. The bonus was 1,250.00.", {"by": "Ada"}),
    "house/rooms[1].md": ("Rooms are booked at the desk. Notice the sign\0.", {"by": "Ada"}),
    "other/plan.md": ("The plan: a house by the harbour, for months.", {}),
}  # fmt: skip
QUESTIONS = ("notice period", "AB-1234/5", "who is paid for months?", "xyzzy", "harbour")


def document(place: str, text: str, facts: Any = (), readers: Any = ("everyone",)) -> Document:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Document(
        place, Path(place).stem, digest, (Block(text, ("A",), 2),), readers, dict(facts)
    )


def fill(index: Index) -> Index:
    for place, (text, facts) in TEXTS.items():
        paper = document(place, text, facts)
        index.add(paper, passages(paper))
    index.store.settle()
    return index


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """One of a server in this process."""
    servers, s3fs = pytest.importorskip("moto.server"), pytest.importorskip("s3fs")
    server = servers.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "ann")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("papers")
        yield "s3://papers"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def small_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two passages; what others write is seen at once."""
    monkeypatch.setenv("MORPHOGEN_CACHE", str(tmp_path / "copies"))
    monkeypatch.setattr(shards, "ROWS", 2)
    monkeypatch.setattr(shards, "LOOKED", 0.0)


@pytest.fixture(params=["folder", "postgres", "memory", "file", "s3"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Names a place where no index is."""
    names = iter("abcdef")
    if request.param == "folder":
        return lambda: str(tmp_path / next(names))
    if request.param != "postgres":
        request.getfixturevalue("small_shards")
        where = f"{request.param}://{tmp_path}"
        if request.param == "s3":
            request.getfixturevalue("monkeypatch").setattr(shards, "ROWS", 16)
            where = f"{request.getfixturevalue('bucket')}{tmp_path}"
        return lambda: f"{where}/{next(names)}"
    url = request.getfixturevalue("new_database")().replace("+psycopg", "")
    return lambda: f"{url}#{next(names)}"


@pytest.fixture
def index(new_place: Callable[[], str]) -> Iterator[Index]:
    made = fill(Index.make(new_place(), Letters(), language=None))
    yield made
    made.store.close()


def test_every_store_finds_the_same(index: Index, tmp_path: Path) -> None:
    plain = fill(Index.make(tmp_path / "plain", Letters(), language=None))
    ways: tuple[Any, ...] = ({}, {"by": "words"}, {"by": "meaning"}, {"fuse": "ranks"})
    for question in QUESTIONS:
        for way in ways:
            hits, own = (each.search(question, **way) for each in (plain, index))
            assert [h.passage.place for h in hits] == [h.passage.place for h in own]
            assert [h.score for h in own] == pytest.approx([h.score for h in hits], abs=1e-5)
            for told in ("held", "exact"):
                assert [h.why.get("words", {}).get(told) for h in hits] == [
                    h.why.get("words", {}).get(told) for h in own
                ]
    found = index.search("AB-1234/5")[0].passage
    assert (found.heading, found.page, found.number) == (("A",), 2, 0)
    assert index.store.text(found.place)[found.start : found.end] == found.text


def test_documents_are_replaced_restricted_and_forgotten(index: Index) -> None:
    store, before = index.store, index.store.change()
    paper = document("house/pay.txt", "Salaries are paid on the 27th.", readers=("board",))
    index.add(paper, passages(paper))
    assert store.change() > before
    assert store.digests()["house/pay.txt"] == paper.digest
    (listed,) = [each for each in store.documents() if each.place == "house/pay.txt"]
    assert (listed.version, listed.num, list(listed.readers)) == (2, 1, ["board"])
    assert len(store.documents()) == 4
    assert len(store.documents(())) == 3
    texts = [store.text(each.place).encode() for each in store.documents(())]
    assert store.counted(()) == (3, sum(map(len, texts)))
    assert not index.search("27th", by="words")
    assert index.search("27th", groups=["board"], by="words")
    with pytest.raises(BundleError) as hidden:
        store.text("house/pay.txt", ())
    with pytest.raises(BundleError) as none:
        store.text("house/way.txt", ())
    assert str(hidden.value).replace("pay", "") == str(none.value).replace("way", "")
    store.restrict("house/pay.txt", ["everyone"])
    assert index.search("27th", by="words")
    assert store.remove(["house/pay.txt", "nowhere"]) == 1
    assert not index.search("27th", by="words")
    assert [each.place for each in store.of_document("house/leave.md")] == ["house/leave.md"]
    assert store.of_document("house/pay.txt") == []


NARROWED: list[tuple[Where, set[str]]] = [
    (Where("house/*"), {"house/leave.md", "house/pay.txt", "house/rooms[1].md"}),
    (Where("*.md", {"by": "Ada"}), {"house/rooms[1].md"}),
    (Where("house/rooms[[]1].md"), {"house/rooms[1].md"}),
    (Where("house/[!l]*y.t?t"), {"house/pay.txt"}),
    (Where(facts={"year": 2025}), {"house/leave.md"}),
    (Where(facts={"year": "2025"}), set()),
    (Where(facts={'"; drop': 1}), set()),
]


def test_what_is_searched_can_be_narrowed(index: Index) -> None:
    for where, places in NARROWED:
        hits = index.search("the", where=where, by="meaning")
        assert {hit.passage.place for hit in hits} == places, where


def test_what_one_may_not_read_changes_nothing(new_place: Callable[[], str]) -> None:
    plain, mixed = (Index.make(new_place(), Letters(), language=None) for _ in range(2))
    for i in range(40):
        paper = document(f"secret/{i}", f"The notice of {i} months at the harbour", {}, ("board",))
        mixed.add(paper, passages(paper))
    for index in (plain, mixed):
        fill(index)
    for question in QUESTIONS:
        for options in ({}, {"by": "words"}, {"by": "meaning"}, {"where": Where("*.md")}):
            told = [
                json.dumps([hit.to_json() for hit in index.search(question, **options)])  # type: ignore[arg-type]
                for index in (plain, mixed)
            ]
            assert told[0] == told[1]
    assert plain.store.counted(()) == mixed.store.counted(())
    for index in (plain, mixed):
        index.store.close()


def test_an_index_is_opened_again_from_where_it_lies(
    new_place: Callable[[], str], tmp_path: Path
) -> None:
    place = new_place()
    assert not stores.exists(place)
    with pytest.raises(BundleError, match="no index here"):
        Index.open(place, Letters())
    fill(Index.make(place, Letters(), language=None)).store.close()
    assert stores.exists(place)
    again = Index.open(place, Letters())
    assert len(again) == 4
    told = [hit.to_json() for hit in again.search("notice period")]
    again.store.close()
    if "://" in place:
        file = tmp_path / "papers.toml"
        file.write_text(f"url = {json.dumps(place)}\n")
        named = Index.open(file, Letters())
        assert [hit.to_json() for hit in named.search("notice period")] == told
        named.store.close()
        file.write_text('url = "https://example.org"\n')
        with pytest.raises(RecipeError, match="cannot lie there"):
            Index.open(file, Letters())

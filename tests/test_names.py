"""What is kept of every item: what goes in comes out, in a few bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from morphogen.core.codec import Item
from morphogen.data.holdout import HELD_OUT, assign, digest_of
from morphogen.data.names import Digests, Names, Repeated, Values, copies, firsts
from morphogen.data.scan import Scan

NAMES = [
    "b/c.csv#row 7", "b/c.csv#row 8", "a.png", "b/c.csv#row 9", "e#01", "f@90", "g#-1", "#5", "",
    "caf\u00e9\udcff.txt", "a.png",
]  # fmt: skip
VALUES = [None, "boot", 1, True, 1.0, None, [1, 2], [1, 2], {"a": "b"}, "\u00e9\udcff", "", "boot"]


@pytest.mark.parametrize("kind", [Names, Digests, Repeated, Values])
def test_a_column_gives_back_what_was_put_in(kind: Any) -> None:
    given: list[Any] = {Names: NAMES, Digests: list(map(digest_of, NAMES))}.get(kind, VALUES)
    column = kind.of(given)
    assert list(column) == given == column
    assert [type(each) for each in column] == [type(each) for each in given]
    assert column[-1] == given[-1]
    assert column[1:7:2] == given[1:7:2]
    assert all(given[column.index(each)] == each for each in given)
    with pytest.raises(IndexError):
        column[len(given)]
    assert list(kind()) == []


def test_repeated_values_are_kept_once_counted_and_changed() -> None:
    column = Repeated.of(VALUES)
    assert len(column.kinds) == 9
    assert [column.count(each) for each in (None, "boot", 1, True, [1, 2], "shoe")] == [
        2, 2, 1, 1, 2, 0,
    ]  # fmt: skip
    assert "boot" in column
    assert "shoe" not in column
    column[0] = "shoe"
    assert column[:2] == ["shoe", "boot"]


@pytest.mark.parametrize("width", [None, 1, 2])
def test_firsts_are_what_a_dict_finds(width: int | None) -> None:
    shape = (500,) if width is None else (500, width)
    values = np.random.default_rng(0).integers(0, 15, shape).astype(np.uint64)
    seen: dict[Any, int] = {}
    keys = [str(row) for row in values.tolist()]
    wanted = [seen.setdefault(key, number) for number, key in enumerate(keys)]
    found = firsts(values)
    assert found.tolist() == wanted
    assert list(copies(found)) == [(w, n) for n, w in enumerate(wanted) if w != n]
    assert firsts(values[:0]).tolist() == []


def test_the_held_out_tenth_is_the_one_that_is_told() -> None:
    rng = np.random.default_rng(0)
    for num, num_groups, num_labels in ((5, 3, 2), (60, 20, 5), (800, 500, 30), (800, 3, 1)):
        digests = [digest_of(number) for number in range(num)]
        labels = [f"class {each}" for each in rng.integers(0, num_labels, num)]
        own, groups = [None] * num, rng.integers(0, num_groups, num).tolist()
        assert assign(own, digests, labels, groups) == plainly_assigned(digests, labels, groups)
        repeated = [digests[group] for group in groups]
        assert assign(own, repeated, labels) == plainly_assigned(repeated, labels, groups)


def plainly_assigned(digests: list[bytes], labels: list[str], groups: list[Any]) -> list[str]:
    """`assign`, a group at a time."""
    members: dict[Any, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    place = {}
    for group, numbers in members.items():
        chosen = min((digests[number] for number in numbers), key=lambda digest: digest[8:])
        place[group] = int.from_bytes(chosen[:8]) / 2**64
    held = {group for group in members if place[group] < HELD_OUT}
    if not 0 < 2 * sum(len(members[group]) for group in held) <= len(groups):
        small = [group for group in members if 2 * len(members[group]) <= len(groups)]
        held = {min(small, key=place.__getitem__)} if small else set()
    trained = {labels[n] for group in members.keys() - held for n in members[group]}
    held = {group for group in held if all(labels[n] in trained for n in members[group])}
    return ["test" if group in held else "train" for group in groups]


def test_a_scan_keeps_few_bytes_of_an_item() -> None:
    def items() -> Iterator[Item]:
        for number in range(8000):
            tags = {"url": f"https://example.org/{number}", "source": str(number), "consent": "yes"}
            cond = {"label": f"class {number % 10}"}
            yield Item(f"text {number}", f"a.jsonl#row {number}", cond, None, tags)

    scan = Scan(near=False)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    scan.see(items())
    after, _ = tracemalloc.get_traced_memory()
    scan.assign()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 8000 < 120
    assert (most - before) / 8000 < 300
    assert scan.columns == {"url", "source", "consent"}
    assert sum(scan.told["source"].values()) == scan.told["consent"]["yes"] == 8000

"""What is strange in columns, beside laws of which it is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from morphogen.core.codec import Item
from morphogen.modalities.table import Table
from morphogen.tasks._columns import strangeness
from morphogen.tasks.anomaly import MOST_TOLD, anomaly
from morphogen.wrappers.flat_codec import FlatCodec

MANY = 40_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(num: int = MANY) -> Tensor:
    return torch.randn(num, generator=generator(), dtype=torch.float64)


# -- one column -----------------------------------------------------------------------------------


def test_of_a_normal_column_it_is_the_tail_and_what_its_density_lacks() -> None:
    """s(x) = -log 2 (1 - Phi(|x|)) + max(0, x^2 / 2 - 1/2): h of a normal is log sqrt(2 pi e)."""
    x = torch.tensor([-3.0, -1.5, -0.5, 0.01, 0.5, 1.5, 2.0, 3.0], dtype=torch.float64)
    exact = -torch.erfc(x.abs() / 2**0.5).log() + (x.square() / 2 - 0.5).clamp(min=0)
    assert torch.allclose(strangeness(x, normal(), True), exact, rtol=0.06, atol=0.05)
    scaled = strangeness(5 - 1e6 * x, 5 - 1e6 * normal(), True)  # of another unit, and mirrored
    assert torch.allclose(scaled, strangeness(x, normal(), True), atol=1e-6)


def test_a_gap_is_strange_though_it_is_in_the_middle() -> None:
    halves = torch.rand(MANY, generator=generator(), dtype=torch.float64)
    draws = torch.where(torch.arange(MANY) % 2 == 0, halves, halves + 3)
    gap, inside, beyond = strangeness(torch.tensor([2.0, 0.5, 9.0]).double(), draws, True)
    assert gap > 3
    assert inside < 1.5  # -log 1/2, and a density that is as usual
    assert beyond > gap


def test_whole_numbers_are_no_gaps() -> None:
    dice = torch.randint(1, 7, (MANY,), generator=generator()).double()
    score = strangeness(torch.arange(1, 7).double(), dice, True)
    assert torch.allclose(score, -torch.tensor([1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3]).double().log(),
                          atol=0.05)  # fmt: skip
    assert strangeness(torch.zeros(3).double(), torch.zeros(MANY).double(), True).tolist() == [
        0,
        0,
        0,
    ]


def test_a_kind_is_as_strange_as_those_that_come_no_oftener() -> None:
    draws = torch.tensor([0.0] * 700 + [1.0] * 200 + [2.0] * 100)
    score = strangeness(torch.tensor([0.0, 1, 2, 7]), draws, False)
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    exact = [0, -math.log(0.3) - math.log(0.2) - entropy, -math.log(0.1) - math.log(0.1) - entropy]
    assert score[:3].tolist() == pytest.approx(exact, abs=0.02)
    assert score[3] > score[2]


def test_that_a_value_is_missing_is_an_outcome() -> None:
    absent = torch.tensor([torch.nan, 0.0])
    rare, usual = (
        strangeness(absent, torch.where(torch.rand(MANY, generator=generator()) < share,
                                        torch.nan, normal()), True)
        for share in (0.01, 0.9)
    )  # fmt: skip
    assert rare[0] > 4
    assert usual[0] < 0.2
    assert usual[1] - rare[1] > 2
    assert strangeness(absent, torch.full((9,), torch.nan), True)[1] > 1  # of which none was drawn


# -- rows -----------------------------------------------------------------------------------------


class Rows:
    """A model whose law is that of the rows that it was given."""

    def __init__(self, codec: Any, items: list[Item]) -> None:
        self.spec, self.x = codec.spec, codec.encode_many(items)

    def sample(self, num: int, *, cond: Any = None, generator: torch.Generator) -> Any:
        pick = torch.randint(len(self.x), (num,), generator=generator)
        return self.x[pick]

    log_prob = None


def rows() -> list[Item]:
    """Two numbers and a kind; the last twenty are far out in the same place, and so not rare."""
    one, two = normal(1000).tolist(), normal(2000)[1000:].tolist()
    usual = [
        {"a": a, "b": b, "c": "xyz"[i % 3]} for i, (a, b) in enumerate(zip(one, two, strict=True))
    ]
    odd = [{"a": 5 + i / 100, "b": 0.1, "c": "x"} for i in range(20)]
    return [Item(row, str(i)) for i, row in enumerate(usual + odd)]


@pytest.fixture(scope="module")
def table() -> Table:
    return Table().fit(rows()).use_view("tokens")


def test_what_is_odd_many_times_over_is_found_and_the_column_named(table: Table) -> None:
    items = rows()
    model = Rows(table, items)
    result = anomaly(model, model.x, table, generator=generator())
    assert result.route == "columns"
    score = torch.tensor(result.values["score"])
    above = score[1000:, None] > score[:1000]
    assert above.float().mean() > 0.85  # the area under the ROC
    assert set(result.values["strangest"][1000:]) == {"a"}


def test_of_many_items_the_strangest_are_told_by_name(table: Table) -> None:
    items = rows()
    model = Rows(table, items)
    names = [f"f.csv#row {i + 2}" for i in range(len(items))]
    result = anomaly(model, model.x, table, generator=generator(), names=names)
    score = result.values["score"]
    assert len(score) == len(items)  # of all, for programs
    first = sorted(range(len(items)), key=lambda i: -score[i])[:MOST_TOLD]
    assert list(result.told["strangest"]) == [names[i] for i in first]
    assert result.told["strangest"][names[first[0]]] == (
        f"{score[first[0]]:.4g}, by {result.values['strangest'][first[0]]}"
    )
    few = anomaly(model, model.x[:MOST_TOLD], table, generator=generator())
    assert not few.told


def test_a_vector_of_a_row_has_its_columns(table: Table) -> None:
    items = rows()[::40]
    own = table.values(table.encode_many(items))
    flat = FlatCodec(Table().fit(rows()))
    for one, other in zip(own, flat.values(flat.encode_many(items)), strict=True):
        assert one[::2] == other[::2]
        assert torch.allclose(one.numbers, other.numbers, atol=0.1)


def test_of_a_row_with_gaps_what_is_known_counts(table: Table) -> None:
    items = rows()[-2:]
    model, known = Rows(table, rows()), torch.ones(2, table.spec.shape[0], dtype=torch.bool)
    model.fill = lambda x, known, **_: x  # type: ignore[attr-defined]
    known[:, [i for i, name in enumerate(table.spec.names) if name == "a"]] = False
    whole, gaps = (
        anomaly(model, table.encode_many(items), table, generator=generator(), **given)
        for given in ({}, {"known": known})
    )
    assert set(gaps.values["strangest"]) <= {"b", "c"}
    assert max(gaps.values["score"]) < 2 < min(whole.values["score"])

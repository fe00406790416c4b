"""Numbers as conditions: in their own unit, on a scale that tells them apart."""

from __future__ import annotations

import pytest
import torch

from morphogen.core.codec import Item
from morphogen.core.errors import DataError
from morphogen.modalities.category import Category
from morphogen.modalities.value import Value


def test_a_range_becomes_minus_one_to_one() -> None:
    codec = Value().fit(map(Item, (10, "20", 15.5)))
    assert not codec.is_log
    x = codec.encode_many([Item(10), Item(15), Item("20")])
    torch.testing.assert_close(x, torch.tensor([[-1.0], [0.0], [1.0]]))
    assert [codec.decode(row) for row in x] == [10, 15, 20]
    assert codec.spread(x) == "10 to 20"
    assert codec.encode(Item(30)).item() == pytest.approx(3)  # beyond what was learned


def test_skewed_values_are_told_apart_by_their_logarithm() -> None:
    prices = [10 ** (i / 10) for i in range(60)]
    codec = Value().fit(map(Item, prices))
    assert codec.is_log
    x = codec.encode_many([Item(price) for price in prices]).flatten()
    torch.testing.assert_close(x.diff(), x.diff()[:1].expand(59), atol=1e-4, rtol=0)
    assert codec.decode(codec.encode(Item(123.4))) == pytest.approx(123.4, rel=1e-4)
    with pytest.raises(DataError, match="not positive"):
        codec.encode(Item(0))
    assert not Value(scale="linear").fit(map(Item, prices)).is_log
    with pytest.raises(DataError, match="only positive"):
        Value(scale="log").fit(map(Item, (-1, 2)))


def test_one_value_only() -> None:
    codec = Value().fit([Item(3), Item(3)])
    assert codec.decode(codec.encode(Item(3))) == 3


@pytest.mark.parametrize("given", ["a lot", None, "", float("nan"), float("inf"), True])
def test_what_is_no_number(given: object) -> None:
    with pytest.raises(DataError, match="is no number"):
        Value().fit([Item(1), Item(2)]).encode(Item(given))


def sure(codec: type, values: list[object]) -> float:
    told = codec.recognises_cells(values)
    return told.sure if told else 0.0


def test_which_cells_are_numbers_and_which_are_names() -> None:
    prices = [i * 1.37 for i in range(100)]
    ratings: list[object] = [i % 5 for i in range(100)]
    breeds: list[object] = [("pug", "boxer")[i % 2] for i in range(100)]
    captions: list[object] = [f"a picture of thing {i}" for i in range(100)]
    assert sure(Value, prices) > sure(Category, prices) == 0
    assert sure(Value, ratings) > sure(Category, ratings) > 0
    assert sure(Category, breeds) > sure(Value, breeds) == 0
    assert sure(Category, captions) == sure(Value, captions) == 0

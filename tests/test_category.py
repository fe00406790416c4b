"""Categories: names in order, and names that are never taken for indices."""

from __future__ import annotations

import pytest
import torch

from morphogen.core.codec import Item
from morphogen.core.errors import DataError
from morphogen.modalities.category import Category, natural_order


def fitted(*names: object) -> Category:
    return Category().fit(map(Item, names))


def test_names_and_their_indices() -> None:
    codec = fitted("cat", "dog", "cow", "dog")
    assert codec.spec.vocab_size == 3
    label = codec.encode(Item("dog"))
    assert label.dtype == torch.int64
    assert label.shape == ()
    assert label.item() == 2
    assert codec.encode(Item(2)).item() == codec.encode(Item("2")).item() == 2
    assert codec.decode(label) == "dog"
    with pytest.raises(DataError, match="Did you mean 'cow'"):
        codec.encode(Item("coww"))
    with pytest.raises(DataError, match="or 0 to 2"):
        codec.encode(Item(3))


def test_a_name_is_no_index_where_names_are_numbers() -> None:
    codec = fitted(10, 20, 30)
    assert codec.classes == ["10", "20", "30"]
    assert codec.encode(Item("20")).item() == 1
    for given in (0, "1", 2):
        with pytest.raises(DataError, match="there is no class"):
            codec.encode(Item(given))
    mixed = fitted("7", "other")
    with pytest.raises(DataError, match="there is no class '1'"):
        mixed.encode(Item(1))


def test_order() -> None:
    assert natural_order(["b", "10", "2", "-1", "a", "1.5"]) == ["-1", "1.5", "2", "10", "a", "b"]


def test_nothing_to_learn() -> None:
    with pytest.raises(DataError, match="no names"):
        fitted()

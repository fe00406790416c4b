"""The signature is the schema."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from morphogen.core.errors import RecipeError
from morphogen.core.schema import REQUIRED, check_options, convert, defaults, options


class Component:
    """With options of every type."""

    def __init__(
        self,
        spec: str,
        *,
        width: int = 8,  # channels; "wide" is 64
        lr: float = 1e-3,  # learning rate
        kind: Literal["a", "b"] = "a",  # which
        size: int | None = None,  # none chooses
        flag: bool = True,  # on or off
        many: tuple[int, ...] = (1, 2),  # several
        generator: torch.Generator | None = None,
    ) -> None: ...


def task(
    model: Any,
    *,
    num: int,  # how many
    generator: torch.Generator,
) -> None:
    """A function with a required option."""


@dataclass
class Options:
    """A dataclass."""

    budget: str = "10m"  # time, steps or epochs
    seed: int = 0  # of everything


def test_options_are_read_off_the_signature() -> None:
    known = options(Component)
    assert list(known) == ["width", "lr", "kind", "size", "flag", "many"]
    assert known["width"].comment == 'channels; "wide" is 64'
    assert known["kind"].type_name == "a | b"
    assert known["lr"].default == 1e-3
    assert all(option.comment for option in known.values())


def test_functions_and_dataclasses_have_options_too() -> None:
    assert options(task)["num"].default is REQUIRED
    assert defaults(task) == {}
    assert options(Options)["budget"].comment == "time, steps or epochs"
    assert defaults(Options) == {"budget": "10m", "seed": 0}


@pytest.mark.parametrize(
    ("value", "to", "expected"),
    [
        ("3", int, 3),
        (3.0, int, 3),
        ("1e3", int, 1000),
        ("0.5", float, 0.5),
        (2, float, 2.0),
        ("yes", bool, True),
        ("False", bool, False),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("none", int | None, None),
        (None, int | None, None),
        ("7", int | None, 7),
        ("1,2,3", tuple[int, ...], (1, 2, 3)),
        ([1, 2], tuple[int, ...], (1, 2)),
        ("x", Path, Path("x")),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ("as it is", Any, "as it is"),
    ],
)
def test_convert(value: object, to: object, expected: object) -> None:
    converted = convert(value, to)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "to"),
    [
        ("3.5", int),
        (True, int),
        ("many", int),
        (True, float),
        ("maybe", bool),
        ("c", Literal["a", "b"]),
        ("none", int),
        ("x", int | None),
        ("1,x", tuple[int, ...]),
        ("no table", dict[str, int]),
    ],
)
def test_convert_refuses(value: object, to: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        convert(value, to)


def test_a_misspelt_option_is_named_with_its_neighbour() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'width'") as error:
        check_options(Component, {"widht": 4}, "backbone")
    assert error.value.found == "widht"
    assert "lr" in str(error.value.expected)


def test_a_wrong_type_says_what_was_found_and_expected() -> None:
    with pytest.raises(RecipeError) as error:
        check_options(Component, {"width": "broad"}, "backbone")
    assert error.value.where == "backbone.width"
    assert error.value.found == "'broad'"
    assert "int" in str(error.value.expected)


def test_the_generator_is_no_option() -> None:
    with pytest.raises(RecipeError):
        check_options(Component, {"generator": 1}, "family")


def test_json_schema() -> None:
    schema = {name: option.to_json_schema() for name, option in options(Component).items()}
    assert schema["width"] == {
        "type": "integer",
        "description": 'channels; "wide" is 64',
        "default": 8,
    }
    assert schema["kind"]["enum"] == ["a", "b"]
    assert schema["size"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert schema["many"]["items"] == {"type": "integer"}


class Sized:
    """With options that are counted, and those that are not."""

    def __init__(
        self,
        *,
        num_layers: int = 2,  # blocks
        num_chains: int = 4,  # of them; 0 starts anew every time
        model_dim: int | None = None,  # width; none chooses
        num_hidden: tuple[int, ...] = (4, 2),  # of each layer
        drop_prob: float = 0.1,  # of an item
        shift: float = 1.0,  # of anything
        seed: int = 0,  # of every draw
        name: str = "a",  # of a part
    ) -> None: ...


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_layers", 0), ("num_layers", "-3"), ("num_layers", 1e99), ("num_layers", math.inf),
        ("num_layers", True), ("model_dim", 0), ("num_hidden", [4, 0]), ("drop_prob", 1.5),
        ("shift", math.nan), ("shift", "inf"), ("shift", 1e99), ("seed", 2**70), ("name", True),
        ("num_chains", -1), ("num_hidden", 3), ("num_layers", {"a": 1}), ("num_layers", [1]),
    ],
)  # fmt: skip
def test_an_absurd_number_is_refused(option: str, value: object) -> None:
    with pytest.raises(RecipeError, match=option):
        check_options(Sized, {option: value}, "backbone")


def test_a_count_may_be_0_where_its_comment_says_what_that_means() -> None:
    given = {"num_chains": 0, "model_dim": None, "drop_prob": 1, "seed": -5, "num_hidden": "8,4"}
    assert check_options(Sized, given, "backbone")["num_chains"] == 0

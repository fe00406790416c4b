"""Forms from signatures: each keyword argument with its type, default and comment is a field.

What a form says is text; `core.schema.check_options` makes of it what the signature declares.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from morphogen.core.schema import REQUIRED, Option, options

UNASKED = {"cond", "tell"}  # told in another way, or by programs alone


@dataclass(frozen=True)
class Field:
    """One field of a form."""

    name: str
    comment: str
    value: str  # what is written in it; "" leaves it at the default
    default: str
    kind: Literal["text", "number", "choice"] = "text"
    choices: tuple[str, ...] = ()
    step: str = "any"


def fields_of(
    component: Callable[..., Any], values: Mapping[str, str], only: Iterable[str] | None = None
) -> list[Field]:
    """The fields of a component, those of `only` if it is given, with what was written in them."""
    known = [each for name, each in options(component).items() if name not in UNASKED]
    wanted = None if only is None else set(only)
    return [
        _field(each, values.get(each.name, ""))
        for each in known
        if wanted is None or each.name in wanted
    ]


def written(fields: Iterable[Field]) -> dict[str, str]:
    """What was written, for `check_options`: empty fields are left out."""
    return {each.name: each.value for each in fields if each.value != ""}


def takes_inputs(task: Callable[..., Any]) -> bool:
    """Whether a task works on something, beside the model."""
    _, *others = inspect.signature(task).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return any(each.kind in kinds for each in others)


def _field(option: Option, value: str) -> Field:
    default = "" if option.default in (None, REQUIRED) else str(option.default)
    kinds = _kinds(option.type)
    choices = tuple(str(each) for kind in kinds for each in _choices(kind))
    if choices:
        return Field(option.name, option.comment, value, default, "choice", choices)
    numeric = set(kinds) <= {int, float}
    step = "1" if set(kinds) == {int} else "any"
    return Field(
        option.name, option.comment, value, default, "number" if numeric else "text", step=step
    )


def _kinds(of: Any) -> list[Any]:
    """The types that a value may have, but none."""
    if typing.get_origin(of) in (typing.Union, types.UnionType):
        return [each for each in typing.get_args(of) if each is not type(None)]
    return [of]


def _choices(of: Any) -> tuple[Any, ...]:
    if typing.get_origin(of) is Literal:
        return typing.get_args(of)
    return ("true", "false") if of is bool else ()

"""Forms from signatures: each keyword argument with its type, default and comment is a field.

The process of a model tells them, which has what the signatures are made of; what a form says is
text, of which `core.schema.check_options` makes what the signature declares.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from morphogen.core.schema import REQUIRED, Option, options

UNASKED = {"cond", "tell", "known"}  # told in another way, or by programs alone


def form_of(
    component: Callable[..., Any], usual: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Its fields, and whether it works on something, beside a model; `usual` as in `fields_of`."""
    from morphogen.core.inputs import FORMS  # PyTorch, which whoever shows forms does without

    takes_inputs = not inspect.signature(component).parameters.keys().isdisjoint(FORMS)
    return {"fields": fields_of(component, usual), "takes_inputs": takes_inputs}


def fields_of(
    component: Callable[..., Any], usual: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Its fields; `usual` defaults stand in place of those of the signature."""
    fields = [_field(each) for name, each in options(component).items() if name not in UNASKED]
    told = {name: str(value) for name, value in (usual or {}).items()}
    return [{**each, "default": told.get(each["name"], each["default"])} for each in fields]


def filled(fields: Iterable[Mapping[str, Any]], values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Fields with what was written in them."""
    return [{**each, "value": values.get(each["name"], "")} for each in fields]


def written(fields: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What was written: empty fields are left at their defaults."""
    return {each["name"]: each["value"] for each in fields if each["value"] != ""}


def _field(option: Option) -> dict[str, Any]:
    kinds = _kinds(option.type)
    choices = [str(each) for kind in kinds for each in _choices(kind)]
    kind = "choice" if choices else "number" if set(kinds) <= {int, float} else "text"
    return {
        "name": option.name,
        "comment": option.comment,
        "default": "" if option.default in (None, REQUIRED) else str(option.default),
        "kind": kind,
        "choices": choices,
        "step": "1" if set(kinds) == {int} else "any",
    }


def _kinds(of: Any) -> list[Any]:
    """The types that a value may have, but none."""
    if typing.get_origin(of) in (typing.Union, types.UnionType):
        return [each for each in typing.get_args(of) if each is not type(None)]
    return [of]


def _choices(of: Any) -> tuple[Any, ...]:
    if typing.get_origin(of) is Literal:
        return typing.get_args(of)
    return ("true", "false") if of is bool else ()

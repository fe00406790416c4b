"""The signature is the schema: a component's keyword arguments are its configuration.

Each keyword-only argument stands on its own line with a type, a default and one trailing comment.
From that come `--help`, the generated docs, the JSON schema, and errors that name the misspelt key.
"""

from __future__ import annotations

import inspect
import io
import math
import re
import reprlib
import textwrap
import tokenize
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from morphogen.core.errors import DataError, RecipeError, did_you_mean

REQUIRED = inspect.Parameter.empty
LARGEST = 10**12  # no option is larger, whatever it is
Function = typing.TypeVar("Function", bound=Callable[..., Any])
COUNTED = re.compile("^num_|_dim$|_size$|^size$")  # names of counts and sizes


@dataclass(frozen=True)
class Option:
    """One keyword argument: its name, type, default and the comment beside it."""

    name: str
    type: Any
    default: Any
    comment: str

    @property
    def type_name(self) -> str:
        """The type as a reader would write it."""
        if typing.get_origin(self.type) is Literal:
            return " | ".join(map(str, typing.get_args(self.type)))
        return getattr(self.type, "__name__", None) or str(self.type)

    def bounded(self, value: Any) -> Any:
        """`value`, if a number so named can have it. Raises `ValueError`.

        Counts (`num_*`) and sizes (`*_dim`, `*_size`) are at least 1, or 0 where the comment says
        what 0 means; a `*_prob` lies in [0, 1]; and no number is absurdly large.
        """
        if isinstance(value, (list, tuple)):
            for each in value:
                self.bounded(each)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        low, high = -LARGEST, LARGEST
        if isinstance(value, int) and COUNTED.search(self.name):
            low = 0 if re.search(r"\b0\b", self.comment) else 1
        elif self.name.endswith("_prob"):
            low, high = 0, 1
        elif self.name == "seed":
            low, high = -(2**63), 2**63 - 1
        if not low <= value <= high:
            raise ValueError(f"it is not between {low:,} and {high:,}")
        return value

    def to_json_schema(self) -> dict[str, Any]:
        """This option as a JSON schema property, which drives web forms."""
        return {**_json_type(self.type), "description": self.comment, "default": self.default}


def with_options(further: type) -> Callable[[Function], Function]:
    """Say of a function that its `**keywords` are the fields of the dataclass `further`."""

    def said(function: Function) -> Function:
        function.further_options = further  # type: ignore[attr-defined]
        return function

    return said


def options(component: Callable[..., Any]) -> dict[str, Option]:
    """The keyword-only arguments of a class's constructor, a function, or a dataclass's fields,
    with those of which `with_options` tells."""
    known = _own_options(component)
    further = getattr(component, "further_options", None)
    return known if further is None else {**known, **_own_options(further)}


def _own_options(component: Callable[..., Any]) -> dict[str, Option]:
    is_dataclass = inspect.isclass(component) and hasattr(component, "__dataclass_fields__")
    function = component.__init__ if inspect.isclass(component) else component  # type: ignore[misc]
    hints = typing.get_type_hints(component if is_dataclass else function)
    comments = _trailing_comments(component if is_dataclass else function)
    wanted = inspect.Parameter.KEYWORD_ONLY
    return {
        name: Option(name, hints.get(name, Any), parameter.default, comments.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
        if (parameter.kind is wanted or is_dataclass) and name not in ("self", "generator")
    }


def check_options(
    component: Callable[..., Any], given: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return `given` converted to the types that `component` declares.

    Raises `RecipeError` naming the key, what was found and what was expected.
    """
    known = options(component)
    checked = {}
    for key, value in given.items():
        if key not in known:
            raise RecipeError(
                f"{where} has no option {key!r}.{did_you_mean(key, known)}",
                found=key,
                expected=", ".join(known) or "no options",
                where=where,
            )
        try:
            checked[key] = known[key].bounded(convert(value, known[key].type))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise RecipeError(
                f"{where}.{key} has a value that does not fit: {error}",
                found=reprlib.repr(value),
                expected=f"{known[key].type_name} ({known[key].comment})",
                where=f"{where}.{key}",
            ) from error
    return checked


def check_ranges(where: str, **numbers: tuple[float, float, float]) -> None:
    """Raise `DataError` for an option of a component of the data, by name, that is not from low to
    high: (found, low, high)."""
    for name, (found, low, high) in numbers.items():
        if not low <= found <= high:
            raise DataError(
                f"{name} does not fit", found=found, expected=f"{low:g} to {high:g}",
                hint=f"--set {where}.{name}=N",
            )  # fmt: skip


def defaults(component: Callable[..., Any]) -> dict[str, Any]:
    """Every option that has a default, with it."""
    return {o.name: o.default for o in options(component).values() if o.default is not REQUIRED}


def convert(value: Any, to: Any) -> Any:
    """Convert a JSON value or a command-line string to the annotated type, or raise ValueError."""
    origin, inner = typing.get_origin(to), typing.get_args(to)
    if to is Any:
        return value
    if origin is Literal:
        match = [choice for choice in inner if choice == value or str(choice) == str(value)]
        if not match:
            raise ValueError(f"{value!r} is none of {inner}")
        return match[0]
    if origin is Callable:
        if not callable(value):
            raise ValueError(f"{value!r} is no function")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None or value == "none":
            if type(None) in inner:
                return None
            raise ValueError("none is not allowed")
        return _first_that_fits(value, [choice for choice in inner if choice is not type(None)])
    if origin in (tuple, list):
        parts = value.split(",") if isinstance(value, str) else list(value)
        return origin(convert(part, inner[0]) for part in parts)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is no table")
        return dict(value)
    return _convert_plain(value, to)


def _convert_plain(value: Any, to: Any) -> Any:
    if to is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise ValueError(f"{value!r} is neither true nor false")
    if to is int:
        if isinstance(value, bool) or float(value) != int(float(value)):
            raise ValueError(f"{value!r} is no whole number")
        return int(float(value))
    if to is float:
        if isinstance(value, bool) or not math.isfinite(float(value)):
            raise ValueError(f"{value!r} is no number")
        return float(value)
    if to is str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is no text")
        return value
    return to(value) if to is Path else value


def _first_that_fits(value: Any, choices: list[Any]) -> Any:
    for choice in choices:
        try:
            return convert(value, choice)
        except (TypeError, ValueError, ArithmeticError):
            continue
    raise ValueError(f"{value!r} fits none of {choices}")


def _json_type(of: Any) -> dict[str, Any]:
    origin, inner = typing.get_origin(of), typing.get_args(of)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_json_type(part) for part in inner]}
    if origin in (tuple, list):
        return {"type": "array", "items": _json_type(inner[0])}
    names = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
    return {"type": names[of]} if of in names else {}


@cache
def _trailing_comments(component: Callable[..., Any]) -> dict[str, str]:
    """`name: type = default,  # comment` -> {name: comment}, read off the source."""
    try:
        source = textwrap.dedent(inspect.getsource(component))
    except (OSError, TypeError):
        return {}
    comments: dict[str, str] = {}
    first_of_line: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row = token.start[0]
        if token.type == tokenize.NAME:
            first_of_line.setdefault(row, token.string)
        elif token.type == tokenize.COMMENT and row in first_of_line:
            comments.setdefault(first_of_line[row], token.string.lstrip("# ").rstrip())
    return comments

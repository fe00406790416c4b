"""A tool: a function with a schema, and what it may touch.

    def convert(amount: float, to: Literal["EUR", "USD"]) -> float:
        "Money in another currency."

    tool(convert, reads=["rates"])

The signature is the schema. A call whose arguments do not fit it runs nothing. What a tool reads
and writes it says beforehand, by names that grants are written for (`privileges`); "{path}" in such
a name stands for the argument of that name.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from morphogen.core.border import check_sane, strict_json
from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.extras import extra
from morphogen.core.schema import options
from morphogen.systems.schemas import closed

SECONDS = 30.0  # that a tool may take, unless it says otherwise
MOST = 16_000  # characters of what it gives
MOST_ARGUMENTS = 200_000  # characters of what it is given
MOST_SCHEMA = 50_000  # characters
EXPRESSIONS = ("pattern", "patternProperties")  # in a schema
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

Arguments = dict[str, Any]


class ArgumentsError(MorphogenError):
    """A call's arguments are not those of the tool."""


@dataclass(frozen=True)
class Tool:
    """What may be called, and all that is known of it before it is."""

    name: str
    summary: str  # for whoever decides
    schema: Mapping[str, Any]  # of the arguments, JSON schema
    fit: Callable[[Arguments], Arguments]  # to what `run` takes; raises `ArgumentsError`
    function: Callable[..., Any]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()  # what it changes, and where it sends its arguments
    trusted: bool = False  # whether what it gives is as good as its user's own words
    described: bool = True  # whether name, summary and schema are our own words
    seconds: float = SECONDS
    most: int = MOST

    def check(self, arguments: str | Mapping[str, Any]) -> Arguments:
        """Arguments as they were written. Raises `ArgumentsError` where the schema has others."""
        told = _object(self.name, arguments)
        self.fit(told)
        return told

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """What it gives for arguments that were checked. Raises whatever the function does."""
        return self.function(**self.fit(dict(arguments)))

    def touched(self, arguments: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """What a call reads and writes: names with its arguments in them."""
        return (
            [_filled(each, arguments) for each in self.reads],
            [_filled(each, arguments) for each in self.writes],
        )

    def told(self) -> dict[str, Any]:
        """As models are told of functions."""
        function = {"name": self.name, "description": self.summary, "parameters": self.schema}
        return {"type": "function", "function": function}

    def to_json(self) -> dict[str, Any]:
        """All of it but the code."""
        return {
            "name": self.name, "summary": self.summary, "schema": dict(self.schema),
            "reads": list(self.reads), "writes": list(self.writes), "trusted": self.trusted,
            "described": self.described,
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Tool:
        """What a trace says of a tool: it can be judged by it, and not run."""

        def gone(**arguments: Any) -> Any:
            raise RecipeError("a tool of a trace is not run", found=told["name"])

        return cls(
            told["name"], told["summary"], told["schema"], dict, gone, tuple(told["reads"]),
            tuple(told["writes"]), told["trusted"], told["described"],
        )  # fmt: skip


def tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    summary: str | None = None,
    reads: Iterable[str] = (),
    writes: Iterable[str] = (),
    trusted: bool = False,
    seconds: float = SECONDS,
    most: int = MOST,
) -> Tool:
    """A function whose parameters all have types, as a tool. Comments beside keyword arguments, and
    texts in `Annotated`, tell what they are.

    Raises `RecipeError` for a function that cannot be called by name with JSON.
    """
    called = _checked_name(name or function.__name__)
    adapter = _adapter(function, called)

    def fit(arguments: Arguments) -> Arguments:
        pydantic: Any = extra("pydantic", "agents", "arguments of tools are checked")
        try:
            return dict(adapter.validate_json(json.dumps(arguments)))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise _misfit(called, f"{place}: {first['msg']}", schema) from error

    schema = _without(adapter.json_schema(), {"title"})  # which the library makes of names
    told = summary or inspect.getdoc(function) or called.replace("_", " ")
    return Tool(
        called, told, schema, fit, function, tuple(reads), tuple(writes), trusted, True, seconds,
        most,
    )  # fmt: skip


def tool_of_schema(
    name: str,
    summary: str,
    schema: Mapping[str, Any],
    run: Callable[..., Any],
    *,
    reads: Iterable[str] = (),
    writes: Iterable[str] = (),
    trusted: bool = False,
    described: bool = True,
    seconds: float = SECONDS,
    most: int = MOST,
) -> Tool:
    """What is called with keyword arguments that a JSON schema describes. A schema that is not
    `described` by us leads nowhere outside it, and its regular expressions are left to whoever
    wrote them: one may take for ever.

    Raises `RecipeError` for a schema of anything but an object.
    """
    library: Any = extra("jsonschema", "agents", "arguments of tools are checked")
    referencing: Any = extra("referencing", "agents", "arguments of tools are checked")
    try:
        check_sane(dict(schema))
    except ValueError as error:
        raise RecipeError("that is no JSON schema", found=str(error), where=name) from error
    told = closed({"properties": {}, **(schema if described else _without(schema, EXPRESSIONS))})
    if len(json.dumps(told)) > MOST_SCHEMA:
        raise RecipeError("the schema is too long", expected=f"{MOST_SCHEMA:,} characters at most")
    if told.setdefault("type", "object") != "object":
        raise RecipeError("arguments of a tool are an object", found=told["type"], where=name)
    if not told["properties"]:
        told.setdefault("additionalProperties", False)
    try:
        library.Draft202012Validator.check_schema(told)
    except library.SchemaError as error:
        raise RecipeError("that is no JSON schema", found=error.message, where=name) from error
    held = library.Draft202012Validator(told, registry=referencing.Registry())  # fetches nothing

    def fit(arguments: Arguments) -> Arguments:
        try:
            wrong = library.exceptions.best_match(held.iter_errors(arguments))
        except (referencing.exceptions.Unresolvable, RecursionError) as error:
            raise ArgumentsError(f"the schema leads nowhere: {error}", where=name) from error
        if wrong is not None:
            place = ".".join(map(str, wrong.absolute_path)) or "the whole"
            raise _misfit(name, f"{place}: {wrong.message[:300]}", told)
        return arguments

    return Tool(
        _checked_name(name), summary, told, fit, run, tuple(reads), tuple(writes), trusted,
        described, seconds, most,
    )  # fmt: skip


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise RecipeError(
            "that is no name of a tool", found=name, expected="letters, digits and _, up to 64"
        )
    return name


def _adapter(function: Callable[..., Any], name: str) -> Any:
    """What reads the arguments of a function from JSON, and takes nothing for something else."""
    pydantic: Any = extra("pydantic", "agents", "arguments of tools are checked")
    extensions: Any = extra("typing_extensions", "agents", "arguments of tools are checked")
    hints = typing.get_type_hints(function, include_extras=True)
    comments = {each.name: each.comment for each in options(function).values()}
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not by_name or parameter.name not in hints:
            raise RecipeError(
                "a tool's parameters have names and types",
                found=f"{name}({parameter})", expected="def find(place: str, num: int = 5)",
            )  # fmt: skip
        needed = parameter.default is parameter.empty
        default = (
            {} if needed or not _is_plain(parameter.default) else {"default": parameter.default}
        )
        said = _described(hints[parameter.name], comments.get(parameter.name, ""), default)
        fields[parameter.name] = (extensions.Required if needed else extensions.NotRequired)[said]
    held = extensions.TypedDict(name, fields)
    held.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", strict=True)
    try:
        return pydantic.TypeAdapter(held)
    except (pydantic.errors.PydanticUserError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise RecipeError(
            "a tool takes what JSON holds", found=said, where=name,
            expected="texts, numbers, lists, tables, choices (Literal), dates",
        ) from error  # fmt: skip


def _is_plain(value: Any) -> bool:
    """Whether JSON has it as it is."""
    return value is None or isinstance(value, (bool, int, float, str))


def _described(hint: Any, comment: str, more: Mapping[str, Any]) -> Any:
    """A type with what is said of it, where something is, and more that its schema holds."""
    pydantic: Any = extra("pydantic", "agents", "arguments of tools are checked")
    texts = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, str)]
    said = "; ".join([*texts, *filter(None, [comment])])
    told = pydantic.Field(description=said or None, json_schema_extra=dict(more) or None)
    return typing.Annotated[hint, told] if said or more else hint


def _object(name: str, arguments: str | Mapping[str, Any]) -> Arguments:
    """JSON as it came, or what it is to be -> a dict."""
    try:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        if len(text) > MOST_ARGUMENTS:
            raise ArgumentsError(
                "the arguments are too long", found=f"{len(text):,} characters",
                expected=f"at most {MOST_ARGUMENTS:,}", where=name,
            )  # fmt: skip
        arguments = strict_json(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentsError(f"the arguments are no JSON: {error}", where=name) from error
    if not isinstance(arguments, Mapping):
        raise ArgumentsError(
            "arguments are an object", found=type(arguments).__name__, expected="{..}", where=name
        )
    return dict(arguments)


def _misfit(name: str, what: str, schema: Mapping[str, Any]) -> ArgumentsError:
    known = schema.get("properties", {})
    needed = set(schema.get("required", ()))
    listed = ", ".join(each + "?" * (each not in needed) for each in known)
    return ArgumentsError(
        f"the arguments do not fit: {what}", expected=listed or "no arguments", where=name
    )


def _without(schema: Any, dropped: Collection[str], *, names: bool = False) -> Any:
    """A schema without some of its words, wherever they stand. Below "properties" keys are `names`,
    of which one may be "title"."""
    if isinstance(schema, list):
        return [_without(each, dropped) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: _without(value, dropped, names=not names and key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or key not in dropped
    }


def _filled(place: str, arguments: Mapping[str, Any]) -> str:
    """A name with arguments in it."""
    return re.sub(r"\{(\w+)\}", lambda found: str(arguments.get(found[1], "")), place)

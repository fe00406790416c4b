"""A bundle as tools: one for each task that applies to it, whoever trained it, whatever it is of.

    plant_forecast(files=["load.csv"], num=50)    what comes next, with a band
    plant_anomaly(files=["load.csv"])             how strange it is
    boots_generate(num=4, seed=1)                 new items, as files below `out`
    told_fill(inputs=[{"text": "red", "image": null}])    parts of an item, of which one is drawn

A call gives texts and values as they are, and names files that lie in a folder that the user chose.
So does an item of parts, each by itself; given one, files are named that lie in the folder of files
to work on, and null stands for what is to be drawn.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, MorphogenError, RecipeError
from morphogen.core.following import TakesParts
from morphogen.core.inputs import FORMS
from morphogen.core.result import Result
from morphogen.core.schema import Option, options
from morphogen.core.storage import write_text
from morphogen.core.visible import in_shell
from morphogen.systems.agents.running import Untrusted
from morphogen.systems.agents.tool import Tool, tool_of_schema
from morphogen.systems.exchange import check_words, plain

MOST_ITEMS = 64  # of one call
SECONDS = 300.0
GIVEN = {
    "sequences": "texts to go on with",
    "values": "items, as they are",
    "sources": "texts that something is made from",
    "coming": "none: name files, and what comes after them is looked at",
    "x": "items as values: texts, rows of a table",
}  # what inputs of each form are
PARTS = "texts, files by name, null for what is to be drawn"
ROWS = Path("items.jsonl")
NOWHERE = "a file, and no folder is open for what is made (--out FOLDER)"


def bundle_tools(
    bundle: Bundle,
    name: str,
    *,
    tasks: Collection[str] = (),
    files: Path | str | None = None,
    out: Path | str | None = None,
) -> list[Tool]:
    """A tool for each of the `tasks`, or for all that apply. Inputs are read from the folder
    `files`, and what is no text or value is written to `out`, where these are given.

    Raises `RecipeError` for a task that does not apply.
    """
    reasons = bundle.tasks()
    for each in tasks:
        if (reason := reasons.get(each, "is no task")) is not None:
            raise RecipeError(
                f"the task {each!r} does not apply to {name}: it {reason}",
                hint=f"morphogen tasks {in_shell(bundle.path or 'BUNDLE')}",
            )
    chosen = tasks or [each for each, reason in reasons.items() if reason is None]
    maker = _Caller(bundle, name, _resolved(files), _resolved(out))
    return [maker.tool(each) for each in chosen]


class _Caller:
    """Calls the tasks of one bundle."""

    def __init__(self, bundle: Bundle, name: str, files: Path | None, out: Path | None) -> None:
        self.bundle, self.name = bundle, re.sub(r"\W+", "_", name)
        self.files, self.out = files, out
        self.numbers = itertools.count(1)

    def tool(self, task: str) -> Tool:
        """The tool of one task."""
        function = discover.find("task", task)
        what = type(self.bundle.codec.innermost).__name__.lower()
        return tool_of_schema(
            f"{self.name}_{task}", f"{discover.summary(function)} Of: {what}.",
            self._schema(function), self._caller(task),
            reads=[f"model:{self.name}", *([f"files:{self.files}"] if self.files else [])],
            writes=[f"files:{self.out}"] if self.out else [], trusted=True, seconds=SECONDS,
        )  # fmt: skip

    def _schema(self, function: Callable[..., Any]) -> dict[str, Any]:
        parameters = inspect.signature(function).parameters
        form = next((each for each in FORMS if each in parameters), None)
        told = {
            each.name: shown for each in options(function).values()
            if (shown := _shown(each)) is not None
        }  # fmt: skip
        if form is not None and form != "coming":
            what = GIVEN[form]
            if isinstance(reader := self.bundle.codec.innermost, TakesParts):
                what = f"items as objects of {', '.join(reader.part_codecs)}: {PARTS}"
            told["inputs"] = {"type": "array", "maxItems": MOST_ITEMS, "description": what}
        if form is not None and self.files is not None:
            names = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_ITEMS}
            told["files"] = {**names, "description": "files to work on, by name"}
        told["seed"] = {"type": "integer", "description": "same seed, same result", "default": 0}
        if self.bundle.family.conditions:
            known = ", ".join(self.bundle.family.conditions)
            told["cond"] = {"type": "object", "description": f"conditions by name: {known}"}
        return {"type": "object", "properties": told, "additionalProperties": False}

    def _caller(self, task: str) -> Callable[..., Any]:
        def run(
            *,
            inputs: Sequence[Any] = (),
            files: Sequence[str] = (),
            seed: int = 0,
            cond: Mapping[str, Any] | None = None,
            **given: Any,
        ) -> Any:
            check_words({**given, **(cond or {})})
            if int(given.get("num", 1)) > MOST_ITEMS * 4:
                raise RecipeError("that many are not drawn at once", found=given["num"],
                                  expected=f"at most {MOST_ITEMS * 4}")  # fmt: skip
            items = [self._item(each, f"input {i}") for i, each in enumerate(inputs)]
            result = self.bundle.task(
                task, *items, *map(self._file, files), seed=seed, cond=cond, **given
            )
            return self._told(task, result)

        return run

    def _item(self, value: Any, name: str) -> Item:
        """An input as an item: of one of parts, those that are no texts are named as files."""
        codec = self.bundle.codec.innermost
        if not isinstance(codec, TakesParts) or not isinstance(value, Mapping):
            return Item(value, name)
        told = dict(value)
        for part, each in value.items():
            if isinstance(each, str) and _is_file(codec, part):
                told[part] = Path(self._file(each))
        return replace(codec.asked(told), name=name)

    def _file(self, name: str) -> str:
        if self.files is None:
            raise DataError(
                "no folder of files to work on is open", found=name, expected="texts, or null",
                hint="--files FOLDER, by whoever offers the tool",
            )  # fmt: skip
        found = (self.files / name).resolve()
        if not found.is_relative_to(self.files) or not found.exists():
            near = sorted(each.name for each in self.files.iterdir())[:20]
            raise DataError("there is no such file", found=name, expected=", ".join(near))
        return str(found)

    def _told(self, task: str, result: Result) -> Any:
        """Numbers, and items: as text where they have one, else as files."""
        told: dict[str, Any] = {"route": result.route, **plain(result.values)}
        if not len(result):
            return told
        if isinstance(reader := result.reader, TakesParts):
            told |= self._parts(task, result, reader)
            return Untrusted(json.dumps(told, ensure_ascii=False))
        items = list(result.items)
        if all(isinstance(each, str) for each in items):
            return Untrusted(json.dumps({**told, "items": plain(items)}, ensure_ascii=False))
        if all(isinstance(each, (int, float, bool, dict)) for each in items):
            told["items"] = plain(items)
        elif (rows := _rows(result)) is not None:
            told["rows"] = rows
        if self.out is not None:
            suffix = self.bundle.codec.suffix
            told["file"] = result.save(self._place(task, suffix)).name
        elif not {"items", "rows"} & set(told):
            told["items"] = [str(each)[:200] for each in items]
        return told

    def _parts(self, task: str, result: Result, codec: TakesParts) -> dict[str, Any]:
        """Items by their parts: texts, and the names of files, where there is a folder for them."""
        if self.out is None:
            items = [
                {n: NOWHERE if _is_file(codec, n) else own for n, own in each.items()}
                for each in result.items
            ]
            return {"items": plain(items)}
        rows = result.save(self._place(task, ROWS.suffix))
        lines = rows.read_text().splitlines()
        return {"items": plain([json.loads(line) for line in lines]), "file": rows.name}

    def _place(self, task: str, suffix: str) -> Path:
        """Where what a call made is written."""
        assert self.out is not None
        return self.out / f"{self.name}-{task}-{next(self.numbers)}{suffix}"


def _is_file(codec: TakesParts, part: str) -> bool:
    """Whether a part is a file by itself; one that there is not is left to `asked` to tell."""
    return part in codec.part_codecs and codec.part_file(ROWS, 0, part) is not None


def _rows(result: Result) -> str | None:
    """Items as CSV, where their codec writes that."""
    assert result.codec is not None
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = result.codec.write(result.items, Path(folder) / "items.csv")
            return file.read_text()
        except (MorphogenError, ValueError, OSError):
            return None


def _shown(option: Option) -> dict[str, Any] | None:
    """An option as a schema; None for what JSON does not hold."""
    told = option.to_json_schema()
    if not {"type", "enum", "anyOf"} & set(told) or option.name in ("cond", "codec", "marking"):
        return None
    if option.default is inspect.Parameter.empty:
        told.pop("default")
    try:
        json.dumps(told, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return told


def _resolved(folder: Path | str | None) -> Path | None:
    return None if folder is None else Path(folder).expanduser().resolve()


def writing_tool(folder: Path | str) -> Tool:
    """`write_file(name, text)`: texts into one folder, each file once."""
    into = Path(folder).expanduser().resolve()

    def write(*, name: str, text: str) -> str:
        file = (into / name).resolve()
        if not file.is_relative_to(into) or file.exists():
            raise DataError("no file is written there", found=name,
                            expected=f"a name below {into} that is not taken")  # fmt: skip
        return f"written: {write_text(file, text).relative_to(into)}"

    schema = {"properties": {"name": {"type": "string"}, "text": {"type": "string"}},
              "required": ["name", "text"]}  # fmt: skip
    return tool_of_schema("write_file", "Write a text into a new file.", schema, write,
                          writes=[f"files:{into}/{{name}}"], trusted=True)  # fmt: skip

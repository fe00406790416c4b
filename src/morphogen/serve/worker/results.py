"""Items in and out of the process of a model: texts and values as they are, all else as files."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from morphogen.core.codec import Codec, Item
from morphogen.core.errors import DataError
from morphogen.core.following import TakesParts
from morphogen.core.result import Result
from morphogen.provenance.beside import SUFFIX as CREDENTIAL
from morphogen.provenance.beside import side_car
from morphogen.systems.exchange import plain, shown

SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
View = Literal["whole", "each"] | None
PLAIN = (str, int, float, bool, dict, list, tuple, type(None))


def told(result: Result, *, view: View = None) -> dict[str, Any]:
    """A result as JSON: its numbers, what of them people are shown where that is less, its route,
    its items; with `view`, as their codec shows them to people as well, all on one page or each on
    one of its own."""
    return {
        **_viewed(result, view),
        "values": plain(result.values),
        "route": result.route,
        "items": _items(result),
        "told": plain(result.told),
        **({"forms": plain(result.forms)} if result.forms else {}),
        **({"positions": result.positions.tolist()} if result.positions is not None else {}),
    }


def _viewed(result: Result, view: View) -> dict[str, Any]:
    """HTML of items; none of what is no item of the modality, such as what is said in a sound."""
    if view is None or result.codec is None or not len(result) or result.forms:
        return {}
    if view == "each":
        return {"pages": [result.codec.html([value]) for value in result.items]}
    return {"html": result.codec.html(result.items, result.columns)}


def gives_items(codec: Codec) -> bool:
    """Whether items come back as they could be given: not those that a page alone shows, such as
    windows of a series."""
    return codec.raw is None or codec.suffix != Codec.suffix


def conditions(codec: Codec, cond: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions by name: a picture or a sound, which comes as an input of a task does, as the raw
    value of its own codec. Raises `DataError`."""
    told = dict(cond)
    with tempfile.TemporaryDirectory() as place:
        for number, (name, value) in enumerate(cond.items()):
            reader = codec.condition_codecs.get(name)
            if reader is not None and isinstance(value, Mapping) and "file" in value:
                told[name] = reader.parse(str(_given(value, Path(place), number)))
    return told


def given(inputs: Sequence[Mapping[str, Any]], folder: Path, codec: Codec) -> list[Any]:
    """What a task works on: texts, values, files, which are written to `folder` under names of our
    own, and items of several of these. Raises `DataError`."""
    return [
        _of_parts(each["parts"], folder, number, codec.innermost)
        if each.get("parts")
        else _given(each, folder, number)
        for number, each in enumerate(inputs)
    ]


def _of_parts(parts: Mapping[str, Any], folder: Path, number: int, codec: Codec) -> Item:
    """One item: of a part that is told nothing of, that it is to be drawn."""
    if not isinstance(codec, TakesParts):
        raise DataError("items of this model have no parts", found=", ".join(parts))
    told: dict[str, str | Path | None] = {}
    for place, (name, each) in enumerate(parts.items()):
        within = folder / f"{number}-{place}"
        within.mkdir()
        one = None if each is None else _given(each, within, 0)
        told[name] = one.value if isinstance(one, Item) else one
    return replace(codec.asked(told), name=f"input {number}")


def _given(each: Mapping[str, Any], folder: Path, number: int) -> Any:
    if "file" not in each:
        return Item(each["text"] if "text" in each else each.get("value"), f"input {number}")
    suffix = str(each.get("suffix", "")).lower()
    if not SUFFIX.fullmatch(suffix):
        raise DataError("an input does not say what kind of file it is", found=suffix,
                        expected='"suffix": ".png"')  # fmt: skip
    try:
        data = base64.b64decode(each["file"], validate=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"an input is no base64: {error}", where=f"input {number}") from error
    file = folder / f"input-{number}{suffix}"
    file.write_bytes(data)
    return file


def _items(result: Result) -> list[dict[str, Any]]:
    if isinstance(result.reader, TakesParts) and len(result):
        return _in_parts(result, result.reader)
    values = list(result.items)
    if all(isinstance(value, str) for value in values):
        return [{"text": shown(value)} for value in values]
    if all(isinstance(value, PLAIN) for value in values):
        return [{"value": plain(value)} for value in values]
    with tempfile.TemporaryDirectory() as place:
        result.save(Path(place) / "items")
        files = sorted((Path(place) / "items").rglob("*.*"))
        return [_file(file) for file in files if file.suffix != CREDENTIAL]


def _in_parts(result: Result, codec: TakesParts) -> list[dict[str, Any]]:
    """Each as it would be given, its parts by name: texts, and files."""
    with tempfile.TemporaryDirectory() as place:
        rows = result.save(Path(place) / "items.jsonl")
        items: list[dict[str, Any]] = []
        for number, line in enumerate(rows.read_text().splitlines()):
            files = {name: codec.part_file(rows, number, name) for name in codec.part_codecs}
            parts = {
                name: {"text": shown(cell)} if (file := files[name]) is None else _file(file)
                for name, cell in json.loads(line).items()
            }
            items.append({"parts": parts})
        return items


def _file(file: Path) -> dict[str, Any]:
    """A file that was made, with the credential beside it, if it has one there."""
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    data = base64.b64encode(file.read_bytes()).decode()
    made = {"file": data, "suffix": file.suffix, "media_type": kind}
    beside = side_car(file)
    return {**made, "credential": beside.read_text()} if beside.is_file() else made

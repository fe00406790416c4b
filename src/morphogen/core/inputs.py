"""What a task is given to work on, in the form that it takes it in.

By the name of its argument: items `x`; `sequences` that are to go on; `values` as they are read, of
any length; `sources`, texts that something is made from; or what is `coming` after a source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.border import read_text
from morphogen.core.codec import Codec, Item
from morphogen.core.encoded import num_items
from morphogen.core.errors import DataError, RecipeError, RefusedPair
from morphogen.core.following import GAP, CanGoOn, HasGaps, TakesParts, conditions_of
from morphogen.core.storage import expanded
from morphogen.core.visible import in_shell

FORMS = ("sequences", "values", "sources", "coming", "x")
READ = {"x", "values", "coming"}  # from files
AUTO = "auto"  # a mask: what is missing; where nothing is, what hides about half


@dataclass
class Inputs:
    """Arguments of a task, how many items there are, and the conditions that they came with."""

    arguments: dict[str, Any] = field(default_factory=dict)
    num: int | None = None
    cond: dict[str, Any] = field(default_factory=dict)


def inputs_of(
    codec: Codec, spec: Any, name: str, parameters: Mapping[str, Any], inputs: tuple[Any, ...],
    *, where: Any, given: Mapping[str, Any],
) -> Inputs:  # fmt: skip
    """The inputs of the task `name`: items, raw values, paths that the codec reads, or a tensor
    (N, *shape) of `spec`. `given` are the options that the user set."""
    form = next((each for each in FORMS if each in parameters), None)
    if (form is None) == bool(inputs):
        example = "" if form is None else f" a{codec.suffix}" if form in READ else " --prompt TEXT"
        raise RecipeError(
            f"the task {name!r} {'takes no' if form is None else 'needs'} items to work on",
            found=f"{len(inputs)} items",
            hint=f"morphogen task {name} {in_shell(where or 'BUNDLE')}{example}",
        )
    if form is None:
        return Inputs()
    if form == "sequences":
        items = items_of(codec, inputs)
        sequences = codec.encode_sequences(items)
        return Inputs({form: sequences, **_names(items, parameters)}, len(sequences))
    if form == "values":
        values = [item.value for item in items_of(codec, inputs)]
        return Inputs({form: values}, len(values))
    if form == "sources":
        sources = list(sources_of(inputs))
        return Inputs({form: sources}, len(sources))
    if form == "coming":
        items = coming_after(codec, inputs)
        return Inputs({form: items}, len(items), conditions_of(codec.innermost, items))
    if is_encoded(inputs):
        spec.check(inputs[0], "input")
        return Inputs({form: inputs[0]}, num_items(inputs[0]))
    items = items_of(codec, inputs)
    if named := parts_named(codec, items, given.get("mask")):  # then they are gaps
        pairs = zip(items, named, strict=True)
        items = [replace(item, value=item.value | dict.fromkeys(own, GAP)) for item, own in pairs]
        given = {key: value for key, value in given.items() if key != "mask"}
    gaps: dict[str, Any] = dict(gaps_in(codec, items, name, parameters, given))
    if gaps and "items" in parameters:
        gaps["items"] = items
    arguments = {form: codec.encode_many(items), **gaps, **_names(items, parameters)}
    return Inputs(arguments, len(items), conditions_of(codec.innermost, items))


def _names(items: Sequence[Item], parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the items are called, for a task that asks."""
    return {"names": [item.name for item in items]} if "names" in parameters else {}


def is_encoded(inputs: tuple[Any, ...]) -> bool:
    """Whether inputs are items that were encoded already: a tensor, or one for each part. A dict
    of other values is a raw item, such as a row of a table."""
    if len(inputs) != 1 or not isinstance(inputs[0], (Tensor, dict)):
        return False
    parts = inputs[0].values() if isinstance(inputs[0], dict) else inputs
    return all(isinstance(each, Tensor) for each in parts)


def items_of(codec: Codec, inputs: Iterable[Any]) -> list[Item]:
    """What a task's inputs stand for: items as they are, raw values, and paths to read."""
    items: list[Item] = []
    for value in inputs:
        if isinstance(value, (str, Path)):
            items.extend(codec.read_inputs(value))
        else:
            items.append(value if isinstance(value, Item) else Item(value))
    return items


def coming_after(codec: Codec, inputs: Iterable[Any]) -> list[Item]:
    """What comes after each source. Raises `RefusedPair` where nothing does."""
    if not isinstance(codec, CanGoOn):
        raise RefusedPair(
            "items of this kind do not follow one another",
            found=type(codec.innermost).__name__,
            expected="series, of which an item comes after those before it",
        )
    return [item for source in inputs for item in codec.coming(source)]


def parts_named(codec: Codec, items: Sequence[Item], mask: Any) -> list[list[str]]:
    """The parts of each item that a mask names, "sound,text"; of "auto", where none has a gap, the
    last that it has. Nothing where it says something else."""
    known = codec.part_codecs if isinstance(codec, TakesParts) else {}
    if mask == AUTO and known:
        if any(each is GAP for item in items for each in item.value.values()):
            return []
        return [[n for n in known if item.value.get(n) is not None][-1:] for item in items]
    names = [each.strip() for each in mask.split(",")] if isinstance(mask, str) else []
    return [names] * len(items) if names and all(name in known for name in names) else []


def gaps_in(
    codec: Codec,
    items: Sequence[Item],
    name: str,
    parameters: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Tensor]:
    """What of the items is `known`, for a task that can be told; nothing where all of it is.

    Raises `DataError` where a task would take what is missing for what is there, and where one that
    fills gaps finds none, and is told of nothing else to draw. A mask "auto" is told to fill them,
    or where there are none to hide what it usually does.
    """
    if not isinstance(codec, HasGaps):
        return {}
    known = [codec.known(item) for item in items]
    missing = [item.name for item, there in zip(items, known, strict=True) if there is not None]
    if not missing:
        if "items" in parameters and given.keys().isdisjoint(("mask", "known")):
            raise DataError(
                "nothing is to be filled: no item has a gap, and no mask says what to draw anew",
                found=f"{len(items):,} whole: {', '.join(item.name for item in items[:3])}",
                expected=codec.gap,
                hint="--set mask=auto, or names of parts or columns: --set mask=NAME,NAME",
            )
        return {}
    if "known" not in parameters or given.get("mask", AUTO) != AUTO:
        raise DataError(
            f"{len(missing):,} of {len(items):,} items have gaps",
            found=", ".join(missing[:3]),
            expected="items of which everything is known"
            + " (or no mask: what is missing is then filled)" * ("known" in parameters),
            hint=None if name == "fill" else "morphogen task fill BUNDLE FILE fills them",
        )
    whole = torch.ones(codec.spec.shape, dtype=torch.bool)
    return {"known": torch.stack([whole if each is None else each for each in known])}


def sources_of(inputs: Iterable[Any]) -> Iterator[str]:
    """Texts as they are, and the lines of files that are named."""
    for value in inputs:
        if isinstance(value, Item):
            yield str(value.value)
        else:
            yield from filter(str.strip, read_text(expanded(value), DataError).splitlines())

"""What may change when a run goes on: where it runs and what it shows, nothing of its numbers.

A longer budget is among what may not: the learning rate, the weight average and the noise of some
families follow the share of the budget that is spent, so the steps taken would not be those of the
longer run. What is refused is named, with what the run was begun with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.errors import RecipeError
from morphogen.core.family import weights_digest
from morphogen.core.following import ComesThrough
from morphogen.core.recipe import Recipe
from morphogen.core.schema import convert
from morphogen.training.options import Budget

FREE = {"device", "checkpoint_every", "num_previews"}  # of the table [train]


def gone_on_with(
    begun: Recipe, given: Recipe, out: Path, reading: Mapping[str, Any] | None = None
) -> Recipe:
    """`begun` with what `given` may change of it; `reading` is what else is known of [modality].

    Raises `RecipeError` naming all that `given` may not change.
    """
    tables, other = begun.to_json(), {}
    known = {**tables, "modality": {**(reading or {}), **tables["modality"]}}
    for table, options in given.to_json().items():
        for key, value in options.items():
            if table == "train" and key in FREE:
                tables[table][key] = value
            elif not _is_same(key, value, known[table].get(key)):
                other[f"{table}.{key}"] = (known[table].get(key), value)
    if other:
        raise RecipeError(
            "a run that goes on keeps the settings that it was begun with",
            found=", ".join(f"{name}={value}" for name, (_, value) in other.items()),
            expected=", ".join(f"{name}={_shown(before)}" for name, (before, _) in other.items()),
            where=out,
            hint=f"leave them out, or begin anew with them and another --out, such as {out}-2",
        )
    return Recipe(**tables)


def reading_of(codec: Codec, about: Mapping[str, Any]) -> dict[str, Any]:
    """The table [modality] of a run, as its codec and its data tell it."""
    inner = codec.innermost
    options = inner.state().get("options", {})
    return {"name": discover.name_of(type(inner)), **options, **about.get("options", {})}


def model_of(codec: Codec) -> str | None:
    """The digest of the trained model that a codec comes through; None where there is none."""
    model = codec.model if isinstance(codec, ComesThrough) else None
    return None if model is None else weights_digest(model)


def check_through(begun: str | None, through: Bundle, out: Path, hint: str) -> None:
    """Raise `RecipeError` unless the bundle `through` is the one that the run in `out` was begun
    with, whose model has the digest `begun`; None where it was begun with none."""
    if begun == weights_digest(through.family):
        return
    expected = "none: it learns the items themselves"
    if begun is not None:
        expected = f"the model that it was begun with, whose weights have the digest {begun[:16]}"
    raise RecipeError(
        "the run was not begun in the latents of this model",
        found=f"--through {through.path or 'a bundle in memory'}",
        expected=expected,
        where=out,
        hint=hint,
    )


def _is_same(key: str, value: Any, before: Any) -> bool:
    """Whether a value, as it is typed, is the recorded one."""
    if before is None:
        return value in (None, "none")
    if key == "budget":
        asked, known = (str(each).split("+") for each in (value, before))  # one of each stage
        return list(map(Budget.parse, asked)) == list(map(Budget.parse, known))
    try:
        if isinstance(before, (list, tuple)):
            return [str(v) for v in convert(value, list[str])] == [str(v) for v in before]
        return bool(convert(value, type(before)) == before)
    except (TypeError, ValueError):
        return False


def _shown(before: Any) -> str:
    return "(not set)" if before is None else str(before)

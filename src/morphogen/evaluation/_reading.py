"""What an evaluation is asked for, held against what it may be; and the data, read for judging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.errors import DataError
from morphogen.core.schema import check_options
from morphogen.core.visible import in_shell
from morphogen.data.dataset import Data, load
from morphogen.data.places import load_options, place_of


@dataclass
class Asked:
    """What an evaluation is asked for."""

    num: int | None = None  # generated items; none, or 0: as many as there are training items
    seed: int = 0  # of all that is drawn
    groups: list[str] | None = None  # labels to look for bias by


def checked(num: Any, seed: Any, groups: Any) -> tuple[int | None, int, Sequence[str] | None]:
    """The same, as they are used. Raises `RecipeError` for what they cannot be."""
    given = {"num": num, "seed": seed, "groups": groups}
    asked = Asked(**check_options(Asked, given, "evaluate"))
    return asked.num, asked.seed, asked.groups


def opened(bundle: Bundle | Path | str) -> Bundle:
    """A bundle, or that of a folder."""
    return bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)


def read(bundle: Bundle, data: Data | Path | str | None) -> tuple[Data, Data]:
    """The data, or that which the bundle was trained on, as the model sees it and as it is judged.

    Raises `DataError` where it is not there, is of another kind, or has nothing held out.
    """
    if data is None:
        data = place_of(bundle.data, f"morphogen evaluate {in_shell(bundle.path)} --data FOLDER")
    loaded = data if isinstance(data, Data) else load(data, **_reading(bundle))
    _check_kind(bundle, loaded)
    return _both_views(loaded, getattr(bundle.family, "required", ()))


def _reading(bundle: Bundle) -> dict[str, Any]:
    """How to read the data for judging: into the items that the model learned, in the view that it
    sees, split as in training, or a part would be known; but else as any codec of its kind does."""
    codec = bundle.codec.innermost
    options, found = codec.state().get("options", {}), load_options(bundle.data)
    if codec.defining:
        found["modality"] = discover.name_of(type(codec))
    if bundle.codec.viewed is codec:
        found["view"] = bundle.codec.view or None
    if codec.judged_as_fitted:
        return found | {"codec": codec}
    return found | {n: options[n] for n in codec.defining if options.get(n) is not None}


def _check_kind(bundle: Bundle, data: Data) -> None:
    """Raise `DataError` where the data is of another kind than the items that the model learned."""
    learned, read = type(bundle.codec.innermost), type(data.codec.innermost)
    if learned is not read and data.spec != bundle.family.spec:
        raise DataError(
            "the data is of another kind than what the model learned",
            found=f"{discover.name_of(read)}: {data.spec}",
            expected=f"{discover.name_of(learned)}: {bundle.family.spec}",
            where=data.source,
            hint=f"morphogen evaluate {in_shell(bundle.path or 'BUNDLE')} --data FOLDER",
        )


def _both_views(data: Data, required: Sequence[str]) -> tuple[Data, Data]:
    """The data as the model sees it, and as it is judged: in its codec's first view, so that models
    in different views have the same judges. Items that lack a required condition are left out.

    Raises `DataError` where there is nothing to compare with.
    """
    if len(data.test) < 2:
        raise DataError(
            "an evaluation needs held-out items",
            found=f"{len(data.train)} training and {len(data.test)} test items",
            expected="at least two test items",
            hint="add items to the data, or a test folder",
        )
    own = data.having(required)
    first = data.codec.viewed.views[0]
    if data.codec.view == first:
        return own, own
    try:
        return own, data.in_view(first).having(required)
    except DataError:  # canaries, or nothing to read again
        return own, own

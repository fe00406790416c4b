"""What a task returns: items, numbers, and the route that made them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.encoded import num_items
from morphogen.core.errors import MorphogenError
from morphogen.core.ledger import record
from morphogen.core.storage import clear_partial, write_text


def check_empty(path: Path) -> None:
    """Raise `MorphogenError` where `path` is a folder with something in it. What a killed process
    was writing there does not count, and is removed."""
    if not path.is_dir():
        return
    clear_partial(path)
    there = sorted(entry.name for entry in path.iterdir())
    if there:
        more = f" and {len(there) - 1:,} more" if len(there) > 1 else ""
        raise MorphogenError(
            "the folder is not empty: new items are not mixed with what is there",
            found=f"{there[0]}{more}",
            where=path,
            hint=f"--out {path}-2, or empty it",
        )


@dataclass
class Result:
    """Items in model space with the numbers that belong to them.

    `x` (N, *shape), or parts by name, or None: results, often with the inputs among them; `values`
    one list per name, as long as the inputs, or scalars; `raw` the items in their own form, where
    the task made them so (texts longer or shorter than `x` holds); `forms` the texts that `save`
    writes of what is no item of the modality, by the suffix of the file; `route` says which way it
    took; `columns` how many items stand in a row; `positions` (N, 2) lays items out as a map. The
    bundle that ran the task attaches its codec, so that a result can decode itself. What `save`
    writes is marked and recorded as made by a model, see `core.ledger`.
    """

    x: Any = None  # Encoded | None
    values: dict[str, Any] = field(default_factory=dict)
    route: str = ""
    columns: int | None = None
    positions: Tensor | None = None
    codec: Codec | None = None
    inputs: Any = None  # Encoded | None: the items that the task worked on
    made_by: str = ""  # the model, task and seed
    raw: Sequence[Any] | None = None
    forms: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        if self.raw is not None:
            return len(self.raw)
        return 0 if self.x is None else num_items(self.x)

    @property
    def items(self) -> Sequence[Any]:
        """The items in their own form (pictures, texts)."""
        if self.raw is not None:
            return self.raw
        if self.x is None or self.codec is None:
            return []
        return self.codec.decode_many(self.x)

    def save(self, path: Path | str, *, first: int = 0, total: int | None = None) -> Path:
        """Write items the way their modality is looked at; with none, the values as JSON.

        With `total`, they are those from number `first` on of so many, see `Codec.write_part`.
        Raises `MorphogenError` for a folder that holds something already: what is drawn is never
        mixed with what was there.
        """
        path = Path(path)
        if total is None:
            check_empty(path)
        if not len(self) or self.codec is None or path.suffix == ".json":
            facts = {"route": self.route, **self.values}
            return write_text(path, json.dumps(facts, indent=2) + "\n")
        if self.forms:
            return write_text(path, self._form(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        items, began = self.items, time.time()
        if self.positions is not None:
            path = self.codec.write_map(items, self.positions, path)
        else:
            whole = len(items) if total is None else total
            path = self.codec.write_part(items, path, first, whole, self.columns)
        if self.made_by:
            inputs = self._input_items()
            record(self.codec, items, inputs, self.made_by, path, time=began, first=first)
        return path

    def _form(self, path: Path) -> str:
        if path.suffix not in self.forms:
            several = len(self) > 1 and path.suffix in (".srt", ".vtt")
            raise MorphogenError(
                "captions are of one sound" if several else "this is not written in such a file",
                found=f"{len(self)} sounds" if several else path.name,
                expected=", ".join((*self.forms, ".json")),
                hint=f"--out {path.with_suffix('.json')}",
            )
        return self.forms[path.suffix]

    def _input_items(self) -> Sequence[Any]:
        if self.inputs is None or self.codec is None:
            return []
        return self.codec.decode_many(self.inputs)

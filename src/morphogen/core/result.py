"""What a task returns: items, numbers, and the route that made them."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.encoded import num_items
from morphogen.core.errors import MorphogenError
from morphogen.core.following import GAP, TakesParts
from morphogen.core.ledger import new_items, record
from morphogen.core.provenance import FILES_OF_VIEWS, CanWatermark, Provenance, files_of
from morphogen.core.storage import clear_partial, expanded, write_text


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
    the task made them so (texts longer or shorter than `x` holds); `told` what a person is shown in
    place of `values`, where these are many; `forms` the texts that `save`
    writes of what is no item of the modality, by the suffix of the file; `route` says which way it
    took; `columns` how many items stand in a row; `positions` (N, 2) lays items out as a map;
    `inputs` what the task worked on, `given` the same in its own form, where the task took it so.
    The bundle that ran the task attaches its codec, so that a result can decode itself. What `save`
    writes is marked and recorded as made by a model, see `core.ledger`; where somebody asked for
    it, with a watermark and a signature, see `core.provenance`. Of items of parts, each part is, as
    one of its own kind; those that were given are left as they are.
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
    given: Sequence[Any] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)  # further facts for credentials
    sources: Sequence[Path] = ()  # files that the task worked on
    provenance: Provenance | None = None
    files: Sequence[Path] = ()  # what `save` wrote, of parts each its own

    @property
    def is_text(self) -> bool:
        """Whether its items are read where they are printed: none of them is a file."""
        return self.raw is not None and not isinstance(self.reader, TakesParts)

    @property
    def reader(self) -> Codec | None:
        """Who reads and writes the items themselves, whatever is put around it."""
        return None if self.codec is None else self.codec.innermost

    def __len__(self) -> int:
        if self.raw is not None:
            return len(self.raw)
        return 0 if self.x is None else num_items(self.x)

    @property
    def items(self) -> Sequence[Any]:
        """The items in their own form (pictures, texts), marked where that was asked for."""
        items, codec = self._plain_items, self.reader
        key = None if self.provenance is None else self.provenance.watermark
        if key is None or self.forms:  # which are no items of the codec
            return items
        if isinstance(codec, TakesParts):
            marked = [dict(item) for item in items]
            for name, (places, part) in self._by_part(codec, items).items():
                for place, value in zip(places, part.items, strict=True):
                    marked[place][name] = value
            return marked
        if not isinstance(codec, CanWatermark):
            return items
        new = new_items(codec, items, self._input_items())
        return [codec.watermarked(each, key) if i in new else each for i, each in enumerate(items)]

    def _by_part(
        self, codec: TakesParts, items: Sequence[Any]
    ) -> dict[str, tuple[list[int], Result]]:
        """By the name of each part: which of the items have it, and these as a result of its own
        kind."""
        found, inputs = {}, self._input_items()
        for name, reader in codec.part_codecs.items():
            places = [place for place, item in enumerate(items) if item.get(name) is not None]
            told = (each.get(name) for each in inputs)
            given = [own for own in told if own is not None and own is not GAP]
            raw = [items[place][name] for place in places]
            found[name] = places, replace(self, x=None, raw=raw, given=given, codec=reader)
        return found

    @property
    def _plain_items(self) -> Sequence[Any]:
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
        path, self.files = expanded(path), []
        if total is None:
            check_empty(path)
        if not len(self) or self.codec is None or path.suffix == ".json":
            facts = {"route": self.route, **self.values}
            path = write_text(path, json.dumps(facts, indent=2) + "\n")
            new: Iterable[int] = range(len(self))
        elif self.forms:
            path = write_text(path, self._form(path))
            new = range(len(self))
        else:
            path, new = self._write_items(path, first, len(self) if total is None else total)
        self._sign(path, [first + number for number in new])
        self.files = [path, *self.files]
        return path

    def _write_items(self, path: Path, first: int, total: int) -> tuple[Path, Iterable[int]]:
        """Where the items are, and which of them the model made."""
        assert self.codec is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        key = None if self.provenance is None else self.provenance.watermark
        codec = self.codec.innermost
        # A file of many is one picture, or one sound, and is marked as one.
        as_whole = path.suffix != "" and path.suffix.lower() not in FILES_OF_VIEWS
        as_whole = as_whole and not isinstance(codec, TakesParts)
        items, began = self._plain_items if as_whole else self.items, time.time()
        if self.positions is not None:
            path = self.codec.write_map(items, self.positions, path)
        else:
            path = self.codec.write_part(items, path, first, total, self.columns)
        if isinstance(codec, TakesParts):
            return path, self._record_parts(codec, items, path, began)
        new = new_items(codec, items, self._input_items()) if self.made_by else {}
        if key is not None and as_whole and new and isinstance(codec, CanWatermark):
            codec.watermark_file(path, key)
        if self.made_by:
            record(codec, new, self.made_by, path, time=began, first=first)
        return path, new

    def _record_parts(
        self, codec: TakesParts, items: Sequence[Any], path: Path, began: float
    ) -> Iterable[int]:
        """Record what the model made of each part, and mark and sign it where it is a file of its
        own; which items have some of it."""
        made: set[int] = set()
        for name, (places, part) in self._by_part(codec, items).items():
            reader, held = codec.part_codecs[name].innermost, part.raw or ()
            files = [codec.part_file(path, place, name) for place in places]
            self.files = [*self.files, *filter(None, files)]
            new = new_items(reader, held, part.given or ()) if self.made_by else {}
            within = {number: new[number] for number in new if files[number] is None}
            record(reader, within, self.made_by, path, time=began)
            for number in new.keys() - within.keys():
                own: Any = files[number]
                record(reader, {0: new[number]}, self.made_by, own, time=began)
                part._sign(own, [0])
            made |= {places[number] for number in new}
        return made

    def _sign(self, path: Path, numbers: Sequence[int]) -> None:
        """Let files that hold what the model made say so, signed."""
        if self.provenance is None or self.provenance.sign is None or not self.made_by:
            return
        says = {"generator": self.made_by, **self.about}
        if self.provenance.generation:
            says["generation"] = self.provenance.generation
        try:
            self.provenance.sign(files_of(path, numbers), says, self.sources)
        except (OSError, MorphogenError) as error:
            warnings.warn(f"{path} is written, but not signed: {error}", stacklevel=3)

    def known_as(self, generation: str | None) -> None:
        """Say by which id the records know what was made."""
        if self.provenance is not None and generation:
            self.provenance = replace(self.provenance, generation=generation)

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
        if self.given is not None:
            return self.given
        if self.inputs is None or self.codec is None:
            return []
        return self.codec.decode_many(self.inputs)

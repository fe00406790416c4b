"""What the names of items say: `{label}_{speaker}_{take}` reads 7_george_12.wav.

A pattern is the name of a file, without folders and suffix, with a field in place of what differs:

    {label} {caption}      what is said of the item, as a folder or a table would
    {split}                train, test, val
    {test=0|1|2}           items that have one of these there are for testing, the others not
    {speaker}              any other word: a tag, to group items by, or a condition
    {}                     anything

A field ends where what follows it in the pattern comes first. Every name has to fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from morphogen.core.codec import Codec, Item, Report
from morphogen.core.errors import DataError
from morphogen.data.modality import Read
from morphogen.sources import split_of

FIELD = re.compile(r"\{(\w*)(?:=([^{}]*))?\}")
SAID = ("label", "caption")  # fields that are conditions
TEST = "test"  # the field that may have values


def named(read: Read, pattern: str | None) -> Read:
    """The same reading, of items with what their names say by a pattern."""
    if pattern is None:
        return read
    names = FileNames(pattern)

    def reading(codec: Codec, report: Report) -> Iterator[Item]:
        for item in read(codec, report):
            names.tell(item, report.source)
            yield item

    return reading


class FileNames:
    """A pattern of names. Raises `DataError` for one that says nothing, or not what is where."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        # Text and fields in turn, text first and last: re.split gives the groups of FIELD between.
        parts = FIELD.split(pattern)
        self.texts, self.fields = parts[::3], parts[1::3]
        values = dict(zip(self.fields, parts[2::3], strict=True))
        self.test = frozenset((values.get(TEST) or "").split("|")) - {""}
        known = [name for name in self.fields if name]
        told_apart = all(self.texts[1:-1])
        only_test = all(name == TEST for name, value in values.items() if value is not None)
        if not (known and told_apart and only_test and len(known) == len(set(known))):
            raise DataError(
                "not a pattern of file names",
                found=pattern or "nothing",
                expected="fields in braces, each once, with something between them, such as "
                "{label}_{speaker}_{test=0|1}",
                hint="--set modality.file_names='{label}_{}'",
            )

    def tell(self, item: Item, source: str) -> None:
        """Put what its name says into an item. Raises `DataError` for a name that does not fit."""
        name = item.name.rpartition("/")[2]
        found = self._fields_of(name.rpartition(".")[0] or name)
        if found is None:
            raise DataError(
                "the name of an item does not fit the pattern",
                found=item.name,
                expected=self.pattern,
                where=source,
                hint="rename it or move it out; {} stands for anything",
            )
        said = dict(zip(self.fields, found, strict=True))
        said.pop("", None)
        item.cond = {**item.cond, **{name: said.pop(name) for name in SAID if name in said}}
        if "split" in said:
            item.split = split_of(said.pop("split")) or item.split
        if self.test and TEST in said:
            item.split = TEST if said.pop(TEST) in self.test else "train"
        item.tags = {**said, **item.tags}

    def _fields_of(self, stem: str) -> list[str] | None:
        """What stands in each field; None where the name does not fit."""
        first, *between, last = self.texts
        if not stem.startswith(first) or not stem.endswith(last):
            return None
        rest, found = stem[len(first) : len(stem) - len(last)], []
        for text in between:
            field, there, rest = rest.partition(text)
            if not there:
                return None
            found.append(field)
        return [*found, rest] if all([*found, rest]) else None

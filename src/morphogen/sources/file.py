"""One file that is one item, or a text that holds many."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from morphogen.core.codec import Report, Text
from morphogen.core.errors import DataError
from morphogen.sources._columns import suffix_of
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._regular import begins, open_regular, read_regular

HEAD = 64


class File(Source):
    """A file of any kind that no other source opens."""

    kind = "file"

    @classmethod
    def opens(cls, source: Any) -> float:
        is_path = isinstance(source, (str, Path)) and "://" not in str(source)
        return 0.1 if is_path and Path(source).exists() and not Path(source).is_dir() else 0.0

    def survey(self) -> Survey:
        path = Path(self.source)
        suffix = suffix_of(path.name)
        found = Survey("file", name=f"a {suffix or 'suffixless'} file", num=1)
        found.suffixes[suffix] += 1
        with open_regular(path) as stream:
            found.starts[suffix] = [stream.read(HEAD)]
        return found

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        path = Path(self.source)
        suffix = suffix_of(path.name)
        with open_regular(path) as stream:
            head = stream.read(HEAD)
        known = suffix in wants.suffixes or (wants.sniff is not None and wants.sniff(head))
        if not known:
            raise DataError(
                f"not a source of {wants.what}s",
                found=f"a {suffix or 'suffixless'} file that begins with {begins(head)}",
                expected="a folder, an archive, a table, arrays, or a file with the suffix "
                + ", ".join(sorted(wants.suffixes)),
                where=str(path),
                hint=wants.convert.get(suffix),
            )
        size = path.stat().st_size
        read = partial(read_regular, path)
        yield Record(path.name, "file", read, suffix, path=path, num_bytes=size)

    def texts(self, wants: Wants) -> Iterator[Text]:
        path = Path(self.source)
        yield Text(path.name, "file name", path.stem, is_name=True)

"""Parquet, Feather and Arrow files, and folders of their shards, as pandas and the Hub write them.

Class names, and which columns hold files, are read from the metadata that `datasets` leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from morphogen.core.codec import Problem, Report, Text
from morphogen.core.errors import DataError
from morphogen.sources._files import only
from morphogen.sources._layout import split_of, split_of_shard
from morphogen.sources._record import Record, Source, Survey, Wants
from morphogen.sources._table import Row, Table, defects_of, records_of, texts_of

SUFFIXES = (".parquet", ".pq")
BATCH = 256  # rows read at once
MEDIA = ("Image", "Audio", "Video")
NEEDS = "pip install 'morphogen[data]'"


class Parquet(Source):
    """A .parquet file, or a folder whose tables are .parquet files."""

    kind = "table"

    @classmethod
    def opens(cls, source: Any) -> float:
        if not isinstance(source, (str, Path)):
            return 0.0
        path = Path(source)
        if path.is_file():
            return 0.9 if path.suffix.lower() in SUFFIXES else 0.0
        return 0.8 if path.is_dir() and cls.shards_of(path) else 0.0

    @staticmethod
    def shards_of(folder: Path) -> list[Path]:
        """The .parquet files of a folder that holds nothing else but notes."""
        return only(folder, SUFFIXES)

    def tables(self) -> Iterator[Table]:
        """The table of each file."""
        path = Path(self.source)
        if path.is_file():
            yield parquet_table(path, path.name, None)
            return
        shards = self.shards_of(path)
        folders = {name: split_of(name) for shard in shards for name in shard.parts[:-1]}
        for shard in shards:
            above = shard.relative_to(path).parts[:-1]
            split = next((folders[name] for name in above if folders[name]), None)
            split = split or split_of_shard(shard.stem)
            yield parquet_table(shard, shard.relative_to(path).as_posix(), split)

    def survey(self) -> Survey:
        try:
            tables = list(self.tables())
            found = tables[0].survey(name="a .parquet table")
        except DataError as error:
            return Survey("table", damaged=error, name="a .parquet table")
        if Path(self.source).is_dir():
            found.name = f"{len(tables)} .parquet table{'s' * (len(tables) > 1)}"
        found.num = sum(table.num or 0 for table in tables)
        return found

    def records(self, wants: Wants, report: Report) -> Iterator[Record]:
        for table in self.tables():
            yield from records_of(table, wants, report)

    def texts(self, wants: Wants) -> Iterator[Text]:
        for table in self.tables():
            yield from texts_of(table, wants)

    def defects(self, wants: Wants) -> Iterator[Problem]:
        for table in self.tables():
            if not table.media:
                yield from defects_of(table, wants)


def parquet_table(path: Path, name: str, split: str | None) -> Table:
    """A Parquet file as a table. Raises `DataError` when it is damaged."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError("reading Parquet needs pyarrow", where=str(path), hint=NEEDS) from error
    try:
        with parquet.ParquetFile(path) as file:
            schema, num = file.schema_arrow, file.metadata.num_rows
    except (ArrowException, OSError) as error:
        raise damaged(error, path) from error

    def rows() -> Iterator[tuple[str, Row]]:
        number = 0
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{name}#row {number}", row
        except (ArrowException, OSError) as error:
            raise damaged(error, path) from error

    classes, media = features_in(schema.metadata)
    names = [each for each in schema.names if not each.startswith("__index_level_")]
    media |= {each.name for each in schema if _holds_files(each.type)}
    where = str(path)
    return Table(
        name, names, rows, path.parent, split, classes, frozenset(media), num=num, where=where
    )


def _holds_files(kind: Any) -> bool:
    """True for a column of bytes, or of {bytes, path}."""
    from pyarrow import types

    if types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def features_in(metadata: Mapping[bytes, bytes] | None) -> tuple[dict[str, list[str]], set[str]]:
    """Class names by column, and the columns of files, as `datasets` notes them in a schema."""
    try:
        text = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        features = dict(text.get("info", {}).get("features") or {})
    except (ValueError, AttributeError, TypeError):
        return {}, set()
    classes, media = {}, set()
    for column, feature in features.items():
        kind = feature.get("_type") if isinstance(feature, dict) else None
        if kind == "ClassLabel" and isinstance(feature.get("names"), list):
            classes[column] = [str(name) for name in feature["names"]]
        elif kind in MEDIA:
            media.add(column)
    return classes, media


def damaged(error: Exception, path: Path) -> DataError:
    """The error for a file that pyarrow cannot read."""
    reason = str(error).partition("\n")[0]
    return DataError(f"the Parquet file is damaged: {reason}", where=str(path))

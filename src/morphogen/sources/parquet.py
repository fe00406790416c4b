"""Parquet, Feather and Arrow files, and folders of their shards, as pandas and the Hub write them.

Class names, and which columns hold files, are read from the metadata that `datasets` leaves.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morphogen.core.errors import DataError
from morphogen.core.extras import extra
from morphogen.sources._files import BESIDE
from morphogen.sources._record_batch import BATCH as TOGETHER
from morphogen.sources._record_batch import Coded
from morphogen.sources._shards import TableFiles
from morphogen.sources._table import Cells, Row, Table

SUFFIXES = (".parquet", ".pq")
BATCH = 256  # rows read at once
MEDIA = ("Image", "Audio", "Video")


class Parquet(TableFiles):
    """A .parquet file, or a folder whose tables are .parquet files."""

    suffixes = SUFFIXES
    beside = BESIDE

    @classmethod
    def table_in(cls, path: Path, name: str) -> Table:
        return parquet_table(path, name)


def parquet_table(path: Path, name: str) -> Table:
    """A Parquet file as a table. Raises `DataError` when it is damaged."""
    library = extra("pyarrow", "data", "Parquet is read", raises=DataError, where=path)
    parquet, broken = extra("pyarrow.parquet", "data", "Parquet is read"), library.ArrowException
    try:
        with parquet.ParquetFile(path) as file:
            schema, num = file.schema_arrow, file.metadata.num_rows
    except (broken, OSError) as error:
        raise damaged(error, path) from error

    def read(most: int) -> Iterator[Any]:
        try:
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(most)
        except (broken, OSError) as error:
            raise damaged(error, path) from error

    def rows() -> Iterator[tuple[str, Row]]:
        each = itertools.chain.from_iterable(batch.to_pylist() for batch in read(BATCH))
        for number, row in enumerate(each, 1):
            yield f"{name}#row {number}", row

    def batches() -> Iterator[tuple[int, Cells]]:
        number = 1
        for batch in read(TOGETHER):
            columns = zip(batch.schema.names, map(_cells, batch.columns), strict=True)
            yield number, dict(columns)
            number += batch.num_rows

    classes, media = features_in(schema.metadata)
    names = [each for each in schema.names if not each.startswith("__index_level_")]
    media |= {each.name for each in schema if _holds_files(each.type)}
    where = str(path)
    return Table(
        name, names, rows, path.parent, None, classes, frozenset(media), num=num, where=where,
        batches=batches if names == schema.names else None,
    )  # fmt: skip


def _cells(column: Any) -> Sequence[Any] | Coded:
    """The cells of a column of Arrow's; the different ones where equal ones are the same, which
    numbers are not: 0.0 and -0.0."""
    from pyarrow import types

    kind = column.type
    if not any(test(kind) for test in (types.is_string, types.is_large_string, types.is_integer)):
        cells: list[Any] = column.to_pylist()
        return cells
    coded = column.dictionary_encode(null_encoding="encode")
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Coded(coded.dictionary.to_pylist(), codes)


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
    return DataError(
        f"the Parquet file is damaged: {reason}", where=str(path), hint="copy or download it again"
    )

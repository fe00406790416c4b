"""The texts that come with pictures: cells of tables, captions, the names of files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from morphogen.core.codec import Report, Text
from morphogen.core.errors import DataError
from morphogen.modalities.image.files import is_archive, is_picture, walk
from morphogen.modalities.image.tables import (
    SIDECARS,
    Columns,
    decode_text,
    is_saved_dataset,
    load_hugging_face,
    read_rows,
)


def find_texts(source: Path | str) -> Iterator[Text]:
    """Every text in a source of pictures, up to where it cannot be read: reading says why."""
    path = Path(source)
    try:
        if str(source).startswith("hf://") or (path.is_dir() and is_saved_dataset(path)):
            yield from _in_hugging_face(str(source).removeprefix("hf://"))
        elif path.is_dir() or is_archive(path):
            yield from _in_tree(path)
        elif path.suffix.lower() == ".csv":
            yield from _in_table(path.read_bytes(), path.name, with_paths=True)
        elif path.suffix.lower() in (".parquet", ".pq"):
            yield from _in_parquet(path)
        else:
            yield Text(path.name, "file name", path.stem, is_name=True)
    except (DataError, OSError):
        return


def _in_tree(root: Path) -> Iterator[Text]:
    folders: set[PurePosixPath] = set()
    for file in walk(root, Report(str(root))):
        path = PurePosixPath(file.path)
        for folder in [each for each in reversed(path.parents) if each.name]:
            if folder not in folders:
                folders.add(folder)
                yield Text(f"{folder}/", "folder name", folder.name, is_name=True)
        yield Text(file.path, "file name", path.stem, is_name=True)
        if path.name.lower() in SIDECARS:
            try:
                yield from _in_table(file.read(), file.path, with_paths=False)
            except (DataError, OSError):
                continue


def _in_table(data: bytes, name: str, with_paths: bool) -> Iterator[Text]:
    columns, rows = read_rows(decode_text(data, name), name)
    yield from _cells(((f"{name}#row {n}", row) for n, row in rows), columns, with_paths)


def _cells(
    rows: Iterable[tuple[str, Mapping[Any, Any]]], columns: Columns | None, with_paths: bool
) -> Iterator[Text]:
    """Every cell that is a text; the paths of pictures that are seen anyway are left out."""
    for where, row in rows:
        for column, value in row.items():
            if column is None:  # cells beyond the last column
                yield from (Text(where, "no column", cell) for cell in value if cell)
            elif not isinstance(value, str) or not value:
                continue
            elif columns is None or column != columns.path:
                yield Text(where, column, value)
            elif with_paths:
                stem = value.rpartition(".")[0] if is_picture(value) else value
                yield Text(where, column, stem, is_name=True)


def _in_parquet(path: Path) -> Iterator[Text]:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        return  # reading says what to install
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        names = [
            each.name
            for each in schema
            if types.is_string(each.type) or types.is_large_string(each.type)
        ]
        number = 0
        for batch in file.iter_batches(1024, columns=names):
            rows = batch.to_pylist()
            numbered = ((f"{path.name}#row {number + i}", row) for i, row in enumerate(rows, 1))
            yield from _cells(numbered, Columns.find(schema.names), with_paths=True)
            number += len(rows)
    except (ArrowException, OSError):
        return


def _in_hugging_face(name: str) -> Iterator[Text]:
    _, found = load_hugging_face(name)
    splits = found if isinstance(found, Mapping) else {None: found}
    for split, rows in splits.items():
        columns = [key for key, kind in rows.features.items() if _is_text(kind)]
        if not columns:
            continue
        start = f"{name}/{split}" if split else name
        numbered = ((f"{start}#{n}", row) for n, row in enumerate(rows.select_columns(columns)))
        yield from _cells(numbered, None, with_paths=True)


def _is_text(kind: Any) -> bool:
    return getattr(kind, "dtype", None) in ("string", "large_string")

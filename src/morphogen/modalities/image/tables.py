"""Pictures named by tables: CSV, Parquet, captions beside a folder, Hugging Face datasets."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.image.files import MAX_FILE_BYTES, is_picture, open_picture, split_of

PATH_COLUMNS = ("file", "path", "image", "img", "filename", "file_name", "filepath")
LABEL_COLUMNS = ("label", "class", "category", "target")
CAPTION_COLUMNS = ("caption", "text", "description")
SPLIT_COLUMNS = ("split", "subset", "fold")
SIDECARS = ("captions.csv", "metadata.csv", "labels.csv", "tags.csv")
TAGS = ("licence", "license", "consent", "source", "synthetic")  # read from every kind of table


@dataclass
class Columns:
    """Which column of a table says what."""

    path: str
    label: str | None = None
    caption: str | None = None
    split: str | None = None

    @classmethod
    def find(cls, header: Sequence[str]) -> Columns | None:
        """Match names without regard to case; None when no column names a picture."""
        lower = {name.strip().lower(): name for name in header if name}

        def first(known: Sequence[str]) -> str | None:
            return next((lower[name] for name in known if name in lower), None)

        path = first(PATH_COLUMNS)
        if path is None:
            return None
        return cls(path, first(LABEL_COLUMNS), first(CAPTION_COLUMNS), first(SPLIT_COLUMNS))

    def conditions(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The raw conditions in a row; empty cells are absent ones."""
        named = {"label": self.label, "caption": self.caption}
        found = {name: row.get(column) for name, column in named.items() if column}
        return {name: value for name, value in found.items() if value not in (None, "")}

    def tags(self, row: Mapping[str, Any]) -> dict[str, str]:
        """What the other columns say: licence, consent, source, synthetic, whose item it is."""
        own = {self.path, self.label, self.caption, self.split, None}
        named = {"license": "licence"}
        return {
            named.get(key := column.strip().lower(), key): str(value).strip()
            for column, value in row.items()
            if column not in own and value not in (None, "") and not isinstance(value, list)
        }

    def split_in(self, row: Mapping[str, Any]) -> str | None:
        """The split that a row names."""
        return split_of(str(row.get(self.split) or "").strip()) if self.split else None


# -- CSV ------------------------------------------------------------------------------------------


def read_rows(text: str, where: str) -> tuple[Columns, list[tuple[int, dict[str, str]]]]:
    """CSV text -> its columns, and (row number, row). The header is row 1."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    columns = Columns.find(reader.fieldnames or [])
    if columns is None:
        raise DataError(
            "the table has no column that names picture files",
            found=", ".join(reader.fieldnames or []) or "an empty file",
            expected=f"a column called one of {', '.join(PATH_COLUMNS)}",
            where=where,
        )
    try:
        return columns, [(number, row) for number, row in enumerate(reader, 2)]
    except csv.Error as error:
        raise DataError(f"the table cannot be read: {error}", where=where) from error


def decode_text(data: bytes, where: str) -> str:
    """UTF-8, with or without a byte-order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "the table is not UTF-8 text",
            found=f"byte {data[error.start]:#04x} at position {error.start:,}",
            where=where,
            hint=f"iconv -t UTF-8 {where} > utf8.csv",
        ) from error


def names_pictures(path: Path) -> bool:
    """True when the first rows of a CSV name picture files."""
    try:
        with path.open("rb") as stream:
            lines = stream.read(1 << 16).decode("utf-8-sig", errors="replace").splitlines()[:20]
        columns, rows = read_rows("\n".join(lines), str(path))
    except (OSError, DataError):
        return False
    return any(is_picture(row.get(columns.path) or "") for _, row in rows)


def read_csv(path: Path, report: Report, limit: int) -> Iterator[Item]:
    """One item per row; paths are relative to the table's folder."""
    columns, rows = read_rows(decode_text(path.read_bytes(), str(path)), str(path))
    for number, row in rows:
        name = f"{path.name}#row {number}"
        value = _open_path(path.parent, row.get(columns.path) or "", name, report, limit)
        if value is not None:
            cond, own = columns.conditions(row), columns.split_in(row)
            yield Item(value, name, cond, own, columns.tags(row))


def _open_path(folder: Path, file: str, name: str, report: Report, limit: int) -> Any:
    """The picture at a path in a table, or None with a problem that names the row."""
    path = folder / file.strip()
    if not file.strip() or not path.is_file():
        reason = f"the file does not exist: {file}" if file.strip() else "no file is named"
        fix = f"correct the path (it is relative to {folder}) or delete the row"
        report.problems.append(Problem(name, reason, fix, fatal=True))
        return None
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise OSError(f"{path.stat().st_size:,} bytes are too many for a picture")
        full = f"{name} ({file})"
        value = open_picture(path.read_bytes(), full, report, limit)
        report.marks |= {name: report.marks.pop(full)} if full in report.marks else {}
        return value
    except OSError as error:
        reason = f"{file} cannot be read: {error.strerror or error}"
        report.problems.append(Problem(name, reason, "check its permissions", fatal=True))
        return None


# -- a table beside a folder ----------------------------------------------------------------------


@dataclass
class Sidecar:
    """captions.csv in a folder of pictures: what it says of each file."""

    name: str
    columns: Columns
    rows: list[tuple[int, dict[str, str]]]
    by_path: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes, path: str, pictures: Sequence[str], report: Report) -> Sidecar:
        """Match rows to files: by path from the table's folder, else by a file name that only one
        file has. Rows without a file and files without a row are noted."""
        columns, rows = read_rows(decode_text(data, path), path)
        sidecar = cls(path, columns, rows)
        folder = PurePosixPath(path).parent
        known = set(pictures)
        by_name: dict[str, list[str]] = {}
        for picture in pictures:
            by_name.setdefault(PurePosixPath(picture).name, []).append(picture)
        for number, row in rows:
            file = (row.get(columns.path) or "").strip()
            relative = os.path.normpath(folder / file)
            same_name = by_name.get(PurePosixPath(file).name, [])
            if relative not in known:
                relative = same_name[0] if len(same_name) == 1 else ""
            if relative:
                sidecar.by_path[relative] = row
                continue
            reason = f"the file does not exist: {file}" if file else "no file is named"
            fix = "correct the path or delete the row"
            report.problems.append(Problem(f"{path}#row {number}", reason, fix, fatal=True))
        without = [picture for picture in pictures if picture not in sidecar.by_path]
        if without:
            listed = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            reason = f"{len(without):,} pictures have no row in it: {listed}"
            report.problems.append(Problem(path, reason, "add the rows, or nothing"))
        return sidecar


# -- Parquet --------------------------------------------------------------------------------------


def read_parquet(path: Path, report: Report, limit: int) -> Iterator[Item]:
    """One item per row: a column of paths, or of encoded bytes."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(
            "reading Parquet needs pyarrow", where=str(path), hint="pip install 'morphogen[data]'"
        ) from error
    number = 0
    try:
        file = parquet.ParquetFile(path)
        columns = Columns.find(file.schema_arrow.names)
        if columns is None:
            raise DataError(
                "the table has no column that names picture files",
                found=", ".join(file.schema_arrow.names),
                expected=f"a column called one of {', '.join(PATH_COLUMNS)}",
                where=str(path),
            )
        wanted = [columns.path, columns.label, columns.caption, columns.split]
        wanted += [each for each in file.schema_arrow.names if each.strip().lower() in TAGS]
        for batch in file.iter_batches(256, columns=[name for name in wanted if name]):
            for row in batch.to_pylist():
                number += 1
                name = f"{path.name}#row {number}"
                value = _open_cell(row[columns.path], path.parent, name, report, limit)
                if value is not None:
                    cond, own = columns.conditions(row), columns.split_in(row)
                    yield Item(value, name, cond, own, columns.tags(row))
    except (ArrowException, OSError) as error:
        raise DataError(f"the Parquet file is damaged: {error}", where=str(path)) from error


def _open_cell(cell: Any, folder: Path, name: str, report: Report, limit: int) -> Any:
    """A path, bytes, or the {bytes, path} of a Hugging Face image column."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return open_picture(cell, name, report, limit)
    return _open_path(folder, str(cell or ""), name, report, limit)


# -- Hugging Face datasets ------------------------------------------------------------------------


def is_saved_dataset(path: Path) -> bool:
    """True for a folder written by `datasets.save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def read_hugging_face(source: str, report: Report, limit: int) -> Iterator[Item]:
    """`hf://user/name[:config]`, `hf://<local folder>`, or a folder made by `save_to_disk`."""
    name = source.removeprefix("hf://")
    datasets, found = load_hugging_face(name)
    splits = found if isinstance(found, Mapping) else {None: found}
    for split, rows in splits.items():
        column, conditions = _hugging_face_columns(datasets, rows.features, name)
        names = {key: getattr(rows.features[c], "names", None) for key, c in conditions.items()}
        # Undecoded bytes, so that one damaged picture is a problem and not the end.
        rows = rows.cast_column(column, datasets.Image(decode=False))
        for number, row in enumerate(rows):
            where = f"{name}/{split}#{number}" if split else f"{name}#{number}"
            value = _open_cell(row[column], Path(), where, report, limit)
            if value is None:
                continue
            raw = {key: row[c] for key, c in conditions.items() if row[c] is not None}
            cond = {key: _class_name(names[key], each) for key, each in raw.items()}
            yield Item(value, where, cond, split_of(str(split)) if split else None)


def _class_name(names: Sequence[str] | None, value: Any) -> Any:
    """A ClassLabel's number -> its name; other values as they are."""
    return names[value] if names and isinstance(value, int) else value


def load_hugging_face(name: str) -> tuple[Any, Any]:
    """The package, and the dataset: of one split, or a mapping of several."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "reading Hugging Face datasets needs the package datasets",
            where=f"hf://{name}",
            hint="pip install 'morphogen[hf]'",
        ) from error
    path = Path(name).expanduser()
    try:
        if path.is_dir() and is_saved_dataset(path):
            return datasets, datasets.load_from_disk(str(path))
        dataset, _, config = name.partition(":")
        return datasets, datasets.load_dataset(dataset, config or None)
    except Exception as error:  # the package raises dozens of kinds, from HTTP to Arrow
        raise DataError(
            f"the dataset cannot be loaded: {str(error).strip().partition(chr(10))[0]}",
            found=type(error).__name__,
            where=f"hf://{name}",
            hint=f"open https://huggingface.co/datasets/{name} to check the name and its access",
        ) from error


def _hugging_face_columns(datasets: Any, features: Any, name: str) -> tuple[str, dict[str, str]]:
    """The picture column, and the columns of label and caption."""
    pictures = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    if not pictures:
        raise DataError(
            "the dataset has no picture column",
            found=", ".join(f"{key}: {kind}" for key, kind in features.items()),
            expected="a column with the feature Image",
            where=f"hf://{name}",
        )
    columns = Columns.find([pictures[0], *features]) or Columns(pictures[0])
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    label = labels[0] if labels else columns.label
    found = {"label": label, "caption": columns.caption}
    return pictures[0], {key: column for key, column in found.items() if column}

"""Datasets of the Hugging Face Hub (`hf://user/name[:config]`), and those saved on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from morphogen.core.errors import DataError
from morphogen.core.extras import extra
from morphogen.sources._layout import split_of
from morphogen.sources._record import Survey
from morphogen.sources._table import Row, Table, TableSource

MEDIA = ("Image", "Audio", "Video")


class Hub(TableSource):
    """`hf://user/name[:config]`, `hf://<local folder>`, or a folder made by `save_to_disk`."""

    kind = "dataset"

    @classmethod
    def opens(cls, source: Any) -> float:
        if isinstance(source, str) and source.startswith("hf://"):
            return 1.0
        is_path = isinstance(source, (str, Path)) and Path(source).is_dir()
        return 0.95 if is_path and is_saved_dataset(Path(source)) else 0.0

    def tables(self) -> Iterator[Table]:
        """The table of each split."""
        name = str(self.source).removeprefix("hf://")
        datasets, found = load_hugging_face(name)
        splits = found if isinstance(found, Mapping) else {None: found}
        for split, rows in splits.items():
            yield _table(datasets, rows, name, split)

    def survey(self) -> Survey:
        """Asks the dataset only where it lies on disk: the Hub is slow to be asked twice."""
        path = Path(str(self.source).removeprefix("hf://")).expanduser()
        name = "a Hugging Face dataset"
        if not path.is_dir():
            return Survey("dataset", name=name)
        try:
            table = next(self.tables())
        except DataError as error:
            return Survey("dataset", damaged=error, name=name)
        return table.survey("dataset", "a dataset saved by datasets.save_to_disk")


def is_saved_dataset(path: Path) -> bool:
    """True for a folder written by `datasets.save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    )


def load_hugging_face(name: str) -> tuple[Any, Any]:
    """The package, and the dataset: of one split, or a mapping of several."""
    what = "Hugging Face datasets are read"
    datasets = extra("datasets", "hf", what, raises=DataError, where=f"hf://{name}")
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


def _table(datasets: Any, rows: Any, name: str, split: Any) -> Table:
    """One split. Files stay as bytes, so that one damaged picture is a problem and not the end."""
    features = dict(rows.features)
    media = [column for column, kind in features.items() if type(kind).__name__ in MEDIA]
    for column in media:
        rows = rows.cast_column(column, type(features[column])(decode=False))
    classes = {
        column: list(kind.names)
        for column, kind in features.items()
        if isinstance(kind, datasets.ClassLabel)
    }
    start = f"{name}/{split}" if split else name

    def numbered() -> Iterator[tuple[str, Row]]:
        for number, row in enumerate(rows):
            yield f"{start}#{number}", row

    own = split_of(str(split)) if split else None
    return Table(
        start, list(features), numbered, None, own, classes, frozenset(media), num=len(rows),
        where=f"hf://{name}",
    )  # fmt: skip

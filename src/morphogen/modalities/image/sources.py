"""From a source to raw pictures: which kinds there are, and how to read each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from morphogen.core.codec import SPLITS_FILE, Item, Report
from morphogen.core.errors import DataError, missing_path
from morphogen.modalities.image.arrays import (
    array_shapes,
    idx_files,
    idx_shape,
    image_keys,
    items_of,
    read_idx_parts,
    read_numpy,
)
from morphogen.modalities.image.files import (
    ARCHIVES,
    File,
    Layout,
    count_suffixes,
    is_archive,
    is_picture,
    note_other_files,
    open_file,
    walk,
)
from morphogen.modalities.image.tables import (
    SIDECARS,
    Sidecar,
    is_saved_dataset,
    names_pictures,
    read_csv,
    read_hugging_face,
    read_parquet,
)


def recognise(source: Path | str) -> str | None:
    """Why `source` holds pictures, or None."""
    if str(source).startswith("hf://"):
        return "a Hugging Face dataset"
    path = Path(source)
    if path.is_dir():
        return _recognise_folder(path)
    if not path.is_file():
        return None
    suffix = path.suffix.lower()
    if is_picture(path):
        return f"a {suffix} picture"
    if suffix in (".npz", ".npy"):
        return _recognise_arrays(path)
    if suffix == ".csv":
        return "a .csv table that names picture files" if names_pictures(path) else None
    if suffix in (".parquet", ".pq"):
        return "a .parquet table"
    if is_archive(path):
        return _pictures_among(path, "in the archive")
    if (shape := idx_shape(path)) and len(shape) in (3, 4):
        return f"an idx file of {shape[0]:,} pictures"
    return None


def _recognise_folder(path: Path) -> str | None:
    if is_saved_dataset(path):
        return "a dataset saved by datasets.save_to_disk"
    if files := idx_files(path):
        return f"{len(files)} idx file{'s' * (len(files) > 1)} of pictures"
    return _pictures_among(path, "in the folder")


def _recognise_arrays(path: Path) -> str | None:
    try:
        keys = image_keys(array_shapes(path))
    except DataError:
        return f"a {path.suffix} file"  # damaged: `read` says how
    return f"picture arrays {', '.join(keys.values())}".rstrip() if keys else None


def _pictures_among(path: Path, where: str) -> str | None:
    try:
        counts = count_suffixes(path)
    except DataError:
        return "a damaged archive"  # `read` says how
    pictures = [(f"{counts[s]:,} {s}", counts[s]) for s in counts if is_picture(f"x{s}")]
    listed = ", ".join(text for text, _ in sorted(pictures, key=lambda pair: -pair[1]))
    return f"{listed} files {where}" if pictures else None


def read_source(source: Path | str, report: Report, limit: int) -> Iterator[Item]:
    """The pictures of any source; `limit` is the short side beyond 4 times which they shrink."""
    if str(source).startswith("hf://"):
        yield from read_hugging_face(str(source), report, limit)
        return
    path = Path(source)
    if not path.exists():
        raise missing_path(path)
    suffix = path.suffix.lower()
    if path.is_dir() and is_saved_dataset(path):
        yield from read_hugging_face(str(path), report, limit)
    elif path.is_dir() and (files := idx_files(path)):
        yield from items_of(read_idx_parts(files), report)
    elif path.is_dir() or is_archive(path):
        yield from _read_tree(path, report, limit)
    elif is_picture(path):
        file = File(path.name, path.stat().st_size, path.read_bytes)
        value = open_file(file, report, limit)
        if value is not None:
            yield Item(value, path.name)
    elif suffix in (".npz", ".npy"):
        yield from items_of(read_numpy(path), report)
    elif suffix == ".csv":
        yield from read_csv(path, report, limit)
    elif suffix in (".parquet", ".pq"):
        yield from read_parquet(path, report, limit)
    elif (shape := idx_shape(path)) is not None and len(shape) in (3, 4):
        yield from items_of(read_idx_parts([path]), report)
    else:
        raise DataError(
            "not a source of pictures",
            found=f"a {suffix or 'suffixless'} file",
            expected=f"a folder, a picture, {', '.join(ARCHIVES)}, idx, .npz, .npy, .csv, .parquet",
            where=str(path),
        )


def _read_tree(path: Path, report: Report, limit: int) -> Iterator[Item]:
    """Pictures in a folder or archive, with what folder names and a captions.csv say of them."""
    pictures: list[str] = []
    others: list[str] = []
    tables: list[tuple[str, bytes]] = []
    for file in walk(path, report):  # first the names: they say what the folders mean
        if is_picture(file.path):
            pictures.append(file.path)
        elif PurePosixPath(file.path).name.lower() in SIDECARS:
            tables.append((file.path, file.read()))
        elif file.path != SPLITS_FILE:
            others.append(file.path)
    layout = Layout.of(pictures)
    sidecars = [Sidecar.read(data, name, pictures, report) for name, data in tables]
    note_other_files(others, report)
    for file in walk(path, Report(report.source)):
        if not is_picture(file.path):
            continue
        value = open_file(file, report, limit)
        if value is None:
            continue
        split, label = layout.read(file.path)
        cond = {} if label is None else {"label": label}
        tags: dict[str, str] = {}
        for sidecar in sidecars:
            if row := sidecar.by_path.get(file.path):
                cond |= sidecar.columns.conditions(row)
                split = sidecar.columns.split_in(row) or split
                tags |= sidecar.columns.tags(row)
        yield Item(value, file.path, cond, split, tags)

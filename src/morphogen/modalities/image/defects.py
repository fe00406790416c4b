"""What reading pictures puts up with in silence, file by file and row by row."""

from __future__ import annotations

import os
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image as Pillow

from morphogen.core.codec import Problem
from morphogen.core.errors import DataError
from morphogen.modalities.image.files import MAX_PIXELS, is_archive, is_picture
from morphogen.modalities.image.tables import SIDECARS, Columns, decode_text, read_rows

TINY = 8  # pixels of the short side
HUGE = 16  # times the median side
LONG = 4  # times as long as wide
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP",
    ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip


def find_defects(source: Path | str) -> Iterator[Problem]:
    """Defects of a folder of pictures, of a table of pictures, or of one picture."""
    path = Path(source)
    if path.is_dir():
        yield from _in_folder(path)
    elif path.suffix.lower() == ".csv" and path.is_file():
        yield from _in_table(path, path.name, path.parent)
    elif path.is_file() and is_picture(path):
        yield from _in_picture(path, path.name, {})


def _in_folder(root: Path) -> Iterator[Problem]:
    pictures: list[tuple[Path, str]] = []
    spelled: defaultdict[str, list[str]] = defaultdict(list)
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(subfolders):
            yield from _of_subfolder(root, Path(folder, name))
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if any(part.startswith(".") for part in Path(relative).parts):
                if is_picture(path):
                    reason = "a hidden picture, which is not read"
                    yield Problem(relative, reason, "rename it without the dot, or delete it")
            elif is_picture(path):
                pictures.append((path, relative))
                spelled[relative.lower()].append(relative)
            elif name.lower() in SIDECARS:
                yield from _in_table(path, relative, path.parent)
            elif is_archive(path) and folder != str(root):
                fix = "move it to the top folder, or unpack it"
                yield Problem(relative, "an archive below the top folder is not read", fix)
    for same in spelled.values():
        if len(same) > 1:
            reason = f"differs from {same[1]} by upper and lower case alone"
            yield Problem(same[0], reason, "rename one: some systems keep only one of them")
    sizes: dict[str, tuple[int, int]] = {}
    for path, relative in pictures:
        yield from _in_picture(path, relative, sizes)
    yield from _of_sizes(sizes)


def _of_subfolder(root: Path, path: Path) -> Iterator[Problem]:
    relative = path.relative_to(root).as_posix()
    if path.is_symlink():
        loops = path.resolve() == root.resolve() or root.resolve().is_relative_to(path.resolve())
        loops = loops or path.parent.resolve().is_relative_to(path.resolve())
        what = "a link to a folder that it is in, a loop," if loops else "a link to a folder"
        fix = "delete it" if loops else "move the folder here, or name it as the source"
        yield Problem(relative, f"{what} which is not followed", fix)
    elif not any(path.iterdir()) if os.access(path, os.R_OK | os.X_OK) else False:
        yield Problem(relative, "an empty folder: a class without items", "fill it or delete it")


def _in_picture(path: Path, name: str, sizes: dict[str, tuple[int, int]]) -> Iterator[Problem]:
    """Defects that the header shows; damaged files are left to reading, which names them."""
    if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(path.parent):
        reason = f"a link to {path.resolve()}, outside its folder"
        yield Problem(name, reason, "copy the file here: a version does not keep what links show")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Pillow.open(path)
            with picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    return
                sizes[name] = (width, height)
                yield from _of_header(picture, path.suffix.lower(), name)
                if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                    yield from _of_alpha(picture, name)
    except Exception:  # whatever a decoder raises on damaged bytes, reading reports
        return


def _of_header(picture: Pillow.Image, suffix: str, name: str) -> Iterator[Problem]:
    kind = picture.format or ""
    if FORMATS.get(suffix) != kind and not (kind == "MPO" and FORMATS.get(suffix) == "JPEG"):
        reason = f"it is a {kind} file with the suffix {suffix}"
        yield Problem(name, reason, f"rename it to .{kind.lower()}", field="suffix")
    turned = picture.getexif().get(274, 1)
    if turned != 1:
        reason = f"EXIF orientation {turned}: other programs show or train on it turned"
        yield Problem(name, reason, "save it upright; here it is read upright", field="orientation")
    if getattr(picture, "is_animated", False):
        frames = getattr(picture, "n_frames", 2)
        reason = f"an animation of {frames:,} frames, of which the first is read"
        yield Problem(name, reason, "save the frames that you want as files", field="frames")
    if picture.mode == "CMYK":
        reason = "CMYK colours, which become RGB without the printer's profile"
        yield Problem(name, reason, "save it as RGB with a colour profile", field="mode")
    elif picture.mode in ("P", "PA") and not getattr(picture, "is_animated", False):
        reason = "a palette of at most 256 colours, which becomes full colour"
        yield Problem(name, reason, "find the original, if colours matter", field="mode")
    elif picture.mode == "1":
        yield Problem(name, "black and white only, 1 bit", "find the original", field="mode")
    width, height = picture.size
    if min(width, height) < TINY:
        reason = f"tiny: {width}x{height} pixels"
        yield Problem(name, reason, "leave it out, or find it larger", field="size")
    if max(width, height) > LONG * min(width, height):
        reason = f"extreme aspect ratio: {width}x{height} pixels"
        yield Problem(name, reason, "crop it, or use --set modality.resize=pad", field="size")


def _of_alpha(picture: Pillow.Image, name: str) -> Iterator[Problem]:
    low, high = picture.convert("RGBA").getchannel("A").getextrema()
    if high == 0:
        reason = "every pixel is fully transparent"
        yield Problem(name, reason, "delete it, or save it with its colours", field="alpha")
    elif low == 255:
        reason = "an alpha channel that is opaque everywhere"
        yield Problem(name, reason, "save it without alpha", field="alpha")


def _of_sizes(sizes: Mapping[str, tuple[int, int]]) -> Iterator[Problem]:
    if len(sizes) < 3:
        return
    usual = statistics.median(max(size) for size in sizes.values())
    for name, (width, height) in sizes.items():
        if max(width, height) > HUGE * usual:
            reason = f"huge beside the others: {width}x{height}, the median side is {usual:g}"
            yield Problem(name, reason, "save it smaller", field="size")


def _in_table(path: Path, name: str, folder: Path) -> Iterator[Problem]:
    """Rows that leave the folder, name a file twice, contradict one another or are empty."""
    try:
        columns, rows = read_rows(decode_text(path.read_bytes(), name), name)
    except (DataError, OSError):
        return  # reading reports it
    seen: dict[str, tuple[int, dict[str, str]]] = {}
    for number, row in rows:
        file = (row.get(columns.path) or "").strip()
        where = f"{name}#row {number}"
        outside = os.path.isabs(file) or os.path.normpath(file).startswith("..")
        if file and outside:
            reason = f"the path leaves the folder: {file}"
            fix = f"copy the file below {folder} and name it from there"
            yield Problem(where, reason, fix, field=columns.path)
        if columns.caption and file and not (row.get(columns.caption) or "").strip():
            yield Problem(where, f"an empty {columns.caption}", "write one", field=columns.caption)
        if columns.label and file and not (row.get(columns.label) or "").strip():
            yield Problem(where, f"an empty {columns.label}", "write one", field=columns.label)
        if None in row:
            yield Problem(where, "more cells than columns", "put quotes around cells with commas")
        before = seen.setdefault(os.path.normpath(file), (number, row))
        if file and before[0] != number:
            yield _repeated(columns, before, (number, row), name, file)


def _repeated(
    columns: Columns,
    before: tuple[int, dict[str, str]],
    now: tuple[int, dict[str, str]],
    name: str,
    file: str,
) -> Problem:
    where, reason = f"{name}#row {now[0]}", f"{file} has a row already, row {before[0]}"
    for column in (columns.label, columns.split, columns.caption):
        if column and before[1].get(column) != now[1].get(column):
            reason += (
                f", with another {column}: {before[1].get(column)!r}, here {now[1].get(column)!r}"
            )
            return Problem(where, reason, "delete the wrong one", field=column)
    return Problem(where, reason, "delete one of the rows", field=columns.path)

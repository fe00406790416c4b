"""The texts that come with a tree of files, and what reading it puts up with in silence."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from morphogen.core.codec import Problem, Text
from morphogen.core.errors import DataError
from morphogen.sources import delimited
from morphogen.sources._columns import suffix_of
from morphogen.sources._files import DEEPEST, File, Listing, is_archive, is_hidden, walk
from morphogen.sources._record import Wants
from morphogen.sources._sidecar import MAX_ATTACHED, NAMED, Files, naming_column
from morphogen.sources._table import Table, defects_of, texts_of
from morphogen.sources._tree import text_table

TEXTS = (*delimited.SUFFIXES, ".jsonl", ".ndjson", ".jsonlines")


def tree_texts(root: Path, wants: Wants) -> Iterator[Text]:
    """Names of folders and files, cells of the tables beside them, and captions in files."""
    folders: set[PurePosixPath] = set()
    for file in walk(root, Listing()):
        path = PurePosixPath(file.path)
        for folder in [each for each in reversed(path.parents) if each.name]:
            if folder not in folders:
                folders.add(folder)
                yield Text(f"{folder}/", "folder name", folder.name, is_name=True)
        yield Text(file.path, "file name", path.stem, is_name=True)
        suffix = suffix_of(file.path)
        try:
            if suffix in TEXTS:
                yield from texts_of(text_table(file, suffix), wants, with_paths=False)
            elif suffix in (".txt", ".caption") and suffix not in wants.suffixes:
                text = file.read()[:MAX_ATTACHED].decode("utf-8-sig", "replace").strip()
                if text:
                    yield Text(file.path, "text", text)
        except (DataError, OSError):
            continue  # reading says why


def tree_defects(root: Path, wants: Wants) -> Iterator[Problem]:
    """What is hidden, linked in circles, outside, misspelt, empty, or wrong in tables."""
    spelled: defaultdict[str, list[str]] = defaultdict(list)
    tables: list[tuple[str, Path]] = []
    for folder, subfolders, names in os.walk(root, followlinks=False):
        subfolders.sort()
        for name in sorted(subfolders):
            yield from _of_subfolder(root, Path(folder, name))
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if any(is_hidden(part) for part in Path(relative).parts):
                if suffix_of(name) in wants.suffixes and not name.startswith("._"):
                    reason = f"a hidden {wants.what}, which is not read"
                    yield Problem(relative, reason, "rename it without the dot, or delete it")
            elif suffix_of(name) in wants.suffixes:
                spelled[relative.lower()].append(relative)
                yield from _of_link(path, relative)
            elif suffix_of(name) in TEXTS:
                tables.append((relative, path))
            elif is_archive(path) and folder != str(root):
                fix = "move it to the top folder, or unpack it"
                yield Problem(relative, "an archive below the top folder is not read", fix)
    for same in spelled.values():
        if len(same) > 1:
            reason = f"differs from {same[1]} by upper and lower case alone"
            yield Problem(same[0], reason, "rename one: some systems keep only one of them")
    files = Files([name for names in spelled.values() for name in names])
    for relative, path in tables:
        yield from _of_table(relative, path, files, wants)


def _of_table(relative: str, path: Path, files: Files, wants: Wants) -> Iterator[Problem]:
    """Defects of a table that is about the files of the tree."""
    try:
        table: Table = text_table(File(relative, relative, bytes, str(path)), suffix_of(relative))
        item = naming_column(table, PurePosixPath(relative).parent, files)
        if item or path.stem.lower() in NAMED:
            yield from defects_of(table, wants, item)
    except (DataError, OSError):
        return  # reading reports it


def _of_link(path: Path, name: str) -> Iterator[Problem]:
    if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(path.parent):
        reason = f"a link to {path.resolve()}, outside its folder"
        yield Problem(name, reason, "copy the file here: a version does not keep what links show")


def _of_subfolder(root: Path, path: Path) -> Iterator[Problem]:
    relative = path.relative_to(root).as_posix()
    if path.is_symlink():
        real = path.resolve()
        if path.parent.resolve().is_relative_to(real) or root.resolve().is_relative_to(real):
            reason = "a link to a folder that it is in, a loop, which is not followed"
            yield Problem(relative, reason, "delete it")
        else:
            reason = f"a link to the folder {real}, which is read"
            yield Problem(relative, reason, "copy the folder here: a version does not keep links")
    elif len(Path(relative).parts) > DEEPEST:
        yield Problem(
            relative, f"more than {DEEPEST} folders deep, which is not read", "move it up"
        )
    elif os.access(path, os.R_OK | os.X_OK) and not any(path.iterdir()):
        yield Problem(relative, "an empty folder: a class without items", "fill it or delete it")

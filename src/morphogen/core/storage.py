"""Atomic writes: a file is either the old one or the new one, never half of either.

What a process is writing or removing has a name of its own, `.NAME....partial`: where one was
killed, `clear_partial` takes such files away.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import reprlib
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from morphogen.core.errors import BundleError, MorphogenError, RecipeError
from morphogen.core.visible import visible

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {  # of numbers, the wide last, as safetensors calls and orders them
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16",
    "float16": "F16", "bfloat16": "BF16", "int32": "I32", "uint32": "U32", "float32": "F32",
    "float64": "F64", "int64": "I64", "uint64": "U64",
}  # fmt: skip
PARTIAL = ".partial"  # ends the name of what is not whole yet, or not any more


def write_atomic(path: Path, write: Callable[[Path], object], *, mode: int = 0o644) -> Path:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and rename it over `path`;
    `mode` says who may read it.

    Raises `MorphogenError` when the folder cannot be written or the disk is full; the file that was
    there before is untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        raise MorphogenError(
            "the disk is full" if full else f"cannot write {path.name}: {error}",
            where=str(path.parent),
            hint="free some space and run the same command with --resume"
            if full
            else "choose a folder that you may write to with --out",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write text atomically."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 40) : error.end + 20]
        raise MorphogenError(
            f"{path.name} cannot hold a name that is not UTF-8",
            found=visible(around).strip(),
            where=path,
            hint="rename the file or folder that is called so",
        ) from error
    return write_atomic(path, lambda temporary: temporary.write_bytes(data))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None
) -> Path:
    """Write named tensors as safetensors, with a note in the file, atomically, and one after the
    other: none is there twice but the one that is written."""
    import torch

    order = list(KINDS)
    # As the library lays them out: the wide first, so that each lies where its kind may lie.
    names = sorted(tensors, key=lambda name: (-order.index(_kind(tensors[name])), name))
    head: dict[str, Any] = {} if note is None else {"__metadata__": dict(note)}
    place = 0
    for name in names:
        tensor = tensors[name]
        end = place + tensor.numel() * tensor.element_size()
        kind, shape = KINDS[_kind(tensor)], list(tensor.shape)
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                flat = tensors[name].detach().cpu().contiguous().flatten()
                file.write(flat.view(torch.uint8).numpy().data)

    return write_atomic(path, write)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def partial_of(path: Path) -> Path:
    """What a folder is called while it is written or removed."""
    return path.with_name(f".{path.name}{PARTIAL}")


def remove_folder(path: Path) -> None:
    """Remove a folder whole or not at all: a process killed meanwhile leaves none of its name."""
    if not path.is_dir():
        return
    leaving = partial_of(path)
    shutil.rmtree(leaving, ignore_errors=True)
    try:
        path.rename(leaving)
    except OSError:  # on Windows, while a file of it is open elsewhere
        leaving = path
    shutil.rmtree(leaving, ignore_errors=True)


def clear_partial(folder: Path) -> None:
    """Take away what killed processes were writing or removing in `folder`, not below it."""
    for path in folder.glob(f".*{PARTIAL}") if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let the names of a folder reach the disk before anything that relies on them is removed."""
    if os.name != "posix":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network disks keep no order
        pass
    finally:
        os.close(handle)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors. Raises `BundleError` for a file that is cut short or not one."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise BundleError("a file of the bundle is missing", where=str(path)) from error
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise BundleError(f"the file is damaged: {error}", where=str(path)) from error


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expanded(path: Path | str) -> Path:
    """A path as a caller gave it, with `~` for the home folder, as a shell reads it. Raises
    `RecipeError` for what is none."""
    if not isinstance(path, (str, os.PathLike)):
        own = getattr(path, "path", None)  # of a bundle in place of its folder
        raise RecipeError(
            "that is no path",
            found=f"{type(path).__name__}: {reprlib.repr(path)}",
            expected="text or a pathlib.Path",
            hint=f"{str(own)!r}, where it lies" if isinstance(own, Path) else None,
        )
    return Path(path).expanduser()


def at_home(source: Path | str) -> Path | str:
    """A source as a caller gave it: a path with `~` expanded, an address as it is."""
    return str(expanded(source)) if str(source).startswith("~") else source


def cache_folder() -> Path:
    """Where what can be made again, and the ledgers, are kept: MORPHOGEN_CACHE or ~/.cache."""
    default = Path.home() / ".cache" / "morphogen"
    return Path(os.environ.get("MORPHOGEN_CACHE") or default).expanduser()


def cache_file(name: str) -> Path:
    """A file in the cache folder; what a file's name may not hold becomes "_"."""
    return cache_folder() / "".join(c if c.isalnum() or c in "-." else "_" for c in name)


def lock(handle: int) -> None:
    """Hold an open file alone until it is closed, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows: single appends do not mix there
        return
    fcntl.flock(handle, fcntl.LOCK_EX)


def try_lock(handle: int) -> bool | None:
    """Hold an open file alone until it is closed, if nobody does; None where the system cannot."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return None
    return True

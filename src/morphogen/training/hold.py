"""One run to a folder: who trains there holds it, and a killed process holds nothing.

    OUT/.lock    {"pid": 4711, "host": "laptop", "started": 1764100000.1}

The file is locked by the system, which ends the lock with the process. Where the disk has no locks,
the record in the file decides: it counts while a process of that number and that start time lives.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from morphogen.core.errors import TrainingError
from morphogen.core.storage import try_lock

FILE = ".lock"
SAME_START = 2.0  # seconds by which two readings of a process's start time may differ


@dataclass(frozen=True)
class Owner:
    """The process that trains in a folder. `started` tells it from a later one of its number."""

    pid: int
    host: str
    started: float

    @classmethod
    def here(cls, pid: int | None = None) -> Owner:
        """This process, or another one of this machine."""
        pid = os.getpid() if pid is None else pid
        return cls(pid, socket.gethostname(), psutil.Process(pid).create_time())

    @classmethod
    def of(cls, handle: int) -> Owner | None:
        """Who is named in an open lock file; None where nobody is, or nothing that can be read."""
        try:
            return cls.from_json(json.loads(os.pread(handle, 4096, 0)))
        except ValueError:
            return None

    @classmethod
    def from_json(cls, about: Any) -> Owner | None:
        """Inverse of `asdict`; None for what is no record of a process."""
        try:
            return cls(int(about["pid"]), str(about["host"]), float(about["started"]))
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def may_live(self) -> bool:
        """Whether the process goes on; of another host's nobody knows."""
        if not self.is_here:
            return True
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:  # over, and nobody has asked how it went
                return False
            started = process.create_time()
        except psutil.Error:
            return False
        return abs(started - self.started) < SAME_START


@dataclass
class _Held:
    handle: int
    pid: int
    thread: int
    count: int = 1


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep `folder`, which is made where it is not there, from other runs while the block lasts.

    The same thread may hold it again. Of several processes that train one model, the first holds
    it. Raises `TrainingError` when another run has it, or when it cannot be written to.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    key = folder.resolve()
    with _guard:
        held = _held.get(key)
        if held is None or held.pid != os.getpid():  # a fork inherits what it does not hold
            _held[key] = _Held(_acquire(folder), os.getpid(), threading.get_ident())
        elif held.thread == threading.get_ident():
            held.count += 1
        else:
            raise _taken(folder, Owner.here())
    try:
        yield
    finally:
        with _guard:
            _held[key].count -= 1
            if not _held[key].count:
                _release(folder, _held.pop(key).handle)


def holder(folder: Path) -> Owner | None:
    """Who trains in `folder`; None where nobody does."""
    try:
        handle = os.open(folder / FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        owner = Owner.of(handle)
    finally:
        os.close(handle)
    return owner if owner is not None and owner.may_live() else None


def _acquire(folder: Path) -> int:
    """An open, locked file with this process's name in it."""
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            locked, owner = try_lock(handle), Owner.of(handle)
            if locked is False or (locked is None and owner is not None and owner.may_live()):
                os.close(handle)
                raise _taken(folder, owner)
            if _is_at(handle, path):
                break
            os.close(handle)  # its holder removed it between the two lines above
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(Owner.here())).encode(), 0)
    except OSError as error:
        raise TrainingError(
            f"cannot write to the folder: {error.strerror}",
            where=folder,
            hint="choose a folder that you may write to with --out",
        ) from error
    return handle


def _release(folder: Path, handle: int) -> None:
    path = folder / FILE
    try:
        if _is_at(handle, path):
            path.unlink(missing_ok=True)
    except OSError:  # the folder was moved or made read-only: closing is what counts
        pass
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _taken(folder: Path, owner: Owner | None) -> TrainingError:
    here = owner is not None and owner.is_here
    stop = f"kill {owner.pid}" if owner is not None and here else "stop it there"
    return TrainingError(
        "another run is going on in this folder",
        found=f"process {owner.pid} on {owner.host}" if owner else "a process without a name",
        where=folder,
        hint=f"another --out, such as {folder}-2; or wait, or {stop}, and --resume",
    )

"""Which process is at work on something, and whether it still lives."""

from __future__ import annotations

import functools
import os
import socket

import psutil


@functools.cache
def _started(pid: int) -> str:
    return f"{psutil.Process(pid).create_time():.0f}"


def this_process() -> str:
    """This process: its machine, number and time of start."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def is_over(process: str | None) -> bool:
    """Whether a process of this machine has ended; of other machines nothing is known."""
    if process is None:
        return True
    machine, pid, started = process.rsplit(" ", 2)
    if machine != socket.gethostname():
        return False
    try:
        # Clocks that are set while it runs move the start by a second or so.
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > 5
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False

"""Programs that a model wrote, run where they can do no harm: what they use is bounded, what they
reach is a folder of their own.

    time         seconds of the processor, and twice as many by the clock; then all of it is killed
    memory       of the address space; files of 1 MB, 16 MB in all; 16 processes
    network      none: a network namespace with nothing in it
    processes    a namespace of their own, so that what is left behind ends with the first
    files        Landlock: nothing but its folder is written, nothing but Python is read
    user         one that nobody is, where we are root

Namespaces and Landlock are the kernel's, and not every machine lets us have them. What could not
be had is named in `Outcome.missing`; unless such guards are waived by name, nothing is run. It is a
fence and no vault: against code that is written to break out, use a machine of its own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from morphogen.core.errors import MorphogenError
from morphogen.evaluation import _sandboxed

GUARDS = ("network", "processes", "disk", "limits", "user", "files")
MOST_OUTPUT = 10_000  # characters that are kept of it
Status = Literal["passed", "failed", "out of time"]


@dataclass(frozen=True)
class Outcome:
    """How a program ended, the end of what it wrote, and the guards that it ran without."""

    status: Status
    output: str
    missing: tuple[str, ...] = ()


def run_program(
    program: str,
    *,
    seconds: int = 5,
    memory: int = 512 << 20,
    processes: int = 16,
    without: Collection[str] = (),
) -> Outcome:
    """Run a Python program; "passed" where it ends with 0.

    Raises `MorphogenError` where a guard cannot be had, unless it is named in `without`.
    """
    if missing := [name for name in guards_missing() if name not in without]:
        raise MorphogenError(
            "this machine cannot fence in what a program does",
            found=f"no {', '.join(missing)}",
            expected=", ".join(GUARDS),
            hint="run it in a container or a virtual machine of its own, and waive these by name",
        )
    return _run(program, seconds, memory, processes)


@functools.cache
def guards_missing() -> tuple[str, ...]:
    """Which of the guards this machine does not give us."""
    return _run("pass", 5, 512 << 20, 16).missing


def _run(program: str, seconds: int, memory: int, processes: int) -> Outcome:
    spaces = _namespaces()
    limits = {
        "seconds": seconds, "memory": memory, "processes": processes + _own_processes(),
        "file": 1 << 20, "disk": 16 << 20, "network": "--net" in spaces,
        "mounts": "--mount" in spaces,
    }  # fmt: skip
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        Path(folder).chmod(0o711)
        command = [
            *spaces, sys.executable, "-I", "-B", _sandboxed.__file__, folder, json.dumps(limits),
            str(write),
        ]  # fmt: skip
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=(write,), env={"PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
        os.close(write)
        status: Status = "out of time"
        start = time.monotonic()
        try:
            child.communicate(program.encode("utf-8", "replace"), timeout=2 * seconds + 1)
            status = "passed" if child.returncode == 0 else "failed"
            if status == "failed" and time.monotonic() - start >= seconds:
                status = "out of time"  # of the processor's, whatever the signal came out as
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill(child)
        with os.fdopen(read, "rb") as told:
            report = told.read()
        output.seek(max(0, output.seek(0, os.SEEK_END) - MOST_OUTPUT))
        text = output.read().decode("utf-8", "replace")
    missing = tuple(json.loads(report)) if report else GUARDS
    return Outcome(status, text, missing + (() if "--pid" in spaces else ("processes",)))


@functools.cache
def _namespaces() -> Sequence[str]:
    """The command that opens new namespaces, with as many of them as we are given."""
    found = shutil.which("unshare")
    if found is None:
        return ()
    own = [] if os.getuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    whole = ["--net", "--mount", "--ipc", "--pid", "--fork", "--kill-child"]
    for spaces in (whole, ["--net"]):
        command = [found, *own, *spaces]
        if not subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            return command
    return ()


def _own_processes() -> int:
    """How many there are already of the user that limits are counted for."""
    user = os.getuid() or _sandboxed.NOBODY
    owners = (path.stat().st_uid for path in Path("/proc").glob("[0-9]*/task/*") if path.exists())
    return sum(owner == user for owner in owners) if os.getuid() else 0


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The child, and what is of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()

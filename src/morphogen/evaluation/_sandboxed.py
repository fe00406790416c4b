"""The other side of `sandbox`: a process that gives up what it could do harm with, and then becomes
the program that it was given. It knows nothing of Morphogen, and is started as a file.

    python -I _sandboxed.py FOLDER LIMITS REPORT      the program comes by standard input

REPORT is a file descriptor that is told, as JSON, which guards could not be had.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path

NOBODY = 61_183  # a user that nobody is: limits count all processes of one user
READABLE = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", sys.base_prefix)
NO_NEW_PRIVILEGES, AMBIENT, CLEAR_ALL = 38, 47, 4
NOSUID_NODEV, BIND, ALL_PRIVATE = 0x2 | 0x4, 0x1000, 0x4000 | 0x40000
PYTHON = ".python"  # in the folder, the standard library and nothing else
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's, on all machines
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
WRITE_FILE = 1 << 1
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many there are, by version

libc = ctypes.CDLL(None, use_errno=True)


def main(folder: str, limits: str, report: str) -> None:
    """Give up all, say what could not be given up, become the program."""
    told = json.loads(limits)
    program = sys.stdin.buffer.read()
    user = NOBODY if os.getuid() == 0 else os.getuid()
    missing = [] if told["network"] else ["network"]
    python = os.path.realpath(sys.executable)
    if told["mounts"] and os.getuid() == 0:  # another user cannot read what lies in root's home
        python = python.replace(sys.base_prefix, f"{folder}/{PYTHON}", 1)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("disk", lambda: _own_disk(folder, told["disk"], user, bool(told["mounts"]))),
        ("limits", lambda: _limit(told)),
        ("user", lambda: _become(user)),
        ("files", lambda: _only_own_files(folder)),
    ]
    for name, step in steps:
        try:
            step()
        except (OSError, ValueError):
            missing.append(name)
    os.chdir(folder)
    Path("program.py").write_bytes(program)
    os.write(int(report), json.dumps(missing).encode())
    os.close(int(report))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    clean = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    if python.startswith(folder):  # its library, where it has one, lies beside it now
        clean["LD_LIBRARY_PATH"] = f"{folder}/{PYTHON}/lib"
    os.execve(python, [python, "-I", "-B", "program.py"], clean)


def _own_disk(folder: str, size: int, user: int, mounts: bool) -> None:
    """A disk in memory in place of the folder, which ends with the namespace that it is in."""
    options = f"size={size},nr_inodes=1000,mode=700,uid={user},gid={user}".encode()
    if os.getuid() == 0:
        os.chown(folder, user, user)  # what it falls back on
    if not mounts:
        raise OSError("all would see the disk")
    libc.mount(b"none", b"/", None, ALL_PRIVATE, None)  # nobody else sees what is mounted
    _called(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", NOSUID_NODEV, options))
    os.mkdir(f"{folder}/{PYTHON}")
    target = f"{folder}/{PYTHON}".encode()
    _called(libc.mount(sys.base_prefix.encode(), target, None, BIND, None))


def _limit(told: dict[str, int]) -> None:
    for name, value in (
        ("CPU", told["seconds"]), ("AS", told["memory"]), ("FSIZE", told["file"]),
        ("NPROC", told["processes"]), ("NOFILE", 64), ("CORE", 0), ("MEMLOCK", 0),
    ):  # fmt: skip
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def _become(user: int) -> None:
    """Not root: limits of processes do not hold for root."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    _called(libc.prctl(AMBIENT, CLEAR_ALL, 0, 0, 0))  # what a namespace of our own gave us
    _called(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def _only_own_files(folder: str) -> None:
    """Landlock: the folder, and reading of what Python consists of; no sockets of TCP either."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    _called(version)
    rights = (1 << RIGHTS.get(version, 16)) - 1
    net, scoped = 3 * (version >= 4), 3 * (version >= 6)
    attributes = struct.pack("QQQ", rights, net, scoped)[
        : 8 + 8 * (version >= 4) + 8 * (version >= 6)
    ]
    rules = libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    _called(rules)
    reading = EXECUTE | READ_FILE | READ_DIR
    allowed = [(folder, rights), ("/dev/null", READ_FILE | WRITE_FILE), ("/dev/urandom", READ_FILE)]
    for path, access in [*allowed, *((path, reading) for path in READABLE)]:
        if os.path.exists(path):
            if not os.path.isdir(path):
                access &= READ_FILE | WRITE_FILE | EXECUTE
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", access, place)
            _called(libc.syscall(ADD_RULE, rules, 1, rule, 0))
            os.close(place)
    _called(libc.syscall(RESTRICT_SELF, rules, 0))
    os.close(rules)


def _called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Verbs that the studio begins among the models: processes that live on when the server ends.

    models/boots/studio.json    what was asked for, by whom, and which process was started for it
    models/boots/said.txt       what the process said

The server keeps nothing of them: one that is started later finds what an earlier one began.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from morphogen.core.storage import write_text
from morphogen.serve.catalogue import read_json, walked
from morphogen.serve.errors import APIError
from morphogen.serve.settings import Settings
from morphogen.training.hold import Owner

ASKED, SAID = "studio.json", "said.txt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MOST_SAID = 4000  # letters of what a process said that are shown


class Begun:
    """The processes that this server has begun."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.children: list[subprocess.Popen[bytes]] = []  # so that their ends are noticed

    def new_folder(self, name: str) -> Path:
        """A folder among the models. Raises `APIError` for a name that is no name, or is taken."""
        if not NAME.fullmatch(name):
            raise APIError(400, f"{name[:80]!r} is no name of a folder: letters, digits, - _ and .")
        out = self.settings.models / name
        try:
            out.mkdir(parents=True)
        except FileExistsError as error:
            raise APIError(409, f"there is a {name} already: choose another name") from error
        except OSError as error:
            raise APIError(500, f"{out} cannot be made: {error.strerror}") from error
        return out

    def begin(self, out: Path, asked: Mapping[str, Any], verb: Sequence[str]) -> None:
        """Have a process do what was `asked`: a verb, with its result in a folder."""
        # -P: modules that lie in the folder where we are started are not Morphogen's.
        command = [sys.executable, "-P", "-m", "morphogen.cli.app", *verb]
        with (out / SAID).open("wb") as said:
            child = subprocess.Popen(
                [*command, "--out", str(out.absolute())], stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, start_new_session=True, env=self.settings.environment,
            )  # fmt: skip
        self.children.append(child)
        told = {**asked, "process": asdict(Owner.here(child.pid))}
        write_text(out / ASKED, json.dumps(told, indent=2) + "\n")

    def reap(self) -> None:
        """Notice which of them have ended."""
        self.children = [child for child in self.children if child.poll() is None]


def asked_in(folder: Path) -> dict[str, Any]:
    """What the studio was asked for there; nothing where somebody began it by hand, or where a file
    that only looks like it would have a verb read what is no place."""
    asked = read_json(folder / ASKED)
    source = asked.get("source")
    return asked if isinstance(source, str) and Path(source).is_absolute() else {}


def folders(root: Path, verb: str, left: Set[str]) -> Iterator[Path]:
    """Folders below the models in which a verb is or was at work: those that the studio began it
    in, and those that hold one of the files that it leaves, whoever began it. What lies in one is
    its own."""
    for folder, below, files in walked(root):
        is_ours = ASKED in files and asked_in(folder).get("verb") == verb
        if folder != root and (is_ours or left & set(files)):
            below.clear()
            yield folder


def owner_of(asked: Mapping[str, Any]) -> Owner | None:
    """The process that was begun for it, while it lives."""
    owner = Owner.from_json(asked.get("process"))
    return owner if owner is not None and owner.may_live() else None


def said_in(folder: Path) -> str:
    """The last words of the process."""
    try:
        with (folder / SAID).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_SAID))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""

"""What benchmarks of adapters share: other forms of a bundle, and what a program says last."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def export(bundle: Path, form: str, to: Path) -> None:
    """Another form of a bundle."""
    command = [sys.executable, "-m", "morphogen.cli.app", "export", str(bundle), "--format", form]
    subprocess.run([*command, "--to", str(to)], check=True, stdout=subprocess.DEVNULL)


def told_by(command: Sequence[str]) -> dict[str, Any]:
    """The JSON that a program writes in its last line."""
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
    return found

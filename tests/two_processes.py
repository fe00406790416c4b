"""A worker's code run by `torchrun` in two processes, for the tests of training over several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_in_two(code: str, data: Path, place: Path, settings: list[str]) -> None:
    """Run `code`, written to `place`, with the arguments data, place and settings."""
    worker = place / "worker.py"
    worker.write_text(code)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(worker), str(data), str(place), *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]

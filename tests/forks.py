"""Processes of their own for tests, forked from one that has PyTorch and nothing that runs: to
import it anew takes three seconds of a processor, and who has computed on several threads must not
be forked. What is to start as a user starts it is no case for this."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(["torch.distributed.fsdp", "morphogen.training.session"])


def forked(work: Callable[..., object], *given: Any) -> BaseProcess:
    """Begin `work`, a function of a module, in a process of its own: in this folder, with what the
    environment is now."""
    about = (dict(os.environ), os.getcwd())
    process = FORKED.Process(target=_begun, args=(about, work, given))
    process.start()
    return process


def _begun(about: tuple[dict[str, str], str], work: Callable[..., object], given: Any) -> None:
    environment, folder = about
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    work(*given)


def printed_by(script: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a script prints that works in `folder`, with more in its environment."""
    with tempfile.NamedTemporaryFile("r") as said:
        process = forked(_run, script, folder, environment or {}, said.name)
        process.join()
        text = said.read()
    assert process.exitcode == 0, text
    return text


def _run(script: str, folder: Path, environment: Mapping[str, str], said: str) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115 - to the end
    exec(compile(script, "a script", "exec"), {"__name__": "__main__"})


def run_in_two(work: Callable[..., object], *given: Any) -> None:
    """Run `work` in two processes that are told of each other as `torchrun` tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    two = [forked(_as_one_of_two, rank, address, work, given) for rank in (0, 1)]
    for process in two:
        process.join(300)
    codes = [process.exitcode for process in two]
    for process in two:
        process.kill()
    assert codes == [0, 0], "see what they wrote to stderr"


def _as_one_of_two(
    rank: int, address: dict[str, str], work: Callable[..., object], given: Any
) -> None:
    import torch.distributed

    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank))
    work(*given)
    torch.distributed.destroy_process_group()

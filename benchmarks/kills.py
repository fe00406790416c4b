"""Killed at any file operation, does a run go on to the same weights?

    python benchmarks/kills.py                   every family, and a chain
    python benchmarks/kills.py vae gan --every   at every operation, also where the disk looks alike

A short run is killed (SIGKILL) just before and just after every file that it opens to write, names,
renames, flushes or removes, and half-way through a line of its log. Instants that leave the same
files of the same sizes stand for one another, unless --every is given. What is left must go on
with --resume, or be a whole bundle, or be told to be nothing yet, and then a new run into the same
folder goes. In every case the weights are those of the run that nobody killed, bit by bit, and no
temporary file is left.
"""

from __future__ import annotations

import argparse
import builtins
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import morphogen as mg
from morphogen.core import discover, storage
from morphogen.core.errors import BundleError, MorphogenError
from morphogen.training import loop
from morphogen.training import session as running
from morphogen.training.loop import Log, Run
from morphogen.training.run import sessions

NAMED = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "chmod")
SETTINGS = ["train.batch_size=8", "train.num_previews=1", "train.checkpoint_every=0"]
CHAIN = "autoencoder+flow_matching"
OWN = {  # what makes the networks small
    CHAIN: ["backbone.name=mlp", "backbone.model_dim=8", "family.latent_dim=2"],
    "autoregressive": ["backbone.model_dim=8", "backbone.num_layers=1"],
    "vq_vae": ["backbone.name=conv", "backbone.model_dim=8"],
    "gan": ["backbone.name=conv", "backbone.model_dim=8"],
    "rbm": [],
    "dbn": [],
}
MLP = ["backbone.name=mlp", "backbone.model_dim=8", "backbone.num_layers=1"]
STOP_AT = 3
SNAPSHOT_EVERY = 4  # steps


@dataclass(frozen=True)
class Case:
    """A run to kill: begun anew, or, from `template`, gone on with after a Ctrl-C."""

    family: str
    steps: int = 6
    template: Path | None = None

    @property
    def settings(self) -> list[str]:
        """Of the run."""
        return [*SETTINGS, *OWN.get(self.family, MLP)]

    def work(self, data: mg.Data, out: Path) -> None:
        """The run, to its end."""
        if self.template is not None:
            mg.train(data, out=out, resume=True)
        else:
            mg.train(
                data, self.family, budget=f"{self.steps}steps", settings=self.settings, out=out
            )

    def stopped(self, data: mg.Data, out: Path, at: int = STOP_AT) -> Case:
        """The same run as one to go on with: stopped, as Ctrl-C does, at step `at`."""
        asked: Any = {"budget": f"{self.steps}steps", "settings": self.settings, "out": out}
        for session in sessions(data, self.family, **asked):

            def stop(log: Log, run: Run = session.run) -> None:
                run.stop = log.step >= at

            session.train(stop)
        return Case(self.family, self.steps, out)


# -- one instant -----------------------------------------------------------------------------------


@contextmanager
def watched(root: Path, at: Callable[[str], None]) -> Iterator[None]:
    """Call `at` before and after every operation that changes a file below `root`."""
    real: dict[tuple[Any, str], Any] = {}

    def is_inside(path: Any, dir_fd: int | None = None) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        return os.path.abspath(os.fspath(path)).startswith(f"{root}/")

    def replaced(owner: Any, name: str, counts: Callable[..., bool]) -> None:
        function = real[owner, name] = getattr(owner, name)

        def wrapper(*given: Any, **options: Any) -> Any:
            if not counts(*given, **options):
                return function(*given, **options)
            at(f"before {name}")
            result = function(*given, **options)
            at(f"after {name}")
            appends = name == "open" and owner is not os and "a" in mode_of(*given, **options)
            return Torn(result, at) if appends else result

        setattr(owner, name, wrapper)

    def mode_of(path: Any, mode: str = "r", *_: Any, **__: Any) -> str:
        return mode

    for name in NAMED:
        replaced(os, name, lambda path, *_, dir_fd=None, **__: is_inside(path, dir_fd))
    replaced(os, "fsync", is_inside)
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    replaced(
        os, "open", lambda path, flags, *_, dir_fd=None, **__: flags & writes and is_inside(path)
    )
    for owner in (io, builtins):
        replaced(
            owner, "open", lambda *given, **options: set(mode_of(*given, **options)) & set("wax+")
            and is_inside(given[0]),
        )  # fmt: skip
    try:
        yield
    finally:
        for (owner, name), function in real.items():
            setattr(owner, name, function)


class Torn:
    """A file opened to append, one of whose lines can be cut in half."""

    def __init__(self, file: Any, at: Callable[[str], None]) -> None:
        self.file, self.at = file, at

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, line: str) -> None:
        """In two halves."""
        half = len(line) // 2
        self.file.write(line[:half])
        self.file.flush()
        self.at("inside a line")
        self.file.write(line[half:])


def state_of(out: Path) -> tuple[tuple[str, object], ...]:
    """What lies in a folder, as far as it matters: names and sizes; of the log, whether its last
    line is whole; of what is being written or removed, that it is there."""
    found: set[tuple[str, object]] = set()
    for path in out.rglob("*") if out.is_dir() else ():
        name, being, _ = str(path.relative_to(out)).partition(storage.PARTIAL)
        if being:
            found.add((re.sub(r"\.[a-z0-9_]{8}$", "", name), being))
        elif path.name == "log.jsonl":
            found.add((name, path.read_bytes()[-1:] in (b"", b"\n")))
        else:
            found.add((name, path.is_file() and path.stat().st_size))
    return tuple(sorted(found, key=str))


def apart(work: Callable[[], Any]) -> Any:
    """What `work` returns, as JSON, in a process of its own that may be killed: then None."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(work())
        except BaseException:
            answer = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(writing, "w") as file:
            file.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None


def instants(case: Case, data: mg.Data, out: Path, *, every: bool = False) -> list[tuple[int, str]]:
    """(number, what) of the instants of a run: of those that leave the same, the first."""

    def work() -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        seen: set[object] = set()
        number = 0

        def at(what: str) -> None:
            nonlocal number
            state = state_of(out)
            if every or state not in seen:
                seen.add(state)
                found.append((number, what))
            number += 1

        with watched(out.parent, at):
            case.work(data, out)
        return found

    fill(case, out)
    found: list[tuple[int, str]] = apart(work)
    if isinstance(found, dict):
        raise RuntimeError(found["error"])
    return found


def kill(case: Case, data: mg.Data, out: Path, number: int) -> None:
    """Run `case` and kill it at an instant."""

    def work() -> None:
        count = 0

        def at(what: str) -> None:
            nonlocal count
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        with watched(out.parent, at):
            case.work(data, out)

    fill(case, out)
    survived = apart(work)
    if survived is not None:
        raise RuntimeError(f"not killed at {number}: {survived}")


def end(case: Case, data: mg.Data, out: Path) -> str:
    """Bring what was killed to its end, as a user would: how that went."""
    try:
        mg.train(data, out=out, resume=True)
        return "gone on with"
    except BundleError as error:
        if error.message != "there is nothing to resume":
            raise
        if error.found == "a finished bundle":
            mg.open(out)
            return "whole already"
    case.work(data, out)
    return "begun anew"


def fill(case: Case, out: Path) -> None:
    """An empty place, or the stopped run to go on with."""
    shutil.rmtree(out, ignore_errors=True)
    if case.template is not None:
        shutil.copytree(case.template, out)


def left_over(out: Path) -> list[str]:
    """Temporary files and locks."""
    return [p.name for p in out.rglob("*") if p.name.endswith(storage.PARTIAL) or p.name == ".lock"]


def weights(out: Path) -> list[str]:
    """Hashes of the weights of a run, and of the stages before it."""
    return [storage.sha256(file) for file in sorted(out.rglob("*.safetensors"))]


# -- all of them -----------------------------------------------------------------------------------


def sweep(
    case: Case, data: mg.Data, root: Path, *, every: bool = False, last: int | None = None
) -> dict[str, Any]:
    """Kill a run at every instant, or at the `last` ones, and bring it to its end: counts of how,
    and what went wrong."""
    root.mkdir(parents=True, exist_ok=True)
    whole, out = root / "whole", root / "run"

    # In this process: what is imported on the way is there for all that follow.
    fill(case, whole)
    case.work(data, whole)
    expected = weights(whole)
    chosen = instants(case, data, out, every=every)
    chosen = chosen if last is None else chosen[-last:]
    ways: Counter[str] = Counter()
    wrong: list[str] = []
    for number, what in chosen:
        kill(case, data, out, number)
        way = apart(lambda: end(case, data, out))
        if isinstance(way, dict):
            wrong.append(f"{number}, {what}: {way['error']}")
            continue
        ways[way] += 1
        if weights(out) != expected:
            wrong.append(f"{number}, {what}: {way}, other weights")
        if found := left_over(out):
            wrong.append(f"{number}, {what}: {way}, left over: {', '.join(found)}")
    return {"instants": len(chosen), "ways": dict(ways), "wrong": wrong}


def quick() -> None:
    """Leave out what takes most of the time of so short a run and touches no other file: drawing
    curves. Checkpoints come sooner."""
    loop.SNAPSHOT_EVERY = SNAPSHOT_EVERY
    running.draw_curves = no_curves  # type: ignore[assignment]


def no_curves(log: Path, picture: Path) -> Path:
    """In place of `draw_curves`: the same file operations."""
    return storage.write_atomic(picture, lambda path: path.write_bytes(log.read_bytes()[:99]))


def pictures(num: int = 48, labels: list[int] | None = None) -> mg.Data:
    """Random 8 x 8 pictures, in memory."""
    x = np.random.default_rng(0).integers(0, 256, (num, 8, 8), dtype=np.uint8)
    return mg.Data.from_tensors(x, labels)


def texts(num: int = 48) -> mg.Data:
    """Random words, in memory."""
    words = np.random.default_rng(0).choice(["no", "two", "words", "alike"], (num, 3))
    return mg.load([f"{n} {' '.join(row)}" for n, row in enumerate(words.tolist())])


def learned_by(case: Case) -> mg.Data | None:
    """Of pictures, pictures with labels and texts, what a family learns."""
    kinds = (pictures(), pictures(labels=[0, 1, 2] * 16), texts())
    return next((data for data in kinds if not is_refused(case, data)), None)


def main() -> None:
    """A row for each family, and for a chain, begun anew and gone on with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*")
    parser.add_argument("--every", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["MORPHOGEN_CACHE"] = tempfile.mkdtemp()
    quick()
    print("| run | killed at | gone on with | begun anew | whole already | wrong | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.families or [*discover.names("family"), CHAIN]:
            fresh = Case(name, 9 if "+" in name else 6)
            data = learned_by(fresh)
            if data is None:
                print(f"| {name} | learns neither pictures nor texts |")
                continue
            template = Path(folder, f"stopped-{name}")
            for case, how in ((fresh, ""), (fresh.stopped(data, template), ", after Ctrl-C")):
                begun = time.perf_counter()
                found = sweep(case, data, Path(folder, name), every=asked.every)
                ways = [found["ways"].get(way, 0) for way in
                        ("gone on with", "begun anew", "whole already")]  # fmt: skip
                cells = [name + how, found["instants"], *ways, len(found["wrong"])]
                seconds = f"{time.perf_counter() - begun:.0f}"
                print("| " + " | ".join(map(str, [*cells, seconds])) + " |", flush=True)
                bad += [f"{name}{how}: {each}" for each in found["wrong"]]
    print("\n".join(bad), file=sys.stderr)
    sys.exit(bool(bad))


def is_refused(case: Case, data: mg.Data) -> bool:
    """Whether a family does not learn such items."""
    try:
        next(sessions(data, case.family, settings=case.settings, dry=True))
    except MorphogenError:
        return True
    return False


if __name__ == "__main__":
    main()

"""Checkpoints: a run on disk, whole or not at all.

    OUT/checkpoint/step_00000500/state.safetensors   weights, average, optimizers
    OUT/checkpoint/step_00000500/run.json            state, recipe, codec, data, hash of the above

Processes that share out the weights write their parts of them, parts/*.safetensors, in its place.

A checkpoint is written beside the others and renamed into place; only then is the last one removed,
which is renamed first. So what is called step_* is whole, and a process killed at any instant after
the first one leaves at least one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

import morphogen
from morphogen.core.border import COUNT, REAL, SHA256, Number, check_shape, read_json
from morphogen.core.config import DATA, DESCRIPTION, ORIGIN, RUN
from morphogen.core.errors import BundleError
from morphogen.core.folder import CHECKPOINTS
from morphogen.core.storage import (
    clear_partial,
    partial_of,
    read_tensors,
    remove_folder,
    sha256,
    sync_folder,
    write_tensors,
    write_text,
)
from morphogen.core.visible import in_shell
from morphogen.training.distributed import Processes
from morphogen.training.loop import Snapshot
from morphogen.training.schedule import TrainState
from morphogen.training.sharding import read_parts, write_parts

WEIGHTS, PARTS = "state.safetensors", "parts"
ALONE = Processes()
CODEC = "codec/"  # prefix of the codec's tensors
ABOUT = DESCRIPTION | {
    "data": DATA | {"source": str, "digest": str, "num_train": COUNT},
    "run?": RUN,
    "origin?": ORIGIN,
    "state": dict,
    "sha256": (SHA256, {str: SHA256}),  # of the weights, or of each part of them
}
STATE = {
    "step": COUNT,
    "seconds": REAL,
    "progress": Number(low=0, high=1 + 1e-6),
    "increment": Number(low=0, high=1),
    "rolled_back": [COUNT],
}


def write_checkpoint(
    out: Path,
    snapshot: Snapshot,
    about: dict[str, Any],
    codec: dict[str, Tensor],
    processes: Processes = ALONE,
) -> Path:
    """Write `snapshot` with what is needed to rebuild the run; then drop older ones.

    `about` is JSON: `core.bundle.describe` and the data; `codec` the codec's own weights. Where
    `processes` share out the weights, all of them call it.
    """
    final = out / CHECKPOINTS / f"step_{snapshot.state.step:08d}"
    if processes.any(final.is_dir()):
        return final
    partial = partial_of(final)
    tensors = snapshot.tensors | {f"{CODEC}{name}": tensor for name, tensor in codec.items()}
    hashes = _write_weights(partial, tensors, processes)
    if processes.is_first:
        # Floats survive JSON bit for bit: Python writes the shortest text that reads back the same.
        facts = {**about, "state": asdict(snapshot.state), "sha256": hashes}
        write_text(partial / "run.json", json.dumps(facts, indent=2) + "\n")
        partial.rename(final)
        sync_folder(final.parent)
        for older in _whole(out):
            if older != final:
                remove_folder(older)
    processes.wait()  # so that all see it from here on
    return final


def _write_weights(
    folder: Path, tensors: dict[str, Tensor], processes: Processes
) -> str | dict[str, str]:
    """Write a file, or each process's part, into `folder` emptied; what is to be hashed, hashed."""
    if processes.is_first:
        shutil.rmtree(folder, ignore_errors=True)
    if not processes.share_weights:
        return sha256(write_tensors(folder / WEIGHTS, tensors))
    parts = folder / PARTS
    if processes.is_first:
        parts.mkdir(parents=True)
    processes.wait()  # none is to write before it is empty, nor to make what is being removed
    write_parts(parts, tensors)
    processes.wait()
    return {file.name: sha256(file) for file in sorted(parts.iterdir()) if processes.is_first}


def has_checkpoint(out: Path) -> bool:
    """Whether there is a checkpoint below `out` to go on from."""
    return bool(_whole(out))


def _whole(out: Path) -> list[Path]:
    """The checkpoints below `out`, the oldest first."""
    return sorted((out / CHECKPOINTS).glob("step_*"))


def read_checkpoint(out: Path) -> tuple[Snapshot, dict[str, Any], dict[str, Tensor]]:
    """The newest complete checkpoint below `out`: (snapshot, about, codec) as they were written."""
    folders = _whole(out)
    if not folders:
        raise nothing_to_resume(out)
    newest = folders[-1]
    about = read_json(newest / "run.json", ABOUT)
    hashes = about.pop("sha256")
    in_parts = isinstance(hashes, dict)
    named = {f"{PARTS}/{name}": each for name, each in hashes.items()} if in_parts else {}
    for name, expected in (named or {WEIGHTS: hashes}).items():
        file = newest / name
        if not file.is_file() or sha256(file) != expected:
            raise BundleError("the checkpoint was changed after it was written", where=str(file))
    tensors = read_parts(newest / PARTS) if in_parts else read_tensors(newest / WEIGHTS)
    codec = {k.removeprefix(CODEC): tensors.pop(k) for k in list(tensors) if k.startswith(CODEC)}
    try:
        state = TrainState(**about.pop("state"))
    except TypeError as error:
        written_by = (about.get("run", {}).get("environments") or [{}])[-1].get("code_version")
        raise BundleError(
            "the checkpoint was written by another version of Morphogen",
            found=written_by or "an older one",
            expected=morphogen.__version__,
            where=str(newest),
            hint="go on with the version that began it, or train anew with another --out",
        ) from error
    check_shape(asdict(state), STATE, newest / "run.json")
    return Snapshot(state, tensors), about, codec


def nothing_to_resume(out: Path) -> BundleError:
    """The error for a folder without a checkpoint: what it holds instead, and what to do."""
    hint = f"morphogen train DATA --out {in_shell(out)}"
    if (out / "config.json").is_file():
        found, hint = "a finished bundle", f"morphogen sample {in_shell(out)}"
    elif (out / "log.jsonl").is_file():
        found = "a run that was stopped before its first checkpoint"
    else:
        found = "no checkpoint" if out.is_dir() else "no such folder"
    return BundleError("there is nothing to resume", found=found, where=str(out), hint=hint)


def clear_leftovers(out: Path) -> None:
    """Take away what a run that was killed was writing or removing in its folder; of several
    processes the first one does."""
    for folder in (out, out / CHECKPOINTS, out / "samples") if Processes.join().is_first else ():
        clear_partial(folder)


def remove_checkpoints(out: Path) -> None:
    """Remove what a finished run no longer needs."""
    remove_folder(out / CHECKPOINTS)

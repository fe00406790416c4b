"""Checkpoints: a run on disk, whole or not at all.

    OUT/checkpoint/step_00000500/state.safetensors   weights, average, optimizers
    OUT/checkpoint/step_00000500/run.json            state, recipe, codec, data, hash of the above

A checkpoint is written beside the others and renamed into place; only then is the last one removed.
A process killed at any instant leaves at least one that is complete.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

import morphogen
from morphogen.core.errors import BundleError
from morphogen.core.storage import read_tensors, sha256, write_tensors, write_text
from morphogen.training.loop import Snapshot
from morphogen.training.schedule import TrainState

FOLDER = "checkpoint"
CODEC = "codec/"  # prefix of the codec's tensors


def write_checkpoint(
    out: Path, snapshot: Snapshot, about: dict[str, Any], codec: dict[str, Tensor]
) -> Path:
    """Write `snapshot` with what is needed to rebuild the run; then drop older ones.

    `about` is JSON: `core.bundle.describe` and the data; `codec` the codec's own weights.
    """
    final = out / FOLDER / f"step_{snapshot.state.step:08d}"
    if final.is_dir():
        return final
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tensors = snapshot.tensors | {f"{CODEC}{name}": tensor for name, tensor in codec.items()}
    weights = write_tensors(partial / "state.safetensors", tensors)
    # Floats survive JSON bit for bit: Python writes the shortest text that reads back the same.
    facts = {**about, "state": asdict(snapshot.state), "sha256": sha256(weights)}
    write_text(partial / "run.json", json.dumps(facts, indent=2) + "\n")
    partial.rename(final)
    for older in (out / FOLDER).iterdir():
        if older != final:
            shutil.rmtree(older, ignore_errors=True)
    return final


def read_checkpoint(out: Path) -> tuple[Snapshot, dict[str, Any], dict[str, Tensor]]:
    """The newest complete checkpoint below `out`: (snapshot, about, codec) as they were written."""
    folders = sorted((out / FOLDER).glob("step_*")) if (out / FOLDER).is_dir() else []
    if not folders:
        finished = (out / "config.json").is_file()
        raise BundleError(
            "there is nothing to resume",
            found="a finished bundle" if finished else "no checkpoint",
            where=str(out),
            hint=f"morphogen sample {out}"
            if finished
            else "morphogen train DATA --out " + str(out),
        )
    newest = folders[-1]
    about = json.loads((newest / "run.json").read_text())
    weights = newest / "state.safetensors"
    if sha256(weights) != about.pop("sha256"):
        raise BundleError("the checkpoint was changed after it was written", where=str(weights))
    tensors = read_tensors(weights)
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
    return Snapshot(state, tensors), about, codec


def remove_checkpoints(out: Path) -> None:
    """Remove what a finished run no longer needs."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)

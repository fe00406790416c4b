"""Where a run computes, and whether its networks are compiled for it."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch

import morphogen
from morphogen.core.backbone import Backbone
from morphogen.core.device import usable_device
from morphogen.core.errors import TrainingError
from morphogen.core.family import Family
from morphogen.training.options import Budget, TrainOptions

COMPILE_PAYS_AFTER, OR_STEPS = 300.0, 2000  # seconds of training; compiling costs up to a minute
NOT_IN_TRAINING = {"cli", "evaluation", "metrics", "tasks", "testing"}  # folders of the package


def choose_device(name: str) -> torch.device:
    """ "auto" takes the fastest there is. Raises `RecipeError` for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return usable_device(name, "--set train.device=auto")


def compile_if_it_pays(family: Family, options: TrainOptions, device: torch.device) -> None:
    """Compile the networks on a GPU when the run is long; on CPUs it gains next to nothing."""
    budget = Budget.parse(options.budget)
    by_steps = (budget.steps or OR_STEPS) >= OR_STEPS
    long = by_steps if budget.seconds is None else budget.seconds >= COMPILE_PAYS_AFTER
    auto = options.compile == "auto" and not options.shard  # whose blocks gather their weights
    wanted = options.compile == "yes" or (auto and device.type == "cuda" and long)
    if not (wanted and family.compiles):
        return
    for module in family.modules():
        if isinstance(module, Backbone):
            module.compile()


def recompute_if_asked(family: Family, options: TrainOptions) -> None:
    """Let the networks of a family compute again what the backward pass needs, in place of keeping
    it. Raises `TrainingError` where none can."""
    if not options.recompute:
        return
    able = [each for each in family.modules() if isinstance(each, Backbone) and each.recomputes]
    if not able:
        names = {type(each).__name__ for each in family.modules() if isinstance(each, Backbone)}
        raise TrainingError(
            "no network of this model computes again what it does not keep",
            found=", ".join(sorted(names)) or "no network",
            expected="transformer or token_transformer",
            hint="--set train.recompute=no, and a smaller train.batch_size where memory is short",
        )
    for network in able:
        network.recompute = True


def environment(device: torch.device, num_processes: int = 1) -> dict[str, Any]:
    """What the last bits of a run depend on, besides its recipe and its data."""
    return {
        "code_version": morphogen.__version__,
        "code_sha256": code_hash(),
        "torch_version": torch.__version__,
        "device": device.type,
        "hardware": hardware(device),
        "num_threads": torch.get_num_threads(),
        "num_processes": num_processes,
    }


def hardware(device: torch.device) -> str:
    """The processor, with the instructions that PyTorch uses of it, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    name = named[1] if named else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


@cache
def code_hash() -> str:
    """A hash of the source files of this package that training may use."""
    folder, digest = Path(morphogen.__file__).parent, hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).parts
        if parts[0] not in NOT_IN_TRAINING:
            digest.update("/".join(parts).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()

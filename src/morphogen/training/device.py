"""Where a run computes, and whether its networks are compiled for it."""

from __future__ import annotations

import torch

from morphogen.core.backbone import Backbone
from morphogen.core.errors import TrainingError
from morphogen.core.family import Family
from morphogen.training.options import Budget, TrainOptions

COMPILE_PAYS_AFTER = 300.0  # seconds of training; compiling costs up to a minute


def choose_device(name: str) -> torch.device:
    """ "auto" takes the fastest there is. Raises `TrainingError` for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}",
            hint="--set train.device=auto",
        ) from error
    return torch.device(name)


def compile_if_it_pays(family: Family, options: TrainOptions, device: torch.device) -> None:
    """Compile the networks on a GPU when the run is long; on CPUs it gains next to nothing."""
    seconds = Budget.parse(options.budget).seconds
    long = seconds is None or seconds >= COMPILE_PAYS_AFTER
    wanted = options.compile == "yes" or (
        options.compile == "auto" and device.type == "cuda" and long
    )
    if not (wanted and family.compiles):
        return
    for module in family.modules():
        if isinstance(module, Backbone):
            module.compile()

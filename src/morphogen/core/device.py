"""The device that a model is put on, where it is there."""

from __future__ import annotations

from typing import Any

import torch

from morphogen.core.errors import RecipeError


def usable_device(name: Any, hint: str = 'device="cpu"') -> torch.device:
    """A device by its name. Raises `RecipeError` for one that is not there."""
    try:
        torch.empty(1, device=torch.device(name))
    except (RuntimeError, AssertionError, TypeError) as error:
        raise RecipeError(
            f"the device {name!r} cannot be used: {next(iter(str(error).splitlines()), '')}",
            expected="cpu, cuda or mps, as far as there are such here",
            hint=hint,
        ) from error
    return torch.device(name)

"""Training towards an objective (`core.objective`) in place of a family's own loss.

What the model is kept near is the bundle that the run began with, opened again when a run goes on;
where an adapter is trained that can be switched off, no second model is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.errors import RecipeError
from morphogen.core.family import Family
from morphogen.core.objective import Objective, Reference
from morphogen.core.recipe import Recipe, build_adapter, build_objective
from morphogen.core.start import checked_base
from morphogen.data.dataset import Data
from morphogen.data.packing import Packed
from morphogen.training.adapting import adapted
from morphogen.training.rewards import Rewarding

MOST = 64  # held-out items that are scored: some objectives draw what they score


def train_defaults(recipe: Recipe, usual: Mapping[str, Any]) -> dict[str, Any]:
    """How a model is trained towards the objective of a recipe, that is else trained as `usual`."""
    objective = build_objective(recipe)
    if objective is None:
        return {}
    return {**objective.train_defaults, "lr": objective.rate * usual["lr"]}


def pursued(recipe: Recipe, family: Family, data: Data, out: Path) -> Objective | None:
    """The objective of a recipe, put on the family of the run in `out`; None where it has none."""
    objective: Any = build_objective(recipe)
    if objective is None:
        return None
    other, taught = None, hasattr(objective, "taught_by")
    if not taught and not hasattr(family.adapter, "switched_off"):
        base = Bundle.open(checked_base(recipe.start, out))
        other = adapted(base, replace(recipe, wrapper={}), data).to(family.device)
    judge = Rewarding(data.codec, objective) if objective.judged else None
    objective.put_on(family, Reference(family, other), judge)
    if taught:
        objective.taught_by(Bundle.open(objective.teacher), data.codec)
    found: Objective = objective
    return found


def laid_out(data: Data, recipe: Recipe) -> Data:
    """Data for a run: with conversations in a window each where each is asked, or where a prompt
    stands before each, as near to the last of a window as to the first."""
    if not recipe.objective and not hasattr(build_adapter(recipe), "in_network"):
        return data
    train, test = (
        split.apart() if isinstance(split, Packed) else split for split in (data.train, data.test)
    )
    return replace(data, train=train, test=test)


def check_start(recipe: Recipe) -> None:
    """Raise `RecipeError` for an objective where no trained model is named."""
    if recipe.objective and "from" not in recipe.start:
        raise RecipeError(
            "an objective changes a trained model, and none is named",
            found=f"--objective {recipe.objective.get('name')}",
            hint="--from models/base",
        )

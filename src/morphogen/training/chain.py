r"""Chains: families trained one after the other, each in the latents of the one before.

    vq_vae+autoregressive           tokens for the items, then the distribution of the tokens
    autoencoder+flow_matching       a code for the items, then the distribution of the code

Every stage has one share of the budget, and the last, which draws the items, has two: a third and
two thirds where there are two stages. Or each has its own, `--budget 400s+200s`. Options of [train]
are for all stages, those of [family] and [backbone] for the stages that have them. The bundle of
the last stage is the chain's:

    OUT/config.json ...       it, which needs no other
    OUT/chain.json            what was asked for: an interrupted chain goes on from it
    OUT/1_vq_vae/             the bundle of each stage before
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.border import read_json
from morphogen.core.bundle import Bundle
from morphogen.core.capability import CanReconstruct, missing
from morphogen.core.errors import MorphogenError, RecipeError, RefusedPair, did_you_mean
from morphogen.core.folder import CHAIN
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.schema import options
from morphogen.core.storage import write_text
from morphogen.data.dataset import Data
from morphogen.data.views import Suits, choose_view
from morphogen.training.checkpoint import clear_leftovers, has_checkpoint
from morphogen.training.device import choose_device
from morphogen.training.distributed import Processes
from morphogen.training.hold import hold
from morphogen.training.memory import check_network
from morphogen.training.options import Budget, TrainOptions
from morphogen.training.resume import FREE
from morphogen.training.session import Session, check_unchanged
from morphogen.training.through import in_latents

ASKED = {
    "recipe": {"family": {"name": str}, "train": dict},
    "data": {"source": str, "digest": str},
    "through?": (None, str),
    "model?": (None, str),
}


@dataclass(frozen=True)
class Chain:
    """What was asked of a chain."""

    recipe: Recipe  # its family's name is that of the chain
    data: Mapping[str, Any]  # the source's name and the digest, see `data.places`
    through: str | None = None  # what is noted of the bundle in whose latents it is trained
    model: str | None = None  # the digest of that bundle's weights

    @classmethod
    def of(cls, out: Path) -> Chain | None:
        """The chain that was begun in `out`; None where there is none."""
        if not (out / CHAIN).exists():
            return None
        about = read_json(out / CHAIN, ASKED)
        known = (about.get(name) for name in ("through", "model"))
        return cls(Recipe.from_json(about["recipe"]), about["data"], *known)

    def write(self, out: Path) -> None:
        """Leave the record in `out`."""
        about = {
            "recipe": self.recipe.to_json(), "data": self.data,
            "through": self.through, "model": self.model,
        }  # fmt: skip
        write_text(out / CHAIN, json.dumps(about, indent=2) + "\n")


def families_of(name: str) -> list[str]:
    """The families of a chain, the first one first; of a single family, itself."""
    return name.split("+")


def suits(recipe: Recipe) -> Suits:
    """What the family of a recipe, of a chain the first, has against a spec: for `load`."""
    family: Any = discover.find("family", _names(recipe)[0])
    refusal: Suits = family.refusal
    return refusal


def stage_folders(out: Path) -> list[Path]:
    """Where the stages of the run in `out` are, the first one first; of a single family, `out`."""
    chain = Chain.of(out)
    return [out] if chain is None else _folders(out, chain.recipe)


def is_finished(out: Path) -> bool:
    """Whether the run in `out` spent its budget: one that was stopped keeps its checkpoint."""
    return (out / "config.json").exists() and not has_checkpoint(out)


def has_begun(out: Path) -> bool:
    """Whether there is a run in `out` to go on with."""
    return has_checkpoint(out) or (out / CHAIN).exists()


def sessions(
    data: Data,
    chain: Chain,
    out: Path,
    *,
    resume: bool = False,
    dry: bool = False,
    trust: bool = False,
) -> Iterator[Session]:
    """The trainings of a chain, or the one of a single family, each prepared when the one before
    is over. With `resume`, those that are left; with `dry`, nothing is written. A stage that was
    stopped is the last.

    Raises `MorphogenError`s before anything is trained where the stages do not fit one another.
    """
    recipes = stage_recipes(chain.recipe, data)
    if len(recipes) > 1 and not (resume or dry) and Processes.join().is_first:
        chain.write(out)
    free = Recipe(train={k: v for k, v in chain.recipe.train.items() if k in FREE})
    before: Bundle | None = None
    for recipe, folder in zip(recipes, _folders(out, chain.recipe), strict=True):
        if before is not None:
            data = in_latents(data, before)
        if resume and folder != out and is_finished(folder):
            with hold(folder):  # it may have been killed when all but this was done
                clear_leftovers(folder)
            before = Bundle.open(folder, trust=trust)
            check_unchanged(data, before.data, folder)
            continue
        if resume and (has_checkpoint(folder) or (folder / "config.json").exists()):
            session = Session.resumed(data, folder, free, trust=trust)
        else:
            session = Session.started(data, recipe, folder)
        yield session
        if session.run.is_stopped:
            return
        data, before = session.data, session.bundle()


def stage_recipes(recipe: Recipe, data: Data) -> list[Recipe]:
    """The recipe of each stage, for `data`; of a single family, the recipe itself.

    Every stage is built once, untrained, so that what does not fit is found before hours are spent.
    Raises `RefusedPair` or `RecipeError`.
    """
    names = _names(recipe)
    if len(names) == 1:
        return [recipe]
    spec, recipes = data.spec, []
    budgets = budgets_of(str(recipe.train.get("budget", TrainOptions.budget)), len(names))
    for number, (name, budget) in enumerate(zip(names, budgets, strict=True), 1):
        is_last = number == len(names)
        own = _options_of(name, recipe, spec)
        own.train["budget"] = budget
        recipes.append(own)
        trained = TrainOptions.resolve(own.train, {})
        device = choose_device(trained.device)
        check_network(own, spec, data.conditions, trained, device)
        with torch.random.fork_rng(devices=[]):
            model: Any = build_family(own, spec, data.conditions)
        if is_last:
            break
        if lacking := missing(model, CanReconstruct):
            raise RefusedPair(
                f"{name} has no latents to go on with: it has no {', '.join(lacking)}",
                found="+".join(names),
                expected="a family that encodes and decodes, such as vae or vq_vae, before a +",
            )
        spec = replace(model.latent_spec, levels=None)
    _check_used(recipe, recipes)
    return recipes


def why_not(name: str, data: Data) -> str | None:
    """Why a family or a chain cannot learn this data; None when it can, in one of its views."""
    recipe = Recipe(family={"name": name})
    data = replace(data, codec=choose_view(data.codec, None, suits(recipe)))  # not encoded anew
    if len(families_of(name)) == 1:
        refusal = discover.find("family", name).refusal(data.spec, data.conditions)
        return None if refusal is None else str(refusal.message)
    try:
        stage_recipes(recipe, data)
    except MorphogenError as error:
        return error.message
    return None


def entrants() -> list[str]:
    """Every family, and each in whose latents another is at home in a chain with that one."""
    names = discover.names("family")
    priors = {name: discover.find("family", name).prior_family for name in names}
    return [*names, *(f"{name}+{prior}" for name, prior in priors.items() if prior)]


def budgets_of(text: str, num: int) -> list[str]:
    """The budget of each of `num` stages: as named, with + between them, or shares of one. Raises
    `RecipeError` where there are as many as neither."""
    own = text.split("+")
    if len(own) == 1:
        whole, shares = Budget.parse(text), num + 1
        return [*(part_of(whole, 1 / shares) for _ in range(num - 1)), part_of(whole, 2 / shares)]
    if len(own) != num:
        raise RecipeError(
            "there are not as many budgets as stages of the chain", found=text,
            expected=f"{num}, with + between them, or one for all", where="--budget",
        )  # fmt: skip
    return own


def part_of(budget: Budget, share: float) -> str:
    """A share of a budget, as it is typed."""
    if budget.steps is not None:
        return f"{max(1, round(budget.steps * share))}steps"
    unit = "epochs" if budget.seconds is None else "s"
    return f"{round((budget.seconds or budget.epochs or 1) * share, 4):.12g}{unit}"


def _names(recipe: Recipe) -> list[str]:
    return families_of(str(recipe.family_name))


def _folders(out: Path, recipe: Recipe) -> list[Path]:
    before = [out / f"{number}_{name}" for number, name in enumerate(_names(recipe)[:-1], 1)]
    return [*before, out]


def _options_of(name: str, recipe: Recipe, spec: Any) -> Recipe:
    """A stage's part of a chain's recipe: what its family and its backbone have options for."""
    family = discover.find("family", name)
    backbone_name = recipe.backbone.get("name") or family.backbone_for(spec)
    known = {"family": family, "backbone": discover.find("backbone", backbone_name)}
    own = Recipe.from_json(recipe.to_json())
    for table, component in known.items():
        given = getattr(own, table)
        fitting = {key: value for key, value in given.items() if key in options(component)}
        setattr(own, table, fitting)
    own.family["name"], own.backbone["name"] = name, backbone_name
    return own


def _check_used(recipe: Recipe, recipes: Sequence[Recipe]) -> None:
    """Raise `RecipeError` for an option that no stage has."""
    for table in ("family", "backbone"):
        components = [discover.find(table, getattr(own, table)["name"]) for own in recipes]
        known = {"name"}.union(*map(options, components))
        for key in getattr(recipe, table):
            if key not in known:
                raise RecipeError(
                    f"no stage has an option {key!r}.{did_you_mean(key, known)}",
                    found=f"{table}.{key}",
                    expected=", ".join(sorted(known - {"name"})),
                    where=recipe.family_name,
                )

"""A run is one small recipe: tables that name components and set their options.

    [modality]  name = "image"          size = 28
    [family]    name = "flow_matching"
    [backbone]  name = "unet"           model_dim = 96
    [train]     budget = "10m"          seed = 0

and two more where a trained model is adapted: the bundle that it starts from, and what is trained
in its place (none: all of it).

    [start]     from = "models/base"    sha256 = "..."
    [wrapper]   name = "lora"           rank = 8

and one where it is taught something beyond its data:

    [objective] name = "grpo"           reward = "mine:short"

A model that another library runs has one table in place of family and backbone:

    [driver]    name = "clip"           config = {...}

`--set backbone.model_dim=128` changes one value. The *resolved* recipe, with every default filled
in, goes into the bundle, which rebuilds itself from it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.adapter import Adapter
from morphogen.core.backbone import BuildBackbone
from morphogen.core.border import read_text
from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.core.family import Family
from morphogen.core.objective import Objective
from morphogen.core.schema import check_options, defaults
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import expanded

TABLES = ("modality", "family", "backbone", "train", "start", "wrapper", "objective", "driver")
FORMER = {"family": {"cond_first": "cond_pooled"}}  # what options were called in saved recipes


@dataclass
class Recipe:
    """Tables of options; `name` picks the component."""

    modality: dict[str, Any] = field(default_factory=dict)
    family: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    wrapper: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    driver: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | str) -> Recipe:
        """Read a TOML recipe. Raises `RecipeError` for a file that is missing or misspelt."""
        if isinstance(path, Mapping):
            raise RecipeError(
                "a recipe is a file, or a Recipe",
                found=f"{type(path).__name__} of {', '.join(map(str, path))}",
                hint="recipe=mg.Recipe.from_json(...) of it",
            )  # fmt: skip
        path = expanded(path)
        if not path.is_file():
            raise RecipeError("the recipe does not exist", found=str(path), hint="ls recipes/")
        try:
            tables = tomllib.loads(read_text(path, RecipeError))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RecipeError(f"the recipe is not valid TOML: {error}", where=str(path)) from error
        return cls.from_json(tables, where=str(path))

    @classmethod
    def from_json(cls, tables: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Build from nested mappings, refusing tables that do not exist."""
        for name, table in tables.items():
            if name not in TABLES or not isinstance(table, Mapping):
                raise RecipeError(
                    f"a recipe has no table [{name}].{did_you_mean(name, TABLES)}",
                    expected=", ".join(f"[{table}]" for table in TABLES),
                    where=where,
                )
        return cls(**{name: _renamed(name, table) for name, table in tables.items()})

    def to_json(self) -> dict[str, Any]:
        """Plain nested dictionaries."""
        return asdict(self)

    @property
    def reading(self) -> dict[str, Any]:
        """The table `modality` as arguments of `data.dataset.load`."""
        options = dict(self.modality)
        return {"modality": options.pop("name", None), **options}

    @property
    def family_name(self) -> str:
        """The family, or the chain of them, that is named. Raises `RecipeError` for none."""
        if "name" not in self.family:
            raise RecipeError(
                "the recipe names no family",
                expected=", ".join(discover.names("family")),
                where="[family]",
                hint="--family NAME, or name = in the table [family]",
            )
        name: str = self.family["name"]
        return name

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """Apply `table.key=value` strings, as given to `--set`."""
        tables = self.to_json()
        for setting in settings:
            key, equals, value = setting.partition("=")
            table, dot, option = key.partition(".")
            if not (equals and dot) or table not in TABLES:
                raise RecipeError(
                    "a setting is not of the form table.option=value",
                    found=setting,
                    expected=f"a table of {', '.join(TABLES)}, such as train.batch_size=64",
                    where="--set",
                )
            tables[table][option] = value
        return Recipe(**tables)


def _renamed(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with its options called as they are today."""
    former = FORMER.get(name, {})
    return {former.get(option, option): value for option, value in table.items()}


def resolve(recipe: Recipe, spec: TensorSpec) -> Recipe:
    """Fill in the backbone and every default of it and of the family; check every key and type.

    Raises `RecipeError` for names and options that do not exist, and for a recipe that names no
    family: which one is usual is the data's to say (`training.choice`). The tables `modality` and
    `train` are resolved by the codec and the trainer that own them.
    """
    if recipe.driver:
        return _resolved_driver(recipe)
    family_options = dict(recipe.family)
    family_name = recipe.family_name
    family_options.pop("name")
    family = discover.find("family", family_name)
    backbone_options = dict(recipe.backbone)
    backbone_name = backbone_options.pop("name", None) or family.backbone_for(spec)
    backbone = discover.find("backbone", backbone_name)
    checked_family = check_options(family, family_options, "family")
    checked_backbone = check_options(backbone, backbone_options, "backbone")
    return Recipe(
        modality=dict(recipe.modality),
        family={"name": family_name, **defaults(family), **checked_family},
        backbone={"name": backbone_name, **defaults(backbone), **checked_backbone},
        train=dict(recipe.train),
        start=dict(recipe.start),
        wrapper=_resolved_wrapper(recipe),
        objective=_resolved_objective(recipe),
    )


def component_of(tables: Mapping[str, Any]) -> tuple[str, str]:
    """What a bundle's recipe says its model is: the axis, and the name.

    Raises `RecipeError` where it names none.
    """
    for axis in ("driver", "family"):
        if isinstance(name := tables.get(axis, {}).get("name"), str):
            return axis, name
    raise RecipeError("the recipe names no family", expected="[family] name", where="recipe")


def _resolved_driver(recipe: Recipe) -> Recipe:
    """A recipe of a model that another library runs: its options are checked, and stand as is."""
    if recipe.family or recipe.backbone:
        raise RecipeError(
            "a driver takes the place of a family and a backbone",
            found=", ".join(f"[{n}]" for n in ("family", "backbone") if getattr(recipe, n)),
            expected="[driver] alone",
        )
    axis, name = component_of({"driver": recipe.driver})
    given = {key: value for key, value in recipe.driver.items() if key != "name"}
    checked = check_options(discover.find(axis, name), given, axis)
    return replace(recipe, driver={"name": name, **checked})


def build_adapter(recipe: Recipe) -> Adapter | None:
    """What a recipe trains in place of a model's own weights; None where it names nothing."""
    options = _resolved_wrapper(recipe)
    if not options:
        return None
    built: Adapter = _adapter_class(options.pop("name"))(**options)
    return built


def is_on_base(tables: Mapping[str, Any]) -> bool:
    """Whether what a recipe describes is an adapter, of a base that it is nothing without."""
    adapter = build_adapter(Recipe.from_json(tables))
    return adapter is not None and adapter.on_base


def build_objective(recipe: Recipe) -> Objective | None:
    """What a recipe teaches a trained model beyond its data; None where it names nothing."""
    options = _resolved_objective(recipe)
    if not options:
        return None
    built: Objective = discover.find("objective", options.pop("name"))(**options)
    return built


def _resolved_objective(recipe: Recipe) -> dict[str, Any]:
    options = dict(recipe.objective)
    if not options:
        return {}
    name = options.pop("name", "grpo")
    found = discover.find("objective", name)
    return {"name": name, **defaults(found), **check_options(found, options, "objective")}


def _resolved_wrapper(recipe: Recipe) -> dict[str, Any]:
    options = dict(recipe.wrapper)
    if not options:
        return {}
    name = options.pop("name", "lora")
    found = _adapter_class(name)
    return {"name": name, **defaults(found), **check_options(found, options, "wrapper")}


def _adapter_class(name: str) -> Any:
    found = discover.find("wrapper", name)
    if not hasattr(found, "put_on"):
        raise RecipeError(
            f"{name} is nothing that a trained model is adapted by",
            found=name,
            expected="lora, prompt, partial, int8 or int4",
            where="[wrapper]",
        )
    return found


def build_family(recipe: Recipe, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> Family:
    """The untrained family that a recipe describes, for data of `spec`."""
    resolved = resolve(recipe, spec)
    if resolved.driver:
        driver_options = dict(resolved.driver)
        driver = discover.find("driver", driver_options.pop("name"))
        driven: Family = driver(spec, conditions, **driver_options)
        return driven
    family_options, backbone_options = dict(resolved.family), dict(resolved.backbone)
    family = discover.find("family", family_options.pop("name"))
    backbone = discover.find("backbone", backbone_options.pop("name"))
    build = BuildBackbone(backbone, **backbone_options)
    built: Family = family(spec, conditions, build, **family_options)
    return built

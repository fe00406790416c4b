"""Finding components: file name = class name = what the user types.

An axis is a folder. `families/flow_matching.py` holds `FlowMatching` and is `--family
flow_matching`. A name is looked up, in this order, as a file in the axis folder (or in a folder of
the same name below a path in `MORPHOGEN_PLUGINS`), as an entry point of the group
`morphogen.<folder>`, or, when it has a colon, as a dotted path `package.module:Name`. Listing an
axis imports nothing.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from importlib import metadata
from pathlib import Path
from typing import Any

from morphogen.core.errors import RecipeError, did_you_mean

# What the user types -> the folder. The folders are the axes of the design.
AXES = {
    "source": "sources",
    "modality": "modalities",
    "backbone": "backbones",
    "family": "families",
    "sampler": "samplers",
    "wrapper": "wrappers",
    "task": "tasks",
    "metric": "metrics",
}


def names(axis: str) -> list[str]:
    """Every component of an axis, sorted."""
    found = {module.name for module in pkgutil.iter_modules(_folders(axis))}
    found |= {point.name for point in metadata.entry_points(group=f"morphogen.{_folder(axis)}")}
    return sorted(name for name in found if not name.startswith("_") and name != "parts")


def find(axis: str, name: str, *, trust_dotted: bool = True) -> Any:
    """The class or function called `name`.

    `trust_dotted=False` refuses dotted paths: a bundle from a stranger may not choose what gets
    imported. Raises `RecipeError` with the nearest name when there is none.
    """
    if ":" in name:
        if not trust_dotted:
            raise RecipeError(
                f"refused to import {name!r}: the name comes from a file, not from you",
                hint="open the bundle with trust=True (--trust) if you know who made it",
            )
        module_name, _, attribute = name.partition(":")
        return getattr(importlib.import_module(module_name), attribute)
    known = names(axis)
    if name not in known:
        raise RecipeError(
            f"there is no {axis} {name!r}.{did_you_mean(name, known)}",
            found=name,
            expected=", ".join(known),
            hint=f"morphogen list {_folder(axis)}",
        )
    for point in metadata.entry_points(group=f"morphogen.{_folder(axis)}"):
        if point.name == name:
            return point.load()
    _folders(axis)
    module = importlib.import_module(f"morphogen.{_folder(axis)}.{name}")
    return main_attribute(module, name)


def main_attribute(module: Any, name: str) -> Any:
    """The one thing a component file exposes: the attribute that spells the file's name."""
    spelled = name.replace("_", "")
    for attribute, value in vars(module).items():
        if attribute.replace("_", "").lower() == spelled and callable(value):
            return value
    raise RecipeError(
        f"{module.__file__} does not define its component",
        expected=f"a class or function named like the file: {name!r}",
    )


def summary(component: Any) -> str:
    """The first line of a component's docstring."""
    return (component.__doc__ or "").strip().partition("\n")[0]


def name_of(component: type) -> str:
    """The name under which `find` gives this component: its file's, or its dotted path."""
    module = component.__module__
    if module.startswith("morphogen."):
        return module.rpartition(".")[2]
    return f"{module}:{component.__qualname__}"


def _folder(axis: str) -> str:
    if axis in AXES.values():
        return axis
    if axis not in AXES:
        known = [*AXES, *AXES.values()]
        raise RecipeError(
            f"there is no axis {axis!r}.{did_you_mean(axis, known)}", expected=", ".join(AXES)
        )
    return AXES[axis]


def _folders(axis: str) -> list[str]:
    """The folders of an axis: the package's own, then those of `MORPHOGEN_PLUGINS`."""
    package = importlib.import_module(f"morphogen.{_folder(axis)}")
    for root in filter(None, os.environ.get("MORPHOGEN_PLUGINS", "").split(os.pathsep)):
        plugin = str(Path(root).expanduser().resolve() / _folder(axis))
        # A longer package path is all that an import of morphogen.<folder>.<plugin> needs.
        if plugin not in package.__path__:
            package.__path__.append(plugin)
    return list(package.__path__)

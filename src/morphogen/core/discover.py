"""Finding components: file name = class name = what the user types.

An axis is a folder. `families/flow_matching.py` holds `FlowMatching` and is `--family
flow_matching`. A name is looked up, in this order, as a file in the axis folder (or in a folder of
the same name below a path in `MORPHOGEN_PLUGINS`), as an entry point of the group
`morphogen.<folder>`, or, when it has a colon, as a dotted path `package.module:Name`. Listing an
axis imports nothing.

A dotted path runs code of whoever wrote it, so that one that stands in a file is refused: a bundle,
checkpoint or recipe of a stranger cannot choose what is imported. The user vouches for names, by
typing them or with `--trust`; that holds for these names until the process ends.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morphogen.core.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from importlib import metadata

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
    "objective": "objectives",
    "driver": "drivers",
}

_vouched: set[str] = set()  # dotted paths that the user has typed, or trusts


def names(axis: str) -> list[str]:
    """Every component of an axis, sorted."""
    found = {module.name for module in pkgutil.iter_modules(_folders(axis))}
    found |= {point.name for point in _entry_points(axis)}
    return sorted(name for name in found if not name.startswith("_") and name != "parts")


def vouch(value: Any) -> None:
    """Take every dotted path in `value`, a name, a chain of names or JSON, for the user's own word.

    To be called with what the user typed, and with what was read from a file that the user trusts.
    """
    if isinstance(value, str):
        _vouched.update(name for name in value.split("+") if ":" in name)
    elif isinstance(value, Mapping):
        vouch(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            vouch(each)


def find(axis: str, name: str) -> Any:
    """The class or function called `name`.

    Raises `RecipeError` with the nearest name when there is none, and for a dotted path that the
    user did not `vouch` for.
    """
    if not isinstance(name, str):  # as a file may have it
        raise RecipeError(f"that is no name of a {axis}", found=repr(name)[:80], expected="text")
    if ":" in name:
        return _import(name)
    own = sys.modules.get(f"morphogen.{_folder(axis)}.{name}")
    # A folder takes long to look through: what was imported from it is known.
    is_known = not name.startswith("_") and _is_there(own, axis)
    known = [name] if is_known else names(axis)
    if name not in known:
        raise RecipeError(
            f"there is no {axis} {name!r}.{did_you_mean(name, known)}",
            found=name,
            expected=", ".join(known),
            hint=f"morphogen list {_folder(axis)}",
        )
    for point in _entry_points(axis):
        if point.name == name:
            return point.load()
    _folders(axis)
    module = importlib.import_module(f"morphogen.{_folder(axis)}.{name}")
    return main_attribute(module, name)


def _is_there(module: Any, axis: str) -> bool:
    """Whether a module was imported from the package's own folder of an axis, and still lies in
    it."""
    file = getattr(module, "__file__", None)
    package = sys.modules.get(f"morphogen.{_folder(axis)}")
    if file is None or package is None:
        return False
    return os.path.exists(file) and file.startswith(package.__path__[0] + os.sep)


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


def _import(name: str) -> Any:
    """What a dotted path names, if the user vouches for it."""
    if name not in _vouched:
        raise RecipeError(
            f"refused to import {name!r}: it stands in a file, and was not typed by you",
            hint="--trust (trust=True) if you know who wrote the file",
        )
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"{name!r} cannot be imported: {error}", expected="package.module:Name"
        ) from error
    if isinstance(found, type):
        _vouched.add(name_of(found))  # by which a bundle will call it
    return found


def _entry_points(axis: str) -> tuple[metadata.EntryPoint, ...]:
    """Of what is installed: a folder that somebody happens to work in installs nothing."""
    installed = _installed(tuple(sys.path), os.getcwd())
    return _installed_points(installed).get(f"morphogen.{_folder(axis)}", ())


@cache
def _installed(path: tuple[str, ...], here: str) -> tuple[str, ...]:
    return tuple(each for each in path if each and Path(each) != Path(here))


@cache
def _installed_points(folders: tuple[str, ...]) -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Entry points of Morphogen's groups; all that is installed is looked through for them."""
    from importlib import metadata  # with `email`, a sixth of what `--help` takes

    found: dict[str, tuple[metadata.EntryPoint, ...]] = {}
    for distribution in metadata.distributions(path=list(folders)):
        for point in distribution.entry_points:
            if point.group.startswith("morphogen."):
                found[point.group] = (*found.get(point.group, ()), point)
    return found


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
    roots = filter(None, os.environ.get("MORPHOGEN_PLUGINS", "").split(os.pathsep))
    plugins = [str(Path(root).expanduser().resolve() / _folder(axis)) for root in roots]
    # A longer package path is all that an import of morphogen.<folder>.<plugin> needs.
    package.__path__.extend(each for each in plugins if each not in package.__path__)
    return [package.__path__[0], *plugins]

"""Packages that are not always there: each is asked for where it is needed, by what brings it."""

from __future__ import annotations

import importlib
from typing import Any

from morphogen.core.errors import MorphogenError


def extra(
    module: str,
    name: str,
    what: str,
    *,
    raises: type[MorphogenError] = MorphogenError,
    where: object = None,
) -> Any:
    """The module, of a package that `pip install 'morphogen[NAME]'` brings.

    Raises `raises` where it is not installed: `what` is not done without it, to what is `where`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise raises(
            f"{what} by the package {package}",
            found=f"it cannot be imported: {error}",
            where=where,
            hint=f"pip install 'morphogen[{name}]'",
        ) from error

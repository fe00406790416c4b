"""The user's own functions as tools: `package.module:function`.

    def notify(to: str, text: str) -> str: ...
    notify.writes = ["mail:{to}"]          # what it touches; none: it is asked about each time

A function that says nothing of what it touches is taken to write "functions:NAME", so that nobody
gets more than was meant by leaving a line out.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from morphogen.core.errors import RecipeError
from morphogen.systems.agents.tool import Tool, tool

SAYS = ("reads", "writes", "trusted", "seconds", "most")


def function_tool(path: str) -> Tool:
    """The tool of a dotted path that the user typed. Raises `RecipeError` where there is none."""
    module, colon, name = path.partition(":")
    if not colon:
        raise RecipeError("a function is named by its module", found=path,
                          expected="package.module:function")  # fmt: skip
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RecipeError("there is no such function", found=f"{path}: {error}",
                          hint="is its folder the one you are in?") from error  # fmt: skip
    if isinstance(found, Tool):
        return found
    if not callable(found):
        raise RecipeError("that is no function", found=path)
    said = {key: getattr(found, key) for key in SAYS if hasattr(found, key)}
    if not {"reads", "writes"} & set(said):
        said["writes"] = [f"functions:{name}"]
    return tool(found, **said)

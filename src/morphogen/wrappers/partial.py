"""Some of a model's own weights, the others being frozen: its last layers, its norms, its biases.

What changes is part of what it was: there is nothing to merge.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from morphogen.core.errors import RecipeError


class Partial:
    """Trains the weights whose names match, and leaves the others as they are."""

    train_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-4}
    on_base: ClassVar[bool] = True

    def __init__(
        self,
        *,
        only: str = r"bias|norm",  # regular expression: what is trained, such as layers\.[23]
    ) -> None:
        self.only = only

    def put_on(self, family: Any) -> None:
        """Freeze what does not match. Raises `RecipeError` where nothing does."""
        named = dict(family.named_parameters(remove_duplicate=False))
        chosen = {id(each) for name, each in named.items() if re.search(self.only, name)}
        if not chosen:
            raise RecipeError(
                "no weights have such a name",
                found=self.only,
                expected=", ".join(list(named)[:6]) + ", ...",
                where="wrapper.only",
            )
        for parameter in named.values():
            parameter.requires_grad_(id(parameter) in chosen)
        given = frozenset(name for name, each in named.items() if id(each) not in chosen)
        family.adapter, family.given = self, given

    def merge(self, family: Any) -> None:
        """Nothing: it is in the weights."""

    def split(self, family: Any) -> None:
        """Nothing: it stays in the weights."""

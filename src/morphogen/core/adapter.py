"""What is trained on a model in place of its own weights: a contract for some of the wrappers.

    put_on(family)   from now on, only this is trained
    merge(family)    its work is in the weights, so that whatever reads them sees it
    split(family)    the inverse of `merge`, to the bit

What cannot be in weights that there were is an option of the network, which `in_network` names for
those that have it: a mapping of options of the backbone.

A family that one was put on holds it as `adapter`, and the names of what is left as it was as
`given` (`core.family`): none of that goes into checkpoints, averages or the bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol


class Adapter(Protocol):
    """Few weights that change what a model does."""

    train_defaults: ClassVar[dict[str, Any]]  # what it trains best with
    on_base: ClassVar[bool]  # its own weights are nothing without those that it was put on

    def put_on(self, family: Any) -> None:
        """Freeze the family, and train this. Raises `RecipeError` where nothing of it fits."""
        ...

    def merge(self, family: Any) -> None:
        """Weights that do with it what the family does now."""
        ...

    def split(self, family: Any) -> None:
        """The weights as they were before `merge`."""
        ...


@contextmanager
def merged(family: Any) -> Iterator[None]:
    """A block in which the work of the family's adapter, if it has one, is in its weights."""
    adapter: Adapter | None = family.adapter
    if adapter is not None:
        adapter.merge(family)
    try:
        yield
    finally:
        if adapter is not None:
            adapter.split(family)

"""Items that may be changed without changing what they are: a piece of music in another key, a
picture in a mirror."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.errors import RecipeError
from morphogen.core.spec import Spec


@runtime_checkable
class CanAugment(Protocol):
    """Optional for a codec: training sees its items varied, each step anew."""

    unvaried: ClassVar[str]  # the option by which training sees items as they are

    @property
    def variants(self) -> int:
        """In how many ways an item is seen, K; 1: as it is alone."""

    @property
    def as_it_is(self) -> int:
        """The number of the way in which an item is seen as it is."""

    def augmented(self, x: Any, shares: Tensor) -> Any:
        """Encoded training items (B, *shape), each in the way number floor(K share) of its share of
        [0, 1), which is drawn for it (B,)."""


def augmenting(codec: Codec | None, conditions: Mapping[str, Spec]) -> CanAugment | None:
    """The codec, where it sees items in several ways. Raises `RecipeError` where grids of the
    `conditions`, such as a picture's edges, lie beside the items: they would stay as they are."""
    if not isinstance(codec, CanAugment) or codec.variants < 2:
        return None
    if beside := [name for name, spec in conditions.items() if spec.layout == "grid"]:
        raise RecipeError(
            "training varies the items, and what lies beside them would no longer fit",
            found=f"{codec.variants} ways to see an item, and the condition {', '.join(beside)}",
            expected="one of the two",
            hint=f"--set modality.{codec.unvaried}, or leave out the condition",
        )
    return codec

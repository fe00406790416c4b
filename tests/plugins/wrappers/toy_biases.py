"""A model's own biases, all else being frozen (BitFit, Ben Zaken et al. 2022)."""

from __future__ import annotations

from typing import Any, ClassVar


class ToyBiases:
    """Trains the biases, and leaves the others as they are."""

    train_defaults: ClassVar[dict[str, Any]] = {"lr": 1e-3}
    on_base: ClassVar[bool] = True

    def put_on(self, family: Any) -> None:
        """Freeze what is no bias."""
        for name, parameter in family.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
        family.adapter = self
        family.given = frozenset(
            name for name, each in family.named_parameters() if not each.requires_grad
        )

    def merge(self, family: Any) -> None:
        """Nothing: it is in the weights."""

    def split(self, family: Any) -> None:
        """Nothing: it stays in the weights."""

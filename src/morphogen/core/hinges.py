"""What lower layers leave to higher ones: the package itself, which knows all of them, fills it in.

    ledger_of    a modality -> where what is generated of it is recorded; None: a file of the cache

So `core` records what a result saved without knowing of the records that lie above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from morphogen.core.ledger import Ledger


def _nowhere(modality: str) -> Ledger | None:
    """Where a modality is recorded before anybody said so: nowhere but in a file."""
    return None


@dataclass
class Hinges:
    """See above."""

    ledger_of: Callable[[str], Ledger | None] = _nowhere


hinges = Hinges()

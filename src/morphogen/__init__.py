"""Morphogen: train, judge and use generative models of your own data.

    import morphogen as mg
    data = mg.load("photos/")
    bundle = mg.train(data, "flow_matching", budget="10m")
    bundle.sample(64, seed=0).save("grid.png")

Names are imported when first used, so that `import morphogen` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from morphogen.core.hinges import hinges

__version__ = "0.1.0"

if TYPE_CHECKING:
    from morphogen.comparison.compare import compare
    from morphogen.comparison.reproduce import reproduce
    from morphogen.core.bundle import Bundle
    from morphogen.core.ledger import Ledger
    from morphogen.core.recipe import Recipe
    from morphogen.data.dataset import Data
    from morphogen.evaluation.evaluate import evaluate
    from morphogen.interop.export import export
    from morphogen.interop.importing import import_model
    from morphogen.systems.chat import chat
    from morphogen.systems.teaching import teach
    from morphogen.training.run import train

_HOMES = {
    "Bundle": "morphogen.core.bundle",
    "Data": "morphogen.data.dataset",
    "Recipe": "morphogen.core.recipe",
    "chat": "morphogen.systems.chat",
    "compare": "morphogen.comparison.compare",
    "evaluate": "morphogen.evaluation.evaluate",
    "export": "morphogen.interop.export",
    "import_model": "morphogen.interop.importing",
    "reproduce": "morphogen.comparison.reproduce",
    "teach": "morphogen.systems.teaching",
    "train": "morphogen.training.run",
}
__all__ = [
    "Bundle", "Data", "Recipe", "chat", "compare", "evaluate", "export", "import_model", "load",
    "open", "reproduce", "teach", "train",
]  # fmt: skip


def open(path: str, *, trust: bool = False, device: str = "cpu") -> Bundle:
    """Open a trained bundle. See `Bundle.open`."""
    from morphogen.core.bundle import Bundle

    return Bundle.open(path, trust=trust, device=device)


def load(source: Any, modality: str | None = None, **options: Any) -> Data:
    """Read a source into encoded train and test splits. See `data.dataset.load`."""
    from morphogen.core import discover
    from morphogen.data import dataset

    discover.vouch(modality)
    return dataset.load(source, modality, **options)


def _ledger_of(modality: str) -> Ledger | None:
    from morphogen.records import recording

    return recording.ledger_of(modality)


hinges.ledger_of = _ledger_of


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'morphogen' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

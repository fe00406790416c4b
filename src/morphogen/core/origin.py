"""Where what a bundle makes comes from: the facts that credentials say, and what tells a model."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import morphogen
from morphogen.core.config import read_config
from morphogen.core.folder import MODEL


def facts_of(bundle: Any, task: str, seed: int) -> dict[str, str]:
    """What a credential says of the model and the task, besides what `Result.made_by` does."""
    run = {"recipe": bundle.recipe.to_json(), "data": bundle.data.get("digest"), **bundle.run}
    return {
        "model": bundle.path.resolve().name if bundle.path else "in memory",
        "model_hash": hash_of(bundle),
        "run": hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest(),
        "task": task,
        "seed": str(seed),
        "software": f"Morphogen {morphogen.__version__}",
    }


def hash_of(bundle: Any) -> str:
    """What tells a model's weights from all others: the SHA-256 of its file; of one that other
    software opens, of all that it says of its files."""
    if bundle.path is not None:
        return str(read_config(bundle.path)["files"][MODEL])
    files = sorted(bundle.origin.get("files", {}).items())
    return hashlib.sha256(repr(files).encode()).hexdigest()

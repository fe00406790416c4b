"""What the parts of `pairs.py` share: where the data is, and a bundle to measure."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.data.dataset import Data

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "pairs"
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data"


def trained(
    given: argparse.Namespace, data: Data, family: str, settings: Sequence[str], name: str
) -> Bundle:
    """The bundle to measure: that which is named, or one that is trained now."""
    if given.bundle:
        return mg.open(given.bundle)
    out = (given.keep or Path(tempfile.mkdtemp(prefix="morphogen-pairs-"))) / name
    return mg.train(
        data, family, budget=given.budget, out=out, settings=[*settings, *given.set],
        through=given.through,
    )  # fmt: skip


def place_of_pages(given: argparse.Namespace) -> Path | None:
    """Where pictures of what came are left: among the results, of a model that is trained now; of
    one that is only measured, in what is kept, or nowhere."""
    return given.keep if given.bundle else RESULTS


def steps_of(bundle: Bundle) -> dict[str, Any]:
    """How long it was trained."""
    return {name: bundle.run[name] for name in ("steps", "seconds") if name in bundle.run}

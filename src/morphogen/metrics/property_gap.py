r"""How far generated molecules are from the properties that they were asked for with.

    logp_gap    the mean distance of their logP (Wildman & Crippen 1999) to that of the real
                molecule whose conditions they were drawn for
    qed_gap     the same of drug-likeness (Bickerton et al. 2012)

Where one of these was a condition, a good model comes near 0, and a model that does not listen as
near as any training molecule. What is no molecule is left out, and counted by `valid`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.extras import extra
from morphogen.core.metric import scores
from morphogen.metrics._molecules import WHAT, MoleculeReferences, parsed


@scores(ratios=False, logp_gap=False, qed_gap=False)
def property_gap(
    molecules: MoleculeReferences, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """Mean distances of logP and QED to those of the molecules that were asked for."""
    both = [tuple(map(properties, pair)) for pair in zip(*molecules.values(), strict=True)]
    gaps = [(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in both if a and b]
    if not gaps:
        raise MeasurementError("no generated text is a molecule", found=f"{len(both)} texts")
    logp, qed = (sum(each) / len(gaps) for each in zip(*gaps, strict=True))
    return {"logp_gap": logp, "qed_gap": qed}


@functools.lru_cache(maxsize=1 << 16)
def properties(smiles: str) -> tuple[float, float] | None:
    """logP and QED; None for what is no molecule."""
    mol = parsed(smiles)
    if mol is None:
        return None
    crippen = extra("rdkit.Chem.Crippen", "molecules", WHAT)
    return float(crippen.MolLogP(mol)), float(extra("rdkit.Chem.QED", "molecules", WHAT).qed(mol))

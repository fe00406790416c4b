r"""Whether what is generated is of molecules, new ones, different ones, and like real ones.

    valid                the share of generated SMILES that RDKit takes for a molecule
    unique               different molecules, per valid one
    novel                different valid molecules that the training split does not have, per each
    internal_diversity   1 - the mean Tanimoto similarity of two valid ones, themselves included
    nearest_tanimoto     the similarity of each valid one to the nearest held-out molecule, on
                         average                                                (SNN of MOSES)
    scaffold_similarity  the cosine of how often each scaffold of Bemis & Murcko comes among valid
                         and among held-out molecules                          (Scaff of MOSES)

Nothing is left out before `valid` is counted; the others are of what is left. All are as in MOSES
(Polykovskiy et al. 2020), over Morgan fingerprints of radius 2 and 1024 bits. `novel` of the floor
is of training items, and 0. A long chain of carbon is valid, unique and novel: the last two say
whether molecules are of the kind that was asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from morphogen.core.metric import scores
from morphogen.metrics._molecules import (
    Known,
    Molecules,
    all_known,
    fingerprints,
    similarities,
)

NOTHING = dict.fromkeys(
    ("valid", "unique", "novel", "internal_diversity", "nearest_tanimoto", "scaffold_similarity"),
    0.0,
)


@scores(
    ratios=False,
    valid=True,
    unique=True,
    novel=True,
    internal_diversity=None,
    nearest_tanimoto=True,
    scaffold_similarity=True,
)
def molecular(
    molecules: Molecules, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """Shares of valid, unique and novel molecules; their diversity, and likeness to real ones."""
    generated, real = molecules.values()
    valid, reference = all_known(generated), all_known(real)
    if not valid or not reference:
        return NOTHING
    different = {each.canonical for each in valid}
    seen = set() if molecules.known is None else set(molecules.known())
    bits, of_real = fingerprints(valid), fingerprints(reference)
    return {
        "valid": len(valid) / len(generated),
        "unique": len(different) / len(valid),
        "novel": len(different - seen) / len(different),
        "internal_diversity": 1 - float(similarities(bits, bits).double().mean()),
        "nearest_tanimoto": float(similarities(bits, of_real).amax(1).double().mean()),
        "scaffold_similarity": _cosine(_scaffolds(valid), _scaffolds(reference)),
    }


def _scaffolds(molecules: Sequence[Known]) -> Counter[str]:
    return Counter(each.scaffold for each in molecules if each.scaffold)


def _cosine(first: Counter[str], second: Counter[str]) -> float:
    both = math.fsum(count * second[name] for name, count in first.items())
    norm = math.prod(math.sqrt(math.fsum(n * n for n in c.values())) for c in (first, second))
    return both / norm if norm else 0.0

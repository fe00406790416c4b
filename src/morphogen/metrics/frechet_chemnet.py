r"""Frechet ChemNet distance: generated and held-out molecules as a network of activities sees them.

    FCD = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

over the 512 features of ChemNet, a network that was trained to tell biological activities from
SMILES (Preuer et al. 2018). Its weights come with the package fcd_torch, so that this is the FCD
that others publish. SMILES are spelt canonically first; those of no molecule are left out, as
elsewhere, and are counted by `valid`. It falls with the number of molecules: compare equal numbers.

Legend: N molecules, D = 512 features.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.extras import extra
from morphogen.core.metric import scores
from morphogen.metrics._molecules import Molecules, all_known
from morphogen.metrics.frechet import frechet_distance

BATCH, MOST_KEPT = 256, 1 << 16
_features: dict[str, Tensor] = {}  # every molecule is looked at in many halves


def packages() -> dict[str, str]:
    """Which weights they are, by the version that brings them, and who spells SMILES."""
    return {"fcd": f"fcd_torch {version('fcd_torch')}, rdkit {version('rdkit')}"}


@scores(protocol=packages, fcd=False)
def frechet_chemnet(
    molecules: Molecules, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """The FCD of generated molecules to held-out ones; 0 is best."""
    generated, real = ([k.canonical for k in all_known(side)] for side in molecules.values())
    if min(len(generated), len(real)) < 2:
        raise MeasurementError(
            "an FCD needs molecules", found=f"{len(generated)} generated and {len(real)} held out"
        )
    return {"fcd": chemnet_distance(chemnet(generated), chemnet(real))}


def chemnet_distance(features: Tensor, reference: Tensor) -> float:
    """The FCD of features (N, D) to those of real molecules (M, D). What lies outside of the space
    that they span adds nothing: few molecules cost little."""
    if len(features) + len(reference) < features.shape[1]:
        centre = reference.double().mean(0)
        both = [x.double() - centre for x in (features, reference)]
        basis = torch.linalg.qr(torch.cat(both).T).Q
        features, reference = (x @ basis for x in both)
    return frechet_distance(features, reference)


def chemnet(molecules: Sequence[str]) -> Tensor:
    """Canonical SMILES -> features (N, D)."""
    new = list(dict.fromkeys(smiles for smiles in molecules if smiles not in _features))
    if len(_features) + len(new) > MOST_KEPT:
        _features.clear()
        new = list(dict.fromkeys(molecules))
    for start in range(0, len(new), BATCH):
        some = new[start : start + BATCH]
        _features.update(zip(some, _network_of(some), strict=True))
    return torch.stack([_features[smiles] for smiles in molecules])


@torch.no_grad()
def _network_of(molecules: Iterable[str]) -> Tensor:
    model, dataset = _chemnet()
    items = dataset(list(molecules), canonize=False)
    x = np.stack([items[i] for i in range(len(items))])  # (N, length, signs)
    found: Tensor = model(torch.from_numpy(x).transpose(1, 2).float())
    return found.double()


@functools.cache
def _chemnet() -> tuple[Any, Any]:
    """The network, and what turns SMILES into what it reads."""
    package = extra("fcd_torch", "molecules", "ChemNet's view of molecules is given")
    read = extra("fcd_torch.utils", "molecules", "ChemNet's view of molecules is given")
    with torch.random.fork_rng(devices=[]):
        return package.FCD(device="cpu", canonize=False).model, read.SmilesDataset

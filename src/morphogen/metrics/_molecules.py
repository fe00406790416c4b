"""What metrics of molecules share: the sets that they ask for, and what RDKit says of each SMILES.

Legend: N molecules, K bits of a fingerprint.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from morphogen.core.extras import extra
from morphogen.core.metric import Items, References

BITS, RADIUS = 1024, 2  # of Morgan fingerprints, as MOSES has them (Polykovskiy et al. 2020)
WHAT = "molecules are judged"
CHAIN = ("C", "N", "O", "CC", "C(C)", "C(=O)", "S", "c1ccccc1")


def of_numbers(numbers: Sequence[int]) -> str:
    """Small numbers as a molecule: a chain of groups."""
    return "C" + "".join(CHAIN[number % len(CHAIN)] for number in numbers)


class Molecules(Items):
    """Items whose values are SMILES, which need not be of molecules."""

    of: ClassVar = "molecule"
    example = staticmethod(of_numbers)


class MoleculeReferences(References):
    """References whose values are SMILES, each asked for by something that is its own."""

    of: ClassVar = "molecule"
    example = staticmethod(of_numbers)


class Known(NamedTuple):
    """What is known of a SMILES that is of a molecule."""

    canonical: str
    bits: bytes  # of its fingerprint, packed
    scaffold: str  # its rings and what links them; "" where it has none


@functools.cache
def chem() -> Any:
    """`rdkit.Chem`, quiet."""
    extra("rdkit.RDLogger", "molecules", WHAT).DisableLog("rdApp.*")
    return extra("rdkit.Chem", "molecules", WHAT)


def parsed(smiles: str) -> Any:
    """A molecule of RDKit; None for what is none."""
    mol = chem().MolFromSmiles(smiles) if smiles else None
    return mol if mol is not None and mol.GetNumAtoms() else None


@functools.lru_cache(maxsize=1 << 16)  # every molecule is looked at in many halves
def known(smiles: str) -> Known | None:
    """What is known of a SMILES; None where it is of no molecule."""
    mol = parsed(smiles)
    if mol is None:
        return None
    frame = extra("rdkit.Chem.Scaffolds.MurckoScaffold", "molecules", WHAT).GetScaffoldForMol(mol)
    bits = np.packbits(_morgan().GetFingerprintAsNumPy(mol).astype(np.uint8))
    scaffold = chem().MolToSmiles(frame, isomericSmiles=False)
    return Known(chem().MolToSmiles(mol), bits.tobytes(), scaffold)


@functools.cache
def _morgan() -> Any:
    module = extra("rdkit.Chem.rdFingerprintGenerator", "molecules", WHAT)
    return module.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def all_known(molecules: Sequence[str]) -> list[Known]:
    """Those that are molecules."""
    found = (known(smiles) for smiles in molecules)
    return [each for each in found if each is not None]


def fingerprints(molecules: Sequence[Known]) -> Tensor:
    """(N, K) of 0 and 1."""
    packed = np.frombuffer(b"".join(each.bits for each in molecules), np.uint8)
    return torch.from_numpy(np.unpackbits(packed.reshape(len(molecules), -1), axis=1)).float()


def similarities(first: Tensor, second: Tensor) -> Tensor:
    """Tanimoto similarities of fingerprints (N, K) and (M, K): (N, M)."""
    both = first @ second.T
    either = first.sum(1)[:, None] + second.sum(1) - both
    return both / either.clamp(min=1)

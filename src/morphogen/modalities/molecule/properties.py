"""Numbers that RDKit computes of a molecule: what models are conditioned on, and rewarded for.

    logp    octanol-water partition, Wildman & Crippen 1999
    qed     drug-likeness from 0 to 1, Bickerton et al. 2012
    mw      average mass in g/mol
    tpsa    polar surface in square angstroms, Ertl et al. 2000
    rings   rings, as RDKit counts them
    atoms   heavy atoms

Each is a function of SMILES, too, for `--set objective.reward=`: of what is no molecule it is
`WORST`, less than of any that is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from morphogen.core.errors import RecipeError, did_you_mean
from morphogen.modalities.molecule.chemistry import chem, rdkit

WORST: Mapping[str, float] = {"logp": -10.0, "qed": 0.0}


def _descriptors(name: str) -> Callable[[Any], float]:
    return lambda mol: float(getattr(rdkit("Chem.rdMolDescriptors"), name)(mol))


PROPERTIES: Mapping[str, Callable[[Any], float]] = {
    "logp": lambda mol: float(rdkit("Chem.Crippen").MolLogP(mol)),
    "qed": lambda mol: float(rdkit("Chem.QED").qed(mol)),
    "mw": lambda mol: float(rdkit("Chem.Descriptors").MolWt(mol)),
    "tpsa": _descriptors("CalcTPSA"),
    "rings": _descriptors("CalcNumRings"),
    "atoms": lambda mol: float(mol.GetNumHeavyAtoms()),
}


def named(names: str) -> list[str]:
    """Names with commas between. Raises `RecipeError` for a property that there is not."""
    found = [name.strip().lower() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in PROPERTIES:
            raise RecipeError(
                f"there is no property {name!r}.{did_you_mean(name, PROPERTIES)}",
                found=names,
                expected=", ".join(PROPERTIES),
                where="modality.properties",
            )
    return found


def logp(molecules: Sequence[str]) -> list[float]:
    """The logP of each SMILES."""
    return _each("logp", molecules)


def qed(molecules: Sequence[str]) -> list[float]:
    """The drug-likeness of each SMILES."""
    return _each("qed", molecules)


def _each(name: str, molecules: Sequence[str]) -> list[float]:
    found = [chem().MolFromSmiles(smiles) if smiles else None for smiles in molecules]
    compute = PROPERTIES[name]
    return [compute(mol) if mol and mol.GetNumAtoms() else WORST[name] for mol in found]

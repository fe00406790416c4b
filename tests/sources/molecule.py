"""A small clean source of molecules: SMILES with a name each, salts and stereo among them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

RINGS = ("c1ccccc1", "C1CCNCC1", "c1ccncc1", "C1CCOC1", "c1ccsc1", "c1cc[nH]c1", "C1CCCCC1")
LINKS = ("C(=O)N", "CO", "S(=O)(=O)N", "CC", "C(=O)O", "N")
OWN = (
    "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "F/C=C/Cl", "F/C=C\\Cl", "[NH3+]CC(=O)[O-]",
    "[Na+].CC(=O)[O-]", "O=[N+]([O-])c1ccccc1", "C[N+](C)(C)CCO", "[2H]C([2H])O", "CC#N",
    "BrCCI", "OB(O)c1ccccc1", "C[C@H]1CC[C@@H](O)CC1", "CSC", "OP(O)(O)=O",
)  # fmt: skip


def molecules(num: int = 60) -> list[str]:
    """Canonical SMILES, each once."""
    chem = pytest.importorskip("rdkit.Chem", reason="needs morphogen[molecules]")
    made = [a + link + b for a, link, b in itertools.product(RINGS, LINKS, RINGS)]
    stride = max(len(made) // max(num - len(OWN), 1), 1)
    spelt = [chem.CanonSmiles(each) for each in (*OWN, *made[::stride], *made)]
    return list(dict.fromkeys(spelt))[:num]


def write(folder: Path) -> Path:
    """A file of a molecule a line."""
    lines = [f"{smiles} molecule-{i}\n" for i, smiles in enumerate(molecules())]
    path = folder / "molecules.smi"
    path.write_text("".join(lines))
    return path

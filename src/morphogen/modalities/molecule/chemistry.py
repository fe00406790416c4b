"""What RDKit says of a molecule: whether it is one, its canonical spelling, its frame, a drawing.

A molecule is the text of its SMILES (Weininger 1988). Of the many spellings of one molecule, the
canonical one stands for it: salts, charges, isotopes and stereo kept, atoms in RDKit's order.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from morphogen.core.errors import DataError
from morphogen.core.extras import extra

BITS = 2048  # of a fingerprint
# Atoms whose brackets say that they have no hydrogens: as they stand, they are written without.
BARE = re.compile(r"\[(?:[BCNOPSFI]|Cl|Br)\]")
RADIUS = 2  # bonds around each atom that it looks at: ECFP4 (Rogers & Hahn 2010)


def rdkit(module: str) -> Any:
    """A module of RDKit: rdkit("Chem"). Raises `MorphogenError` where it is not installed."""
    return extra(f"rdkit.{module}", "molecules", "molecules are read")


@functools.cache
def chem() -> Any:
    """`rdkit.Chem`, which writes nothing to the terminal: what is wrong is told by errors."""
    rdkit("RDLogger").DisableLog("rdApp.*")
    return rdkit("Chem")


def molecule(smiles: str) -> Any:
    """A molecule of RDKit. Raises `DataError` saying why a text is none."""
    found = chem().MolFromSmiles(smiles) if smiles.strip() else None
    if found is None or not found.GetNumAtoms():
        raise DataError(f"it is no molecule: {_why_not(smiles)}", hint="correct it or leave it out")
    return found


def _why_not(smiles: str) -> str:
    if not smiles.strip():
        return "the SMILES is empty"
    loose = chem().MolFromSmiles(smiles, sanitize=False)
    if loose is None:
        return f"RDKit cannot read the SMILES {smiles[:60]!r}"
    problems = chem().DetectChemistryProblems(loose)
    return problems[0].Message() if problems else "it has no atoms"


def canonical(smiles: str) -> str:
    """The one spelling of a molecule. Raises `DataError` where it is none."""
    found: str = chem().MolToSmiles(molecule(smiles))
    return found


def kekule(smiles: str, parsed: Any = None) -> str:
    """A SMILES with single and double bonds in place of aromatic ones, its atoms in the same order:
    one for each. `parsed` is the molecule that it was read as, if there is one, and is of that form
    afterwards. Raises `DataError` where rings have no such form."""
    if parsed is None or BARE.search(smiles):
        parsed = chem().MolFromSmiles(smiles, _as_it_stands())
    try:
        chem().Kekulize(parsed, clearAromaticFlags=True)
    except (ValueError, TypeError) as error:  # nothing that RDKit reads, or no such form
        raise DataError(f"it is no molecule: {_why_not(smiles)}", hint="leave it out") from error
    found: str = chem().MolToSmiles(parsed, canonical=False)  # whose bonds are of that form now
    return found


@functools.cache
def _as_it_stands() -> Any:
    options = chem().SmilesParserParams()
    options.sanitize = options.removeHs = False
    return options


def skeleton(smiles: str) -> str:
    """What is left of a molecule without salts, charges and stereo: its largest part, uncharged."""
    parts = chem().GetMolFrags(molecule(smiles), asMols=True)
    largest = max(parts, key=lambda part: (part.GetNumHeavyAtoms(), chem().MolToSmiles(part)))
    plain = _uncharger().uncharge(largest)
    found: str = chem().MolToSmiles(plain, isomericSmiles=False)
    return found


@functools.cache
def _uncharger() -> Any:
    return rdkit("Chem.MolStandardize.rdMolStandardize").Uncharger()


def scaffold(smiles: str) -> str:
    """The rings of a molecule and what links them (Bemis & Murcko 1996); "" where it has none."""
    frame = rdkit("Chem.Scaffolds.MurckoScaffold").GetScaffoldForMol(molecule(smiles))
    found: str = chem().MolToSmiles(frame, isomericSmiles=False)
    return found


def fingerprint_bits(smiles: str) -> Any:
    """The Morgan fingerprint: (BITS / 8,) bytes as uint8."""
    import numpy as np

    return np.packbits(_morgan().GetFingerprintAsNumPy(molecule(smiles)).astype(np.uint8))


@functools.cache
def _morgan() -> Any:
    return rdkit("Chem.rdFingerprintGenerator").GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def drawing(smiles: str, size: int = 220) -> str | None:
    """An SVG of a molecule; None for a text that is none."""
    found = chem().MolFromSmiles(smiles) if smiles else None
    if found is None or not found.GetNumAtoms():
        return None
    draw = rdkit("Chem.Draw.rdMolDraw2D")
    canvas = draw.MolDraw2DSVG(size, size)
    canvas.drawOptions().clearBackground = False
    draw.PrepareAndDrawMolecule(canvas, found)
    canvas.FinishDrawing()
    text: str = canvas.GetDrawingText()
    return text[text.index("<svg") :]

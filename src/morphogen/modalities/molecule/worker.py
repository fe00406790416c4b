"""What is found out of molecules as they are read, here or by a program of its own: RDKit holds the
interpreter, so that only programs can look at several at once (`python -m` this package)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from morphogen.core.errors import DataError
from morphogen.modalities.molecule.chemistry import chem, molecule
from morphogen.modalities.molecule.properties import PROPERTIES
from morphogen.modalities.molecule.tokens import Spelling, spelt

Told = dict[str, Any]


def look(asked: Sequence[Any]) -> Told:
    """Of a spelling, names of properties, texts and the places of those that are mol blocks, told
    by columns:

        smiles   the canonical one; None of what is no molecule, and of no text
        wrong    [place, why it is none, hint] of those that are none
        spelt    each in the spelling; "" where it has no such, which the encoding tells
        atoms    how many each has
        tags     by property, what each has of it
    """
    spelling, names, texts, blocks = asked
    of_blocks, wrong = set(blocks), []
    rows: list[Sequence[Any]] = []
    for place, text in enumerate(texts):
        rows.append((None, "", 0, *(None for _ in names)))
        try:
            if text is not None:
                rows[-1] = _look(text, place in of_blocks, spelling, names)
        except DataError as error:
            wrong.append([place, error.message, error.hint])
        except (RuntimeError, ValueError) as error:
            hint = "correct it or leave it out"
            wrong.append([place, f"RDKit cannot read it: {error}", hint])
    columns = list(zip(*rows, strict=True)) or [()] * (3 + len(names))
    told = dict(zip(("smiles", "spelt", "atoms"), columns, strict=False))
    return {**told, "tags": dict(zip(names, columns[3:], strict=True)), "wrong": wrong}


def _look(text: str, is_block: bool, spelling: Spelling, names: Sequence[str]) -> Sequence[Any]:
    """Of one molecule: its canonical SMILES, that in the spelling, its atoms, its properties."""
    mol = _of_block(text) if is_block else molecule(text)
    tags = [f"{PROPERTIES[name](mol):.6g}" for name in names]
    smiles, atoms = chem().MolToSmiles(mol), mol.GetNumAtoms()
    own = ""
    with suppress(DataError):  # its atoms are in that order where it was spelt so
        own = spelt(smiles, spelling, mol if smiles == text else None)
    return smiles, own, atoms, *tags


def _of_block(block: str) -> Any:
    mol = chem().MolFromMolBlock(block)
    if mol is None or not mol.GetNumAtoms():
        raise DataError("RDKit cannot read the mol block", hint="correct it or leave it out")
    return mol

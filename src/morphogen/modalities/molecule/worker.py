"""What is found out of each molecule as it is read, here or by a program of its own: RDKit holds
the interpreter, so that only programs can look at several at once (`python -m` this package)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from morphogen.core.errors import DataError
from morphogen.modalities.molecule.chemistry import chem, molecule
from morphogen.modalities.molecule.properties import PROPERTIES
from morphogen.modalities.molecule.tokens import Spelling, spelt


def look(asked: Sequence[Any]) -> list[dict[str, Any]]:
    """Of a spelling and [text, whether it is a mol block, names of properties] of some molecules:
    `smiles`, the canonical one, `tags`, the properties, and the `tokens` in the spelling, a space
    between them; or `wrong`, why it is none, and the `hint`."""
    spelling, each = asked
    return [_look(spelling, *one) for one in each]


def _look(spelling: Spelling, text: str, is_block: bool, names: Sequence[str]) -> dict[str, Any]:
    try:
        mol = _of_block(text) if is_block else molecule(text)
        tags = {name: f"{PROPERTIES[name](mol):.6g}" for name in names}
        smiles = chem().MolToSmiles(mol)
    except DataError as error:
        return {"wrong": error.message, "hint": error.hint}
    except (RuntimeError, ValueError) as error:
        return {"wrong": f"RDKit cannot read it: {error}", "hint": "correct it or leave it out"}
    found = {"smiles": smiles, "tags": tags}
    if spelling != "smiles":
        with suppress(DataError):  # it has no such spelling, which the encoding tells
            found["tokens"] = " ".join(spelt(smiles, spelling))
    return found


def _of_block(block: str) -> Any:
    mol = chem().MolFromMolBlock(block)
    if mol is None or not mol.GetNumAtoms():
        raise DataError("RDKit cannot read the mol block", hint="correct it or leave it out")
    return mol

r"""SMILES as atoms, bonds, branches and ring closures: one token each, with those of the data.

    C[C@@H](N)c1ccccc1Cl  ->  C [C@@H] ( N ) c 1 c c c c c 1 Cl

An atom in brackets is one token, whatever it says of isotope, chirality, hydrogens and charge
(Schwaller et al. 2018). In Kekule's form (`kekule`), aromatic rings have single and double bonds in
turn, so that whether a bond may come is told by two atoms alone. SELFIES are another spelling
(Krenn et al. 2020), of which every sequence of tokens is a molecule: what cannot be bound is passed
over, so that none drawn is broken.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from morphogen.core.errors import DataError
from morphogen.core.extras import extra
from morphogen.modalities.molecule.chemistry import canonical, kekule

Spelling = Literal["kekule", "smiles", "selfies"]
SEVERAL = re.compile(r"\[[^\[\]]+\]|Br|Cl|%\d\d|%\(\d+\)")  # tokens of more than one character
TOKEN = re.compile(SEVERAL.pattern + r"|[BCNOPSFI]|[bcnops]|[-=#$:/\\.()~*]|\d")
ATOM = re.compile(r"\[[^\[\]]+\]|Br|Cl|[BCNOPSFI]|[bcnops]|\*")
IN_BRACKETS = re.compile(
    r"\[(\d*)([A-Z][a-z]?|[bcnops]|se|as|te|\*)(@{0,2})(?:[A-Z]{2}\d+)?(?:H(\d*))?"
    r"(\++|-+|[+-]\d+)?(?::\d+)?\]"
)
NOTHING = "?"  # of no SMILES
RING = "c1"  # an aromatic carbon at which a ring closes
HYDROGEN = re.compile(r"\[\d*H[^a-z\]]*\]")


def split(text: str) -> list[str]:
    """The tokens of a SMILES, or SELFIES. Raises `DataError` for a text that is none."""
    found = TOKEN.findall(text)
    if sum(map(len, found)) != len(text):
        odd = re.sub(TOKEN, "", text)
        raise DataError(f"it is no SMILES: {odd[:10]!r} in {text[:60]!r}", hint="leave it out")
    return found


def split_or_none(text: str) -> list[str]:
    """The same, and no tokens of a text that is none."""
    try:
        return split(text)
    except DataError:
        return []


def kinds_of(texts: Iterable[str]) -> set[str]:
    """The different tokens of many, as `split` divides each."""
    texts = list(texts)
    joined = "\n".join(texts)
    single = {*SEVERAL.sub("", joined)} - {"\n"}
    if not all(map(TOKEN.fullmatch, single)):
        return {token for each in texts for token in split(each)}
    return {*SEVERAL.findall(joined), *single}


@functools.cache
def is_atom(token: str) -> bool:
    """Whether a token of SMILES stands for an atom."""
    return ATOM.fullmatch(token) is not None


@functools.cache
def is_aromatic(token: str) -> bool:
    """Whether a token of SMILES stands for an aromatic atom."""
    found = IN_BRACKETS.fullmatch(token)
    return (found[2] if found else token)[0].islower()


@functools.cache
def is_heavy(token: str) -> bool:
    """Whether it does for one other than hydrogen."""
    return is_atom(token) and HYDROGEN.fullmatch(token) is None


def looks_like_smiles(text: Any) -> bool:
    """Whether a text could be SMILES by its signs, brackets and ring closures alone."""
    if not isinstance(text, str):
        return False
    text = text.strip()
    found = TOKEN.findall(text)
    if not text or sum(map(len, found)) != len(text) or not any(map(ATOM.fullmatch, found)):
        return False
    depth = 0
    for token in found:
        depth += (token == "(") - (token == ")")
        if depth < 0:
            return False
    rings = Counter(token for token in found if token[0].isdigit() or token[0] == "%")
    return depth == 0 and all(count % 2 == 0 for count in rings.values())


def spelt(smiles: str, spelling: Spelling, parsed: Any = None) -> str:
    """A canonical SMILES in a spelling, which `split` divides into tokens. Raises `DataError` where
    it has none. `parsed`: see `chemistry.kekule`."""
    if spelling == "selfies":
        return to_selfies(smiles)
    if spelling == "kekule" and RING in smiles:
        return kekule(smiles, parsed)
    tokens = split(smiles)
    aromatic = spelling == "kekule" and any(map(is_aromatic, tokens))
    return kekule(smiles, parsed) if aromatic else smiles


def of_kekule(tokens: Sequence[str]) -> str:
    """The canonical SMILES of tokens in Kekule's form; of no molecule, as they stand."""
    text = "".join(tokens)
    try:
        return canonical(text)
    except DataError:
        return text


def to_selfies(smiles: str) -> str:
    """A molecule's SELFIES. Raises `DataError` for one that has none."""
    selfies = _selfies()
    try:
        return str(selfies.encoder(smiles))
    except selfies.EncoderError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise DataError(f"it has no SELFIES: {reason[:80]}", hint="leave it out") from error


def of_selfies(tokens: Sequence[str]) -> str:
    """The SMILES of SELFIES tokens, whatever they are."""
    found: str = _selfies().decoder("".join(tokens))
    return found


def _selfies() -> Any:
    return extra("selfies", "molecules", "SELFIES are read")

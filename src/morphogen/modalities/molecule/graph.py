"""Molecules as graphs: atoms, and bonds between every two of them, in the order of their SMILES.

    size     how many atoms there are, n <= N
    atoms    for each, which of those that the data has: element, charge, isotope, chirality
    bonds    for each pair i < j: none, single, double, triple, cis, trans

Aromatic rings are written with single and double bonds (Kekule's form), hydrogens are what valences
leave open. Chirality is told by the order of an atom's neighbours, cis and trans by the first
neighbour at each end. A graph of any atoms and bonds is some text; where valences are exceeded,
one that is no molecule.

Legend: N atoms of the largest molecule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from morphogen.core.errors import DataError
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.modalities.molecule.chemistry import chem, molecule
from morphogen.modalities.molecule.tokens import IN_BRACKETS, is_atom

SIZE, ATOMS, BONDS = "size", "atoms", "bonds"
NONE, SINGLE, DOUBLE, TRIPLE, CIS, TRANS = range(6)
NUM_BONDS = 6
ORGANIC = {"B", "C", "N", "O", "P", "S", "F", "Cl", "Br", "I"}  # hydrogens follow from valences
IMPLICIT = -1
OTHER_BONDS = {"$", "~"}


class Atom(NamedTuple):
    """One kind of atom."""

    symbol: str
    charge: int = 0
    isotope: int = 0
    turn: int = 0  # seen from its first neighbour, the others: 1 counter-clockwise, 2 clockwise
    hydrogens: int = IMPLICIT  # where they do not follow from its valence


def kinds_of(token: str) -> list[Atom]:
    """The kinds of atom that a token of SMILES may stand for; none for bonds and branches."""
    if not is_atom(token):
        return []
    if token[0] != "[":
        return [Atom(token.capitalize())]
    match = IN_BRACKETS.fullmatch(token)
    if match is None:
        return []
    isotope, symbol, chiral, hydrogens, charge = match.groups()
    kind = Atom(symbol.capitalize(), _charge(charge), int(isotope or 0))
    explicit = 0 if hydrogens is None else int(hydrogens or 1)
    if kind.symbol not in ORGANIC:
        found = [kind._replace(hydrogens=explicit)]
    elif chiral or symbol.islower() or kind.charge:
        found = [kind]
    else:  # a radical, perhaps
        found = [kind, kind._replace(hydrogens=explicit)]
    return [each._replace(turn=turn) for each in found for turn in ((1, 2, 0) if chiral else (0,))]


def _charge(text: str | None) -> int:
    if not text:
        return 0
    return int(text) if text[1:].isdigit() else len(text) * (1 if text[0] == "+" else -1)


def graph_spec(num_atoms: int, num_kinds: int) -> ProductSpec:
    """What graphs of up to so many atoms look like."""
    return ProductSpec(
        {
            SIZE: TensorSpec.label(num_atoms + 1),
            ATOMS: TensorSpec.tokens(num_atoms, num_kinds),
            BONDS: TensorSpec("token", (num_atoms, num_atoms), NUM_BONDS),
        },
        lengths={ATOMS: SIZE, BONDS: SIZE},
        pairs=(BONDS,),
    )


class Graphs:
    """Molecules to graphs and back, with the kinds of atom of the training data."""

    def __init__(self, kinds: Sequence[Atom], num_atoms: int) -> None:
        self.kinds, self.num_atoms = list(kinds), num_atoms
        self.number = {kind: i for i, kind in enumerate(self.kinds)}
        self.spec = graph_spec(num_atoms, max(len(self.kinds), 1))

    @classmethod
    def of(cls, tokens: Iterable[str], num_atoms: int) -> Graphs:
        """With every kind of atom that tokens of SMILES stand for."""
        kinds = {kind for token in tokens for kind in kinds_of(token)}
        return cls(sorted(kinds), num_atoms)

    # -- to graphs ---------------------------------------------------------------------------------

    def encode(self, smiles: str) -> dict[str, Tensor]:
        """SMILES -> size (), atoms (N,), bonds (N, N). Raises `DataError` for a molecule that is
        too large, or has what no training molecule has."""
        mol = molecule(smiles)
        self.check_size(mol.GetNumAtoms())
        chem().Kekulize(mol, clearAromaticFlags=True)
        atoms = torch.zeros(self.num_atoms, dtype=torch.long)
        bonds = torch.zeros(self.num_atoms, self.num_atoms, dtype=torch.long)
        for i, atom in enumerate(mol.GetAtoms()):
            atoms[i] = self._number_of(self._kind(atom))
        for bond in mol.GetBonds():
            i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            bonds[i, j] = _bond_token(mol, bond)
        return {SIZE: torch.tensor(mol.GetNumAtoms()), ATOMS: atoms, BONDS: bonds}

    def check(self, tokens: Sequence[str]) -> None:
        """Raise `DataError` for a molecule, as tokens of SMILES, that is no graph of these."""
        self.check_size(sum(map(is_atom, tokens)))
        for token in tokens:
            if is_atom(token) and not any(kind in self.number for kind in kinds_of(token)):
                raise _unknown(token)
            if token in OTHER_BONDS:
                raise _no_bond(token)

    def check_size(self, num: int) -> None:
        """Raise `DataError` for a molecule of more atoms than there is room for."""
        if num > self.num_atoms:
            raise DataError(
                f"it has {num} atoms, and graphs have room for {self.num_atoms}",
                hint=f"--set modality.max_atoms={num}, or leave it out",
            )

    def _number_of(self, kind: Atom) -> int:
        if kind not in self.number:
            raise _unknown(f"{kind.symbol} of charge {kind.charge:+d}")
        return self.number[kind]

    def _kind(self, atom: Any) -> Atom:
        symbol = atom.GetSymbol()
        follows = symbol in ORGANIC and not atom.GetNumRadicalElectrons()
        hydrogens = IMPLICIT if follows else atom.GetTotalNumHs()
        return Atom(symbol, atom.GetFormalCharge(), atom.GetIsotope(), _turn(atom), hydrogens)

    # -- and back ----------------------------------------------------------------------------------

    def decode(self, x: dict[str, Tensor]) -> str:
        """size (), atoms (N,), bonds (N, N) -> SMILES, which may be no molecule's."""
        size = int(x[SIZE])
        kinds = [self.kinds[i] for i in x[ATOMS][:size].tolist()]
        bonds = x[BONDS][:size, :size].triu(1)
        pairs = [(i, j, int(bonds[i, j])) for i, j in bonds.nonzero().tolist()]
        mol = _assembled(kinds, pairs)
        try:
            chem().SanitizeMol(mol)
            _set_stereo(mol, pairs)
            smiles: str = chem().MolToSmiles(mol)
        except ValueError:  # valences that no atom has: written down as it is
            mol.UpdatePropertyCache(strict=False)
            smiles = chem().MolToSmiles(mol)
        return smiles


def _unknown(atom: str) -> DataError:
    return DataError(
        f"no training molecule has an atom like {atom}",
        hint="add molecules with it to the training split, or leave this one out",
    )


def _no_bond(bond: str) -> DataError:
    return DataError(
        f"it has a bond of the kind {bond}, which graphs have not",
        hint="the view of tokens keeps it: --set modality.view=tokens",
    )


def _assembled(kinds: Sequence[Atom], pairs: Sequence[tuple[int, int, int]]) -> Any:
    c = chem()
    types = {
        SINGLE: c.BondType.SINGLE, DOUBLE: c.BondType.DOUBLE, TRIPLE: c.BondType.TRIPLE,
        CIS: c.BondType.DOUBLE, TRANS: c.BondType.DOUBLE,
    }  # fmt: skip
    turns = {1: c.ChiralType.CHI_TETRAHEDRAL_CCW, 2: c.ChiralType.CHI_TETRAHEDRAL_CW}
    mol = c.RWMol()
    for kind in kinds:
        atom = c.Atom(kind.symbol if kind.symbol != "*" else 0)
        atom.SetFormalCharge(kind.charge)
        atom.SetIsotope(kind.isotope)
        if kind.hydrogens != IMPLICIT:
            atom.SetNoImplicit(True)
            atom.SetNumExplicitHs(kind.hydrogens)
        if kind.turn:
            atom.SetChiralTag(turns[kind.turn])
        mol.AddAtom(atom)
    for i, j, bond in pairs:  # in the order of places: what turns are told by
        mol.AddBond(i, j, types[bond])
    return mol


def _bond_token(mol: Any, bond: Any) -> int:
    c = chem()
    plain = {c.BondType.SINGLE: SINGLE, c.BondType.DOUBLE: DOUBLE, c.BondType.TRIPLE: TRIPLE}
    if bond.GetBondType() not in plain:
        raise _no_bond(str(bond.GetBondType()).lower())
    stereo = c.BondStereo
    cis = {stereo.STEREOZ: True, stereo.STEREOCIS: True,
           stereo.STEREOE: False, stereo.STEREOTRANS: False}.get(bond.GetStereo())  # fmt: skip
    if cis is None:
        return plain[bond.GetBondType()]
    told = list(bond.GetStereoAtoms())
    first = _ends(mol, bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    flips = sum(a != b for a, b in zip(told, first, strict=True))
    return CIS if cis == (flips % 2 == 0) else TRANS


def _ends(mol: Any, i: int, j: int) -> tuple[int, int]:
    """The first neighbour of each of two bonded atoms, the other left out."""
    a, b = (
        min(n.GetIdx() for n in mol.GetAtomWithIdx(own).GetNeighbors() if n.GetIdx() != other)
        for own, other in ((i, j), (j, i))
    )
    return a, b


def _set_stereo(mol: Any, pairs: Sequence[tuple[int, int, int]]) -> None:
    stereo = chem().BondStereo
    for i, j, token in pairs:
        if token not in (CIS, TRANS):
            continue
        if min(mol.GetAtomWithIdx(end).GetDegree() for end in (i, j)) < 2:
            continue  # nothing at one end to be on a side of
        bond = mol.GetBondBetweenAtoms(i, j)
        bond.SetStereoAtoms(*_ends(mol, i, j))
        bond.SetStereo(stereo.STEREOCIS if token == CIS else stereo.STEREOTRANS)
    chem().SetDoubleBondNeighborDirections(mol)
    chem().AssignStereochemistry(mol, cleanIt=True, force=True)


def _turn(atom: Any) -> int:
    """Which way an atom's neighbours turn, in the order of their places."""
    c = chem().ChiralType
    turn = {c.CHI_TETRAHEDRAL_CCW: 1, c.CHI_TETRAHEDRAL_CW: 2}.get(atom.GetChiralTag(), 0)
    if not turn:
        return 0
    order = [bond.GetOtherAtomIdx(atom.GetIdx()) for bond in atom.GetBonds()]
    swaps = sum(a > b for a, b in itertools.combinations(order, 2))
    return turn if swaps % 2 == 0 else 3 - turn

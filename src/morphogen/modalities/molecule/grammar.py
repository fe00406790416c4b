r"""SMILES as they are written: what may follow what has come, so that a molecule can come of it.

    C1=CC(   ->   an atom or a bond; no end, no ")" and no ring closure

Held at every token: bonds within the valence of both atoms; branches and rings that are opened can
still be closed, in as many tokens as there is room for; no ring of two atoms. Without aromatic
atoms (Kekule's form) these are all the rules there are, and every text that ends within them is a
molecule; whether aromatic rings have such a form is not looked at.

A valence is that of the periodic table, of the element with as many electrons where an atom in
brackets is charged; so N+ has four bonds and O- one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from morphogen.modalities.molecule.chemistry import chem
from morphogen.modalities.molecule.tokens import IN_BRACKETS, NOTHING, is_atom

ORDERS = {"-": 1, "/": 1, "\\": 1, ":": 1, "=": 2, "#": 3, "$": 4}
ANY = 8  # bonds of an atom of which the periodic table says nothing
EACH_RING = 2  # tokens that close a ring: a carbon and the number


@functools.cache
def bonds_of(atom: str) -> int:
    """How many bonds an atom has at most, hydrogens in brackets taken off."""
    symbol, hydrogens, charge = atom, 0, 0
    if found := IN_BRACKETS.fullmatch(atom):
        symbol = found[2]
        hydrogens = 0 if found[4] is None else int(found[4] or 1)
        sign = found[5] or ""
        charge = int(sign) if sign[-1:].isdigit() else sign.count("+") - sign.count("-")
    table = chem().GetPeriodicTable()
    try:
        number = table.GetAtomicNumber(symbol.capitalize()) - charge
        most = max(table.GetValenceList(number))
    except RuntimeError:  # no element, or one that has no electrons left
        return ANY
    most = ANY if most < 0 else most
    return most - hydrogens


class Growing:
    """A SMILES as far as it has come."""

    __slots__ = ("at", "bond", "bonded", "free", "last", "rings", "stack")

    def __init__(self) -> None:
        self.free: list[int] = []  # bonds left of each atom
        self.at: int | None = None  # the atom that is gone on from
        self.bond: str | None = None  # said, of the bond that comes
        self.last = ""
        self.stack: list[int] = []  # the atoms that open branches began at
        self.rings: dict[str, tuple[int, str | None]] = {}  # the atom and bond of an open ring
        self.bonded: set[tuple[int, int]] = set()

    def copy(self) -> Growing:
        """Another, as far."""
        found = Growing()
        found.free, found.stack, found.rings = self.free[:], self.stack[:], dict(self.rings)
        found.bonded, found.at = set(self.bonded), self.at
        found.bond, found.last = self.bond, self.last
        return found

    @property
    def needed(self) -> int | None:
        """Tokens that are enough to end it, by way of carbons; None where nothing can."""
        unfinished = self.at is None or self.bond is not None or self.last == "("
        if not self.rings or self.at is None:
            return len(self.stack) + unfinished
        if not any(self.free[atom] > 0 for atom in (self.at, *self.stack)):
            return None
        each_ring = EACH_RING * len(self.rings) - 1  # an atom that it ends at, but for the first
        return self._atoms_away(self.at) + each_ring + len(self.stack) + unfinished

    def _atoms_away(self, at: int) -> int:
        """How many carbons further an open ring can be closed: none, one, or two where all begin
        here, or where a branch must end first. Not here, where all that are left then begin here:
        a ring has three atoms, so that they would be closed two carbons further."""
        if self.free[at] < 1:
            return 2
        elsewhere = sum(other != at for other, _ in self.rings.values())
        most = self.free[at] - (len(self.rings) > 1)  # bonds that are not wanted to go on
        if (
            self.bond is None
            and self.last != ")"
            and (elsewhere > 1 or len(self.rings) == 1)
            and any(
                other != at and _pair(other, at) not in self.bonded and ORDERS[bond or "-"] <= most
                for other, bond in self.rings.values()
            )
        ):
            return 0
        return 1 if elsewhere else 2

    @property
    def may_end(self) -> bool:
        """Whether it is whole."""
        return self.needed == 0

    def take(self, token: str) -> bool:
        """Go on with a token; False where it may not come, and then it is of no use any more."""
        if is_atom(token):
            done = self._atom(token)
        elif token in ORDERS:
            done = self._said(token)
        elif token == "(":
            done = self._begin()
        elif token == ")":
            done = bool(self.stack) and self.bond is None and self.at != self.stack[-1]
            self.at = self.stack.pop() if done else None
        elif token == ".":
            done = self.may_end
            self.at = None
        else:
            done = self._ring(token)
        self.last = token
        return done

    def _atom(self, token: str) -> bool:
        self.free.append(bonds_of(token))
        before, self.at = self.at, len(self.free) - 1
        done = before is None or self._join(before, self.at, self.bond)
        self.bond = None
        return done

    def _said(self, bond: str) -> bool:
        if self.at is None or self.bond is not None or self.free[self.at] < ORDERS[bond]:
            return False
        self.bond = bond
        return True

    def _begin(self) -> bool:
        if self.at is None or self.bond is not None or self.last == "(" or self.free[self.at] < 1:
            return False
        self.stack.append(self.at)
        return True

    def _ring(self, label: str) -> bool:
        begun = bool(self.stack) and self.at == self.stack[-1]  # no atom of the branch has come
        if self.at is None or begun or self.last == ")" or label == NOTHING:
            return False
        said, self.bond = self.bond, None
        if label not in self.rings:
            self.rings[label] = self.at, said
            self.free[self.at] -= ORDERS[said or "-"]
            return self.free[self.at] >= 0
        other, before = self.rings.pop(label)
        self.free[other] += ORDERS[before or "-"]  # which was kept for it
        return not (said and before and said != before) and self._join(
            other, self.at, said or before
        )

    def _join(self, one: int, other: int, bond: str | None) -> bool:
        order, pair = ORDERS[bond or "-"], _pair(one, other)
        if one == other or pair in self.bonded or min(self.free[one], self.free[other]) < order:
            return False
        self.bonded.add(pair)
        self.free[one] -= order
        self.free[other] -= order
        return True


def _pair(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


class Spelt:
    """Several SMILES that are written side by side, in tokens that stand for one or more."""

    def __init__(self, num: int, told: Callable[[int], Sequence[str]], end: int) -> None:
        self.rows = [Growing() for _ in range(num)]
        self.told, self.end = told, end

    def take(self, row: int, token: int, left: int) -> bool:
        """Go on in a row with a token, where it may come there and `left` more will have room."""
        if token == self.end:
            return self.rows[row].may_end
        grown, parts = self.rows[row].copy(), self.told(token)
        if not parts or not all(map(grown.take, parts)):
            return False
        needed = grown.needed
        if needed is None or needed > left:
            return False
        self.rows[row] = grown
        return True

"""Which molecules are training molecules again, or nearly: another salt, charge, isomer of one.

Which atoms are bound to which is read off the SMILES itself, of the largest part, and hashed: two
rounds of Weisfeiler & Leman 1968 over elements. Molecules of one hash are then compared by what
RDKit leaves of them without salts, charges and stereo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from morphogen.core.errors import DataError
from morphogen.modalities.molecule.chemistry import canonical, skeleton
from morphogen.modalities.molecule.tokens import IN_BRACKETS, is_heavy, split

ROUNDS = 2
BONDS = set("-=#$:/\\~")


def copies(values: Sequence[str], training: Sequence[str]) -> dict[str, list[int]]:
    """For each of the values the place of a training molecule, spelt canonically, that it is
    (`exact`), or is but for salts, charges and stereo (`near`); -1 where there is none."""
    exact = {smiles: place for place, smiles in enumerate(training)}
    plans: dict[int, list[int]] = {}
    for place, smiles in enumerate(training):
        plans.setdefault(plan(smiles), []).append(place)
    found: dict[str, list[int]] = {"exact": [], "near": []}
    for value in values:
        same, near = _copied(value, training, exact, plans)
        found["exact"].append(same)
        found["near"].append(near)
    return found


def _copied(
    value: str,
    training: Sequence[str],
    exact: Mapping[str, int],
    plans: Mapping[int, Sequence[int]],
) -> tuple[int, int]:
    try:
        own, bare = canonical(value), skeleton(value)
    except DataError:
        return -1, -1
    if own in exact:
        return exact[own], -1
    alike = plans.get(plan(own), ())
    return -1, next((place for place in alike if skeleton(training[place]) == bare), -1)


def plan(smiles: str) -> int:
    """A hash of which elements are bound to which in the largest part of a SMILES, hydrogens left
    out: equal for all salts, charges, isotopes and stereoisomers of a molecule."""
    tokens = [split(part) for part in smiles.split(".")]
    largest = max(tokens, key=lambda part: sum(map(is_heavy, part)))
    labels, neighbours = _bound(largest)
    for _ in range(ROUNDS):
        labels = [
            hash((label, *sorted(labels[j] for j in near)))
            for label, near in zip(labels, neighbours, strict=True)
        ]
    return hash(tuple(sorted(labels)))


def _bound(tokens: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """The heavy atoms of a part, by element, and which are bound to each."""
    labels: list[int] = []
    neighbours: list[list[int]] = []
    open_rings: dict[str, int] = {}
    stack: list[int] = []
    last = -1
    for token in tokens:
        if is_heavy(token):
            labels.append(hash(_element(token)))
            neighbours.append([])
            if last >= 0:
                _bind(neighbours, last, len(labels) - 1)
            last = len(labels) - 1
        elif token == "(":
            stack.append(last)
        elif token == ")":
            last = stack.pop() if stack else last
        elif token in BONDS or token[0] == "[":  # hydrogens that are spelt out
            continue
        elif token in open_rings:
            _bind(neighbours, open_rings.pop(token), last)
        else:
            open_rings[token] = last
    return labels, neighbours


def _bind(neighbours: list[list[int]], i: int, j: int) -> None:
    if i >= 0 and j >= 0:
        neighbours[i].append(j)
        neighbours[j].append(i)


def _element(token: str) -> str:
    match = IN_BRACKETS.fullmatch(token)
    return (match[2] if match else token).capitalize()

"""Molecules: SMILES files, SDF and tables with a column of SMILES, as tokens or as graphs.

`tokens`: the canonical SMILES in Kekule's form, an atom, bond, branch or ring closure each, and one
for the end; what is drawn keeps to the grammar and to valences (`grammar.py`). Or SELFIES, of which
every sequence is a molecule. `graph`: atoms and the bonds between them, as parts.
A raw value is a text of SMILES. Those that are read are spelt canonically; those that a model draws
are as it spells them, and may be of no molecule.

Legend: B batch, L tokens, N atoms.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import Codec, Fingerprint, Item, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.encoded import stacked
from morphogen.core.errors import DataError
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.core.writing import Legality
from morphogen.modalities.molecule import chemistry, copies, page
from morphogen.modalities.molecule.grammar import Spelt
from morphogen.modalities.molecule.graph import SIZE, Atom, Graphs
from morphogen.modalities.molecule.properties import named
from morphogen.modalities.molecule.reading import (
    ATOMS,
    SPELT,
    TOGETHER,
    all_smiles,
    read_molecules,
    recognise,
    wants_for,
)
from morphogen.modalities.molecule.tokens import (
    Spelling,
    is_atom,
    is_heavy,
    kinds_of,
    split,
    split_or_none,
)
from morphogen.modalities.molecule.vocabulary import Seen, Vocabulary, Written
from morphogen.sources import RecordBatch, RecordBatches, in_batches, texts

TOKENS, GRAPH = "tokens", "graph"
LONGEST, LARGEST = 256, 64  # tokens and atoms, where the user names no number
STEP = 4  # lengths are rounded up to a multiple
KEY_BYTES = 8


class Molecule(Codec):
    """Molecules: .smi, .sdf and .txt files, and columns of SMILES, as tokens or as graphs."""

    suffix: ClassVar[str] = ".smi"
    family = "autoregressive"
    unit: ClassVar[str] = "atom"
    holds: ClassVar[str] = "molecule"
    views: ClassVar[tuple[str, ...]] = (TOKENS, GRAPH)
    judged_as_fitted: ClassVar[bool] = True  # tokens of another vocabulary are other items
    key_radius: ClassVar[int] = 0  # near-duplicates have the same skeleton
    same_from: ClassVar[float] = 0.99

    def __init__(
        self,
        *,
        spelling: Spelling = "kekule",  # of tokens: smiles with aromatic atoms, or none; selfies
        merges: int | None = None,  # groups of tokens that are one; none: from the data, 0: no
        length: int | None = None,  # tokens of a molecule, at most; none: from the data, up to 256
        max_atoms: int | None = None,  # of a graph; none: from the data, up to 64
        column: str | None = None,  # of a table, that holds the molecules; none: found
        properties: str = "",  # noted of each by RDKit, to be learned with: logp,qed,mw,tpsa
    ) -> None:
        for name, number in (("length", length), ("max_atoms", max_atoms)):
            if number is not None and not 2 <= number <= 4096:
                raise DataError(f"{name} does not fit", found=number, expected="2 to 4096")
        self.spelling, self.length, self.max_atoms = spelling, length, max_atoms
        self.column, self.properties, self.merges = column, properties, merges
        self.view = TOKENS
        self.computed = named(properties)
        self.facts: dict[str, Any] = {}
        self._written = Written(spelling)
        # What was checked last is encoded next.
        self._checked: tuple[Sequence[Item], Sequence[Sequence[int]]] = ((), ())

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """SMILES that are no words."""
        return Recognition(0.95, f"{len(values):,} SMILES") if all_smiles(values) else None

    def read(self, source: Any, report: Report) -> RecordBatches:
        return read_molecules(source, report, self.column, self.computed, self._written)

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Molecule:
        seen, kinds = Seen(self.spelling), set[str]()
        sizes: Counter[int] = Counter()
        for some in in_batches(items, TOGETHER):
            values, atoms, own = self._noted(some)
            kinds |= kinds_of(values)
            sizes.update(atoms)
            seen.add(own)
        if not sizes:
            raise DataError("there are no molecules to learn from", expected="at least one")
        vocabulary, lengths = seen.vocabulary(self.merges)
        length = self.length or min(-(-max(lengths) // STEP) * STEP, LONGEST)
        num_atoms = self.max_atoms or min(max(sizes), LARGEST)
        graphs = Graphs.of(kinds, max(num_atoms, 2))
        self.facts = {
            "tokens": f"{len(vocabulary.tokens)} of {self.spelling}, {len(vocabulary.merges)} "
            f"groups of these; a molecule has up to {length - 1}",
            "atoms": f"{max(sizes)} in the largest, {len(graphs.kinds)} kinds of them",
        }
        for name, limit, found in (("length", length, lengths), ("max_atoms", num_atoms, sizes)):
            if larger := sum(number for size, number in found.items() if size > limit):
                told = f"{larger:,} molecules are larger, and left out of that view"
                self.facts[f"beyond_{name}"] = f"{told} (--set modality.{name}={max(found)})"
        return self._use(vocabulary, length, graphs)

    def _noted(self, items: Sequence[Item]) -> tuple[list[str], list[int], list[str]]:
        """Of some molecules the SMILES, how many atoms they have, and each in the spelling: "" of
        what has no such, which `check_fits` tells."""
        if isinstance(items, RecordBatch):
            atoms, own = (list(items.noted[name].each()) for name in (ATOMS, SPELT))
            return list(items.values()), atoms, own
        values = [item.value for item in items]
        atoms = [sum(map(is_atom, split(each))) for each in values]
        return values, atoms, list(map(self._written.text_or_none, values))

    def _use(self, vocabulary: Vocabulary, length: int, graphs: Graphs) -> Molecule:
        self.vocabulary, self.graphs = vocabulary, graphs
        vocabulary.written = self._written
        size = vocabulary.end
        self._specs: dict[str, Spec] = {
            TOKENS: TensorSpec.tokens(length, size + 1, end=size), GRAPH: graphs.spec
        }  # fmt: skip
        self.spec = self._specs[self.view]
        return self

    def use_view(self, name: str) -> Molecule:
        super().use_view(name)
        if hasattr(self, "_specs"):
            self.spec = self._specs[name]
        return self

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Any:
        spec = self._fitted()
        if isinstance(spec, ProductSpec):
            return self.graphs.encode(item.value)
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Any:
        spec = self._fitted()
        if isinstance(spec, ProductSpec) or not items:
            return stacked([self.encode(item) for item in items]) if items else _none(spec)
        return self._rows(self._numbers(items))

    def check_batch(self, batch: RecordBatch, report: Report) -> None:
        """`check_fits` of all molecules of a batch, or `DataError`."""
        if self.view == GRAPH:
            for smiles in batch.values():
                self.graphs.check(split(smiles))
        else:
            self._checked = batch, self._numbers(batch)

    def _numbers(self, items: Sequence[Item]) -> Sequence[Sequence[int]]:
        """Molecules as tokens by number. Raises `DataError` where one does not fit."""
        if items is self._checked[0]:
            return self._checked[1]
        if isinstance(items, RecordBatch):
            texts = list(items.noted[SPELT].each())
            if not all(texts):
                raise DataError("a molecule has no such spelling")
            numbers = self.vocabulary.joined(texts)
        else:
            numbers = self.vocabulary.numbers([item.value for item in items])
        for own in numbers:
            self._check_length(len(own))
        return numbers

    def encode_drawn(self, items: Sequence[Item]) -> Any:
        """Texts that a model drew, of molecules or not, for judges: what has no token of the data,
        or no room, has one that stands for nothing, and is of no molecule afterwards."""
        if isinstance(self._fitted(), ProductSpec):
            return self.encode_many(items)
        return self._rows([self.vocabulary.loosely(item.value, self._room - 1) for item in items])

    def _check_length(self, num: int) -> None:
        if num >= self._room:
            raise DataError(
                f"it has {num} tokens, and there is room for {self._room - 1}",
                hint=f"--set modality.length={num + 1}, or leave it out",
            )

    def _rows(self, numbers: Sequence[Sequence[int]]) -> Tensor:
        x = np.full((len(numbers), self._room), self.vocabulary.end)
        lengths = np.fromiter(map(len, numbers), np.int64, len(numbers))
        x[np.arange(self._room) < lengths[:, None]] = [n for own in numbers for n in own]
        return torch.from_numpy(x)

    def decode(self, x: Any) -> str:
        if isinstance(self._fitted(), ProductSpec):
            return self.graphs.decode(x)
        return self.vocabulary.text(x.tolist())

    def legality(self, num: int) -> Legality | None:
        """What `num` molecules that are drawn token by token may become, so that they are some."""
        if self.spelling == "selfies" or self.view == GRAPH:
            return None  # of which every sequence is one; which are not drawn so
        return Spelt(num, self.vocabulary.told, self.vocabulary.end)

    def check_fits(self, item: Item, report: Report) -> None:
        if self.view == GRAPH:
            self.graphs.check(split(item.value))
        else:
            self._numbers([item])

    def num_units(self, x: Any) -> Tensor:
        """Atoms, at least one."""
        if isinstance(x, dict):
            return x[SIZE].clamp(min=1).float()
        if self.spelling != "selfies":
            told = map(self.vocabulary.told, range(self.vocabulary.end + 1))
            atoms = torch.tensor([sum(map(is_heavy, each)) for each in told], device=x.device)
            return atoms[x].sum(1).clamp(min=1).float()
        written = [sum(map(is_heavy, split_or_none(each))) for each in self.decode_many(x)]
        return torch.tensor(written, device=x.device).clamp(min=1).float()

    # -- what is said of molecules -----------------------------------------------------------------

    def texts(self, source: Any) -> Iterator[Listed]:
        """Names and cells beside the molecules."""
        yield from texts(source, wants_for(source, self.column))

    def fingerprint(self, item: Item) -> Fingerprint | None:
        """Its skeleton: salts, charges and stereo apart, what is the same is one molecule."""
        try:
            plain = chemistry.skeleton(item.value)
        except DataError:  # drawn, and of no molecule
            return None
        key = hashlib.blake2b(plain.encode(), digest_size=KEY_BYTES).digest()
        return Fingerprint((key,), chemistry.fingerprint_bits(plain).tobytes())

    def likeness(self, first: Tensor, second: Tensor, key: Tensor) -> Tensor:
        """Tanimoto similarity of Morgan fingerprints."""
        both, either = (_bits(op(first, second)) for op in (torch.bitwise_and, torch.bitwise_or))
        return both / either.clamp(min=1)

    def copies(self, values: Sequence[Any], training: Sequence[Any]) -> Mapping[str, Sequence[int]]:
        """Which molecules are training molecules again; see `copies.py`."""
        return copies.copies(values, training)

    @property
    def groupings(self) -> Mapping[str, Callable[[Any], str]]:
        """What molecules can be divided by: see `data.scan.CanGroup`."""
        return {"scaffold": chemistry.scaffold, "skeleton": chemistry.skeleton}

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.cards(values, columns)

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(value, most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        return page.write_smiles(values, Path(path))

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        self._fitted()
        names = ("spelling", "merges", "length", "max_atoms", "column", "properties")
        return {
            "options": {name: getattr(self, name) for name in names},
            "view": self.view,
            "tokens": self.vocabulary.tokens,
            "merges": [list(pair) for pair in self.vocabulary.merges],
            "length": self._room,
            "atoms": [list(kind) for kind in self.graphs.kinds],
            "num_atoms": self.graphs.num_atoms,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Molecule:
        codec = cls(**state["options"])
        kinds = [Atom(*kind) for kind in state["atoms"]]
        vocabulary = Vocabulary(state["tokens"], codec.spelling, state["merges"])
        codec._use(vocabulary, state["length"], Graphs(kinds, state["num_atoms"]))
        return codec.use_view(state["view"])

    @property
    def _room(self) -> int:
        """Tokens of a molecule, the end among them."""
        return self._specs[TOKENS].num_values

    def _fitted(self) -> Any:
        if not hasattr(self, "spec"):
            raise DataError("the codec has seen no molecules yet", hint="codec.fit(items)")
        return self.spec


def _none(spec: Any) -> Any:
    """No items at all."""
    if isinstance(spec, ProductSpec):
        return {name: torch.zeros(0, *part.shape, dtype=torch.long) for name, part in spec}
    return torch.zeros(0, *spec.shape, dtype=torch.long)


def _bits(x: Tensor) -> Tensor:
    """Bytes (N, K) -> how many bits are set, (N,)."""
    counts = torch.tensor([bin(byte).count("1") for byte in range(256)], device=x.device)
    return counts[x.long()].sum(1).float()

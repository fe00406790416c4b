r"""How familiar is a sequence: which of its runs of tokens does real data have?

    f_n(x) = share of the runs of n tokens in x that stand in a bank of training items

Whatever a sequence is about, a well made one is familiar in short runs and new in long ones, about
as much as another; a slip (two letters that changed places) makes several runs of every length new.
So few items tell much. Items of the bank are familiar throughout: a judge compares with others.

Legend: N items, L positions, O lengths of runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, tensor
from morphogen.core.spec import Spec, TensorSpec
from morphogen.evaluation.vectors import runs

LENGTHS = (2, 3, 4, 6, 8)  # tokens of a run


@dataclass(frozen=True)
class Familiar:
    """The runs of a bank of sequences, by their codes in ascending order."""

    spec: TensorSpec
    known: tuple[Tensor, ...]

    @classmethod
    def of(cls, bank: Encoded, spec: TensorSpec) -> Familiar:
        """All runs of (N, L)."""
        x = tensor(bank)
        found = (_runs(x, spec, size) for size in LENGTHS if size <= x.shape[1])
        return cls(spec, tuple(torch.unique(codes[whole]) for codes, whole in found))

    def __call__(self, x: Encoded) -> Tensor:
        """(N, L) -> (N, O), in [0, 1]; 1 where an item has no run of the length."""
        shares = []
        for size, known in zip(LENGTHS, self.known, strict=False):
            codes, whole = _runs(tensor(x), self.spec, size)
            new = whole & ~torch.isin(codes, known)
            shares.append(1 - new.sum(1) / whole.sum(1).clamp(min=1))
        return torch.stack(shares, 1).double()


def is_sequence(spec: Spec) -> bool:
    """Whether items are tokens whose order says something."""
    return (
        isinstance(spec, TensorSpec)
        and spec.kind == "token"
        and len(spec.shape) == 1
        and (spec.sizes is None and spec.shape[0] >= LENGTHS[0])
    )


def _runs(x: Tensor, spec: TensorSpec, size: int) -> tuple[Tensor, Tensor]:
    mask = spec.mask(x)
    return runs(x, torch.ones_like(x, dtype=torch.bool) if mask is None else mask, size)

r"""At which place a model expects what comes next, among all that might come.

    recall_at_10      share of items whose next token is among the ten most expected
    ndcg_at_10        mean of 1 / log2(1 + place) of those that are, 0 of the others: its most, 1,
                      where the first is always right (Jarvelin & Kekalainen 2002, with one that is
                      relevant)
    reciprocal_rank   mean of 1 / place

All tokens are ranked, not a sample of them, which puts models in another order (Krichene & Rendle
2020). Beside them stand the same of popularity (the most frequent tokens, whoever asks) and of a
Markov chain (those that came most often after the last one, then the most frequent): what counting
reaches.

Legend: N items.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Ranks, scores

FIRST = 10


@scores(
    recall_at_10=True, ndcg_at_10=True, reciprocal_rank=True, popularity_recall_at_10=None,
    popularity_ndcg_at_10=None, chain_recall_at_10=None, chain_ndcg_at_10=None,
)  # fmt: skip
def ranking(sets: Ranks, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """Recall and NDCG at ten and the mean reciprocal rank, beside popularity and a Markov chain."""
    every = {"": sets.ranks, "popularity_": sets.by_popularity, "chain_": sets.by_chain}
    found = {}
    for whose, ranks in every.items():
        if not len(ranks) or not bool((ranks >= 1).all()):
            raise MeasurementError(
                "there are no places to be scored", found=f"{len(ranks)} items",
                expected="places from 1 on",
            )  # fmt: skip
        found[f"{whose}recall_at_{FIRST}"] = float(recall(ranks, FIRST))
        found[f"{whose}ndcg_at_{FIRST}"] = float(ndcg(ranks, FIRST))
    return {**found, "reciprocal_rank": float((1 / sets.ranks.double()).mean())}


def recall(ranks: Tensor, first: int) -> Tensor:
    """The share of places (N,) that are among the first: a scalar."""
    return (ranks <= first).double().mean()


def ndcg(ranks: Tensor, first: int) -> Tensor:
    """The mean gain of places (N,), 1 for the first place and 0 beyond the last that counts."""
    return torch.where(ranks <= first, 1 / (1 + ranks.double()).log2(), 0.0).mean()

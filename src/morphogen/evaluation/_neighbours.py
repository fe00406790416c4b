r"""The nearest of many items, a block at a time.

A search has two stages. The first compares all pairs by their leading principal components, in
float32 matrix products |a|^2 + |b|^2 - 2 a.b; the second compares the best candidates by all their
values, exactly and in every transform. With as many components as values the first stage loses
nothing; with fewer it may miss a neighbour, for generated and for real items alike.

Legend: N queries, M keys, V transforms of a query, D values, P components, S candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from morphogen.evaluation.features import parts

COMPONENTS = 64
CANDIDATES = 32
SAMPLE = 4096  # keys that the components are computed from
QUERY_BLOCK, KEY_BLOCK = 512, 4096  # rows and columns of a block of distances


def components(keys: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean (D,) and leading principal axes (D, P) of a sample of keys (M, D)."""
    some = keys[torch.randperm(len(keys), generator=generator)[:SAMPLE]].double()
    mean = some.mean(0)
    if keys.shape[1] <= COMPONENTS:
        return mean.float(), torch.eye(keys.shape[1])
    axes = torch.linalg.eigh((some - mean).T @ (some - mean)).eigenvectors
    return mean.float(), axes[:, -COMPONENTS:].float()


class Index:
    """Keys (M, D) to be searched."""

    def __init__(self, keys: Tensor, mean: Tensor, axes: Tensor) -> None:
        self.keys, self.mean, self.axes = keys, mean, axes
        self.projected = (keys - mean) @ axes  # (M, P)

    def __len__(self) -> int:
        return len(self.keys)

    def project(self, x: Tensor) -> Tensor:
        """(*, D) -> (*, P)."""
        return (x - self.mean) @ self.axes

    def nearest(
        self, queries: Tensor, coarse: tuple[int, ...], k: int, start: int, stop: int
    ) -> tuple[Tensor, Tensor]:
        """Distances and numbers (N, k) of the nearest keys in start .. stop - 1 to queries
        (N, V, D), nearest first; infinite distances where there are fewer keys than k."""
        size = max(1, QUERY_BLOCK // len(coarse))
        blocks = [queries[index] for index in parts(len(queries), size)]
        found = [
            self._refine(block, self._screen(block[:, list(coarse)], start, stop), k)
            for block in blocks
        ]
        distance, number = (torch.cat(part) for part in zip(*found, strict=True))
        missing = k - distance.shape[1]
        if missing > 0:
            distance = torch.nn.functional.pad(distance, (0, missing), value=torch.inf)
            number = torch.nn.functional.pad(number, (0, missing), value=0)
        return distance, number

    def _screen(self, queries: Tensor, start: int, stop: int) -> Tensor:
        """Queries (N, V, D) -> the numbers (N, S) of promising keys."""
        num, transforms, _ = queries.shape
        projected = self.project(queries).flatten(0, 1)  # (N V, P)
        squares = projected.square().sum(1, keepdim=True)
        best, where = torch.empty(num, 0), torch.empty(num, 0, dtype=torch.long)
        for first in range(start, stop, KEY_BLOCK):
            keys = self.projected[first : min(first + KEY_BLOCK, stop)]
            pairs = torch.addmm(keys.square().sum(1), projected, keys.T, alpha=-2).add_(squares)
            pairs = pairs.view(num, transforms, -1).amin(1)  # (N, block)
            values, numbers = pairs.topk(min(CANDIDATES, pairs.shape[1]), dim=1, largest=False)
            best, where = torch.cat([best, values], 1), torch.cat([where, numbers + first], 1)
            best, order = best.topk(min(CANDIDATES, best.shape[1]), dim=1, largest=False)
            where = where.gather(1, order)
        return where

    def _refine(self, queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of the candidates (N, S) by all values, in every transform."""
        keys = self.keys[candidates]  # (N, S, D)
        gap, transform = torch.cdist(queries, keys, compute_mode="use_mm_for_euclid_dist").min(1)
        place = gap.topk(min(k, gap.shape[1]), dim=1, largest=False).indices  # (N, k)
        # Matrix products round the distance of a copy from 0 to about 0.01: again, by differences.
        item = torch.arange(len(queries))[:, None]
        distance = (queries[item, transform.gather(1, place)] - keys[item, place]).norm(dim=2)
        distance, order = distance.sort(dim=1)
        return distance, candidates.gather(1, place.gather(1, order))


def merged(*found: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k nearest over several searches."""
    distance, number = (torch.cat(part, 1) for part in zip(*found, strict=True))
    nearest, order = distance.topk(k, dim=1, largest=False)
    return nearest, number.gather(1, order)

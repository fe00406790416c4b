r"""A judge of another make: the whole item, described without any training and whitened.

A classifier's features are what tells classes apart, so what is the same in all classes may change
and it need not notice: a background of 0 to 5 in place of 0, a grain, a joint law of columns. This
judge has no classes and learns no weights. It describes an item by

    its vector          `vectors`: values, or hashed runs of tokens, or columns
    their interactions  relu and products of random projections of it: how values go together
    of grids            responses to whitened patches of the training items, pooled over the corners
                        (Coates, Ng & Lee 2011); the logarithm of what varies from neighbour to
                        neighbour, which sees the faintest grain; the power spectrum

each block standardised to one size, and takes the leading principal components, whitened, so that
a faint direction counts as much as a strong one. Sequences of tokens are described by how familiar
they are as well (`_familiar`), with components of their own: among hashed runs, most of which vary
by topic, what is wrong with a text is lost. All random numbers have fixed seeds: the same data
gives the same judge on every machine, but for rounding.

Legend: N items, D components, E values described, C channels, F filters.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from morphogen.core.encoded import Encoded, joined, num_items, rows
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.data.dataset import Data
from morphogen.evaluation._familiar import LENGTHS, Familiar, is_sequence
from morphogen.evaluation.features import parts
from morphogen.evaluation.vectors import Vectors

FITTED = 2000  # training items that it is fitted to
COMPONENTS = 64
FEWEST_PER_COMPONENT = 25  # training items: fewer leave a direction to luck
UNUSUAL = 5.0  # deviations: farther out is not told apart
FAINTEST = 1e-3  # of the strongest component's variance: fainter ones are not blown up further
VALUES = 256  # of an item's vector
PROJECTIONS = 128  # random ones of the vector, of either kind
FILTERS, PATCH, PATCHES = 48, 5, 20_000
CACHED = 1 << 22  # responses to filters at once
REGULAR = 0.01  # of the mean variance of a patch, added before it is whitened

Describe = Callable[[Encoded], Tensor]  # (N, *) -> (N, E)


@dataclass(frozen=True)
class WholeItem:
    """The judge, fitted to the training items of one set of data."""

    blocks: tuple[Describe, ...]
    means: tuple[Tensor, ...]
    scales: tuple[Tensor, ...]
    centre: Tensor
    axes: Tensor  # (E, D), whitened
    weights_hash: str
    bank: Tensor  # training items that sequences are compared with: no yardstick of what is new
    familiar: Familiar | None = None
    ease: tuple[Tensor, Tensor] | None = None  # centre and axes of familiarity, whitened

    name = "whole item, whitened"

    @classmethod
    def of(cls, data: Data, seed: int = 0) -> WholeItem:
        """Fitted to some of the training items."""
        some = torch.randperm(len(data.train), generator=generator(seed))[:FITTED]
        x = joined([data.train.batch(some[i]).x for i in parts(len(some))])
        blocks = _blocks(x, data.spec, seed)
        means, scales, found = [], [], []
        for block in blocks:
            raw = _chunked(block, x)
            mean, scale = raw.mean(0), raw.std(0, correction=0)
            scale = scale.clamp(min=max(1e-3 * float(scale.max()), 1e-9))
            means.append(mean)
            scales.append(scale)
            found.append(_standard(raw, mean, scale))
        whole = torch.cat(found, 1)
        centre = whole.mean(0)
        few = min(len(some), len(data.test)) if is_sequence(data.spec) else len(some)
        axes = _whitened(whole - centre, max(2, min(COMPONENTS, few // FEWEST_PER_COMPONENT)))
        about = [data.digest, COMPONENTS, PROJECTIONS, FILTERS, PATCH, LENGTHS, seed, cls.name]
        key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        fitted = cls(blocks, tuple(means), tuple(scales), centre, axes, key, some[:0])
        return _with_bank(fitted, data, some) if is_sequence(data.spec) else fitted

    def features(self, x: Encoded) -> Tensor:
        """Encoded items -> (N, D)."""
        found = []
        for part in parts(num_items(x)):
            some = rows(x, part)
            described = [
                _standard(block(some).double(), mean, scale)
                for block, mean, scale in zip(self.blocks, self.means, self.scales, strict=True)
            ]
            whitened = (torch.cat(described, 1) - self.centre) @ self.axes
            if self.familiar is not None and self.ease is not None:
                centre, axes = self.ease
                whitened = torch.cat([whitened, (self.familiar(some) - centre) @ axes], 1)
            found.append(whitened)
        return torch.cat(found).float()

    def facts(self) -> dict[str, Any]:
        """What a protocol says of it."""
        return {
            "judge": f"{self.name}: {self.axes.shape[1]} components of {self.axes.shape[0]} values",
            **({"compared_with": len(self.bank)} if len(self.bank) else {}),
            "sha256": self.weights_hash,
        }


def _with_bank(judge: WholeItem, data: Data, some: Tensor) -> WholeItem:
    """With half of the items `some` as the bank, and the other half to learn from what is usual."""
    bank, others = some[: len(some) // 2], some[len(some) // 2 :]
    familiar = Familiar.of(data.train.batch(bank).x, data.spec)
    shares = torch.cat([familiar(data.train.batch(others[i]).x) for i in parts(len(others))])
    centre = shares.mean(0)
    ease = centre, _whitened(shares - centre, shares.shape[1])
    return replace(judge, bank=bank, familiar=familiar, ease=ease)


def _whitened(centred: Tensor, most: int) -> Tensor:
    """The leading axes of values (N, E), each of variance 1 along it: (E, D)."""
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    values, vectors = values[-most:], vectors[:, -most:]
    return vectors / values.clamp(min=max(FAINTEST * float(values.max()), 1e-12)).sqrt()


def _standard(values: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Values (N, E) of one block in deviations: all blocks have one size, and what is rare among
    the items that the judge was fitted to is no more than unusual elsewhere."""
    return ((values - mean) / scale).clamp(-UNUSUAL, UNUSUAL) / math.sqrt(values.shape[1])


def _chunked(block: Describe, x: Encoded) -> Tensor:
    return torch.cat([block(rows(x, part)).double() for part in parts(num_items(x))])


def _blocks(x: Encoded, spec: Spec, seed: int) -> tuple[Describe, ...]:
    vectors = Vectors.of(x, spec, VALUES)
    draw = generator(seed + 1)
    first, second, third = (
        randn((vectors.dim, PROJECTIONS), draw) / math.sqrt(vectors.dim) for _ in range(3)
    )

    def interactions(x: Encoded) -> Tensor:
        z = vectors(x)
        return torch.cat([(z @ first).relu(), (z @ second) * (z @ third)], 1)

    found: tuple[Describe, ...] = (vectors, interactions)
    if isinstance(spec, ProductSpec) or isinstance(x, dict) or spec.kind == "token":
        return found
    if spec.layout != "vector" and 1 <= len(spec.space) <= 2:
        found += (_patches(x, spec, draw), _grain(spec), _spectrum(spec))
    return found


def _as_pictures(x: Encoded, spec: TensorSpec) -> Tensor:
    """Sequences are pictures of one row."""
    if isinstance(x, dict):
        raise TypeError("a grid has no parts")
    return x if len(spec.space) == 2 else x.unsqueeze(2)


def _patches(x: Tensor, spec: TensorSpec, draw: torch.Generator) -> Describe:
    pictures = _as_pictures(x, spec)
    height, width = pictures.shape[2:]
    size = (min(PATCH, height), min(PATCH, width))
    patches = functional.unfold(pictures[:500], size)  # (N, C * size, L)
    flat = patches.transpose(1, 2).flatten(0, 1)
    flat = flat[randint(len(flat), (PATCHES,), draw)].double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    ridge = REGULAR * float(values.mean()) + 1e-12
    whiten = (vectors / (values + ridge).sqrt()) @ vectors.T
    white = (flat - mean) @ whiten
    strong = white[white.norm(dim=1).argsort(descending=True)[: len(white) // 2]]
    filters = strong[randint(len(strong), (FILTERS,), draw)]
    filters = functional.normalize(filters, dim=1) @ whiten  # (F, C * size)
    bias = -(filters @ mean)
    kernel = filters.view(FILTERS, pictures.shape[1], *size).float()
    pooled = (min(2, height), min(2, width))

    def pooled_responses(pictures: Tensor) -> Tensor:
        found = functional.conv2d(pictures, kernel, bias.float())
        both = torch.cat([(found - 0.5).relu(), (-found - 0.5).relu()], 1)
        return functional.adaptive_avg_pool2d(both, pooled).flatten(1)

    def describe(x: Encoded) -> Tensor:
        # So few at once that the responses stay in the processor's cache: four times as fast.
        pictures = _as_pictures(x, spec).float()
        size = max(1, CACHED // (2 * FILTERS * height * width))
        return torch.cat([pooled_responses(some) for some in torch.split(pictures, size)])

    return describe


def _grain(spec: TensorSpec) -> Describe:
    """log of the squared differences between neighbours: means over corners, and deviations."""
    faintest = (0.5 * spec.level_width or 1e-3) ** 2

    def describe(x: Encoded) -> Tensor:
        pictures = _as_pictures(x, spec)
        found = []
        for axis in (2, 3):
            if pictures.shape[axis] > 1:
                energy = (pictures.diff(dim=axis).square() + faintest).log()
                corners = (min(2, energy.shape[2]), min(2, energy.shape[3]))
                found.append(functional.adaptive_avg_pool2d(energy, corners).flatten(1))
                found.append(energy.flatten(2).std(2, correction=0))
        return torch.cat(found, 1) if found else pictures.flatten(1)[:, :1]

    return describe


def _spectrum(spec: TensorSpec) -> Describe:
    """log of the power by the distance of a frequency from 0, relative to the whole."""
    axes = tuple(range(2, 2 + len(spec.space)))
    grids = torch.meshgrid(*(torch.fft.fftfreq(n) * n for n in spec.space), indexing="ij")
    radius = torch.stack(grids).square().sum(0).sqrt().round().long().flatten()
    radius = radius.clamp(max=min(24, int(radius.max())))

    def describe(x: Encoded) -> Tensor:
        if isinstance(x, dict):
            raise TypeError("a grid has no parts")
        power = torch.fft.fftn(x.float(), dim=axes).abs().square().mean(1).flatten(1)
        sums = power.new_zeros(len(power), int(radius.max()) + 1).index_add_(1, radius, power)
        return (sums + 1e-6 * power.shape[1]).log()

    return describe

r"""Items of any spec as vectors of a bounded size: what clusters, classifiers of rows and judges of
whole items are made from.

    numbers     standardised by the training items; grids are averaged over blocks where they have
                more values than `MOST`, other vectors are projected at random
    tokens      frequencies of runs of one, two and three tokens wherever they stand, hashed; a
                column (a token of its own position) is a code of column and value
    parts       each part so, side by side; what is no data (padding) counts as 0

One-hot vectors of long sequences would need their length times their vocabulary; these need `MOST`
values an item whatever the spec. Hashing keeps inner products on the average (Weinberger et al.
2009), random projections keep distances (Johnson & Lindenstrauss 1984).

Legend: N items, D values, L positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from morphogen.core.encoded import Encoded
from morphogen.core.random import generator, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

MOST = 1024  # values of a vector
RUNS = 3  # tokens in the longest run
LEAST_DEVIATION = 1e-6


def described(x: Encoded, spec: Spec, most: int = MOST) -> Tensor:
    """Items as vectors (N, D), before they are standardised; D depends on the spec alone."""
    if isinstance(spec, ProductSpec):
        if not isinstance(x, dict):
            raise TypeError(f"these items have no parts: {spec}")
        masks, share = spec.mask(x), max(16, most // max(1, len(spec.parts)))
        return torch.cat([_tensor(x[name], part, masks[name], share) for name, part in spec], dim=1)
    if isinstance(x, dict):
        raise TypeError(f"these items have parts: {', '.join(x)}")
    return _tensor(x, spec, spec.mask(x), most)


@dataclass(frozen=True)
class Vectors:
    """Items as standardised vectors (N, D): `mean` and `scale` are the training items'."""

    spec: Spec
    mean: Tensor
    scale: Tensor
    most: int = MOST

    @classmethod
    def of(cls, x: Encoded, spec: Spec, most: int = MOST) -> Vectors:
        """Fitted to training items. A value that hardly varies among them is not blown up."""
        found = described(x, spec, most).double()
        deviation = found.std(0) if len(found) > 1 else torch.ones_like(found[0])
        least = max(0.01 * float(deviation.max()), LEAST_DEVIATION)
        return cls(spec, found.mean(0), deviation.clamp(min=least), most)

    @property
    def dim(self) -> int:
        """D."""
        return len(self.mean)

    def __call__(self, x: Encoded) -> Tensor:
        """(N, D), as float32."""
        return ((described(x, self.spec, self.most).double() - self.mean) / self.scale).float()


def _tensor(x: Tensor, spec: TensorSpec, mask: Tensor | None, most: int) -> Tensor:
    if spec.kind == "token":
        return _tokens(x, spec, mask, most)
    if mask is not None:
        x = x * mask
    values = shrunk(x, spec, most).flatten(1)
    if values.shape[1] <= most:
        return values
    return values @ (randn((values.shape[1], most), generator(0)) / math.sqrt(most)).to(values)


def _tokens(x: Tensor, spec: TensorSpec, mask: Tensor | None, most: int) -> Tensor:
    if spec.sizes is not None or not spec.shape:  # columns
        sizes = torch.tensor(spec.sizes or (spec.vocab_size or 1,))
        start = sizes.cumsum(0) - sizes
        codes = start + x.reshape(len(x), -1)
        return counted(codes, int(sizes.sum()), most)
    flat = x.reshape(len(x), -1)
    real = (
        torch.ones_like(flat, dtype=torch.bool)
        if mask is None
        else mask.expand_as(x).reshape(len(x), -1)
    )
    length = real.sum(1, keepdim=True).float()
    found = [length / flat.shape[1]]
    for run in range(1, min(RUNS, flat.shape[1]) + 1):
        codes, whole = runs(flat, real, run)
        num = (spec.vocab_size or 1) ** run if run == 1 else 2**31
        counts = counted(codes, num, most // RUNS, whole)
        found.append((counts / length.clamp(min=1)).abs().sqrt() * counts.sign())
    return torch.cat(found, 1)


def runs(x: Tensor, real: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Codes (N, L - size + 1) of all runs of so many tokens, and which are real to their end."""
    windows = x.unfold(1, size, 1)
    code = torch.zeros_like(windows[..., 0])
    if size == 1:
        return windows[..., 0], real
    for place in range(size):
        code = (code * 1_000_003 + windows[..., place] + 1) % (2**31 - 1)
    return code, real.unfold(1, size, 1).all(-1)


def counted(codes: Tensor, num_codes: int, most: int, real: Tensor | None = None) -> Tensor:
    """Codes (N, M) -> counts (N, D): one column each while they are few, else a count sketch
    (Charikar et al. 2002), which keeps distances to within a few per cent and equality exactly."""
    weight = torch.ones(codes.shape, device=codes.device)
    if real is not None:
        weight = weight * real
    out = torch.zeros(len(codes), min(num_codes, most), device=codes.device)
    if num_codes <= most:
        return out.scatter_add_(1, codes, weight)
    bucket, sign = hashed(codes, most)
    return out.scatter_add_(1, bucket, sign * weight)


def hashed(codes: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """A bucket and a sign for every code (multiply, add and shift, modulo a prime)."""
    mixed = (codes % (2**31 - 1)) * 1_103_515_245 + 12_345
    mixed = (mixed % (2**31 - 1)) * 48_271 % (2**31 - 1)
    bucket = (mixed // 2) % most
    return bucket, 1.0 - 2.0 * (mixed // (2 * most) % 2).float()


def shrunk(x: Tensor, spec: TensorSpec, most: int = MOST) -> Tensor:
    """Grids and sequences averaged over blocks of 2 until few values are left; vectors as is."""
    if spec.layout == "vector" or not spec.space:
        return x
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
    rank = len(spec.space)
    while rank <= 3 and x[0].numel() > most and max(x.shape[2:]) > 1:
        size = [min(2, extent) for extent in x.shape[2:]]
        x = pool[rank - 1](x, size if rank > 1 else size[0])
    return x

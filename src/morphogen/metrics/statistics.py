r"""Plain statistics of the items: what anyone would look at first, and a judge may not see.

    histogram_distance  total variation between the histograms of all real values, 1/2 sum |p - q|:
                        of the levels (in 64 bins at most), or of 64 quantiles of the reference
    exact_share_gap     |p - q| of the share of values that are exactly the reference's commonest
    spectrum_gap        mean |log p - log q| of the power of grids and of sequences of real values,
                        by frequency
    length_distance     Kolmogorov's distance of the lengths, sup |F - G|
    unigram_distance    total variation between the frequencies of tokens
    bigram_distance     the same of pairs of neighbours, dealt into 1,024 cells
    column_distance     the worst of all columns: total variation of a category, Kolmogorov's
                        distance of a number
    relation_distance   the same of pairs of columns: total variation of their joint cells, numbers
                        cut at the quartiles of the reference

Which of them apply is a matter of the spec: grids have no lengths, and sequences no columns. None
needs a judge, so none can be fooled by what a judge does not look at; each looks at one thing, so
none says that items are good.

Legend: N items, V tokens, L positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from morphogen.core.encoded import Encoded, num_items
from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Items, scores
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

BINS = 64
CELLS = 1024  # of pairs of neighbouring tokens
MOST_PAIRS = 66  # of columns
MOST_COLUMNS = 64  # of a vector, that are looked at one by one
Scores = dict[str, float]


@scores(
    ratios=False,
    histogram_distance=False,
    exact_share_gap=False,
    spectrum_gap=False,
    length_distance=False,
    unigram_distance=False,
    bigram_distance=False,
    column_distance=False,
    relation_distance=False,
)
def statistics(items: Items, *, generator: torch.Generator | None = None) -> Mapping[str, float]:
    """How far plain statistics of generated items are from those of real ones; 0 is best."""
    spec = items.spec
    if min(num_items(items.generated), num_items(items.reference)) < 2:
        raise MeasurementError("too few items for statistics", found="one", expected=">= 2")
    _check_finite(items.generated, items.reference)
    columns = list(_columns(spec, items.generated, items.reference))
    found: Scores = {}
    if columns:
        found["column_distance"] = max(_marginal(y, x, part) for y, x, part in columns)
        if relations := _relations(columns):
            found["relation_distance"] = max(relations)
    if isinstance(spec, ProductSpec):
        return found | _lengths_of_parts(items, spec)
    y, x = cast(Tensor, items.generated), cast(Tensor, items.reference)
    if spec.kind == "token":
        return found if spec.sizes or not spec.shape else _of_tokens(y, x, spec)
    found |= _values(y, x, spec)
    return found | (_spectrum(y, x, spec) if spec.space and spec.layout != "vector" else {})


def _check_finite(*sets: Encoded) -> None:
    for x in sets:
        for part in x.values() if isinstance(x, dict) else [x]:
            if part.is_floating_point() and not bool(torch.isfinite(part).all()):
                raise MeasurementError(
                    "the items are not finite", hint="the model may have diverged"
                )


# -- real values ---------------------------------------------------------------------------------


def _values(y: Tensor, x: Tensor, spec: TensorSpec) -> Scores:
    """Histogram of all values, and the share of those that are exactly the commonest one."""
    if spec.levels:
        q, p = (torch.bincount(_levels(each, spec), minlength=spec.levels) for each in (y, x))
        q, p = q / q.sum(), p / p.sum()
        width = -(-spec.levels // BINS)
        commonest = int(p.argmax())
        gap = float((q[commonest] - p[commonest]).abs())
        return {"histogram_distance": _variation(_binned(q, width), _binned(p, width)),
                "exact_share_gap": gap}  # fmt: skip
    values, counts = torch.unique(x, return_counts=True)
    edges = torch.quantile(_some(x), torch.linspace(0, 1, BINS + 1)[1:-1])
    q, p = (torch.bincount(torch.bucketize(each.flatten(), edges), minlength=BINS).double()
            for each in (y, x))  # fmt: skip
    found = {"histogram_distance": _variation(q / q.sum(), p / p.sum())}
    if int(counts.max()) > 1:  # else no value is common
        value = values[counts.argmax()]
        shares = [float((each == value).double().mean()) for each in (y, x)]
        found["exact_share_gap"] = abs(shares[0] - shares[1])
    return found


def _levels(x: Tensor, spec: TensorSpec) -> Tensor:
    return spec.quantise(x).flatten()


def _some(x: Tensor) -> Tensor:
    """As many values as `torch.quantile` takes, evenly spaced."""
    values = x.flatten().float().sort().values
    return values[:: max(1, len(values) // 1_000_000)]


def _binned(p: Tensor, width: int) -> Tensor:
    padded = torch.nn.functional.pad(p, (0, -len(p) % width))
    return padded.view(-1, width).sum(1)


def _variation(p: Tensor, q: Tensor) -> float:
    return 0.5 * float((p.double() - q.double()).abs().sum())


def _spectrum(y: Tensor, x: Tensor, spec: TensorSpec) -> Scores:
    """Mean gap of the logarithms of the power, by the distance of a frequency from 0."""
    axes = tuple(range(2, 2 + len(spec.space)))
    grids = torch.meshgrid(*(torch.fft.fftfreq(n) * n / 2 for n in spec.space), indexing="ij")
    radius = torch.stack(grids).square().sum(0).sqrt().round().long().flatten()

    def power(z: Tensor) -> Tensor:
        total = torch.zeros(radius.shape[0], dtype=torch.float64)
        for part in torch.split(z, 500):
            whole = torch.fft.fftn(part.double(), dim=axes).abs().square()
            total += whole.sum((0, 1)).flatten()
        sums = torch.zeros(int(radius.max()) + 1, dtype=torch.float64).index_add_(0, radius, total)
        return sums / torch.bincount(radius).clamp(min=1) / len(z)

    q, p = power(y), power(x)
    least = 1e-9 * p.sum()  # what is nothing in both differs by nothing
    return {"spectrum_gap": float(((q + least).log() - (p + least).log()).abs().mean())}


# -- tokens --------------------------------------------------------------------------------------


def _of_tokens(y: Tensor, x: Tensor, spec: TensorSpec) -> Scores:
    """Frequencies of tokens and of neighbours, and lengths, of what is real."""
    vocabulary = spec.vocab_size or 1
    masks = [_real(each, spec) for each in (y, x)]
    counts = [
        torch.bincount(each[mask], minlength=vocabulary).double()
        for each, mask in zip((y, x), masks, strict=True)
    ]
    found = {"unigram_distance": _variation(*(each / each.sum() for each in counts))}
    if spec.shape[0] > 1:
        pairs = [_pairs(each, mask, vocabulary) for each, mask in zip((y, x), masks, strict=True)]
        found["bigram_distance"] = _variation(*pairs)
    if spec.is_ragged:
        found["length_distance"] = _kolmogorov(*(mask.sum(1).double() for mask in masks))
    return found


def _real(x: Tensor, spec: TensorSpec) -> Tensor:
    mask = spec.mask(x)
    return torch.ones_like(x, dtype=torch.bool) if mask is None else mask


def _pairs(x: Tensor, mask: Tensor, vocabulary: int) -> Tensor:
    """Shares (CELLS,) of pairs of neighbouring tokens, rare ones together in one cell."""
    code = x[:, :-1] * vocabulary + x[:, 1:]
    if vocabulary**2 > CELLS:
        code = (code * 1_103_515_245 + 12_345) % (2**31 - 1) % CELLS
    counts = torch.bincount(code[mask[:, 1:]], minlength=CELLS).double()
    return counts / counts.sum().clamp(min=1)


# -- columns -------------------------------------------------------------------------------------

Column = tuple[Tensor, Tensor, int]  # generated and real values (N,), and how many there are or 0


def _columns(spec: Spec, y: Encoded, x: Encoded) -> Iterator[Column]:
    """Every column of a row: one token or one number; its number of values, 0 for numbers."""
    if isinstance(spec, ProductSpec) and isinstance(y, dict) and isinstance(x, dict):
        for name, part in spec:
            if name not in spec.lengths:
                yield from _columns(part, y[name], x[name])
    elif isinstance(spec, TensorSpec) and isinstance(y, Tensor) and isinstance(x, Tensor):
        if spec.kind == "token" and (spec.sizes or not spec.shape):
            sizes = spec.sizes or (spec.vocab_size or 1,)
            flat = (y.reshape(len(y), -1), x.reshape(len(x), -1))
            yield from ((flat[0][:, i], flat[1][:, i], size) for i, size in enumerate(sizes))
        elif spec.kind == "real" and spec.layout == "vector":
            flat = (y.reshape(len(y), -1), x.reshape(len(x), -1))
            for i in range(min(MOST_COLUMNS, flat[0].shape[1])):
                yield flat[0][:, i], flat[1][:, i], 0


def _marginal(y: Tensor, x: Tensor, size: int) -> float:
    if not size:
        return _kolmogorov(y.double(), x.double())
    counts = [torch.bincount(each, minlength=size).double() for each in (y, x)]
    return _variation(*(each / each.sum() for each in counts))


def _relations(columns: list[Column]) -> list[float]:
    """Total variation of the joint cells of pairs of columns, of the first few pairs."""
    cells = [_celled(column) for column in columns]
    found = []
    for (a, b, n), (c, d, m) in itertools.islice(itertools.combinations(cells, 2), MOST_PAIRS):
        counts = [torch.bincount(i * m + j, minlength=n * m).double() for i, j in ((a, c), (b, d))]
        found.append(_variation(*(each / each.sum() for each in counts)))
    return found


def _celled(column: Column) -> Column:
    """Numbers by the quartiles of the reference; many categories by the commonest, 8 cells."""
    y, x, size = column
    if not size:
        edges = torch.quantile(x.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
        return torch.bucketize(y.double(), edges), torch.bucketize(x.double(), edges), 4
    if size <= 8:
        return y, x, size
    order = torch.bincount(x, minlength=size).argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(size).clamp(max=7)
    return place[y], place[x], 8


def _lengths_of_parts(items: Items, spec: ProductSpec) -> Scores:
    y, x = items.generated, items.reference
    if not spec.lengths or not isinstance(y, dict) or not isinstance(x, dict):
        return {}
    worst = max(_kolmogorov(y[n].double(), x[n].double()) for n in spec.lengths.values())
    return {"length_distance": worst}


def _kolmogorov(y: Tensor, x: Tensor) -> float:
    """sup |F - G| of two samples of numbers."""
    points = torch.unique(torch.cat([y, x]))
    below = [torch.searchsorted(each.sort().values, points, right=True) for each in (y, x)]
    return float((below[0] / len(y) - below[1] / len(x)).abs().max())

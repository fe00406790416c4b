r"""Small damage that real items can take, by what their spec is: what judges are tested with.

    grids, sequences     blur, noise, an unquiet background (the commonest value made up to a few
    of real values       levels more), a shift
    tokens               neighbours swapped, tokens replaced by those of other items
    columns, parts,      columns dealt anew among the items, numbers moved
    vectors

A codec adds what belongs to its field (`core.codec.CanDamage`): JPEG, two words swapped.

Legend: N items, C channels, L positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from morphogen.core.codec import CanDamage, Codec, Item
from morphogen.core.encoded import Encoded
from morphogen.core.random import rand, randint, randn
from morphogen.core.spec import ProductSpec, Spec, TensorSpec

COMMON = 0.05  # share of the commonest value, for it to be a background

Change = Callable[[Encoded, float, torch.Generator], Encoded]


@dataclass(frozen=True)
class Damage:
    """What is done, worded to follow "real items", with its strengths, the weakest first."""

    words: str  # "blurred by {:.2g} pixels"
    strengths: tuple[float, ...]
    change: Change
    clean: float = 0.0  # the strength that does nothing

    def worded(self, strength: float) -> str:
        """What real items are like after it."""
        return self.words.format(strength)


def damages(spec: Spec, codec: Codec | None = None, x: Encoded | None = None) -> list[Damage]:
    """All that fit items of a spec, such as `x`, and those of their codec."""
    found = list(_of_parts(spec) if isinstance(spec, ProductSpec) else _of_tensor(spec, x))
    if isinstance(codec, CanDamage):
        for words, (clean, *strengths) in codec.damages().items():
            change = partial(_by_codec, codec, words)
            found.append(Damage(words, tuple(strengths), change, clean))
    return found


def _by_codec(
    codec: CanDamage, words: str, x: Encoded, strength: float, draw: torch.Generator
) -> Encoded:
    both = cast(Codec, codec)
    values = [codec.damage(value, words, strength, draw) for value in both.decode_many(x)]
    encoded: Encoded = both.encode_many([Item(value) for value in values])
    return encoded


def _of_tensor(spec: TensorSpec, x: Encoded | None) -> Iterator[Damage]:
    if spec.kind == "token":
        yield from _of_columns(spec) if spec.sizes or not spec.shape else _of_tokens(spec)
    elif spec.layout == "vector" or not spec.space:
        yield from _of_columns(spec)
        yield Damage("with numbers moved by {:.2g} deviations", (0.1, 0.3, 1.0), _moved)
    else:
        yield from _of_grid(spec, x)


# -- real grids and sequences --------------------------------------------------------------------


def _of_grid(spec: TensorSpec, x: Encoded | None) -> Iterator[Damage]:
    place = "pixels" if len(spec.space) == 2 else "positions"

    def on(change: Callable[[Tensor, float, torch.Generator], Tensor]) -> Change:
        def changed(x: Encoded, strength: float, draw: torch.Generator) -> Encoded:
            return _rounded(change(cast(Tensor, x), strength, draw), spec)

        return changed

    if len(spec.space) <= 2 and max(spec.space) >= 4:
        yield Damage(f"blurred by {{:.2g}} {place}", (0.3, 0.5, 1.0), on(_blurred))
    if spec.levels and spec.levels > 16:
        step = spec.levels / 256
        steps = tuple(max(1.0, round(each * step)) for each in (2, 8, 32))
        noise = partial(_noisy, unit=spec.level_width)
        yield Damage("with noise of {:.2g} levels", steps, on(noise))
        steps = tuple(max(1.0, round(each * step)) for each in (2, 5, 15))
        background = partial(_unquiet, spec=spec)
        if not isinstance(x, Tensor) or _commonest(x, spec)[1] >= COMMON:
            yield Damage("whose commonest value is up to {:.2g} levels off", steps, on(background))
    else:
        noise = partial(_noisy, unit=2.0)
        yield Damage("with noise of {:.2g} of the range", (0.01, 0.03, 0.1), on(noise))
    if min(spec.space[-2:]) >= 4:
        yield Damage(f"shifted by {{:.2g}} {place}", (1.0, 2.0), on(_shifted))


def _rounded(x: Tensor, spec: TensorSpec) -> Tensor:
    return spec.dequantise(spec.quantise(x)).to(x) if spec.levels else x


def _noisy(x: Tensor, strength: float, draw: torch.Generator, unit: float) -> Tensor:
    return (x + strength * unit * randn(x.shape, draw).to(x)).clamp(-1, 1)


def _unquiet(x: Tensor, strength: float, draw: torch.Generator, spec: TensorSpec) -> Tensor:
    """Every value at the commonest level is 0 to `strength` levels off, towards the middle."""
    level = spec.quantise(x)
    commonest, _ = _commonest(x, spec)
    way = 1 if 2 * commonest < (spec.levels or 1) else -1
    off = (rand(x.shape, draw) * (int(strength) + 1)).long().clamp(max=int(strength))
    return spec.dequantise(torch.where(level == commonest, level + way * off, level)).to(x)


def _commonest(x: Tensor, spec: TensorSpec) -> tuple[int, float]:
    """The commonest level, and its share of all values."""
    counts = torch.bincount(spec.quantise(x).flatten())
    return int(counts.argmax()), float(counts.max() / counts.sum())


def _shifted(x: Tensor, strength: float, draw: torch.Generator) -> Tensor:
    """Along the last axis, by whole positions; what the edge shows goes on."""
    by = int(strength)
    edge = x[..., :1].expand(*x.shape[:-1], by)
    return torch.cat([edge, x[..., :-by]], -1)


def _blurred(x: Tensor, strength: float, draw: torch.Generator) -> Tensor:
    """Convolved with a Gaussian of so many positions along every axis of space."""
    reach = max(1, math.ceil(3 * strength))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / strength).square()).to(x)
    kernel = kernel / kernel.sum()
    flat, space = x.flatten(0, 1), x.shape[2:]
    for axis in range(1, flat.dim()):
        rows = flat.movedim(axis, -1)
        lines = functional.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), "replicate")
        blurred = functional.conv1d(lines, kernel.view(1, 1, -1)).view(rows.shape)
        flat = blurred.movedim(-1, axis)
    return flat.reshape(*x.shape[:2], *space)


# -- tokens --------------------------------------------------------------------------------------


def _of_tokens(spec: TensorSpec) -> Iterator[Damage]:
    most = spec.shape[0]
    counts = tuple(float(n) for n in sorted({1, max(1, most // 32), max(1, most // 8)}))
    yield Damage("with {:.2g} pairs of neighbours swapped", counts, partial(_swapped, spec=spec))
    yield Damage("with {:.2g} tokens replaced", counts, partial(_replaced, spec=spec))


def _lengths(x: Tensor, spec: TensorSpec) -> Tensor:
    """How many tokens of each item (N,) may be touched: the end stays where it is."""
    mask = spec.mask(x)
    if mask is None:
        return torch.full((len(x),), x.shape[1])
    return torch.where(mask.all(1) & (x[:, -1] != spec.end), x.shape[1], mask.sum(1) - 1)


def _swapped(x: Encoded, strength: float, draw: torch.Generator, spec: TensorSpec) -> Encoded:
    found, item = cast(Tensor, x).clone(), torch.arange(len(cast(Tensor, x)))
    room = (_lengths(found, spec) - 1).clamp(min=0)
    for _ in range(int(strength)):
        place = (rand((len(found),), draw) * room).long()
        second = (place + 1).clamp(max=found.shape[1] - 1)
        second = torch.where(room > 0, second, place)
        found[item, place], found[item, second] = found[item, second], found[item, place]
    return found


def _replaced(x: Encoded, strength: float, draw: torch.Generator, spec: TensorSpec) -> Encoded:
    found, item = cast(Tensor, x).clone(), torch.arange(len(cast(Tensor, x)))
    room = _lengths(found, spec)
    inside = torch.arange(found.shape[1]) < room[:, None]
    tokens = found[inside]
    if not len(tokens):
        return found
    for _ in range(int(strength)):
        place = (rand((len(found),), draw) * room).long()
        new = tokens[randint(len(tokens), (len(found),), draw)]
        found[item, place] = torch.where(room > 0, new, found[item, place])
    return found


# -- columns -------------------------------------------------------------------------------------


def _of_columns(spec: TensorSpec) -> Iterator[Damage]:
    if spec.num_values > 1:

        def change(x: Encoded, strength: float, draw: torch.Generator) -> Encoded:
            flat = cast(Tensor, x).flatten(1).clone()
            chosen = randint(2**31, (flat.shape[1],), draw).argsort()[: int(strength)]
            for column in chosen.tolist():
                flat[:, column] = flat[_order(len(flat), draw), column]
            return flat.view(cast(Tensor, x).shape)

        yield Damage("with {:.2g} columns shuffled among them", _several(spec.num_values), change)


def _of_parts(spec: ProductSpec) -> Iterator[Damage]:
    lengths = {*spec.lengths, *spec.lengths.values()}
    columns = [(n, i) for n, p in spec if n not in lengths for i in range(p.num_values)]

    def change(x: Encoded, strength: float, draw: torch.Generator) -> Encoded:
        found = {name: part.clone() for name, part in cast(dict[str, Tensor], x).items()}
        chosen = randint(2**31, (len(columns),), draw).argsort()[: int(strength)]
        for name, column in (columns[i] for i in chosen.tolist()):
            flat = found[name].view(len(found[name]), -1)
            flat[:, column] = flat[_order(len(flat), draw), column].clone()
        return found

    def moved(x: Encoded, strength: float, draw: torch.Generator) -> Encoded:
        return {
            name: cast(Tensor, _moved(part, strength, draw)) if part.is_floating_point() else part
            for name, part in cast(dict[str, Tensor], x).items()
        }

    if len(columns) > 1:
        yield Damage("with {:.2g} columns shuffled among them", _several(len(columns)), change)
    if any(part.kind == "real" for _, part in spec):
        yield Damage("with numbers moved by {:.2g} deviations", (0.1, 0.3, 1.0), moved)


def _several(num: int) -> tuple[float, ...]:
    return tuple(float(n) for n in sorted({1, max(1, num // 3), num}))


def _order(num: int, draw: torch.Generator) -> Tensor:
    return rand((num,), draw).argsort()


def _moved(x: Encoded, strength: float, draw: torch.Generator) -> Encoded:
    values = cast(Tensor, x)
    deviation = values.std(0, keepdim=True) if len(values) > 1 else torch.ones_like(values)
    return values + strength * deviation * randn(values.shape, draw).to(values)

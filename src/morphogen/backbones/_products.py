"""Products of weights with a few rows of numbers, compiled: what a step of `_compiled` waits for.

Weights are read as they lie in memory, four rows at a time, by as many threads as there are; for
several positions, four rows of weights are held against two or three of them. Each sum is added up
in the order of `dot`, whatever is beside it. Weights that are whole numbers of eight bits become
float32 as they are read, which costs less than reading four times as much.

Legend: R rows, I inputs, O outputs, L layers.
"""

# Numba finds the types, and keeps what it has compiled beside this file until the file changes:
# what is called in `_lanes` does not count.

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from morphogen.backbones._lanes import (
    LANES,
    add,
    add_totals,
    divide,
    exp,
    fma,
    load,
    multiply,
    spread,
    store,
    total,
    zeros,
)

BLOCK = 16  # rows of weights that a thread takes at a time
SMALL = 1 << 16  # products of two numbers that are over before other threads have begun
# What becomes of a product. For numbers of Python, numba compiles a function for each of them.
SET, ADD, GATE, GELU = map(np.int64, range(4))
Array = np.ndarray[Any, Any]

compiled = njit(cache=True, nogil=True, error_model="numpy")
shared_out = njit(cache=True, nogil=True, error_model="numpy", parallel=True)


class Matrix(NamedTuple):
    """Weights of all layers: numbers, or whole numbers times one for each output. Of what a network
    does not have there are no layers.

    Rows lie in fours: eight numbers of the first, of the second .. the fourth, the next eight of
    the first .. so that four sums are read as one piece of memory.
    """

    exact: Array  # (L or 0, O / 4, 4 I)
    whole: Array  # (L or 0, O / 4, 4 I), int8
    scale: Array  # (L, O): 1 for numbers

    @property
    def shape(self) -> tuple[int, int, int]:
        """(L, O, I)."""
        held = self.whole if len(self.whole) else self.exact
        return len(held), 4 * held.shape[1], held.shape[2] // 4


class Fours(NamedTuple):
    """Those of one layer."""

    weight: Array  # (O / 4, 4 I)
    scale: Array  # (O,)


@compiled
def product(matrix, n, x, y, then):
    """W (O, I) of layer n, x (R, I) -> y (R, O): set to x W^T, or added to, or made active."""
    if len(matrix.whole):
        _times(Fours(matrix.whole[n], matrix.scale[n]), x, y, then)
    else:
        _times(Fours(matrix.exact[n], matrix.scale[n]), x, y, then)


@compiled
def _times(fours, x, y, then):
    num = len(fours.scale) // 2 if then == GATE else len(fours.scale)
    blocks = (num + BLOCK - 1) // BLOCK
    if fours.weight.size * len(x) < SMALL:
        for block in range(blocks):
            _part(fours, block, x, y, then)
    else:
        _parts(fours, blocks, x, y, then)


@shared_out
def _parts(fours, blocks, x, y, then):
    for block in prange(blocks):  # of a type of its own
        _part(fours, np.int64(block), x, y, then)


@compiled
def _part(fours, block, x, y, then):
    num = len(fours.scale) // 2 if then == GATE else len(fours.scale)
    first, last = block * BLOCK, min((block + 1) * BLOCK, num)
    for part in range(2 if then == GATE else 1):
        for o in range(part * num + first, part * num + last, 4):
            if then != ADD:
                for r in range(len(x)):
                    for row in range(o, o + 4):
                        y[r, row] = 0
            _add(fours, o, x, y)
    if then >= GATE:
        for r in range(len(x)):
            for o in range(first, last, LANES):
                own = load(y, r, o)
                own = (
                    multiply(_gated(own, own), load(y, r, num + o)) if then == GATE else _gelu(own)
                )
                store(y, r, o, own)


@compiled
def _add(fours, o, x, y):
    """Add the products of four rows of weights with all of x: by three rows of it, which keep the
    units busy that multiply, and the rest by two."""
    num = len(x)
    twos = 0 if num % 3 == 0 else 1 if num % 3 == 2 else 2 if num > 1 else 0
    r = 0
    while r + 3 <= num - 2 * twos:
        _four_by_three(fours, o, x, r, y)
        r += 3
    while r + 2 <= num:
        _four_by_two(fours, o, x, r, y)
        r += 2
    if r < num:
        _four(fours, o, x, r, y)


@compiled
def dot(a, m, b, n):
    """The product of row m of a with row n of b: the order that all sums over lanes are in."""
    sums = zeros()
    for i in range(0, a.shape[1], LANES):
        sums = fma(load(a, m, i), load(b, n, i), sums)
    return total(sums)


@compiled
def _four(fours, o, x, r, y):
    """Sums that need not wait for each other, each in the order of `dot`."""
    weight, scale, m = fours.weight, fours.scale, o // 4
    a, b, c, d = zeros(), zeros(), zeros(), zeros()
    for i in range(0, weight.shape[1] // 4, LANES):
        own, j = load(x, r, i), 4 * i
        a = fma(load(weight, m, j), own, a)
        b = fma(load(weight, m, j + LANES), own, b)
        c = fma(load(weight, m, j + 2 * LANES), own, c)
        d = fma(load(weight, m, j + 3 * LANES), own, d)
    add_totals(y, (r, o), scale, (a, b, c, d))


@compiled
def _four_by_two(fours, o, x, r, y):
    """The same of two rows."""
    weight, scale, m = fours.weight, fours.scale, o // 4
    a0, a1, b0, b1 = zeros(), zeros(), zeros(), zeros()
    c0, c1, d0, d1 = zeros(), zeros(), zeros(), zeros()
    for i in range(0, weight.shape[1] // 4, LANES):
        x0, x1, j = load(x, r, i), load(x, r + 1, i), 4 * i
        own = load(weight, m, j)
        a0, a1 = fma(own, x0, a0), fma(own, x1, a1)
        own = load(weight, m, j + LANES)
        b0, b1 = fma(own, x0, b0), fma(own, x1, b1)
        own = load(weight, m, j + 2 * LANES)
        c0, c1 = fma(own, x0, c0), fma(own, x1, c1)
        own = load(weight, m, j + 3 * LANES)
        d0, d1 = fma(own, x0, d0), fma(own, x1, d1)
    add_totals(y, (r, o), scale, (a0, b0, c0, d0))
    add_totals(y, (r + 1, o), scale, (a1, b1, c1, d1))


@compiled
def _four_by_three(fours, o, x, r, y):
    """The same of three: as many sums as registers hold."""
    weight, scale, m = fours.weight, fours.scale, o // 4
    a0, a1, a2, b0, b1, b2 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
    c0, c1, c2, d0, d1, d2 = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
    for i in range(0, weight.shape[1] // 4, LANES):
        x0, x1, x2, j = load(x, r, i), load(x, r + 1, i), load(x, r + 2, i), 4 * i
        own = load(weight, m, j)
        a0, a1, a2 = fma(own, x0, a0), fma(own, x1, a1), fma(own, x2, a2)
        own = load(weight, m, j + LANES)
        b0, b1, b2 = fma(own, x0, b0), fma(own, x1, b1), fma(own, x2, b2)
        own = load(weight, m, j + 2 * LANES)
        c0, c1, c2 = fma(own, x0, c0), fma(own, x1, c1), fma(own, x2, c2)
        own = load(weight, m, j + 3 * LANES)
        d0, d1, d2 = fma(own, x0, d0), fma(own, x1, d1), fma(own, x2, d2)
    add_totals(y, (r, o), scale, (a0, b0, c0, d0))
    add_totals(y, (r + 1, o), scale, (a1, b1, c1, d1))
    add_totals(y, (r + 2, o), scale, (a2, b2, c2, d2))


@compiled
def _gated(x, u):
    """x / (1 + exp -u): silu of x where u is x."""
    one, minus = spread(np.float32(1)), spread(np.float32(-1))
    return divide(x, add(one, exp(multiply(minus, u))))


@compiled
def _gelu(x):
    """x / 2 (1 + tanh u) = x / (1 + exp -2u), where u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    factor = spread(np.float32(2 * math.sqrt(2 / math.pi)))
    cube = multiply(multiply(x, x), x)
    twice = multiply(factor, fma(spread(np.float32(0.044715)), cube, x))
    return _gated(x, twice)

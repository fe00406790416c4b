r"""One step of a transformer over tokens, compiled: a few positions through all layers in one call.

A step is reading the weights once; all else has to cost nothing. They are read row after row, as
they lie in memory, by as many threads as there are; for several positions, four rows of weights are
held against two of them at a time. A position's numbers are added up in one order (`_lanes`)
whatever stands beside it.

Legend: R positions that go on, D model dimension, H heads, K heads of keys and values, E head
dimension, F width of the feed-forward layer, V vocabulary, L layers, M positions kept. Dimensions
that sums run over are padded with zeros to whole lanes.
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


class Norms(NamedTuple):
    """(x - mean) / sqrt(mean square + eps) * scale + shift, of several layers."""

    scale: Array  # (layers, D)
    shift: Array  # (layers, D)
    centred: bool  # LayerNorm; else RMSNorm, where the mean is taken for 0
    eps: float
    dim: int  # D without what it is padded with


class Weights(NamedTuple):
    """All of a network, layer by layer. Heads are whole lanes."""

    qkv: Array  # (L, (H + 2 K) E, D)
    qkv_bias: Array  # (L or 0, (H + 2 K) E)
    out: Array  # (L, D, H E)
    up: Array  # (L, 2 F or F, D): gates, then what they gate
    down: Array  # (L, D, F)
    norms: Norms  # two in each layer, and the last
    head_norms: Norms  # of queries and keys in each layer, or none
    cos: Array  # (positions or 0, E / 2)
    sin: Array
    head: Array  # (V, D)
    gated: bool
    size: int  # E without what it is padded with


class Seen(NamedTuple):
    """Keys and values of a layer, and which of them each position looks at."""

    keys: Array  # (rows, K, M, E)
    values: Array
    rows: Array  # (R,)
    firsts: Array  # (R,)
    ends: Array  # (R,): the first not looked at


class Beside(NamedTuple):
    """Attention to a context; no layers where there is none."""

    norms: Norms
    query: Array  # (L or 0, H E, D)
    query_bias: Array  # (L, H E)
    head_norms: Norms
    out: Array  # (L, D, H E)
    out_bias: Array  # (L, D)
    keys: Array  # (L, rows, H, M, E)
    values: Array
    length: Array  # (rows,)


class Room(NamedTuple):
    """What a step of R positions writes to on its way."""

    h: Array  # (R, D): what enters the first layer, and goes on
    normed: Array  # (R, D)
    qkv: Array  # (R, (H + 2 K) E)
    heads: Array  # (R (H + 2 K), E), the same memory
    asked: Array  # (R, H E): queries to a context
    asked_heads: Array  # (R H, E), the same memory
    mixed: Array  # (R, H E)
    up: Array  # (R, 2 F or F)
    logits: Array  # (R, V)


@compiled
def step(weights, beside, kept, places, room):
    """Positions `room.h` at `places` -> `room.logits`. `kept` are the keys and values of all layers
    (L, rows, K, M, E), to which each position adds its own."""
    norms, h, normed = weights.norms, room.h, room.normed
    then = GATE if weights.gated else GELU
    for n in range(len(weights.qkv)):
        seen = Seen(kept.keys[n], kept.values[n], kept.rows, kept.firsts, kept.ends)
        _normalise(norms, 2 * n, h, normed)
        _offset(weights.qkv_bias, n, room.qkv)
        _product(weights.qkv[n], normed, room.qkv, ADD)
        _enter(weights, n, seen, places, room.heads)
        _attend(room.heads, seen, weights.size, room.mixed)
        _product(weights.out[n], room.mixed, h, ADD)
        if len(beside.query):
            _look_beside(weights, beside, n, kept.rows, room)
        _normalise(norms, 2 * n + 1, h, normed)
        _product(weights.up[n], normed, room.up, then)
        _product(weights.down[n], room.up, h, ADD)
    _normalise(norms, len(norms.scale) - 1, h, normed)
    _product(weights.head, normed, room.logits, SET)


# -- products --------------------------------------------------------------------------------------


@compiled
def _product(weight, x, y, then):
    """W (O, I), x (R, I) -> y (R, O): set to x W^T, or added to, or made active."""
    num = len(weight) // 2 if then == GATE else len(weight)
    blocks = (num + BLOCK - 1) // BLOCK
    if weight.size * len(x) < SMALL:
        for block in range(blocks):
            _part(weight, block, x, y, then)
    else:
        _parts(weight, blocks, x, y, then)


@compiled
def _offset(bias, n, y):
    """y (R, O): the offsets of a layer, or zeros where there are none."""
    for r in range(len(y)):
        for o in range(y.shape[1]):
            y[r, o] = bias[n, o] if len(bias) else np.float32(0)


@shared_out
def _parts(weight, blocks, x, y, then):
    for block in prange(blocks):  # of a type of its own
        _part(weight, np.int64(block), x, y, then)


@compiled
def _part(weight, block, x, y, then):
    num = len(weight) // 2 if then == GATE else len(weight)
    first, last = block * BLOCK, min((block + 1) * BLOCK, num)
    for part in range(2 if then == GATE else 1):
        for o in range(part * num + first, part * num + last, 4):
            many = min(part * num + last - o, 4)
            if then != ADD:
                for r in range(len(x)):
                    for row in range(o, o + many):
                        y[r, row] = 0
            _rows(weight, o, many, x, y)
    if then >= GATE:
        for r in range(len(x)):
            for o in range(first, last, LANES):
                own = load(y, r, o)
                own = (
                    multiply(_gated(own, own), load(y, r, num + o)) if then == GATE else _gelu(own)
                )
                store(y, r, o, own)


@compiled
def _rows(weight, o, many, x, y):
    """Add the products of up to four rows of weights with all of x."""
    paired = len(x) // 2 * 2 if many == 4 else 0
    for r in range(0, paired, 2):
        _four_by_two(weight, o, x, r, y)
    for r in range(paired, len(x)):
        for row in range(o, o + many):
            y[r, row] += _dot(weight, row, x, r)


@compiled
def _dot(a, m, b, n):
    """The product of row m of a with row n of b: the order that all sums over lanes are in."""
    sums = zeros()
    for i in range(0, a.shape[1], LANES):
        sums = fma(load(a, m, i), load(b, n, i), sums)
    return total(sums)


@compiled
def _four_by_two(weight, o, x, r, y):
    """As many sums as registers hold, each in the order of `_dot`."""
    a0, a1, b0, b1 = zeros(), zeros(), zeros(), zeros()
    c0, c1, d0, d1 = zeros(), zeros(), zeros(), zeros()
    for i in range(0, weight.shape[1], LANES):
        x0, x1 = load(x, r, i), load(x, r + 1, i)
        a, b = load(weight, o, i), load(weight, o + 1, i)
        c, d = load(weight, o + 2, i), load(weight, o + 3, i)
        a0, a1, b0, b1 = fma(a, x0, a0), fma(a, x1, a1), fma(b, x0, b0), fma(b, x1, b1)
        c0, c1, d0, d1 = fma(c, x0, c0), fma(c, x1, c1), fma(d, x0, d0), fma(d, x1, d1)
    y[r, o] += total(a0)
    y[r + 1, o] += total(a1)
    y[r, o + 1] += total(b0)
    y[r + 1, o + 1] += total(b1)
    y[r, o + 2] += total(c0)
    y[r + 1, o + 2] += total(c1)
    y[r, o + 3] += total(d0)
    y[r + 1, o + 3] += total(d1)


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


# -- norms -----------------------------------------------------------------------------------------


@compiled
def _normalise(norms, n, x, out):
    """(R, D) -> (R, D), which may be the same memory."""
    for r in range(len(x)):
        _normalise_row(norms, n, x, r, out)


@compiled
def _normalise_row(norms, n, x, r, out):
    dim, mean, one = np.float32(norms.dim), np.float32(0), spread(np.float32(1))
    if norms.centred:
        sums = zeros()
        for d in range(0, x.shape[1], LANES):
            sums = fma(one, load(x, r, d), sums)
        mean = total(sums) / dim
    for d in range(norms.dim):
        out[r, d] = x[r, d] - mean
    root = np.float32(1) / math.sqrt(_dot(out, r, out, r) / dim + np.float32(norms.eps))
    for d in range(norms.dim):
        out[r, d] = out[r, d] * root * norms.scale[n, d] + norms.shift[n, d]


# -- attention -------------------------------------------------------------------------------------


@compiled
def _enter(weights, n, seen, places, heads):
    """Queries made ready, keys and values put where they stay: heads (R (H + 2 K), E)."""
    num_kv, each = seen.keys.shape[1], len(heads) // len(places)
    turned = each - num_kv
    for r in range(len(places)):
        row, place = seen.rows[r], places[r]
        for head in range(turned):
            if len(weights.head_norms.scale):
                norm = 2 * n + (head >= turned - num_kv)
                _normalise_row(weights.head_norms, norm, heads, r * each + head, heads)
            _turn(weights, heads, r * each + head, place)
        for k in range(num_kv):
            value = r * each + turned + k
            for e in range(heads.shape[1]):
                seen.keys[row, k, place, e] = heads[value - num_kv, e]
                seen.values[row, k, place, e] = heads[value, e]


@compiled
def _turn(weights, heads, row, place):
    """Each pair of features (x_j, x_{j + half}) by its place's angle."""
    half = weights.size // 2
    if len(weights.cos):
        for e in range(half):
            cos, sin = weights.cos[place, e], weights.sin[place, e]
            first, second = heads[row, e], heads[row, half + e]
            heads[row, e] = first * cos - second * sin
            heads[row, half + e] = first * sin + second * cos


@compiled
def _attend(heads, seen, size, mixed):
    """softmax(q k^T / sqrt(E)) v: queries (R (H or more), E) -> (R, H E)."""
    tasks, looks = len(mixed) * seen.keys.shape[1], 0
    for r in range(len(mixed)):
        looks += seen.ends[r] - seen.firsts[r]
    if looks * mixed.shape[1] < SMALL:
        for task in range(tasks):
            _attend_in(task, heads, seen, size, mixed)
    else:
        _attend_in_parts(tasks, heads, seen, size, mixed)


@shared_out
def _attend_in_parts(tasks, heads, seen, size, mixed):
    for task in prange(tasks):
        _attend_in(np.int64(task), heads, seen, size, mixed)


@compiled
def _attend_in(task, heads, seen, size, mixed):
    """The heads of one position that share keys and values."""
    lanes, num_kv = heads.shape[1], seen.keys.shape[1]
    group, scale = mixed.shape[1] // lanes // num_kv, np.float32(1 / math.sqrt(size))
    r, kv = task // num_kv, task % num_kv
    keys, values = seen.keys[seen.rows[r], kv], seen.values[seen.rows[r], kv]
    first, num = seen.firsts[r], seen.ends[r] - seen.firsts[r]
    shares = np.empty((1, num + LANES), np.float32)
    for head in range(kv * group, (kv + 1) * group):
        query, most = r * (len(heads) // len(mixed)) + head, np.float32(-np.inf)
        for m in range(num):
            shares[0, m] = _dot(heads, query, keys, first + m) * scale
            most = max(most, shares[0, m])
        whole = np.float32(0)
        for m in range(0, num, LANES):
            store(shares, 0, m, exp(add(load(shares, 0, m), spread(-most))))
        for m in range(num):
            whole += shares[0, m]
        for m in range(num):
            shares[0, m] /= whole
        for e in range(0, lanes, LANES):
            sums = zeros()
            for m in range(num):
                sums = fma(spread(shares[0, m]), load(values, first + m, e), sums)
            store(mixed, r, head * lanes + e, sums)


@compiled
def _look_beside(weights, beside, n, rows, room):
    """h += attention to the context, whose keys and values are known."""
    firsts, ends = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    _normalise(beside.norms, np.int64(0), room.h, room.normed)
    for r in range(len(rows)):
        firsts[r], ends[r] = 0, beside.length[rows[r]]
        for e in range(room.asked.shape[1]):
            room.asked[r, e] = beside.query_bias[n, e]
        for d in range(beside.norms.dim):
            room.h[r, d] += beside.out_bias[n, d]
    _product(beside.query[n], room.normed, room.asked, ADD)
    _normalise(beside.head_norms, n, room.asked_heads, room.asked_heads)
    seen = Seen(beside.keys[n], beside.values[n], rows, firsts, ends)
    _attend(room.asked_heads, seen, weights.size, room.mixed)
    _product(beside.out[n], room.mixed, room.h, ADD)

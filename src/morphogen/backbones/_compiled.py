r"""One step of a transformer over tokens, compiled: a few positions through all layers in one call.

A step is reading the weights once (`_products`); all else has to cost nothing. A position's numbers
are added up in one order (`_lanes`) whatever stands beside it.

Legend: R positions that go on, D model dimension, H heads, K heads of keys and values, E head
dimension, F width of the feed-forward layer, V vocabulary, L layers, M positions kept. Dimensions
that sums run over are padded with zeros to whole lanes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from morphogen.backbones._lanes import LANES, add, exp, fma, load, spread, store, total, zeros
from morphogen.backbones._products import (
    ADD,
    GATE,
    GELU,
    SET,
    SMALL,
    Array,
    Matrix,
    compiled,
    dot,
    product,
    shared_out,
)


class Norms(NamedTuple):
    """(x - mean) / sqrt(mean square + eps) * scale + shift, of several layers."""

    scale: Array  # (layers, D)
    shift: Array  # (layers, D)
    centred: bool  # LayerNorm; else RMSNorm, where the mean is taken for 0
    eps: float
    dim: int  # D without what it is padded with


class Weights(NamedTuple):
    """All of a network, layer by layer. Heads are whole lanes."""

    qkv: Matrix  # (L, (H + 2 K) E, D)
    qkv_bias: Array  # (L or 0, (H + 2 K) E)
    out: Matrix  # (L, D, H E)
    up: Matrix  # (L, 2 F or F, D): gates, then what they gate
    down: Matrix  # (L, D, F)
    norms: Norms  # two in each layer, and the last
    head_norms: Norms  # of queries and keys in each layer, or none
    cos: Array  # (positions or 0, E / 2)
    sin: Array
    head: Matrix  # (1, V, D)
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
    query: Matrix  # (L or 0, H E, D)
    query_bias: Array  # (L, H E)
    head_norms: Norms
    out: Matrix  # (L, D, H E)
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
    for n in range(len(kept.keys)):
        seen = Seen(kept.keys[n], kept.values[n], kept.rows, kept.firsts, kept.ends)
        _normalise(norms, 2 * n, h, normed)
        _offset(weights.qkv_bias, n, room.qkv)
        product(weights.qkv, n, normed, room.qkv, ADD)
        _enter(weights, n, seen, places, room.heads)
        _attend(room.heads, seen, weights.size, room.mixed)
        product(weights.out, n, room.mixed, h, ADD)
        if len(beside.query_bias):
            _look_beside(weights, beside, n, kept.rows, room)
        _normalise(norms, 2 * n + 1, h, normed)
        product(weights.up, n, normed, room.up, then)
        product(weights.down, n, room.up, h, ADD)
    _normalise(norms, len(norms.scale) - 1, h, normed)
    product(weights.head, np.int64(0), normed, room.logits, SET)


@compiled
def _offset(bias, n, y):
    """y (R, O): the offsets of a layer, or zeros where there are none."""
    for r in range(len(y)):
        for o in range(y.shape[1]):
            y[r, o] = bias[n, o] if len(bias) else np.float32(0)


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
    root = np.float32(1) / math.sqrt(dot(out, r, out, r) / dim + np.float32(norms.eps))
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
            shares[0, m] = dot(heads, query, keys, first + m) * scale
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
    product(beside.query, n, room.normed, room.asked, ADD)
    _normalise(beside.head_norms, n, room.asked_heads, room.asked_heads)
    seen = Seen(beside.keys[n], beside.values[n], rows, firsts, ends)
    _attend(room.asked_heads, seen, weights.size, room.mixed)
    product(beside.out, n, room.mixed, room.h, ADD)

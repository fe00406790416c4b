"""Tokens drawn one after the other, in one compiled call: embed, step, draw, and again.

What a small network computes for a token takes less time than asking Python for it once. A call
goes on with several rows for several tokens; each row draws by its own numbers, so that it does not
matter how many tokens a call is asked for, nor which rows go on beside it.

Legend: R rows that go on, n tokens drawn at most, D model dimension, V vocabulary, L layers, M
positions kept.
"""

# What is changed in `_compiled`, `_products` or `_lanes` alone does not have this file compiled
# anew: numba keeps what it compiled until the file itself changes.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import carray

from morphogen.backbones._compiled import Beside, Seen, Weights, step
from morphogen.backbones._lanes import LANES, exp, load, store, table_at
from morphogen.backbones._products import Array, compiled


class Model(NamedTuple):
    """All that a step reads of a network."""

    weights: Weights
    beside: Beside
    entry: Entry


class Entry(NamedTuple):
    """What makes tokens into what enters the first layer."""

    tokens: Array  # (V, D)
    ngrams: Array  # (tables,): where the table of each length of n-gram lies, each (slots, D)
    primes: Array  # (tables,) of their hashes
    slots: int
    vocab_size: int
    places: Array  # (positions or 0, D)


class Texts(NamedTuple):
    """What has come in each row, and what it left behind."""

    tokens: Array  # (rows, M)
    starts: Array  # (rows, M): where the document of each token begins
    length: Array  # (rows,)
    added: Array  # (rows, D): what conditions add
    keys: Array  # (L, rows, K, M, E)
    values: Array
    boundary: int  # the token that begins a document; -1: none does
    window: int  # positions that attention reaches back


class Draws(NamedTuple):
    """How each of R rows goes on and draws, what it draws, and room to do so."""

    tokens: Array  # (R,): what has come last
    uniform: Array  # (R, n) in [0, 1)
    temperature: Array  # (R,); 0: the most probable
    min_p: Array  # (R,); 0: no token is too improbable
    top_k: Array  # (R,); V: as many as there are
    top_p: Array  # (R,); 1: all that is probable
    num_tokens: int  # that may come: the first that the network tells; 0: none is drawn
    ends: Array  # tokens after which nothing comes
    drawn: Array  # (R, n)
    log_probs: Array  # (R, n)
    shares: Array  # (1, V), to whole lanes: each token's probability, times the same
    order: Array  # (V,)


# One function for all that is asked for: compiled in two, the step would be compiled twice.
@compiled
def go_on(model, texts, rows, room, draws):
    """Rows that go on until one draws an end -> how many tokens each has got. Where no tokens may
    be drawn, what the network tells stays in `room.logits`, and one row may come several times."""
    places, firsts = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for i in range(draws.drawn.shape[1]):
        for r in range(len(rows)):
            places[r], firsts[r] = _enter(model.entry, texts, rows[r], draws.tokens[r], room.h[r])
        seen = Seen(texts.keys, texts.values, rows, firsts, places + 1)
        step(model.weights, model.beside, seen, places, room)
        is_over = False
        for r in range(len(rows) if draws.num_tokens else 0):
            token, log_prob = _draw(room.logits[r], draws, r, i)
            draws.drawn[r, i], draws.log_probs[r, i], draws.tokens[r] = token, log_prob, token
            for end in draws.ends:
                is_over |= token == end
        if is_over:
            return i + 1
    return draws.drawn.shape[1]


@compiled
def _enter(entry, texts, row, token, h):
    """The next token of a row -> its place, and the first that it looks at."""
    place = texts.length[row]
    start = texts.starts[row, place - 1] if place else np.int64(0)
    if token == texts.boundary:
        start = place
    texts.tokens[row, place], texts.starts[row, place] = token, start
    texts.length[row] = place + 1
    _embed(entry, texts, row, place, h)
    return place, max(start, place - texts.window + 1)


@compiled
def _embed(entry, texts, row, place, h):
    token = texts.tokens[row, place]
    for d in range(entry.tokens.shape[1]):
        h[d] = entry.tokens[token, d]
    code, power = token, 1
    for back in range(len(entry.ngrams)):  # see `_sequence.NGrams`
        before = texts.tokens[row, place - back - 1] if place > back else 0
        power *= entry.vocab_size
        code += (before + 1) * power
        slot = code * entry.primes[back] % entry.slots
        table = carray(table_at(entry.ngrams[back]), (entry.slots, entry.tokens.shape[1]))
        for d in range(table.shape[1]):
            h[d] += table[slot, d]
    if len(entry.places):
        for d in range(entry.places.shape[1]):
            h[d] += entry.places[place, d]
    for d in range(texts.added.shape[1]):
        h[d] += texts.added[row, d]


@compiled
def _draw(logits, draws, r, i):
    """A token by the logits (V,), and the log of its probability before anything was cut off."""
    best, num, shares = 0, draws.num_tokens, draws.shares
    for token in range(num):
        if logits[token] > logits[best]:
            best = token
    whole = _spread_out(logits, logits[best], np.float32(1), num, shares)
    token, temperature = best, draws.temperature[r]
    if temperature > 0:
        left = whole
        if temperature != 1:
            left = _spread_out(logits, logits[best], np.float32(1 / temperature), num, shares)
        if draws.min_p[r] > 0 or draws.top_k[r] < num or draws.top_p[r] < 1:
            left = _cut(draws, r)
        token = _at(shares, num, draws.uniform[r, i] * left)
    return token, np.float64(logits[token] - logits[best]) - math.log(whole)


@compiled
def _spread_out(logits, most, factor, num, shares):
    """shares = exp((logits - most) factor) -> their sum."""
    for token in range(num):
        shares[0, token] = (logits[token] - most) * factor
    for token in range(0, num, LANES):
        store(shares, 0, token, exp(load(shares, 0, token)))
    total = 0.0
    for token in range(num):
        total += shares[0, token]
    return total


@compiled
def _at(shares, num, below):
    """The first token at which the sum of shares is more than `below`."""
    total, last = 0.0, 0
    for token in range(num):
        total += shares[0, token]
        if shares[0, token] > 0:
            last = token
        if total > below:
            return token
    return last


@compiled
def _cut(draws, r):
    """Leave only the shares of tokens within the limits of row r -> their sum."""
    shares, num, order = draws.shares, draws.num_tokens, draws.order
    min_p, top_k, top_p, size = draws.min_p[r], draws.top_k[r], draws.top_p[r], 0
    for token in range(num):  # the most probable has the share 1
        if shares[0, token] >= min_p:
            order[size] = token
            size += 1
    for i in range(size // 2 - 1, -1, -1):
        _sift(order, i, size, shares)
    most, kept, whole, came = min(size, top_k), 0, 0.0, 0.0
    # The most probable tokens are put behind the heap, which is shorter by as many.
    ranked = most if most < size else 0
    for i in range(ranked):
        _take(order, size - i, shares)
    for i in range(size - most, size):
        whole += shares[0, order[i]]
    while kept < most and (came < top_p * whole or top_p >= 1):
        if kept >= ranked and top_p < 1:
            _take(order, size - kept, shares)
        came += shares[0, order[size - 1 - kept]]
        kept += 1
    return _leave(shares, num, order[size - kept : size])


@compiled
def _take(heap, size, shares):
    """The most probable of a heap, put behind the others."""
    heap[0], heap[size - 1] = heap[size - 1], heap[0]
    _sift(heap, np.int64(0), size - 1, shares)


@compiled
def _sift(heap, i, size, shares):
    """Let a token sink to where no more probable one is below it; of equals, the first is more."""
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _is_more(heap[child + 1], heap[child], shares):
            child += 1
        if not _is_more(heap[child], heap[i], shares):
            return
        heap[i], heap[child] = heap[child], heap[i]
        i = child


@compiled
def _is_more(a, b, shares):
    return shares[0, a] > shares[0, b] or (shares[0, a] == shares[0, b] and a < b)


@compiled
def _leave(shares, num, tokens):
    """All other shares are 0 -> the sum of those that are left, in the order that `_at` adds."""
    for token in tokens:
        shares[0, token] = -shares[0, token]
    total = 0.0
    for token in range(num):
        shares[0, token] = max(-shares[0, token], np.float32(0))
        total += shares[0, token]
    return total

r"""Recognising a text after small changes: a SimHash to find pairs, a MinHash to compare them.

A text is the set A of the hashes h of its character 5-grams, after case folding and joining of
white space. Two signatures of it are kept:

    SimHash   bit k is the sign of  sum_{h in A} (1 if bit k of h else -1)       (Charikar 2002)
    MinHash   m_k = min_{h in A} g_k(h),    P[m_k(A) = m_k(B)] = J(A, B) = |A n B| / |A u B|

(Broder 1997). SimHashes of texts alike to J differ in a share arccos(2 J / (1 + J)) / pi of their
bits: at J = 0.7 that is 24 of 128 with a deviation of 4.4; those of unlike texts in 64 with one of
5.7. Of each m_k a byte is kept, which agrees by chance in 1 of 256 (b-bit MinHash, Li & Koenig
2010). A text with more than MOST 5-grams is stood for by those with the least hashes.

Legend: N pairs, S 5-grams of a text, K = NUM_HASHES.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import Fingerprint

NUM_HASHES, NUM_BITS = 128, 128
SHINGLE = 5
MOST = 2048
KEY_RADIUS = 36  # bits of NUM_BITS
SAME_FROM = 0.7
CHANCE = 1 / 256  # that two bytes agree
FACTOR = np.uint64(0x9E3779B97F4A7C15)


def fingerprint(text: str) -> Fingerprint | None:
    """Both signatures of a text, or None for one without a letter or sign."""
    hashes = _shingles(text)
    if hashes is None:
        return None
    words = np.stack([_mixed(hashes), _mixed(hashes ^ FACTOR)], 1)  # (S, 2) of 64 bits
    bits = np.unpackbits(words.view(np.uint8), axis=1)  # (S, NUM_BITS)
    key = np.packbits(2 * bits.sum(0, dtype=np.int64) > len(bits))
    a, b = _coefficients()
    least = ((hashes[:, None] * a + b) >> np.uint64(32)).min(0)  # (K,)
    return Fingerprint((key.tobytes(),), (least & np.uint64(255)).astype(np.uint8).tobytes())


def likeness(first: Tensor, second: Tensor, key: Tensor) -> Tensor:
    """(N, K) and (N, K) bytes -> estimates of J, (N,)."""
    agree = (first == second).float().mean(1)
    return ((agree - CHANCE) / (1 - CHANCE)).clamp(min=torch.tensor(0.0))


def _shingles(text: str) -> np.ndarray | None:
    """The hashes (S,) of the 5-grams, each once."""
    plain = " ".join(text.casefold().split())
    if not plain:
        return None
    codes = np.frombuffer(plain.ljust(SHINGLE).encode("utf-32-le", "surrogatepass"), np.uint32)
    values = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for place in range(SHINGLE):
        values = values * FACTOR + codes[place : place + len(values)]
    return np.unique(_mixed(values))[:MOST]  # sorted: the least come first


def _mixed(x: np.ndarray) -> np.ndarray:
    """Bits of 64-bit integers spread over all places (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@functools.cache
def _coefficients() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(20260101)
    top = np.iinfo(np.uint64).max
    a = draw.integers(0, top, NUM_HASHES, dtype=np.uint64, endpoint=True) | np.uint64(1)
    return a, draw.integers(0, top, NUM_HASHES, dtype=np.uint64, endpoint=True)

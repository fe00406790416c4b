r"""Near-duplicates among texts: MinHash with locality-sensitive hashing.

    J(A, B) = |A n B| / |A u B|      P[min h(A) = min h(B)] = J(A, B)      (Broder 1997)

A text is the set of its character 5-grams after case folding and joining of white space. Its
signature holds the least value of each of 128 hash functions, the upper half of a_k s + b_k modulo
2^64 (multiply-shift, Dietzfelbinger et al. 1997), s the 64-bit hash of a 5-gram. Signatures
cut into 32 bands of 4 propose the pairs with an equal band: a pair of similarity 0.7 is missed with
probability (1 - 0.7^4)^32 = 0.0002.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

NUM_HASHES, BAND = 128, 4
SHINGLE = 5
SAME_FROM = 0.7
MOST_IN_BUCKET = 200  # pairs of a larger bucket are those of each member with the first


def signature(text: str) -> np.ndarray:
    """(NUM_HASHES,) uint32: the share of equal places in two signatures estimates J."""
    plain = " ".join(text.casefold().split())
    shingles = {plain[i : i + SHINGLE] for i in range(max(1, len(plain) - SHINGLE + 1))}
    hashes = [hashlib.blake2b(each.encode(), digest_size=8).digest() for each in shingles]
    values = np.frombuffer(b"".join(hashes), np.uint64)  # (shingles,)
    a, b = _coefficients()
    mixed = values[:, None] * a + b  # modulo 2^64
    least: np.ndarray = (mixed >> np.uint64(32)).min(0).astype(np.uint32)
    return least


def near_texts(texts: Sequence[str], same_from: float = SAME_FROM) -> list[tuple[int, int, float]]:
    """Pairs (i, j, estimated similarity) with i < j and a similarity of at least `same_from`."""
    if not texts:
        return []
    signatures = np.stack([signature(text) for text in texts])
    found = {}
    for i, j in sorted(_proposed(signatures)):
        similarity = float((signatures[i] == signatures[j]).mean())
        if similarity >= same_from:
            found[i, j] = similarity
    return [(i, j, similarity) for (i, j), similarity in found.items()]


def _proposed(signatures: np.ndarray) -> set[tuple[int, int]]:
    pairs = set()
    for start in range(0, NUM_HASHES, BAND):
        buckets: defaultdict[bytes, list[int]] = defaultdict(list)
        for number, row in enumerate(signatures[:, start : start + BAND]):
            buckets[row.tobytes()].append(number)
        for bucket in buckets.values():
            firsts = bucket if len(bucket) <= MOST_IN_BUCKET else bucket[:1]
            pairs |= {(i, j) for i in firsts for j in bucket if i < j}
    return pairs


def _coefficients() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(20260101)
    top = np.iinfo(np.uint64).max
    a = draw.integers(0, top, NUM_HASHES, dtype=np.uint64, endpoint=True) | np.uint64(1)
    return a, draw.integers(0, top, NUM_HASHES, dtype=np.uint64, endpoint=True)

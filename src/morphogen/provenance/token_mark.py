r"""A keyed choice among the probable tokens: a mark in a text that costs nothing of its quality.

    the token after c:  argmax over v of u_v^(1 / p_v),   u = PRF(key, c),   c the last four tokens

For u independent and uniform in [0, 1) that is v with probability p_v (Aaronson 2022; the same as
adding Gumbel noise to log p): a marked text is distributed as an unmarked one. For it to hold for
whole texts no u is used twice: after four tokens that stood in the text before, and while there are
none, tokens are drawn plainly (Dathathri et al. 2024). With one key the same four tokens are always
gone on with in the same way, so that a key has `VARIANTS`; the seed of a text says which it is.

    found:  S = sum of -ln(1 - u of the token that came),   S ~ Gamma(n, 1) without the mark

over the n places where four tokens stand for the first time; of the variants the best is taken.
What is drawn at temperature 0, or is certain anyway, bears no mark.

Legend: V vocabulary, n places.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from morphogen.core.random import mix_seed

WIDTH = 4  # tokens by which the next is chosen
VARIANTS = 16
GOLDEN, FIRST, SECOND = (
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class TokenMark:
    """The mark of one text, while it is drawn."""

    def __init__(self, key: bytes, seed: int) -> None:
        self.key, self.variant = key, mix_seed(seed) % VARIANTS
        self.used: set[tuple[int, ...]] = set()

    def numbers(self, came: Sequence[int], num: int) -> Tensor | None:
        """Numbers (num,) in (0, 1), by which the token after those that `came` of the text is
        chosen; None: it is drawn plainly. Asked once for each token."""
        context = tuple(came[-WIDTH:])
        if len(context) < WIDTH or context in self.used:
            return None
        self.used.add(context)
        seed = _seeds(self.key, [context])[self.variant]
        return torch.from_numpy(_uniform(seed, np.arange(num, dtype=np.uint64)))


def chance(tokens: Sequence[int], key: bytes) -> float:
    """How probable it is that a text without the mark would look as marked as this."""
    from scipy.special import gammaincc  # type: ignore[import-untyped]

    places: dict[tuple[int, ...], int] = {}
    for i in range(WIDTH, len(tokens)):
        places.setdefault(tuple(tokens[i - WIDTH : i]), tokens[i])
    if not places:
        return 1.0
    came = np.fromiter(places.values(), np.uint64, len(places))
    total = -np.log1p(-_uniform(_seeds(key, list(places)), came)).sum(1)
    best = float(gammaincc(len(came), total).min())
    return -math.expm1(VARIANTS * math.log1p(-best)) if best < 1 else 1.0


def _seeds(key: bytes, contexts: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Where the numbers after each context begin, for each variant of the key: (VARIANTS, n)."""
    told = [
        hashlib.blake2b(
            np.array(context, "<i8").tobytes(), key=key[:64], digest_size=8, person=b"token mark"
        ).digest()
        for context in contexts
    ]
    own = np.frombuffer(b"".join(told), "<u8")
    return _mixed(own + np.arange(1, VARIANTS + 1, dtype=np.uint64)[:, None] * SECOND)


def _uniform(seed: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The numbers at places `index` of the streams of splitmix64 that seeds begin: in (0, 1)."""
    state = _mixed(seed + (index + np.uint64(1)) * GOLDEN)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mixed(state: np.ndarray) -> np.ndarray:
    """The last steps of splitmix64 (Steele, Lea & Flood 2014); sums are modulo 2^64."""
    state = (state ^ (state >> np.uint64(30))) * FIRST
    state = (state ^ (state >> np.uint64(27))) * SECOND
    return state ^ (state >> np.uint64(31))

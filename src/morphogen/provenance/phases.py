r"""Keyed patterns in a spectrum, and how surely one is found: marks of pictures and of sounds.

    pattern    w = sum over k of cos(omega_k t + phi_k),   phi_k from the key, uniform in [0, 2 pi)
    evidence   c(s) = sum over k of cos(theta_k - phi_k - omega_k s),   theta_k of what is looked at
    chance     P(c(s) >= z sqrt(K / 2)) <= exp(-z^2 / 2)       without the mark

The bound needs nothing of what is looked at: given it, the cosines are independent over the draw of
the key, and E exp(a cos U) = I_0(a) <= exp(a^2 / 4). Of many shifts and scales the best is taken,
and its chance times their number (Bonferroni). Magnitudes are thrown away ("phase-only", Kuglin &
Hines 1975): what is strong in a spectrum by itself, such as the edges of blocks, weighs no more.

Legend: K frequencies.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def phases(key: bytes, purpose: str, num: int) -> np.ndarray:
    """`num` phases in [0, 2 pi) that only the key tells, others for each purpose."""
    digest = hmac.digest(key, purpose.encode(), hashlib.sha256)
    draw = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return draw.random(num) * (2 * math.pi)


def unit(spectrum: np.ndarray) -> np.ndarray:
    """Complex numbers with the same phases, and of magnitude 1; 0 stays 0."""
    size = np.abs(spectrum)
    return np.divide(spectrum, size, out=np.zeros_like(spectrum), where=size > 0)


def chance(evidence: float, num: int, tries: float) -> float:
    """The chance of so much evidence or more of `num` frequencies in the best of `tries`, without
    the mark: at most."""
    if evidence <= 0 or num == 0:
        return 1.0
    return min(1.0, tries * math.exp(-(evidence**2) / num))

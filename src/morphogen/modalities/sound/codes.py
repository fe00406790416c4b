r"""Samples as tokens: 256 steps that are finer where sounds are quiet (ITU-T G.711, mu = 255).

    code = round(127.5 (1 + sign(s) ln(1 + mu |s|) / ln(1 + mu)))

Channels take turns; the token after the last sample is the end.

Legend: C channels, N samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MU = 255
END = MU + 1


def to_codes(samples: Tensor) -> Tensor:
    """(C, N) in [-1, 1] -> (C N,), int64."""
    squeezed = samples.sign() * torch.log1p(MU * samples.abs()) / math.log1p(MU)
    return ((squeezed + 1) * (MU / 2)).round().long().T.flatten()


def from_codes(codes: Tensor, num_channels: int) -> Tensor:
    """Inverse of `to_codes`, up to a step: those before the first end, whole samples of them."""
    codes = codes[codes.ne(END).cumprod(0).bool()]
    whole = codes[: len(codes) // num_channels * num_channels].view(-1, num_channels).T
    squeezed = whole.float() * (2 / MU) - 1
    samples = squeezed.sign() * torch.expm1(squeezed.abs() * math.log1p(MU)) / MU
    return samples if samples.shape[1] else torch.zeros(num_channels, 1)

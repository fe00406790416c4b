r"""Pictures that are made of pictures, to ask for others by: their edges, and coarse ones.

    edges    |(Sobel_x * g, Sobel_y * g)| of brightness g, the steepest 1; grey (Sobel 1968)
    coarse   the mean of each block of 4 x 4: what a super-resolution model goes on from

Legend: C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FACTOR = 4  # of a coarse picture, along both sides
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
LEAST = 1e-3  # steepness below which there is no edge


def edges(x: Tensor) -> Tensor:
    """A picture (C, H, W) in [-1, 1] -> how steep it is, (H, W) in [0, 1]."""
    grey = x[:3].mean(0)[None, None]
    across = torch.tensor(SOBEL).to(grey)
    both = torch.stack([across, across.T])[:, None]
    steep = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), both)[0].norm(dim=0)
    return steep / steep.max().clamp(min=LEAST)


def coarse(x: Tensor) -> Tensor:
    """A picture (C, H, W) -> (C, H / 4, W / 4), rounded up."""
    return F.avg_pool2d(x, FACTOR, ceil_mode=True)

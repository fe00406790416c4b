"""What several processes have, each its own slice of it, brought together on all of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def of_all_processes(own: Tensor) -> Tensor:
    """The rows of all processes (N * B, *), in the order of the batch that they share, on each of
    them; `own` (B, *) has as many rows in all. Where there is one process, it is `own`."""
    if not dist.is_available() or not dist.is_initialized():
        return own
    rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, own.contiguous())
    return torch.cat(rows)

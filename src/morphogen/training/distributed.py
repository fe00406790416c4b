"""Several processes under `torchrun`, each with a slice of the batch.

Gradients are averaged by hand after the backward pass: any family's `step` works unchanged, with
several phases or with no backward pass at all. Decisions that depend on a clock are made by the
first process and broadcast, so that all take the same number of steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """This process among its peers; (0, 1) when there are none."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Join the group that `torchrun` has set up in the environment, if it has."""
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1 or not dist.is_available():
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """The process that writes files and talks to the user."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        if self.world_size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        if not grads:
            return
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        flat /= self.world_size
        offset = 0
        for grad in grads:
            grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
            offset += grad.numel()

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """The first process's numbers, on every process."""
        if self.world_size == 1:
            return numbers
        shared = torch.tensor(numbers, dtype=torch.float64)
        if dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.broadcast(shared, src=0)
        return tuple(shared.tolist())

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()

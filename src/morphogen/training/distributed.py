"""Several processes under `torchrun`, each with a slice of the batch.

Gradients are averaged by hand after the backward pass: any family's `step` works unchanged, with
several phases or with no backward pass at all. What depends on a clock, on a signal or on what lies
on disk is decided together, at the same place in all: one that went on while others have stopped
would wait for them for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """This process among its peers; (0, 1) when there are none."""

    rank: int = 0
    world_size: int = 1
    share_weights: bool = False  # as `training.sharding` does, which averages gradients itself

    @classmethod
    def join(cls) -> Processes:
        """Join the group that `torchrun` has set up in the environment, if it has; once joined,
        the same again. On GPUs each process takes the one of its number."""
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1 or not dist.is_available():
            return cls()
        if not dist.is_initialized():
            num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if num_gpus:
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % num_gpus)
            # NCCL refuses processes that share a GPU. Numbers that are agreed on stay on the
            # processor, where no GPU is waited for.
            alone = int(os.environ.get("LOCAL_WORLD_SIZE", world_size)) <= num_gpus
            fast = alone and dist.is_nccl_available()
            dist.init_process_group("cpu:gloo,cuda:nccl" if fast else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """The process that writes files and talks to the user."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        if self.world_size == 1 or self.share_weights:
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
        dist.broadcast(shared, src=0)
        return tuple(shared.tolist())

    def any(self, flag: bool) -> bool:
        """Whether the flag of any process is set."""
        if self.world_size == 1:
            return flag
        shared = torch.tensor(int(flag))
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return bool(shared)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over the processes that have it."""
        if self.world_size == 1:
            return dict(values)
        found: list[dict[str, float]] = [{}] * self.world_size
        dist.all_gather_object(found, dict(values))
        named = {name: [own[name] for own in found if name in own] for own in found for name in own}
        return {name: sum(each) / len(each) for name, each in named.items()}

    def wait(self) -> None:
        """Wait until every process is here."""
        self.any(False)

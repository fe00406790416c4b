"""The next batch is read while a step runs, where the step does not need the processor itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from morphogen.core.batch import Batch


class Ahead:
    """`read(step)` for one step after the other, the next one already under way on a GPU."""

    def __init__(self, read: Callable[[int], Batch], device: torch.device) -> None:
        self.read = read
        self.pool = ThreadPoolExecutor(1) if device.type == "cuda" else None
        self.waiting: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of `step`, on the CPU."""
        if self.pool is None:
            return self.read(step)
        found = self.waiting.pop(step, None) or self.pool.submit(self.read, step)
        batch = found.result()
        self.waiting = {step + 1: self.pool.submit(self.read, step + 1)}
        return batch

"""How far a run is, and what learning rate that calls for.

A budget of steps makes progress a plain ratio. A budget of time is turned into progress step by
step: each advances by (1 - progress) / (steps that still fit), so that the learning rate has fallen
to zero just when the time is up, whatever the machine does meanwhile. What each step added is kept:
with it, `Replay` makes the same steps again, bit by bit, at any pace.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from morphogen.training.options import Budget, TrainOptions


@dataclass
class TrainState:
    """Where a run stands; with the tensors of a checkpoint, all that resuming needs."""

    step: int = 0
    seconds: float = 0.0  # spent so far, over all starts
    progress: float = 0.0  # 0 to 1
    increment: float = 0.0  # what the next step adds to it
    rolled_back: list[int] = field(default_factory=list)  # to which steps, after NaN

    @property
    def rollbacks(self) -> int:
        """How often the run met NaN and went back to an earlier step."""
        return len(self.rolled_back)

    @property
    def rate(self) -> float:
        """The factor on the learning rate, which every rollback halves."""
        return 0.5**self.rollbacks


class Schedule:
    """Advances a `TrainState` and gives the learning rate's factor."""

    def __init__(self, options: TrainOptions, num_items: int, reserved: float = 0.0) -> None:
        self.options = options
        self.budget = Budget.parse(options.budget)
        if self.budget.seconds is not None:  # a share is kept for what comes after the steps
            self.budget = Budget(seconds=(1 - reserved) * self.budget.seconds)
        self.num_steps = self.budget.total_steps(num_items, options.batch_size)
        self.increments = array("d")  # of each step so far, where the budget is a time

    def plan(self, state: TrainState, seconds_per_step: float) -> float:
        """What the next step will add to the progress."""
        if self.num_steps is not None:
            return 1 / self.num_steps
        remaining = max(0.0, (self.budget.seconds or 0.0) - state.seconds)
        steps_left = max(1.0, remaining / seconds_per_step) if seconds_per_step else float("inf")
        return (1 - state.progress) / steps_left

    def advance(self, state: TrainState) -> None:
        """Count one step."""
        state.step += 1
        if self.num_steps is not None:
            state.progress = state.step / self.num_steps
        else:
            self.increments.append(state.increment)
            state.progress = _added(state.progress, state.increment)

    def is_over(self, state: TrainState) -> bool:
        """Whether the budget is spent."""
        if self.num_steps is not None:
            return state.step >= self.num_steps
        return state.progress >= 1 or state.seconds >= (self.budget.seconds or 0.0)

    def rate(self, state: TrainState) -> float:
        """Warm-up, a plateau, and a linear fall to zero (Hagele et al. 2024)."""
        progress = state.progress + state.increment / 2
        rising = min(1.0, progress / self.options.warmup) if self.options.warmup else 1.0
        falling = min(1.0, (1 - progress) / self.options.decay) if self.options.decay else 1.0
        return state.rate * max(0.0, min(rising, falling))

    def remaining(self, state: TrainState, seconds_per_step: float) -> float:
        """Seconds until the budget is spent."""
        if self.num_steps is not None:
            return (self.num_steps - state.step) * seconds_per_step
        return max(0.0, (self.budget.seconds or 0.0) - state.seconds)

    def record(self) -> Tensor | None:
        """What each step so far added to the progress (steps,); None where the recipe says it."""
        if not self.increments:
            return None
        return torch.frombuffer(self.increments, dtype=torch.float64).clone()


class Replay(Schedule):
    """The schedule of an earlier run: as many steps, each at the progress that it was made at.

    `increments` are what `record` gave, for a budget of time. Where the earlier run was rolled back
    to a step, this one has other draws and half the learning rate from there on, as that one had.
    """

    def __init__(
        self,
        options: TrainOptions,
        num_items: int,
        *,
        steps: int,
        rolled_back: Sequence[int] = (),
        increments: Sequence[float] = (),
    ) -> None:
        super().__init__(options, num_items)
        self.rolled_back = list(rolled_back)
        self.increments = array("d", increments)
        # The steps of the whole budget: an earlier run that was stopped made fewer.
        self.whole = self.num_steps
        self.progress = (
            list(accumulate(self.increments, _added, initial=0.0))
            if self.whole is None
            else [step / self.whole for step in range(steps + 1)]
        )
        self.budget, self.num_steps = Budget(steps=steps), steps

    def plan(self, state: TrainState, seconds_per_step: float) -> float:
        """What the next step added when it was made; puts its rollbacks into `state`."""
        known = [step for step in self.rolled_back if step <= state.step]
        if len(known) > state.rollbacks:  # NaN met anew counts besides
            state.rolled_back = known
        return 1 / self.whole if self.whole is not None else self.increments[state.step]

    def advance(self, state: TrainState) -> None:
        """Count one step."""
        state.step += 1
        state.progress = self.progress[state.step]


def _added(progress: float, increment: float) -> float:
    return min(1.0, progress + increment)

"""How far a run is, and what learning rate that calls for.

A budget of steps makes progress a plain ratio. A budget of time is turned into progress step by
step: each advances by (1 - progress) / (steps that still fit), so that the learning rate has fallen
to zero just when the time is up, whatever the machine does meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from morphogen.training.options import Budget, TrainOptions


@dataclass
class TrainState:
    """Where a run stands; with the tensors of a checkpoint, all that resuming needs."""

    step: int = 0
    seconds: float = 0.0  # spent so far, over all starts
    progress: float = 0.0  # 0 to 1
    increment: float = 0.0  # what the next step adds to it
    rate: float = 1.0  # factor on the learning rate, halved by each rollback
    rollbacks: int = 0


class Schedule:
    """Advances a `TrainState` and gives the learning rate's factor."""

    def __init__(self, options: TrainOptions, num_items: int) -> None:
        self.options = options
        self.budget = Budget.parse(options.budget)
        self.num_steps = self.budget.total_steps(num_items, options.batch_size)

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
            state.progress = min(1.0, state.progress + state.increment)

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

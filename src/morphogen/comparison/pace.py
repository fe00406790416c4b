"""How far a comparison is, and how long the rest of it will take.

Budgets are equal, so runs to come take as long as those that are over did on average, T; before one
is over, as long as the budget. With K runs under way at once,

    remaining = (T (runs to come) + sum over those under way of max(T - elapsed, 0)) / K
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Standing:
    """Where a comparison stands, for those who wait."""

    num_done: int
    num_runs: int
    running: tuple[str, ...]  # "vae, seed 1"
    remaining: float  # seconds; infinite as long as nothing is known
    event: str | None = None  # the end of a run, for a person to read


class Pace:
    """The clock of a comparison's runs."""

    def __init__(
        self,
        num_runs: int,
        budget_seconds: float | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_runs, self.now = num_runs, now
        self.num_done = 0
        self.budget = math.inf if budget_seconds is None else budget_seconds
        self.took: list[float] = []  # seconds of the runs that did not fail
        self.started: dict[str, float] = {}  # those under way

    def see(self, running: Sequence[str]) -> Standing:
        """These are under way."""
        for name in running:
            self.started.setdefault(name, self.now())
        return self._standing()

    def end(self, name: str, event: str, *, failed: bool) -> Standing:
        """One is over, well or not."""
        self.num_done += 1
        started = self.started.pop(name, None)
        if started is not None and not failed:
            self.took.append(self.now() - started)
        return self._standing(event)

    def _standing(self, event: str | None = None) -> Standing:
        each = fmean(self.took) if self.took else self.budget
        to_come = self.num_runs - self.num_done - len(self.started)
        left = [max(each - self.now() + started, 0.0) for started in self.started.values()]
        work = sum(left) + (each * to_come if to_come else 0.0)
        remaining = max(work / max(len(left), 1), max(left, default=0.0))
        return Standing(self.num_done, self.num_runs, tuple(self.started), remaining, event)

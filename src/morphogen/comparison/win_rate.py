"""How often one of two answers to the same is the better one, and how surely.

win rate = (wins + ties / 2) / pairs      with its interval (Clopper-Pearson, ties as halves)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from morphogen.evaluation.intervals import binomial_interval


@dataclass(frozen=True)
class WinRate:
    """How a model does against another one."""

    model: str
    wins: int
    ties: int
    losses: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, model: str, won: Sequence[float]) -> WinRate:
        """From what was said of each pair: 1 won, 0.5 a tie, 0 lost; one pair at least."""
        wins, ties = sum(each == 1 for each in won), sum(each == 0.5 for each in won)
        low, high = binomial_interval(wins + ties / 2, len(won))
        return cls(model, wins, ties, len(won) - wins - ties, sum(won) / len(won), low, high)

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.low > 0.5:
            return "better"
        return "worse" if self.high < 0.5 else "a tie"

"""How often a key may ask."""

from __future__ import annotations

import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from morphogen.core.errors import RecipeError
from morphogen.serve.errors import APIError


class Rates:
    """Requests of each key, no more than so many in so long."""

    def __init__(self, rate: str | None) -> None:
        self.item = None if rate is None else _parsed(rate)
        self.limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, who: str) -> None:
        """Note a request. Raises `APIError` where it is one too many."""
        if self.item is None or self.limiter.hit(self.item, who):
            return
        reset, _ = self.limiter.get_window_stats(self.item, who)
        raise APIError(
            429, f"the limit of this key is {self.item}", code="rate_limit_exceeded",
            retry_after=max(reset - time.time(), 1),
        )  # fmt: skip


def _parsed(rate: str) -> RateLimitItem:
    try:
        return parse(rate)
    except ValueError as error:
        raise RecipeError("that is no rate", found=rate, expected="600/minute") from error

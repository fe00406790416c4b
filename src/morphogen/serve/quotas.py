"""What a key has left, told as OpenAI's API tells it.

x-ratelimit-limit-requests: 500    x-ratelimit-remaining-requests: 17
x-ratelimit-reset-requests: 3h12m5s

Requests are generations; of several quotas the one that has least left is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from morphogen.serve.errors import APIError

NAMES = {"generations": "requests", "tokens": "tokens"}


def headers_of(standing: Iterable[Any]) -> dict[str, str]:
    """Of `records.quotas.Standing`s."""
    headers, told = {}, list(standing)
    for what, name in NAMES.items():
        own = [each for each in told if each.quota.what == what]
        if own:
            least = min(own, key=lambda each: each.left)
            headers[f"x-ratelimit-limit-{name}"] = str(least.quota.most)
            headers[f"x-ratelimit-remaining-{name}"] = str(least.left)
            headers[f"x-ratelimit-reset-{name}"] = spelt(least.reset)
    return headers


def used_up(error: Any) -> APIError:
    """The answer to a key that has nothing left (`records.quotas.QuotaError`). Clients that would
    try again in a moment are told not to."""
    standing = error.standing
    return APIError(
        429, f"{error.message}: there is more in {spelt(standing.reset)}",
        code="insufficient_quota", kind="insufficient_quota", retry_after=standing.reset,
        headers={**headers_of([standing]), "x-should-retry": "false"},
    )  # fmt: skip


def spelt(seconds: float) -> str:
    """`3h12m5s`."""
    left = max(round(seconds), 1)
    hours, minutes = left // 3600, left // 60 % 60
    parts = [f"{hours}h"] if hours else []
    parts += [f"{minutes}m"] if hours or minutes else []
    return "".join([*parts, f"{left % 60}s"])

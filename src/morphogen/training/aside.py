"""What a run does besides its steps: how far it is in the part under way, and how long each took.

A short run is asked for by somebody who waits, and who sees the time that is left of its steps.
What comes before the first and after the last of them is timed, shown while it goes on (whatever
goes through `data.progress.told` in it), and told at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from morphogen.core.amounts import duration

TOLD_FROM = 1.0  # seconds: less is not worth a line


class Aside:
    """The parts of one run by name, and the seconds that each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        """A block that is a part, or more of one."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def text(self) -> str | None:
        """All of them in one line; None where they took no time to speak of."""
        if sum(self.seconds.values()) < TOLD_FROM:
            return None
        named = [f"{name} {duration(s)}" for name, s in self.seconds.items() if s >= TOLD_FROM / 2]
        whole = duration(sum(self.seconds.values()))
        return f"besides its steps: {whole} ({', '.join(named)})"

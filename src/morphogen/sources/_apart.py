"""Other processes for work on small files, which is mostly Python: threads only wait for one
another there.

The processes are fresh ones, which know nothing of this one but what they are sent, so that neither
its threads nor its locks matter; they need a second or two to be there, and end when they have
nothing to do for a while.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

MOST = 3  # besides this process, which cannot keep up with more
AHEAD = 4  # pieces of work that wait for each


def num_processes() -> int:
    """How many there may be: none on one core, nor in a process that is such a one itself."""
    return 0 if multiprocessing.parent_process() else min(MOST, (os.cpu_count() or 1) - 1)


class Apart(Executor):
    """Does elsewhere as much as gets done there, and the rest here, at once."""

    def __init__(self, num: int, first: Callable[[], Any]) -> None:
        """`first` is done by a process before it is given any work: it imports what is needed."""
        from joblib.externals.loky import get_reusable_executor

        self.pool, self.most = get_reusable_executor(num), AHEAD * num
        self.ready = self.pool.submit(first)
        self.pending: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.pending = [each for each in self.pending if not each.done()]
        if self.ready.done() and not self.ready.exception() and len(self.pending) < self.most:
            try:
                self.pending.append(self.pool.submit(fn, *args, **kwargs))
                return self.pending[-1]
            except RuntimeError:  # one of them was killed, say
                self.most = 0
        here: Future[Any] = Future()
        here.set_result(fn(*args, **kwargs))
        return here

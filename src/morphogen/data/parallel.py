"""Work on all cores, in order."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST_WORKERS = 8
In = TypeVar("In")
Out = TypeVar("Out")


def in_order(function: Callable[[In], Out], inputs: Iterable[In]) -> Iterator[Out]:
    """The function of every input, on all cores, in the order of the inputs. At most two inputs for
    each core are under way, so that memory stays bounded.

    Threads: decoding and resizing let go of the interpreter, and nothing has to be copied between
    processes.
    """
    workers = min(num_cores(), MOST_WORKERS)
    rest = iter(inputs)
    first = list(itertools.islice(rest, 2))
    if workers == 1 or len(first) < 2:
        yield from map(function, itertools.chain(first, rest))
        return
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for each in itertools.chain(first, rest):
                waiting.append(pool.submit(function, each))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def num_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

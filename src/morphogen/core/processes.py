"""Work that holds the interpreter, in processes of its own, in order.

Threads do where a library lets go of the interpreter (`data.parallel`); RDKit does not. Processes
are those of `loky`: started anew, not forked, and without the caller's main module, so that a plain
script may ask for them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

AHEAD = 3  # inputs for each process that are under way
In = TypeVar("In")
Out = TypeVar("Out")


def in_processes(
    function: Callable[[In], Out], inputs: Iterable[In], *, after: int
) -> Iterator[Out]:
    """The function of every input, in the order of the inputs: of the first `after` here, as
    processes take a second or two to start; of the others on all cores. At most `AHEAD` inputs for
    each process are under way, so that memory stays bounded.

    `function`, inputs and results travel: they must be picklable, and the function one of a module.
    """
    rest = iter(inputs)
    yield from map(function, itertools.islice(rest, after))
    first = list(itertools.islice(rest, 1))
    if not first:
        return
    from joblib import cpu_count
    from joblib.externals.loky import get_reusable_executor

    workers = cpu_count()
    if workers == 1:
        yield from map(function, itertools.chain(first, rest))
        return
    pool = get_reusable_executor(workers)
    waiting: deque[Any] = deque()
    try:
        for each in itertools.chain(first, rest):
            waiting.append(pool.submit(function, each))
            while len(waiting) > AHEAD * workers or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()

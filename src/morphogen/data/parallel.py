"""Work on all cores, in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from morphogen.core.programs import In, Out, in_turn, num_cores

MOST_WORKERS = 8


def in_order(function: Callable[[In], Out], inputs: Iterable[In]) -> Iterator[Out]:
    """The function of every input, on all cores, in the order of the inputs. At most two inputs for
    each core are under way, so that memory stays bounded.

    Threads: decoding, resizing and products let go of the interpreter, and nothing has to be copied
    between processes. PyTorch takes one core in each of them, or they would wait for each other.
    """
    workers = min(num_cores(), MOST_WORKERS)
    rest = iter(inputs)
    first = list(itertools.islice(rest, 2))
    if workers == 1 or len(first) < 2:
        yield from map(function, itertools.chain(first, rest))
        return
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from in_turn(pool, function, itertools.chain(first, rest), 2 * workers)
        finally:
            torch.set_num_threads(threads)  # for threads that begin later: they take the last word

"""Work for which threads would only wait for one another, done by programs of our own: each answers
lines of JSON by lines of JSON.

    for answer in answered("morphogen.modalities.molecule", look, questions):
        ...

For libraries that hold the interpreter while they compute. Nothing but JSON goes between them; a
program that dies costs time and no answer, and none outlives who asks: it ends with its input.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

MOST = 8  # programs
In = TypeVar("In")
Out = TypeVar("Out")


def answered(
    module: str,
    answer: Callable[[Any], Any],
    questions: Iterable[Any],
    *,
    alone: int = 0,
    size: Callable[[Any], int] = lambda question: 1,
) -> Iterator[Any]:
    """`answer` of every question, in their order: here for the first of them, up to a `size` of
    `alone` together, and where there is one core; then by as many programs `python -m module` as
    there are cores, which call `serve(answer)`. Questions and answers are what JSON can say; two
    for each program are under way at most. What a program that died had been asked is answered
    here.
    """
    rest = iter(questions)
    while alone > 0 and (few := list(itertools.islice(rest, 1))):
        alone -= size(few[0])
        yield answer(few[0])
    first = list(itertools.islice(rest, 1))
    num = min(num_cores(), MOST)
    if num < 2 or not first:
        yield from map(answer, itertools.chain(first, rest))
        return
    programs = [_Program(module) for _ in range(num)]
    free: SimpleQueue[_Program] = SimpleQueue()
    for each in programs:
        free.put(each)

    def ask(question: Any) -> Any:
        program = free.get()
        try:
            return program.ask(question)
        except (OSError, ValueError):  # it died, or is said to have
            return answer(question)
        finally:
            free.put(program)

    pool = ThreadPoolExecutor(num)  # of threads that wait for programs
    try:
        yield from in_turn(pool, ask, itertools.chain(first, rest), 2 * num)
    finally:  # Ctrl-C and whoever wants no more, too
        for each in programs:
            each.end()
        pool.shutdown()


def in_turn(
    pool: ThreadPoolExecutor, function: Callable[[In], Out], inputs: Iterable[In], most: int
) -> Iterator[Out]:
    """The function of every input, by the threads of a pool, in the order of the inputs: so many
    under way at most. What was not begun is not, once nobody wants more."""
    waiting: deque[Future[Out]] = deque()
    try:
        for each in inputs:
            waiting.append(pool.submit(function, each))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class _Program:
    """One of them; Ctrl-C on a terminal is not for it."""

    def __init__(self, module: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0,
        )  # fmt: skip

    def ask(self, question: Any) -> Any:
        """Its answer. Raises `OSError` or `ValueError` where it has none any more."""
        stdin, stdout = self.child.stdin, self.child.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(_line(question))
        stdin.flush()
        return json.loads(stdout.readline())  # nothing, of one that died, is no JSON

    def end(self) -> None:
        """Stop it."""
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]


def serve(answer: Callable[[Any], Any]) -> None:
    """What a program does until its input ends."""
    for line in sys.stdin.buffer:
        told = _line(answer(json.loads(line)))
        try:
            sys.stdout.buffer.write(told)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody listens any more
            os._exit(0)


def _line(said: Any) -> bytes:
    """What JSON says of it, as a line of UTF-8."""
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def num_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Writes to the records: by one thread, in the order in which they were told.

What comes while a transaction is under way goes into the next one, all together: many who ask at
once wait for one commit, and not for each other's. Each learns what came of theirs once it is kept.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from morphogen.core.errors import RecordsError

MOST = 64  # writes of one transaction

Write = tuple[Callable[[], Any], Future[Any]]  # what is done, and who waits for it


class Recorder:
    """Writes for as long as it is not closed."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.told: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="records", daemon=True)
        self.thread.start()

    def write(self, do: Callable[[], Any]) -> Future[Any]:
        """Do something in a transaction, in turn; it cannot be taken back."""
        done: Future[Any] = Future()
        done.set_running_or_notify_cancel()
        self.told.put((do, done))
        return done

    def close(self) -> None:
        """Write what was told, and no more."""
        self.told.put(None)
        self.thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            writes = [self.told.get()]
            while len(writes) < MOST and not self.told.empty():
                writes.append(self.told.get())
            is_open = None not in writes
            self._keep([write for write in writes if write is not None])

    def _keep(self, writes: list[Write]) -> None:
        """All in one transaction; where that fails each by itself, as others are not at fault."""
        try:
            with self.database.together():
                found = [do() for do, _ in writes]
        except Exception as error:
            if len(writes) == 1 or _is_of_all(error):
                for _, done in writes:
                    done.set_exception(error)
            else:
                for write in writes:
                    self._keep([write])
            return
        for (_, done), each in zip(writes, found, strict=True):
            done.set_result(each)


def _is_of_all(error: Exception) -> bool:
    """Whether the database failed, locked or full, and not what was written."""
    from sqlalchemy.exc import OperationalError

    return isinstance(error, RecordsError) and isinstance(error.__cause__, OperationalError)

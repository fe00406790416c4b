"""Lines of JSON between a server and the process of a model."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from morphogen.core.errors import MorphogenError

Event = Mapping[str, Any]


class Channel:
    """What came is read by a thread, so that it is there as soon as the model looks."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self.source, self.target = source, target
        self.came: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.is_closed = False
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def standard(cls) -> Channel:
        """Over standard input and output. What a library prints goes to standard error."""
        target = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        return cls(sys.stdin.buffer, target)

    def received(self, *, wait: bool) -> Iterable[dict[str, Any]]:
        """What has come since it was asked for the last time; with `wait`, something at least,
        unless the other side has ended."""
        while not self.is_closed:
            try:
                message = self.came.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if message is None:
                self.is_closed = True
            else:
                yield message

    def tell(self, events: Iterable[Event]) -> None:
        """Write events, in one line."""
        if events := list(events):
            self.target.write(json.dumps(events).encode() + b"\n")
            self.target.flush()

    def _read(self) -> None:
        for line in self.source:
            self.came.put(json.loads(line))
        self.came.put(None)


def failure(error: MorphogenError, code: str | None = None) -> dict[str, Any]:
    """An error as the other side can tell it on."""
    facts = {"found": error.found, "expected": error.expected, "hint": error.hint}
    told = {name: str(fact) for name, fact in facts.items() if fact is not None}
    return {"kind": type(error).__name__, "message": error.message, "code": code, **told}


def unexpected(error: Exception) -> dict[str, Any]:
    """An error that is ours: where it happened goes to the log, what was asked does not."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{f.name} {os.path.basename(f.filename)}:{f.lineno}" for f in frames[::-1])
    print(f"{type(error).__name__} in {places}", file=sys.stderr, flush=True)
    return {"kind": "Failed", "message": f"the model failed: {type(error).__name__}"}

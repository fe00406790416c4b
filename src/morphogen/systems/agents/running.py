"""A tool that is run, bounded in time and in what it gives.

It runs in a thread of its own. One that does not come back in time is left behind: Python ends no
thread from outside, so that what it was at may still be done, which is what the result says, and
the tool is not run again until it is over. What has to be ended is run where it can be
(`tools.programs`, `mcp_client`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from morphogen.core.errors import MorphogenError
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.trace import Returned

MOST_ERROR = 600  # characters of what went wrong


class Untrusted(str):
    """What a tool gives that is otherwise trusted, and this time holds words of others."""

    __slots__ = ()


class Runner:
    """Runs tools, and knows which of them have not come back."""

    def __init__(self) -> None:
        self._away: dict[str, threading.Thread] = {}

    def run(self, tool: Tool, arguments: Mapping[str, Any], seconds: float) -> Returned:
        """What it gives, or what went wrong. Raises nothing."""
        away = self._away.get(tool.name)
        if away is not None and away.is_alive():
            return _failed(tool, "it is still at an earlier call", "time", 0.0)
        most = min(tool.seconds, max(seconds, 0.0))
        given: list[Any] = []

        def work() -> None:
            try:
                given.append(("", tool.run(arguments)))
            except MorphogenError as error:
                given.append(("raised", str(error)))
            except BaseException as error:  # SystemExit of somebody's tool ends no run
                given.append(("raised", f"{type(error).__name__}: {error}"))

        start = time.monotonic()
        thread = threading.Thread(target=work, name=f"tool {tool.name}", daemon=True)
        thread.start()
        thread.join(most)
        took = round(time.monotonic() - start, 3)
        if not given:
            self._away[tool.name] = thread
            undone = "; what it was at may have been done" if tool.writes else ""
            return _failed(tool, f"it did not come back within {most:g} s{undone}", "time", took)
        why, value = given[0]
        if why:
            return _failed(tool, _cut(_clean(value), MOST_ERROR), why, took)
        text = _clean(_text(value))
        trusted = tool.trusted and not isinstance(value, Untrusted)
        return Returned(tool.name, True, _cut(text, tool.most), "", took, len(text), trusted)


def _failed(tool: Tool, text: str, why: str, seconds: float) -> Returned:
    """Words of an error are the tool's own only where it is trusted."""
    own = tool.trusted or why == "time"
    return Returned(tool.name, False, text, why, seconds, len(text), own)


def _text(value: Any) -> str:
    """What a tool gave, for a model: a text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _clean(text: str) -> str:
    """Text that can be written down: halves of characters become marks."""
    return text.encode("utf-8", "replace").decode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n(cut: {len(text) - most:,} more)"

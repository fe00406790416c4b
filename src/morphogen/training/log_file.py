"""The log of a run on disk: OUT/log.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from morphogen.core.config import read_log
from morphogen.core.storage import write_text
from morphogen.training.loop import Log


class LogFile:
    """JSON lines, one per log; lines past the resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = read_log(path) if step else []
        kept = [json.dumps(line) for line in lines if line["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))

    def append(self, log: Log) -> None:
        """Write one line, unless the log says nothing."""
        if log.values or log.event:
            with self.path.open("a") as file:
                file.write(json.dumps(self._without_paths(log.to_json())) + "\n")

    def _without_paths(self, line: dict[str, object]) -> dict[str, object]:
        """The log lies in the bundle, and does not say where that lies on this machine."""
        folder = self.path.parent
        if isinstance(event := line.get("event"), str):
            line["event"] = event.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return line

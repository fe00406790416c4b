"""What the log of a training says, for people: points of curves, what was told, where it stands.

A log grows while it is read, and one that goes on from a checkpoint drops lines: then all of it is
read anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.border import COUNT, REAL, parse_json
from morphogen.core.errors import BundleError
from morphogen.serve.trainings import Training

MOST_CURVES = 12
MOST_POINTS = 600  # of a curve, at first
LINE = {"step": COUNT, "seconds": REAL}
OWN = {"step", "seconds"}

Points = dict[str, list[tuple[int, float]]]


class Tail:
    """The lines of a file that are new since the last look."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0

    @property
    def is_cut(self) -> bool:
        """Whether the file has lost lines that were read."""
        return self.path.stat().st_size < self.place

    def read(self) -> list[dict[str, Any]]:
        """Whole lines of this shape; the one that is being written waits."""
        with self.path.open("rb") as file:
            file.seek(self.place)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.place += len(whole)
        found = []
        for line in whole.decode(errors="replace").splitlines():
            try:
                found.append(parse_json(line, LINE, self.path))
            except BundleError:  # damaged
                continue
        return found


@dataclass
class Told:
    """What lines of a log say."""

    points: Points = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)  # step, text, whether an alarm
    step: int = 0
    seconds: float = 0.0

    def add(self, lines: Iterable[dict[str, Any]], stage: str) -> None:
        """Take in lines of a stage; of several, curves are called by it too."""
        for line in lines:
            self.step, self.seconds = line["step"], line["seconds"]
            if isinstance(event := line.get("event"), str):
                alarm = "alarm" in line
                self.events.append({"step": line["step"], "text": event, "is_alarm": alarm})
                continue
            for name, value in line.items():
                if name not in OWN and isinstance(value, (int, float)) and math.isfinite(value):
                    called = f"{stage}: {name}" if stage else name
                    self.points.setdefault(called, []).append((line["step"], value))


class Follower:
    """The logs of a training, stage by stage, as they grow."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.tails: list[tuple[str, Tail]] = []

    def look(self) -> tuple[bool, Told]:
        """Whether it begins anew, and what is new."""
        logs = self.training.logs()
        is_cut = any(tail.is_cut for _, tail in self.tails)
        anew = is_cut or (bool(logs) and not self.tails)
        if is_cut:
            self.tails = []
        known = {tail.path for _, tail in self.tails}
        self.tails += [(stage, Tail(log)) for stage, log in logs if log not in known]
        told = Told()
        for stage, tail in self.tails:
            told.add(tail.read(), stage)
        return anew, told


def chosen(points: Points) -> Points:
    """The curves that are shown, thinned: what the last lines have comes first."""
    stages = list(dict.fromkeys(map(_stage, points)))
    last = sorted(points, key=lambda each: (-stages.index(_stage(each)), -points[each][-1][0]))
    return {name: thinned(points[name]) for name in last[:MOST_CURVES]}


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most so many, evenly, the last among them."""
    every = -(-len(points) // MOST_POINTS)
    kept = list(points[:: max(every, 1)])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _stage(name: str) -> str:
    return name.rpartition(": ")[0]

"""What came of training a bundle again: the verdict, and what differs from its record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from morphogen.data.differences import Difference

MOST_LISTED = 10


@dataclass(frozen=True)
class Change:
    """One fact of the record that is another here and now."""

    fact: str
    then: str
    now: str


@dataclass(frozen=True)
class ScoreAgain:
    """A recorded score beside the same score of the model that was trained again."""

    name: str
    then: float
    now: float | None
    verdict: str  # equal, within the interval, differs, not compared: why


@dataclass
class Reproduction:
    """What came of training a bundle again."""

    bundle: str
    again: str  # the folder of the model that was trained again
    steps: int
    tolerance: float
    changes: list[Change] = field(default_factory=list)
    data: Difference | None = None  # the files that changed, when the data is not what it was
    is_trained: bool = False
    num_tensors: int = 0
    tensors: dict[str, float] = field(default_factory=dict)  # that differ: by how much, relative
    scores: list[ScoreAgain] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.data is not None:
            return "different"
        if not self.is_trained:
            return "not trained"
        off = max(self.tensors.values(), default=0.0) > self.tolerance
        if off or any(score.verdict == "differs" for score in self.scores):
            return "different"
        return f"the same within {self.tolerance:g}" if self.tensors else "identical"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"verdict": self.verdict, **asdict(self)}

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.bundle}: {self.verdict}", *self._about_data(), *self._about_weights()]
        for score in self.scores:
            now = "" if score.now is None else f"{score.now:.6g}, "
            lines.append(f"  {score.name}: {score.then:.6g}, now {now}{score.verdict}")
        lines += [f"  {c.fact} was {c.then}, now {c.now}" for c in self.changes]
        if not self.changes:
            lines.append("  code, PyTorch, device and threads are those of the record")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])

    def _about_data(self) -> list[str]:
        if self.data is None:
            return []
        said = "  the data is not what it was trained on, so nothing was trained"
        return [said, *(f"  {line}" for line in self.data.text().splitlines())]

    def _about_weights(self) -> list[str]:
        if not self.is_trained:
            return []
        made = f"  {self.steps:,} steps made again, in {self.again}: "
        if not self.tensors:
            return [f"{made}all {self.num_tensors:,} tensors are the same, bit by bit"]
        worst = sorted(self.tensors, key=self.tensors.__getitem__, reverse=True)
        lines = [f"{made}{len(worst):,} of {self.num_tensors:,} tensors differ"]
        lines += [f"    {name}: by {self.tensors[name]:.2g}" for name in worst[:MOST_LISTED]]
        if len(worst) > MOST_LISTED:
            lines.append(f"    and {len(worst) - MOST_LISTED:,} more, by less")
        return lines

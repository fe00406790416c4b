"""The watch over a run: alarms while a model trains, each with what to type next.

It sees every log and keeps a few numbers per logged value, whatever the length of the run. All it
knows stands in the log, so a resumed run that is shown its log again goes on as if never stopped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from morphogen.core.family import Family
from morphogen.core.objective import Objective
from morphogen.training.loop import Log
from morphogen.training.options import TrainOptions
from morphogen.training.symptoms import SYMPTOMS, Finding, History, Symptom, out_of_range

CLEAR_AFTER = 3  # well findings in a row that end an episode


@dataclass(frozen=True)
class Alarm:
    """What goes wrong, since when, by which numbers, and what to do about it."""

    kind: str
    step: int
    message: str
    found: str
    hint: str

    def text(self) -> str:
        """One line for a person."""
        return f"ALARM {self.kind}: {self.message} ({self.found}). try: {self.hint}"

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


@dataclass
class Episode:
    """Whether an alarm of one kind is sounding: raised once, silent until it has been well."""

    is_raised: bool = False
    num_ill: int = 0
    num_well: int = 0
    ill_since: float = 0.0

    def is_due(self, ill: bool | None, symptom: Symptom, progress: float) -> bool:
        """Whether this finding raises the alarm."""
        if ill is None:
            return False
        if not ill:
            self.num_ill, self.num_well = 0, self.num_well + 1
            self.is_raised = self.is_raised and self.num_well < CLEAR_AFTER
            return False
        self.ill_since = self.ill_since if self.num_ill else progress
        self.num_ill, self.num_well = self.num_ill + 1, 0
        lasts = self.num_ill >= symptom.count and progress - self.ill_since >= symptom.span
        if self.is_raised or not lasts:
            return False
        self.is_raised = True
        return True


@dataclass
class Watch:
    """Sees the logs of one run and yields alarms; `alarms` are all so far."""

    symptoms: tuple[Symptom, ...]
    history: History
    alarms: list[Alarm] = field(default_factory=list)
    episodes: dict[str, Episode] = field(default_factory=lambda: defaultdict(Episode))

    @classmethod
    def over(
        cls,
        family: Family | type[Family],
        options: TrainOptions,
        objective: Objective | None = None,
    ) -> Watch:
        """A watch for a family: the symptoms that all share, and the ranges that it declares, or
        the objective that it is trained towards."""
        declared = family.watched if objective is None else objective.watched
        own = tuple(out_of_range(part, healthy) for part, healthy in declared.items())
        usual_lr = float(family.train_defaults.get("lr", TrainOptions.lr))
        return cls((*SYMPTOMS, *own), History(options, usual_lr))

    def see(self, log: Log) -> Iterator[Alarm]:
        """Take in one log; yield the alarms that it raises."""
        if not log.values:
            return
        self.history.add(log.values, log.step, progress_of(log))
        for symptom in self.symptoms:
            finding = symptom.judge(self.history)
            if finding is not None and self._is_due(symptom, finding):
                alarm = Alarm(symptom.kind, log.step, symptom.message, finding.found, finding.hint)
                self.alarms.append(alarm)
                yield alarm

    def _is_due(self, symptom: Symptom, finding: Finding) -> bool:
        if any(self.episodes[kind].is_raised for kind in symptom.silenced_by):
            return False
        episode = self.episodes[symptom.kind]
        return episode.is_due(finding.ill, symptom, self.history.progress)


def progress_of(log: Log) -> float:
    """The share of the budget that is spent, 0 to 1."""
    if log.num_steps:
        return min(1.0, log.step / log.num_steps)
    whole = log.seconds + log.remaining
    return log.seconds / whole if math.isfinite(whole) and whole > 0 else 0.0


def numbers_of(line: Mapping[str, object]) -> dict[str, float]:
    """The values of a line of the log, as they were when it was written."""
    own = {"step", "seconds", "event", "alarm"}
    return {k: float(v) for k, v in line.items() if k not in own and isinstance(v, (int, float))}

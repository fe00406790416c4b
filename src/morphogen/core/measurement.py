"""A number that can be trusted: its interval, its floor, and the protocol that it was taken by.

Two measurements may be compared when they are of the same thing and their protocols agree; else
the difference between them says as much of the protocols as of the models. A difference that the
intervals cover is a tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from morphogen.core.errors import MeasurementError

# What may differ between two measurements that compare: who was measured, and with what luck.
FREE = {"model", "model_sha256", "seed", "trained_on_digest"}


@dataclass(frozen=True)
class Measurement:
    """A score as it is reported: `value` in [`low`, `high`] from `n` items, beside its `floor`.

    `floor` is the same score of real data in place of generated data: nothing can be asked to do
    better. `higher_is_better` is None for numbers that only describe.
    """

    name: str
    value: float
    n: int
    higher_is_better: bool | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""  # how low and high were found: "95 %, bootstrap over items, 20 repeats"
    floor: float | None = None
    floor_high: float | None = None  # the upper end of the floor's own interval
    note: str = ""  # what to know when reading it
    caution: str = ""  # what a reader must not miss: an evaluation repeats it as a warning
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or (
            self.low is not None and not self.interval
        ):
            raise ValueError(f"{self.name}: an interval has two ends and says how it was found")

    @property
    def ratio(self) -> float | None:
        """How many times the floor, for scores where lower is better and the floor is not 0."""
        if self.floor is None or self.floor <= 0 or self.higher_is_better is not False:
            return None
        return self.value / self.floor

    def better_than(self, other: Measurement) -> bool | None:
        """Whether this is the better one; None when the intervals overlap, which is a tie.

        Raises `MeasurementError` when the two do not compare, naming what differs.
        """
        check_comparable(self, other)
        if self.higher_is_better is None:
            raise MeasurementError(f"{self.name} has no better or worse")
        up, down = (self, other) if self.higher_is_better else (other, self)
        if up._end("low") > down._end("high"):
            return True
        return False if down._end("low") > up._end("high") else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, what is not known left out."""
        return {
            name: dict(value) if name == "protocol" else value
            for name, value in asdict(self).items()
            if value is not None and value != ""
        }

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Measurement:
        """Inverse of `to_json`."""
        return cls(**about)

    def _end(self, name: str) -> float:
        end: float | None = getattr(self, name)
        return self.value if end is None else end


def check_comparable(first: Measurement, second: Measurement) -> None:
    """Raise `MeasurementError` naming the first difference, and how many there are."""
    differences = [
        (name, first.protocol.get(name), second.protocol.get(name))
        for name in sorted({*first.protocol, *second.protocol} - FREE)
        if first.protocol.get(name) != second.protocol.get(name)
    ]
    if first.name != second.name:
        differences.insert(0, ("score", first.name, second.name))
    if not differences:
        return
    name, found, expected = differences[0]
    more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
    raise MeasurementError(
        "these two numbers were not measured in the same way",
        found=f"{name}: {found}{more}",
        expected=f"{name}: {expected}",
        where=", ".join(each for each, _, _ in differences),
        hint="morphogen evaluate both bundles with the same --data and --num",
    )

"""A note: what is remembered, where it is from, and since when it holds."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from morphogen.core.border import Number, check_shape
from morphogen.core.errors import DataError

Kind = Literal["fact", "event", "summary"]
KINDS = ("fact", "event", "summary")
_RELATION = {
    "subject": str, "relation": str, "object": str, "since": (Number(), None),
    "until": (Number(), None),
}  # fmt: skip
SHAPE = {
    "id": str, "text": str, "kind": KINDS, "source": str, "made": Number(),
    "expires": (Number(), None), "trusted": bool, "of": [str], "relations": [_RELATION],
}  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """What a note says of somebody or something, and for which time. Seconds since 1970; None: no
    bound that is known."""

    subject: str
    relation: str
    object: str
    since: float | None = None
    until: float | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Relation:
        """From JSON, with dates as people write them. Raises `DataError`."""
        known = {"subject", "relation", "object", "since", "until"}
        if not {"subject", "relation", "object"} <= set(told) <= known:
            raise DataError("that is no relation", found=str(dict(told))[:120],
                            expected="subject, relation, object, since?, until?")  # fmt: skip
        subject, relation, thing = (
            str(told[name]).strip() for name in ("subject", "relation", "object")
        )
        return cls(subject, relation, thing, when(told.get("since")), when(told.get("until")))

    def holds(self, at: float) -> bool:
        """Whether it holds at a time, as far as it is bounded."""
        after = self.since is None or self.since <= at
        return after and (self.until is None or at < self.until)


@dataclass(frozen=True)
class Note:
    """One thing that is remembered."""

    id: str
    text: str
    kind: Kind
    source: str  # who said it, or where it stands
    made: float  # when it was written down, in seconds since 1970
    expires: float | None = None  # when it is to be forgotten
    trusted: bool = True  # whether these are the user's own words
    of: tuple[str, ...] = ()  # the notes that a summary was made of
    relations: tuple[Relation, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        told = asdict(self)
        return {**told, "of": list(self.of), "relations": list(told["relations"])}

    @classmethod
    def from_json(cls, told: Mapping[str, Any], where: object = "a note") -> Note:
        """What `to_json` gave. Raises `BundleError` for anything else."""
        check_shape(dict(told), SHAPE, where)
        note = cls(**{name: told[name] for name in SHAPE})
        relations = tuple(Relation(**each) for each in told["relations"])
        return replace(note, of=tuple(told["of"]), relations=relations)


def when(told: Any) -> float | None:
    """A time as people and programs write it -> seconds since 1970, of UTC where it does not say
    otherwise: 1700000000, "2024-05-01", "2024-05-01 12:00". Raises `DataError`."""
    if told is None or told == "":
        return None
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        return float(told)
    try:
        moment = datetime.datetime.fromisoformat(str(told))
    except ValueError as error:
        raise DataError("that is no date", found=told, expected="2024-05-01") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def written(time: float) -> str:
    """A time as a date, with the minute where it has one."""
    moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
    text = moment.strftime("%Y-%m-%d %H:%M")
    return text.removesuffix(" 00:00")

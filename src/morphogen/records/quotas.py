"""How much a key may ask for: generations and tokens in a day or a month.

    500 generations/day    2,000,000 tokens/month

A generation is counted in the transaction in which it begins, so that two servers that ask at once
let through no more than there is; its tokens are known when it ends. So a key whose tokens are used
up begins nothing more, and what it had begun before may go beyond them. Days and months are those
of UTC, known by their names: a clock that is set back finds what was spent then.
"""

from __future__ import annotations

import re
import time
from calendar import monthrange
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from morphogen.core.errors import QuotaError, RecipeError
from morphogen.records.audit import Audit
from morphogen.records.database import Database
from morphogen.records.tables import Quota as Row
from morphogen.records.tables import Spent

WHATS, PERIODS = ("generations", "tokens"), {"day": "%Y-%m-%d", "month": "%Y-%m"}
DAY = 86400.0
COUNTED = ("prompt_tokens", "completion_tokens", "tokens")  # of what a generation took
_WRITTEN = re.compile(r"\s*(\d[\d,_]*)\s*(\w+)\s*/\s*(\w+)\s*")


@dataclass(frozen=True)
class Quota:
    """So many of something in a time."""

    what: str  # generations, tokens
    period: str  # day, month
    most: int

    @classmethod
    def parse(cls, text: str) -> Quota:
        """`500 generations/day`. Raises `RecipeError` for what is none."""
        found = _WRITTEN.fullmatch(text)
        if found is None or found[2] not in WHATS or found[3] not in PERIODS:
            raise RecipeError(
                "that is no quota",
                found=text,
                expected="500 generations/day, 2,000,000 tokens/month",
            )
        return cls(found[2], found[3], int(re.sub(r"\D", "", found[1])))

    def __str__(self) -> str:
        return f"{self.most:,} {self.what}/{self.period}"


@dataclass(frozen=True)
class Standing:
    """How much of a quota is used up."""

    quota: Quota
    spent: int
    reset: float  # seconds until the day or month is over

    @property
    def left(self) -> int:
        """What is left."""
        return max(self.quota.most - self.spent, 0)


def used_up(standing: Standing) -> QuotaError:
    """The error for a key that has nothing left."""
    error = QuotaError(
        f"this key has used up its quota of {standing.quota}",
        found=f"{standing.spent:,} {standing.quota.what}",
        hint="morphogen keys quota NAME",
    )
    error.standing = standing
    return error


class Quotas:
    """The quotas of an installation's keys, and what was spent."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self.database, self.audit = database, audit

    def set(self, key: int, quotas: Iterable[Quota], *, by: int | None = None) -> None:
        """Let a key ask for so much, instead of what it had; with none, for any number."""
        told = list(quotas)
        with self.database.write() as session:
            session.execute(delete(Row).where(Row.key_id == key))
            for each in told:
                values = {"what": each.what, "period": each.period, "most": each.most}
                session.merge(Row(key_id=key, **values))
            self.audit.add(
                session, "keys.quota", f"key {key}", user=by, quotas=[str(each) for each in told]
            )

    def standing(self, key: int) -> list[Standing]:
        """What a key has used up of each of its quotas."""
        with self.database.read() as session:
            return self._standing(session, key)

    def take(self, session: Session, key: int) -> None:
        """Count a generation that begins. Raises `QuotaError` where there is none left."""
        self._count(session, key, generations=1, tokens=0)
        for each in self._standing(session, key):
            # The one that begins is counted already, its tokens are not.
            over = each.spent - (each.quota.what == "generations") >= each.quota.most
            if over:
                raise used_up(each)

    def spend(self, session: Session, key: int, usage: Mapping[str, Any]) -> None:
        """Count the tokens of a generation that ends."""
        tokens = sum(int(usage.get(name) or 0) for name in COUNTED)
        if tokens:
            self._count(session, key, generations=0, tokens=tokens)

    def _count(self, session: Session, key: int, **more: int) -> None:
        for period in _periods(time.time()).values():
            self.database.count(session, Spent, {"key_id": key, "period": period}, more)

    def _standing(self, session: Session, key: int) -> list[Standing]:
        now = time.time()
        names, quotas = _periods(now), list(session.scalars(select(Row).where(Row.key_id == key)))
        if not quotas:
            return []
        table = Spent.__table__
        query = select(table).where(table.c.key_id == key, table.c.period.in_(names.values()))
        spent = {row["period"]: dict(row) for row in session.execute(query).mappings()}
        return [
            Standing(
                Quota(each.what, each.period, each.most),
                int(spent[names[each.period]][each.what]) if names[each.period] in spent else 0,
                _left(each.period, now),
            )
            for each in quotas
        ]


def _periods(now: float) -> dict[str, str]:
    """What the day and the month are called."""
    return {name: time.strftime(form, time.gmtime(now)) for name, form in PERIODS.items()}


def _left(period: str, now: float) -> float:
    """Seconds until a day or a month is over."""
    there = time.gmtime(now)
    left = DAY - now % DAY
    if period == "month":
        left += (monthrange(there.tm_year, there.tm_mon)[1] - there.tm_mday) * DAY
    return left

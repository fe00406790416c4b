"""Prompt templates: versions that never change, and labels that move from one to another.

greeting            its newest version
greeting:3          version 3
greeting@production the version that the label stands on
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError, did_you_mean
from morphogen.records.audit import Audit
from morphogen.records.database import Database
from morphogen.records.sealing import HOUSE, Seals
from morphogen.records.tables import Template as Row
from morphogen.records.tables import TemplateLabel

NAME = re.compile(r"[\w.-]{1,100}")
PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """One version of a template."""

    id: int
    name: str
    version: int
    text: str  # with {places} for values
    settings: Mapping[str, Any]  # parameters that go with it
    note: str
    labels: tuple[str, ...]
    created: float

    @property
    def places(self) -> list[str]:
        """The names of the values that it takes."""
        return list(dict.fromkeys(PLACE.findall(self.text)))

    def fill(self, **values: str) -> str:
        """The text with the values in their places; braces in values stay what they are."""
        missing = [name for name in self.places if name not in values]
        if missing or (unknown := [name for name in values if name not in self.places]):
            raise RecordsError(
                f"the template {self.name} takes other values",
                found=", ".join(values) or "none",
                expected=", ".join(self.places) or "none",
                hint=f"leave out {unknown[0]}" if not missing else f"give {missing[0]}=...",
            )
        return PLACE.sub(lambda found: values[found.group(1)], self.text)


class Templates:
    """The templates of an installation."""

    def __init__(self, database: Database, seals: Seals, audit: Audit) -> None:
        self.database, self.seals, self.audit = database, seals, audit

    def save(
        self,
        name: str,
        text: str,
        *,
        settings: Mapping[str, Any] | None = None,
        note: str = "",
        labels: tuple[str, ...] = (),
        user: int | None = None,
    ) -> Template:
        """A new version of the template; the first makes it."""
        _check_names(name, *labels)
        with self.database.write() as session:
            self.database.take_turns(session, 2)
            newest = session.scalars(select(func.max(Row.version)).where(Row.name == name)).one()
            version = (newest or 0) + 1
            told = {"text": text, "settings": dict(settings or {}), "note": note}
            sealed = self.seals.seal_json(session, HOUSE, told, f"template {name}:{version}")
            row = Row(name=name, version=version, text=sealed, user_id=user)
            session.add(row)
            session.flush()
            for label in labels:
                session.merge(TemplateLabel(name=name, label=label, template_id=row.id))
            session.flush()
            return self._template(session, row)

    def label(self, which: str, label: str, *, user: int | None = None) -> Template:
        """Move a label to a version."""
        with self.database.write() as session:
            row = self._row(session, which)
            _check_names(label)
            session.merge(TemplateLabel(name=row.name, label=label, template_id=row.id))
            told = {"label": label, "version": row.version}
            self.audit.add(session, "templates.label", f"template {row.id}", user=user, **told)
            return self._template(session, row)

    def get(self, which: str) -> Template:
        """`name`, `name:version` or `name@label`. Raises `RecordsError` where there is none."""
        with self.database.read() as session:
            return self._template(session, self._row(session, which))

    def all(self, name: str | None = None) -> list[Template]:
        """The newest version of every template, or every version of one, newest first."""
        with self.database.read() as session:
            if name is not None:
                rows = session.scalars(
                    select(Row).where(Row.name == name).order_by(Row.version.desc())
                )
                return [self._template(session, row) for row in rows]
            names = session.scalars(select(Row.name).distinct().order_by(Row.name))
            return [self._template(session, self._row(session, each)) for each in names]

    def _row(self, session: Session, which: str) -> Row:
        query = select(Row)
        if "@" in which:
            name, _, label = which.partition("@")
            query = query.join(TemplateLabel, TemplateLabel.template_id == Row.id)
            query = query.where(TemplateLabel.name == name, TemplateLabel.label == label)
        else:
            name, _, version = which.partition(":")
            query = query.where(Row.name == name).order_by(Row.version.desc()).limit(1)
            if version:
                query = query.where(Row.version == (int(version) if version.isdecimal() else -1))
        row = session.scalars(query).first()
        if row is None:
            names = list(session.scalars(select(Row.name).distinct()))
            hint = did_you_mean(name, names) if name not in names else ""
            raise RecordsError(
                f"there is no template {which!r}.{hint}",
                expected="name, name:version or name@label",
                found=", ".join(names[:20]) or "no templates yet",
            )
        return row

    def _template(self, session: Session, row: Row) -> Template:
        told = self.seals.open_json(session, row.text, f"template {row.name}:{row.version}")
        labels = session.scalars(
            select(TemplateLabel.label)
            .where(TemplateLabel.template_id == row.id)
            .order_by(TemplateLabel.label)
        )
        return Template(
            row.id, row.name, row.version, told["text"], told["settings"], told["note"],
            tuple(labels), row.created,
        )  # fmt: skip


def _check_names(*names: str) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise RecordsError(
                "this is no name for a template or label",
                found=repr(name[:100]),
                expected="letters, digits, and . _ -",
            )

"""Whether the records are whole: the file, the schema, the audit log, and every content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from morphogen.core.errors import RecordsError
from morphogen.records.contents import CONTENTS
from morphogen.records.migrating import difference, head, version_of
from morphogen.records.rotating import replaced
from morphogen.records.tables import Base

if TYPE_CHECKING:
    from morphogen.records.records import Records


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    counts: dict[str, int] = field(default_factory=dict)  # rows of each table
    num_opened: int = 0  # contents that were decrypted
    num_forgotten: int = 0  # whose key was forgotten
    head: str = ""  # of the audit log
    schema: str = ""
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The facts."""
        return vars(self)

    def text(self) -> str:
        """For a terminal."""
        rows = ", ".join(f"{name} {num:,}" for name, num in self.counts.items() if num)
        lines = [
            f"schema {self.schema}; {rows}",
            f"contents: {self.num_opened:,} open, {self.num_forgotten:,} were forgotten",
            f"audit log: its head is {self.head}",
        ]
        return "\n".join([*lines, *(self.problems or ["nothing is wrong"])])


def verify(records: Records) -> Report:
    """Look at everything."""
    database = records.database
    report = Report(schema=version_of(database) or "none")
    if report.schema != head():
        report.problems.append(f"the schema is {report.schema}, not {head()}")
    if changed := difference(database):
        report.problems.append(f"the schema is not as it should be: {changed[:3]}")
    verdict = records.audit.verify()
    report.head = verdict.head
    report.problems += [f"audit log: {each}" for each in verdict.broken[:10]]
    with database.read() as session:
        if database.is_sqlite:
            said = [row[0] for row in session.execute(text("PRAGMA integrity_check"))]
            report.problems += [f"the file: {each}" for each in said[:10] if each != "ok"]
        for table in Base.metadata.sorted_tables:
            counted = select(func.count()).select_from(table)
            report.counts[table.name] = session.scalars(counted).one()
        for content in (each for contents in CONTENTS for each in contents.all(session)):
            try:
                opened = records.seals.open(session, content.sealed, content.purpose)
            except RecordsError as error:
                report.problems.append(f"{error.message}: {content.purpose}")
                continue
            report.num_opened += opened is not None
            report.num_forgotten += opened is None
        if old := replaced(session):
            report.problems.append(
                f"a rotation was cut short: {len(old):,} old keys are in use; morphogen records "
                "rotate goes on with it"
            )
    return report

"""Whether the records are whole: the file, the schema, the audit log, and every content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from morphogen.core.errors import RecordsError
from morphogen.records.migrating import difference, head, version_of
from morphogen.records.tables import (
    Annotation,
    Artefact,
    Base,
    Dataset,
    Evaluation,
    Fragment,
    Generation,
    Model,
    Run,
    Template,
    User,
)

if TYPE_CHECKING:
    from morphogen.records.records import Records

PAGE = 1000
# Every encrypted column: what it is opened as, given its row.
Sealed = tuple[Any, Callable[[Any], str]]
SEALED: dict[type[Base], tuple[Sealed, ...]] = {
    User: ((User.name, lambda row: f"user {row.id}"),),
    Fragment: ((Fragment.content, lambda row: f"fragment {row.address.hex()}"),),
    Template: ((Template.text, lambda row: f"template {row.name}:{row.version}"),),
    Generation: ((Generation.parameters, lambda row: f"parameters {row.uid}"),),
    Dataset: (
        (Dataset.about, lambda row: f"dataset {row.digest}"),
        (Dataset.items, lambda row: f"items {row.digest}"),
    ),
    Run: ((Run.about, lambda row: f"run {row.id}"),),
    Model: ((Model.about, lambda row: f"model {row.hash}"),),
    Evaluation: ((Evaluation.record, lambda row: f"evaluation {row.id}"),),
}


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
        for sealed, purpose in _sealed(session):
            try:
                opened = records.seals.open(session, sealed, purpose)
            except RecordsError as error:
                report.problems.append(f"{error.message}: {purpose}")
                continue
            report.num_opened += opened is not None
            report.num_forgotten += opened is None
    return report


def _sealed(session: Session) -> Iterator[tuple[bytes, str]]:
    """Every encrypted value with its purpose, page by page."""
    for table, columns in SEALED.items():
        for row in session.scalars(select(table).execution_options(yield_per=PAGE)):
            for column, purpose in columns:
                if (value := getattr(row, column.key)) is not None:
                    yield value, purpose(row)
    for column, what in ((Artefact.place, "artefact"), (Annotation.explanation, "annotation")):
        joined = select(column, Generation.uid).join(Generation).where(column.is_not(None))
        for value, uid in session.execute(joined.execution_options(yield_per=PAGE)):
            yield value or b"", f"{what} {uid}"

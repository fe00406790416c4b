"""What the verbs about records share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from morphogen.records.people import User
    from morphogen.records.records import Records


@contextmanager
def opened() -> Iterator[tuple[Records, User]]:
    """The records of this installation, and who works here. Raises `RecordsError` where the
    libraries that they need are not installed."""
    check_installed()
    from morphogen.records.records import open

    with open() as records:
        yield records, records.users.local()


def check_installed() -> None:
    """Raise `RecordsError` where libraries that records need are not installed."""
    from morphogen.core.errors import RecordsError
    from morphogen.records.recording import missing

    if lacking := missing():
        raise RecordsError(
            "records need libraries that are not installed",
            found=f"no {', no '.join(lacking)}",
            hint="pip install 'morphogen[records]'",
        )


def day(time_: float | None) -> str:
    """A time for a table."""
    return "-" if time_ is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(time_))

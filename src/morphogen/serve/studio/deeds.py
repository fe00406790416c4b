"""Forms of one button: what goes on among the models is stopped, or goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request

from morphogen.serve.errors import APIError
from morphogen.serve.studio.visitor import Visitor


async def done_with(
    request: Request,
    visitor: Visitor,
    *,
    verb: str,
    find: Callable[[str], Any],
    name: str,
    deeds: Mapping[str, Callable[[Any], None]],
) -> Any:
    """Find what a verb began under a name, do the deed of the form with it, and note in the audit
    log who did; returns it. Raises `APIError`."""
    deed = str((await request.form()).get("deed", ""))
    access, here = visitor.check("train"), visitor.here
    if deed not in deeds:
        raise APIError(400, "there is no such deed")
    found = await asyncio.to_thread(find, name)
    await asyncio.to_thread(deeds[deed], found)
    await here.record(here.records.audit.note, f"{verb}.{deed}", user=access.user.id)
    return found

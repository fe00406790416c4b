"""`/healthz`, `/readyz` and `/metrics`: for whatever watches over the server."""

from __future__ import annotations

from fastapi import APIRouter, Response

from morphogen.serve.door import Reads
from morphogen.serve.errors import APIError
from morphogen.serve.serving import Here

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the server is there."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(here: Here) -> dict[str, str]:
    """Whether it takes requests."""
    if not here.is_ready:
        raise APIError(503, "the server is starting, or about to end", retry_after=1)
    return {"status": "ready"}


@router.get("/metrics")
async def metrics(here: Here, access: Reads) -> Response:
    """Numbers for Prometheus."""
    processes = here.pool.open.values()
    here.metrics.models.set(len(processes))
    here.metrics.memory.set(sum(process.memory for process in processes))
    return Response(here.metrics.text(), media_type="text/plain; version=0.0.4")

"""Several servers behind one address, as many as are needed, by Ray Serve.

    morphogen serve --models models --replicas 1-4

A replica is the application of `app.py`, with models of its own; all write to the same records: a
file where they share a machine, PostgreSQL where they do not. Nothing is handed to a replica but
the settings.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

from fastapi import FastAPI

from morphogen.core.errors import RecipeError
from morphogen.core.extras import extra
from morphogen.serve.settings import Settings

NAME = "morphogen"
BUSY = 0.5  # of the texts that a replica writes at once: with more, another one is started


def application(settings: Settings, least: int, most: int) -> Any:
    """What `ray.serve.run` takes."""
    serve = extra("ray.serve", "ray", "replicas are run")

    def build() -> FastAPI:
        """In the process of a replica."""
        from morphogen.records import records
        from morphogen.serve import app, logs

        logs.configure()
        return app.build_app(settings, records.open(settings.records))

    scaling = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": max(BUSY * settings.rows, 1),
    }
    return serve.deployment(
        serve.ingress(build)(), name=NAME, autoscaling_config=scaling,
        max_ongoing_requests=settings.rows + settings.queue,
        graceful_shutdown_timeout_s=settings.patience,
    ).bind()  # fmt: skip


def run(settings: Settings, least: int, most: int) -> None:
    """Serve until told to stop. Needs the `ray` extra."""
    serve = extra("ray.serve", "ray", "replicas are run")
    told = threading.Event()
    _told_to_stop(told)
    serve.start(http_options={"host": settings.host, "port": settings.port})
    _told_to_stop(told)  # again: Ray ends a process that is told so with the signal's number
    try:
        serve.run(application(settings, least, most), name=NAME)
        address = f"http://{settings.host}:{settings.port}"
        print(f"studio: {address}\nAPI: {address}/v1", flush=True)
        told.wait()
    finally:
        serve.shutdown()


def _told_to_stop(told: threading.Event) -> None:
    """Set `told` where this process is told to stop, which is a good end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())


def bounds(told: str) -> tuple[int, int]:
    """`2` or `1-4`: the fewest and the most. Raises `RecipeError`."""
    least, _, most = told.partition("-")
    try:
        found = int(least), int(most or least)
    except ValueError:
        found = (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise RecipeError("that is no number of replicas", found=told, expected="2, or 1-4")
    return found

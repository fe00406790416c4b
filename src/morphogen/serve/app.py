"""The application: an ASGI callable that any server of such can run."""

from __future__ import annotations

import importlib
import pkgutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

import morphogen
from morphogen.core.errors import RecipeError
from morphogen.serve import errors, routes, studio
from morphogen.serve.guards import BodyLimit, Watch
from morphogen.serve.serving import Serving
from morphogen.serve.settings import Settings


def build_app(settings: Settings, records: Any = None) -> FastAPI:
    """The API over the models of a folder. What is asked is recorded in `records`, which also knows
    who may ask; without, as in tests of routes alone, all may and nothing is kept."""
    serving = Serving(settings.check(), records)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        await serving.begin()
        yield
        await serving.close()

    app = FastAPI(
        title="Morphogen", version=morphogen.__version__, lifespan=living, docs_url=None,
        redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False,
    )  # fmt: skip
    app.state.serving = serving
    errors.install(app)
    for module in pkgutil.iter_modules(routes.__path__):
        if not module.name.startswith("_"):
            app.include_router(importlib.import_module(f"{routes.__name__}.{module.name}").router)
    if records is not None:
        studio.install(app)
    app.add_middleware(BodyLimit, most=int(settings.body_mb * (1 << 20)))
    app.add_middleware(Watch, serving=serving)
    return app


class Server(uvicorn.Server):
    """Says where it is, once it is there."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"studio: {address}\nAPI: {address}/v1", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more; what follows something that goes on, such as curves, ends now."""
        self.config.app.state.serving.is_ready = False  # type: ignore[union-attr]
        await super().shutdown(sockets)


def check_address(settings: Settings, records: Any) -> None:
    """Raise `RecipeError` for an address that others reach, where nobody has a key."""
    if settings.is_local or any(key.state == "active" for key in records.keys.all()):
        return
    raise RecipeError(
        "others reach this address, and there is no key to tell who may ask",
        found=settings.host,
        expected="127.0.0.1, or an active key",
        hint="morphogen keys new NAME --role generate",
    )


def run(settings: Settings, records: Any) -> None:
    """Serve until told to stop, which is a good end: what runs then gets `patience` seconds, and is
    recorded as cut after that."""
    # uvicorn raises the signal again once it has ended what ran.
    signal.signal(signal.SIGTERM, _ended)
    app = build_app(settings, records)
    Server(configured(app, settings)).run()


def _ended(number: int, frame: object) -> None:
    raise SystemExit(0)


KEPT_OPEN = 75  # seconds that an idle connection stays: clients use it again, and it is a race


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How an application is served."""
    return uvicorn.Config(
        app, settings.host, settings.port, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=int(settings.patience), timeout_keep_alive=KEPT_OPEN,
    )  # fmt: skip

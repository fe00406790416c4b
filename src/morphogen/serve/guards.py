"""What every request passes on its way in and out: bounds on its body, numbers, a line of the log.

No content and no query is logged: the route as it is written in the code, not what was asked.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from morphogen.serve.errors import APIError
from morphogen.serve.serving import Serving

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
UNLOGGED = {"/healthz", "/readyz", "/metrics"}

log = structlog.get_logger("morphogen.serve")


class TooLarge(Exception):
    """A body that goes on beyond its bound."""


class BodyLimit:
    """Refuses bodies of more than so many bytes, as they say or as they come."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        told = next((v for name, v in scope["headers"] if name == b"content-length"), b"0")
        if not told.isdigit() or int(told) > self.most:
            return await self._refused(scope, receive, send)
        come, begun = 0, False

        async def counted() -> Message:
            nonlocal come
            message = await receive()
            come += len(message.get("body", b""))
            if come > self.most:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except TooLarge:
            if not begun:
                await self._refused(scope, receive, send)
        return None

    async def _refused(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = APIError(413, f"the body is larger than {self.most:,} bytes", code="body_too_large")
        await error.response()(scope, receive, send)


class Watch:
    """Counts, times, traces and logs requests, and adds headers that keep browsers careful."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self.app, self.serving = app, serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = message.get("headers", [])
                names = {name.lower() for name, _ in told}
                message["headers"] = [*told, *(each for each in HEADERS if each[0] not in names)]
            await send(message)

        with self.serving.traces.request(scope) as span:
            try:
                await self.app(scope, receive, noted)
            finally:
                self._over(scope, span, status, time.perf_counter() - began)
        return None

    def _over(self, scope: Scope, span: Any, status: int, seconds: float) -> None:
        """Note a request that is over."""
        method, metrics = scope["method"], self.serving.metrics
        route = getattr(scope.get("route"), "path", "none")
        who = scope.get("state", {}).get("who")
        metrics.requests.labels(route, status).inc()
        metrics.seconds.labels(route).observe(seconds)
        self.serving.traces.done(span, method, route, status, who)
        if route not in UNLOGGED:
            log.info("request", method=method, route=route, status=status,
                     ms=round(1000 * seconds, 1), who=who)  # fmt: skip

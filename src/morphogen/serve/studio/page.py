"""Templates -> pages. What a page shows was written by anybody: all of it is escaped, and nothing
in it can hide (`core.visible`); the policy lets no page run or fetch what is not of this server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from markupsafe import Markup

import morphogen
from morphogen.core.amounts import duration
from morphogen.core.errors import MorphogenError
from morphogen.core.visible import visible
from morphogen.serve.errors import APIError
from morphogen.serve.studio.visitor import Visitor

POLICY = "; ".join([
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:",
    "media-src 'self'", "connect-src 'self'", "frame-src 'self'", "form-action 'self'",
    "base-uri 'none'", "frame-ancestors 'none'",
])  # fmt: skip
# Of what a codec shows of items: it has a style of its own, and runs nothing.
VIEW_POLICY = "; ".join([
    "default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "media-src data:",
    "frame-ancestors 'self'", "sandbox allow-same-origin",
])  # fmt: skip
WORDS = {401: "Sign in", 403: "Not allowed", 404: "Not here", 429: "Too many requests"}


def page(
    request: Request, visitor: Visitor | None, template: str, *, status: int = 200, **facts: Any
) -> HTMLResponse:
    """A template with its facts, for a visitor."""
    text = TEMPLATES.get_template(f"{template}.html").render(
        visitor=visitor, path=request.url.path, **facts
    )
    response = HTMLResponse(text, status)
    response.headers["content-security-policy"] = POLICY
    response.headers["cache-control"] = "no-store"
    # With "no-referrer" a browser would send forms as of origin "null", which the door refuses.
    response.headers["referrer-policy"] = "same-origin"
    if visitor is not None:
        visitor.remember(request, response)
    return response


def view(body: str, title: str) -> HTMLResponse:
    """HTML of items, or a page that was written elsewhere, to be shown within a page."""
    if not body.lstrip().lower().startswith("<!doctype"):
        body = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{Markup.escape(title)}'
            "</title><style>:root{color-scheme:light dark}body{margin:0;font:15px system-ui}"
            "img.items{width:100%;max-width:32rem;image-rendering:pixelated}</style>"
            f"<body>{body}</body></html>"
        )
    return HTMLResponse(
        body,
        headers={"content-security-policy": VIEW_POLICY, "x-frame-options": "SAMEORIGIN"},
    )


def moved(to: str, **query: Any) -> RedirectResponse:
    """On to another page, after a form."""
    known = {name: value for name, value in query.items() if value is not None}
    return RedirectResponse(to + (f"?{urlencode(known)}" if known else ""), 303)


class Page(APIRoute):
    """A route whose errors are pages too; who has to sign in is sent there."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its errors caught."""
        inner = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await inner(request)
            except (APIError, MorphogenError, RequestValidationError) as error:
                return _failed(request, error)

        return handled


def _failed(request: Request, error: Exception) -> Response:
    told = _as_api(error)
    visitor = getattr(request.state, "visitor", None)
    if told.code == "not_signed_in" and request.method == "GET":
        return moved("/sign-in", next=request.url.path)
    facts = {"title": WORDS.get(told.status, "That did not work"), "message": told.message}
    response = page(request, visitor, "error", status=told.status, **facts)
    if told.retry_after is not None:
        response.headers["retry-after"] = str(max(round(told.retry_after), 1))
    return response


def _as_api(error: Exception) -> APIError:
    if isinstance(error, APIError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return APIError(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")
    return APIError(400, str(error))


def size(num_bytes: int) -> str:
    """Bytes in a few words."""
    amount = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def when(seconds: float | None) -> str:
    """A moment, in the time of this machine."""
    return "never" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def at(name: str) -> str:
    """The name of a model as a part of an address."""
    return quote(name, safe="/", errors="surrogateescape")


def figures(value: Any) -> str:
    """A value of a result for people: numbers to four figures, lists of them in a line each."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        is_flat = not any(isinstance(each, (list, tuple, dict)) for each in value)
        return (", " if is_flat else "\n").join(map(figures, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
TEMPLATES.filters |= {
    "size": size,
    "when": when,
    "at": at,
    "duration": duration,
    "figures": figures,
}
TEMPLATES.globals |= {"version": morphogen.__version__}

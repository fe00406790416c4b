"""Who looks at a page, and whether they may.

    cookie morphogen_session    whoever signed in with name and password
    no cookie, on this machine  whoever works here, who may do all
    no cookie, from elsewhere   nobody: they are sent to sign in

A form carries a token that only a page of ours can know: a keyed hash of the visitor's cookie.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from morphogen.core.errors import MorphogenError
from morphogen.records.access import LASTING, Access
from morphogen.serve.door import check_place
from morphogen.serve.errors import APIError
from morphogen.serve.serving import Serving, serving_of

SESSION = "morphogen_session"
VISIT = "morphogen_visit"  # of those who are not signed in: what their tokens are made from
HEADER = "x-page-token"


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page."""

    here: Serving
    access: Access | None
    word: str  # of their cookie
    is_signed_in: bool

    @property
    def name(self) -> str | None:
        """Whom the page greets."""
        return None if self.access is None else self.access.user.name

    @property
    def token(self) -> str:
        """What their forms carry."""
        return str(self.here.records.seals.blind("page", self.word).hex())

    def may(self, action: str) -> bool:
        """Whether they may do this; pages show what they may alone."""
        return self.access is not None and action in self.access.actions

    def check(self, action: str) -> Access:
        """Raise `APIError` where they may not."""
        if self.access is None:
            raise APIError(401, "sign in first", code="not_signed_in")
        try:
            self.access.check(action)
        except MorphogenError as error:
            raise APIError(403, error.message, code="not_allowed") from error
        return self.access

    def remember(self, request: Request, response: Response) -> None:
        """Give the browser its cookie, where it has none."""
        if not self.is_signed_in and request.cookies.get(VISIT) != self.word:
            put_cookie(request, response, VISIT, self.word)


def may(action: str | None) -> Callable[[Request], Awaitable[Visitor]]:
    """A dependency of a page: who looks, if they may do this. Raises `APIError`.

    What changes something (POST) has to carry the visitor's token.
    """

    async def let_in(request: Request) -> Visitor:
        here = serving_of(request)
        check_place(here, request)
        visitor = await _visitor(here, request)
        who = "here" if visitor.access is None else f"user {visitor.access.user.id}"
        here.rates.check(who)
        request.state.visitor, request.state.who = visitor, who
        if request.method not in ("GET", "HEAD"):
            await _check_token(request, visitor)
        if action is not None:
            visitor.check(action)
        return visitor

    return let_in


Anyone = Annotated[Visitor, Depends(may(None))]
Reads = Annotated[Visitor, Depends(may("read"))]
Generates = Annotated[Visitor, Depends(may("generate"))]
Annotates = Annotated[Visitor, Depends(may("annotate"))]
Trains = Annotated[Visitor, Depends(may("train"))]
Administers = Annotated[Visitor, Depends(may("administer"))]


def put_cookie(request: Request, response: Response, name: str, word: str) -> None:
    """A cookie that scripts do not see and other sites do not send with their forms."""
    response.set_cookie(
        name, word, max_age=int(LASTING), httponly=True, samesite="lax",
        secure=request.url.scheme == "https",
    )  # fmt: skip


async def _visitor(here: Serving, request: Request) -> Visitor:
    word = request.cookies.get(SESSION)
    if word:
        try:
            access: Any = await asyncio.to_thread(here.records.sign_ins.authenticate, word)
            return Visitor(here, access, word, True)
        except MorphogenError:
            pass  # over: as if there were none
    visit = request.cookies.get(VISIT) or secrets.token_urlsafe(24)
    return Visitor(here, here.local if here.settings.is_local else None, visit, False)


async def _check_token(request: Request, visitor: Visitor) -> None:
    token = request.headers.get(HEADER)
    if token is None and "json" not in request.headers.get("content-type", ""):
        token = str((await request.form()).get("token", ""))
    if not hmac.compare_digest((token or "").encode(), visitor.token.encode()):
        raise APIError(403, "the form is not of a page of this visit: open the page again",
                       code="wrong_token")  # fmt: skip

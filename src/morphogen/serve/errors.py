"""Errors as clients of OpenAI's API know them.

{"error": {"message": .., "type": "invalid_request_error", "param": "model", "code": ..}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from morphogen.core.errors import MorphogenError

STATUS = {"Crashed": 500, "Failed": 500, "Remote": 502}  # of what a model's process tells
log = structlog.get_logger("morphogen.serve")

KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 413: "invalid_request_error",
    502: "server_error", 415: "invalid_request_error", 429: "rate_limit_error", 500: "server_error",
    503: "server_error",
}  # fmt: skip


class APIError(Exception):
    """What a request is refused with."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after, self.kind = retry_after, kind or KINDS.get(status, KINDS[400])
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The envelope."""
        facts = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": facts}

    def response(self) -> JSONResponse:
        """The envelope, with its status."""
        headers = {**self.headers}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(round(self.retry_after), 1))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def of_failure(told: Mapping[str, Any]) -> APIError:
    """The error of a model's process (`worker.channel.failure`)."""
    facts = [f"{name}: {told[name]}" for name in ("found", "expected") if told.get(name)]
    message = f"{told['message']} ({'; '.join(facts)})" if facts else told["message"]
    status = told.get("status", STATUS.get(told["kind"], 400))
    return APIError(status, message, param=told.get("param"), code=told.get("code"))


def install(app: FastAPI) -> None:
    """Have every error of an application told in the envelope."""

    @app.exception_handler(APIError)
    async def told(request: Request, error: APIError) -> JSONResponse:
        return error.response()

    @app.exception_handler(MorphogenError)
    async def ours(request: Request, error: MorphogenError) -> JSONResponse:
        return APIError(400, str(error)).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
        param = ".".join(place) or None
        if first["type"] == "json_invalid":
            reason = f"the body is no JSON: {first.get('ctx', {}).get('error', '')}".rstrip(": ")
            return APIError(400, reason, code="invalid_json").response()
        return APIError(400, f"{param or 'the body'}: {first['msg']}", param=param,
                        code=first["type"]).response()  # fmt: skip

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is nothing at {request.method} {request.url.path}"
        if error.status_code == 405:
            message = f"{request.url.path} does not take {request.method}"
        response = APIError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("failed", exc_info=error)
        return APIError(500, "the server failed; its log says where").response()

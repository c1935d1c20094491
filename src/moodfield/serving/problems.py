"""ProblemError answers (RFC 9457) for every request that cannot be fulfilled."""

import errno
import json
import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moodfield import errors
from moodfield.errors import (
    AudioError,
    ConfigError,
    LockedError,
    MoodfieldError,
    UnknownNameError,
    UsageError,
    WorkerCrashedError,
)
from moodfield.serving import head

MEDIA_TYPE = "application/problem+json"
UNPROCESSABLE = 422
STATUS: Mapping[type[Exception], int] = {
    AudioError: UNPROCESSABLE,
    ConfigError: UNPROCESSABLE,
    UsageError: UNPROCESSABLE,
    UnknownNameError: UNPROCESSABLE,
    WorkerCrashedError: UNPROCESSABLE,
    LockedError: 409,
    MoodfieldError: 409,
}
"""statuses of errors, those of subclasses first"""
_LOG = logging.getLogger("moodfield.serving")
FULL = (errno.ENOSPC, errno.EDQUOT)


class ProblemError(Exception):
    """A request that is answered by a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers, self.members = dict(headers or {}), dict(members or {})

    def to_dict(self) -> dict[str, object]:
        """The members of the answer: `type`, `title`, `status`, `detail`, and further ones."""
        return describe(self.status, self.detail) | self.members

    def response(self) -> Response:
        """The answer."""
        return Response(encode(self.to_dict()), self.status, self.headers, MEDIA_TYPE)


class JsonResponse(JSONResponse):
    """JSON in ASCII, since paths of files need not be UTF-8."""

    def render(self, content: Any) -> bytes:
        """The bytes of a value."""
        return encode(content)


def encode(value: object) -> bytes:
    """A value as JSON without spaces."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def describe(status: int, detail: str) -> dict[str, object]:
    """The members that every problem has."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": errors.printable(detail),
    }


def from_error(error: Exception, context: str) -> ProblemError:
    """The problem of an error; one that nobody expected shows nothing of the machine, and is logged.

    Args:
        error: What was raised.
        context: The request or file, for the log.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, OSError) and error.errno in FULL:
        _LOG.error("%s: %s", context, error)
        return ProblemError(507, "the disk of the server is full; try again later")
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        _LOG.error("%s: %s", context, "".join(traceback.format_exception(error)))
        return ProblemError(500, "an error of the server, which its log describes")
    detail = str(error)
    if isinstance(error, AudioError):
        return ProblemError(status, detail, members={"reason": error.reason})
    return ProblemError(status, detail)


def install(app: FastAPI) -> None:
    """Answer all errors of an application by problems."""

    def by_error(request: Request, error: Exception) -> Response:
        return from_error(error, _context(request.scope)).response()

    def by_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, headers, detail = request.url.path, error.headers or {}, str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = f"there is no {path}; /docs lists all paths"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is no method of {path}; /docs lists all of them"
        return ProblemError(error.status_code, detail, headers=headers).response()

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults, kind = error.errors(), request.headers.get("content-type", "")
        if any(fault["loc"] == ("body",) for fault in faults) and "json" not in kind:
            detail = f"the body is of type {kind or 'none'}, expected JSON; send Content-Type: application/json"
        else:
            detail = errors.format_validation_errors(faults)
        return ProblemError(UNPROCESSABLE, detail).response()

    for kind in (ProblemError, MoodfieldError, OSError):
        app.add_exception_handler(kind, by_error)
    app.add_exception_handler(HTTPException, by_status)
    app.add_exception_handler(RequestValidationError, invalid)


class ProblemMiddleware:
    """Answers errors that nobody expected by problems, and replaces plain texts about errors, as of ranges, by them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        status, kept, has_begun = 0, dict[str, str](), False

        async def replace(message: Message) -> None:
            nonlocal status, kept, has_begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
                if headers.get("content-type", "text/plain").startswith("text/plain"):
                    status = message["status"]
                    kept = {name: value for name, value in headers.items() if not name.startswith("content-")}
                    kept |= {name: value for name, value in headers.items() if name == "content-range"}
                    return
            has_begun = True
            if not status:
                await send(message)
            elif not message.get("more_body"):
                detail = message.get("body", b"").decode("utf-8", "replace") or HTTPStatus(status).phrase
                await ProblemError(status, detail, headers=kept).response()(scope, receive, send)

        try:
            await self._app(scope, receive, replace)
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise
            await from_error(error, _context(scope)).response()(scope, receive, send)


def _context(scope: Scope) -> str:
    """The method and path of a request, for the log."""
    return f"{head.method(scope)} {errors.printable(scope['path'])}"

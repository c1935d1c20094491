"""Who may use the service: hosts, origins, the token, sessions, and headers that protect the page."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moodfield.serving.configs import LOOPBACK, ServiceConfig
from moodfield.serving.problems import ProblemError

COOKIE = "moodfield_session"
COOKIE_PATH = "/v1/tracks"
"""beginning of the paths to which browsers send the cookie"""
AUDIO = re.compile(r"/v1/tracks/\d+/audio")
"""paths for which the cookie stands for the token"""
PROTECTED = ("/v1/", "/metrics")
"""beginnings of paths that need the token; the page, its assets, the documentation and /healthz have nothing private"""
FOREIGN = ("cross-site", "same-site")
"""values of Sec-Fetch-Site by which browsers mark requests of other pages; same-site: another port of this machine"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' blob:; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""what the page may load: only what this server has"""
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""headers of every answer"""


class AccessMiddleware:
    """Answers requests from other pages, for other hosts or without the token by problems; adds `HEADERS`."""

    def __init__(self, app: ASGIApp, config: ServiceConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._check(scope["method"], scope["path"], Headers(scope=scope))
        except ProblemError as problem:
            await problem.response()(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        """Raise `ProblemError` unless a request is allowed."""
        if "content-length" in headers and "transfer-encoding" in headers:
            # a proxy may believe the other one of them, and take the rest for another request
            raise ProblemError(
                400, "the length of the body is stated in two ways; send one", headers={"connection": "close"}
            )
        host = headers.get("host", "")
        if self._config.token is None and host_name(host) not in LOOPBACK:
            # a page whose name leads to this machine (DNS rebinding) cannot have the token, but needs none here
            raise ProblemError(
                421, f"this server does not serve the host {host!r}; use http://127.0.0.1 or http://localhost"
            )
        if not path.startswith(PROTECTED):
            return
        origin = headers.get("origin")
        if origin is not None and authority(origin) != host:
            raise ProblemError(
                403,
                f"a page of {origin!r} may not use the host {host!r}; a proxy must pass the Host header on as it is",
            )
        if headers.get("sec-fetch-site") in FOREIGN:
            raise ProblemError(403, f"a page of another origin may not use the host {host!r}")
        token = self._config.token
        if token is None or has_token(headers, token):
            return
        if not (method == "GET" and AUDIO.fullmatch(path) and has_session(headers, token)):
            raise ProblemError(
                401,
                "the token is missing or wrong; send it as Authorization: Bearer TOKEN",
                headers={"www-authenticate": "Bearer"},
            )


def host_name(host: str) -> str:
    """The name or address in a Host header, without the port.

    >>> host_name("[::1]:8000"), host_name("localhost")
    ('::1', 'localhost')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def authority(origin: str) -> str:
    """The host and port of an origin; empty if it has none.

    >>> authority("http://localhost:8000"), authority("null"), authority("http://[")
    ('localhost:8000', '', '')
    """
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def has_token(headers: Headers, token: str) -> bool:
    """Whether a request has the token."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and _is_equal(value.strip(), token)


def has_session(headers: Headers, token: str) -> bool:
    """Whether a request has the cookie of a session."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return False
    return COOKIE in cookies and _is_equal(cookies[COOKIE].value, session(token))


def session(token: str) -> str:
    """The value of the cookie of a session, which does not reveal the token."""
    return hmac.new(token.encode(), b"session", hashlib.sha256).hexdigest()


def _is_equal(value: str, expected: str) -> bool:
    return hmac.compare_digest(value.encode(), expected.encode())

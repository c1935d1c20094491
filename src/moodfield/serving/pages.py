"""Routes without private data: the page, the documentation of the API, sessions, health, metrics."""

import gzip
import mimetypes
import os
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from moodfield.serving import access, documentation, service
from moodfield.serving.problems import JsonResponse, ProblemError
from moodfield.serving.service import Current

STATIC = Path(__file__).resolve().parent / "static"
"""the built page: index.html, and what it loads in assets/"""
MISSING = documentation.html("moodfield", "<p>This installation has no page. <a href='docs'>The API works.</a></p>")
ASSET_CACHE = "public, max-age=31536000, immutable"
"""the name of an asset has a digest of its content"""

router = APIRouter()


@router.get("/", include_in_schema=False)
def index(request: Request) -> Response:
    """The page."""
    if not (STATIC / "index.html").is_file():
        return HTMLResponse(MISSING)
    return _file(request, "index.html", "no-cache")


@router.get("/assets/{name}", include_in_schema=False)
def asset(request: Request, name: str) -> Response:
    """A file that the page loads."""
    return _file(request, f"assets/{name}", ASSET_CACHE)


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """The documentation of the API as a page."""
    return HTMLResponse(documentation.page(request.app.openapi()))


@router.get("/docs.css", include_in_schema=False)
def style() -> Response:
    """The style of the documentation."""
    return Response(documentation.STYLE, media_type="text/css")


@router.get("/healthz", tags=["service"])
async def healthz() -> Response:
    """Answers whenever the service works."""
    return JsonResponse({"status": "ok"})


@router.get("/metrics", tags=["service"], include_in_schema=False)
def metrics(current: Current) -> Response:
    """Counts and durations of requests, in the text format of Prometheus."""
    text, media_type = current.metrics.render(
        active=current.pool.requests, limit=current.config.max_requests, killed=current.pool.killed
    )
    return Response(text, media_type=media_type)


@router.post("/v1/session", status_code=204, tags=["service"], responses=service.documented(None, status=204))
def begin_session(request: Request, current: Current) -> Response:
    """Set a cookie that stands for the token when tracks are played, since an audio element cannot send that."""
    response = Response(status_code=204)
    if current.config.token:
        secure = request.url.scheme == "https"
        response.set_cookie(
            access.COOKIE,
            access.session(current.config.token),
            path=access.COOKIE_PATH,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
    return response


@router.delete("/v1/session", status_code=204, tags=["service"])
def end_session() -> Response:
    """Remove the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(access.COOKIE, path=access.COOKIE_PATH, httponly=True, samesite="strict")
    return response


def _file(request: Request, name: str, cache: str) -> Response:
    """A file of the page, compressed if the client accepts that."""
    path = STATIC / name
    if not os.path.isfile(path) or path.resolve().parent not in (STATIC, STATIC / "assets"):  # noqa: PTH113 (no error for long names)
        raise ProblemError(404, f"there is no {name}")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = {"cache-control": cache, "vary": "accept-encoding"}
    body, packed = _read(path, path.stat().st_mtime_ns)
    if len(packed) < len(body) and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = packed, "gzip"
    return Response(body, 200, headers, kind)


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int) -> tuple[bytes, bytes]:
    """A file of the page, plain and compressed; it is small, and read again if it has changed."""
    body = path.read_bytes()
    return body, gzip.compress(body, 9)

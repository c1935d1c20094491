"""Uploaded files: bodies of requests, written to temporary files within limits of size and time."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO
from urllib.parse import unquote

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moodfield.serving.configs import ServiceConfig
from moodfield.serving.problems import ProblemError

FIELD = "file"
"""the field of files in a multipart body"""
UPLOAD_PATHS = ("/v1/tag", "/v1/tag/batch")
"""paths whose bodies have files"""
MAX_NAME = 255
"""letters of a name that are kept"""
MAX_FIELDS = 16
"""fields of a form beside its files"""
TYPES = ("audio/", "video/", "application/octet-stream", "application/ogg", "application/x-")
"""beginnings of media types of plain bodies; what a file holds decides, not its type"""
_LOG = logging.getLogger("moodfield.serving")


@dataclass(frozen=True)
class Upload:
    """A file of a request."""

    name: str
    """name that the client gave it, without folders; only for messages"""
    path: Path
    """temporary file"""

    @classmethod
    def create(cls, name: str, folder: Path) -> "Upload":
        """A file with a name of ours in a folder; nothing is written yet."""
        return cls(file_name(name), folder / secrets.token_hex(16))


@dataclass(frozen=True)
class Limits:
    """Limits of one request."""

    body_bytes: int
    """bytes of the body"""
    file_bytes: int
    """bytes of a file"""
    files: int
    """number of files"""
    stalled_seconds: float
    """time without a byte"""
    min_rate: float
    """bytes in a second on average, after `stalled_seconds`"""
    upload_seconds: float
    """time until the end of the body"""

    @classmethod
    def of_file(cls, config: ServiceConfig) -> "Limits":
        """Limits of a request with one file."""
        return cls._create(config, config.max_file_bytes, config.max_file_bytes, 1)

    @classmethod
    def of_batch(cls, config: ServiceConfig) -> "Limits":
        """Limits of a request with several files."""
        return cls._create(config, config.max_batch_bytes, config.max_file_bytes, config.max_batch_files)

    @classmethod
    def of_json(cls, config: ServiceConfig) -> "Limits":
        """Limits of a request without files."""
        return cls._create(config, config.max_json_bytes, config.max_json_bytes, 0)

    @classmethod
    def _create(cls, config: ServiceConfig, body_bytes: int, file_bytes: int, files: int) -> "Limits":
        return cls(body_bytes, file_bytes, files, config.stalled_seconds, config.min_rate, config.upload_seconds)


class BodyMiddleware:
    """Reads the bodies of all requests without files before they are handled, within limits of size and time."""

    def __init__(self, app: ASGIApp, config: ServiceConfig) -> None:
        self._app, self._limits = app, Limits.of_json(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["path"] in UPLOAD_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            body = b"".join([part async for part in _body(Request(scope, receive), self._limits)])
        except ProblemError as problem:
            await problem.response()(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)


@asynccontextmanager
async def receive(request: Request, folder: Path, limits: Limits, *, name: str = "") -> AsyncIterator[list[Upload]]:
    """A context with the files of a request; they are removed at its end.

    Args:
        request: With a multipart body whose files have the name `FIELD`, or with the bytes of one file as its body.
        folder: Where the files are written.
        limits: Limits of the request.
        name: Name of the file of a plain body.

    Raises:
        ProblemError: 400, 408, 413 or 415: the body is malformed, too slow, too large, or of another type.
    """
    uploads: list[Upload] = []
    try:
        head, options = parse_options_header(request.headers.get("content-type", ""))
        kind = head.decode("latin-1")
        if kind == "multipart/form-data":
            await _receive_form(request, _Form(folder, limits, uploads), options.get(b"boundary", b""))
        elif not kind or kind.startswith(TYPES):
            uploads.append(Upload.create(name or unquote(request.headers.get("x-filename", "")), folder))
            await _receive_plain(request, uploads[0], limits)
        else:
            raise ProblemError(415, f"a body of type {kind}: expected a form with a field {FIELD!r}, or audio/*")
        yield uploads
    finally:
        for upload in uploads:
            try:
                upload.path.unlink(missing_ok=True)
            except OSError as error:  # the answer is right, and the folder is removed when the service ends
                _LOG.warning("%s cannot be removed: %s", upload.path, error.strerror)


def file_name(name: str) -> str:
    r"""The last part of a path that a client gave, with / or \.

    >>> file_name("C:\\Music\\song.mp3"), file_name("../../etc/passwd"), file_name("")
    ('song.mp3', 'passwd', 'upload')
    """
    last = PurePosixPath(PureWindowsPath(name).name).name[-MAX_NAME:]
    return last if last.strip(".") else "upload"


async def _body(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The parts of a body, within the limits."""
    start, size = time.monotonic(), 0
    if (stated := request.headers.get("content-length", "")).isdigit() and int(stated) > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.stalled_seconds):
                part = await anext(stream, b"")
        except TimeoutError as error:
            raise _too_slow(f"nothing was received for {limits.stalled_seconds:g} s") from error
        except ClientDisconnect as error:
            raise ProblemError(400, "the connection was closed before the end of the body") from error
        if not part:
            return
        size += len(part)
        if size > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        seconds = time.monotonic() - start
        if seconds > limits.upload_seconds:
            raise _too_slow(f"it has not ended after {limits.upload_seconds:g} s")
        if seconds > limits.stalled_seconds + size / limits.min_rate:
            raise _too_slow(f"fewer than {limits.min_rate / 1024:g} KiB were received in a second")
        yield part


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, f"the body is larger than {limit / 2**20:g} MiB; send less, or tag it by: moodfield tag")


def _too_slow(detail: str) -> ProblemError:
    # Without Connection: close, so that a client that goes on sending gets the answer, and no reset.
    return ProblemError(408, f"the upload is too slow: {detail}")


async def _receive_plain(request: Request, upload: Upload, limits: Limits) -> None:
    """Write the body to a file."""
    with upload.path.open("wb") as file:
        async for part in _body(request, limits):
            file.write(part)


async def _receive_form(request: Request, form: "_Form", boundary: bytes) -> None:
    """Write the files of a multipart body."""
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for part in _body(request, form.limits):
            parser.write(part)
        parser.finalize()
    except FormParserError as error:
        raise ProblemError(400, f"the multipart body is malformed: {error}") from error
    finally:
        form.close()
    if not form.is_complete:
        raise ProblemError(400, "the multipart body is malformed: it has no end")
    if not form.uploads:
        raise ProblemError(422, f"the multipart body has no file; expected a field {FIELD!r} with a file name")


class _Form:
    """Writes the files of a multipart body; other fields are left out."""

    def __init__(self, folder: Path, limits: Limits, uploads: list[Upload]) -> None:
        self.limits, self.uploads = limits, uploads
        self.is_complete = False
        self._folder = folder
        self._file: BinaryIO | None = None
        self._size, self._parts = 0, 0
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}

    def callbacks(self) -> Any:
        """What the parser calls."""
        names = (
            "part_begin",
            "part_data",
            "part_end",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
        )
        return {f"on_{name}": getattr(self, f"_{name}") for name in names} | {"on_end": self._end}

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file:
            self._file.close()
        self._file = None

    def _part_begin(self) -> None:
        self._headers, self._size, self._parts = {}, 0, self._parts + 1
        if self._parts > self.limits.files + MAX_FIELDS:
            raise ProblemError(413, f"the form has more than {self.limits.files + MAX_FIELDS} fields; send fewer")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            return
        if len(self.uploads) == self.limits.files:
            raise ProblemError(413, f"the body has more than {self.limits.files} files; send fewer at a time")
        name = options[b"filename"].decode("utf-8", "replace")
        self.uploads.append(Upload.create(name, self._folder))
        self._file = self.uploads[-1].path.open("wb")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file:
            self._size += end - start
            if self._size > self.limits.file_bytes:
                raise _too_large(self.limits.file_bytes)
            self._file.write(data[start:end])

    def _part_end(self) -> None:
        self.close()

    def _end(self) -> None:
        self.is_complete = True

"""Local servers: a web server that misbehaves on demand, and one of S3."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest


@dataclass(frozen=True)
class Request:
    """One request: its path, the first byte of its range, and the bytes that were sent."""

    path: str
    start: int | None
    sent: int


@dataclass(frozen=True)
class Behavior:
    """How one request is answered."""

    code: int = 0
    """a status code without the file: 404, 503"""
    cut: int | None = None
    """bytes after which the connection is closed"""
    flip: int | None = None
    """index of a wrong byte"""
    ranges: bool = True
    """whether ranges are supported"""
    shift: int = 0
    """offset in bytes between the requested range and the one that is sent"""
    max_range: int | None = None
    """most bytes of a range that are sent at a time"""
    length: bool = True
    """whether Content-Length is sent"""
    stall: float = 0.0
    """seconds before the body"""
    drip: float = 0.0
    """seconds before every byte"""
    redirect: str = ""
    """Location to redirect to"""
    headers: tuple[tuple[str, str], ...] = ()
    """headers that replace the true ones"""


@dataclass  # mutable: tests change the behavior, the handler appends requests
class Server:
    """The files and behavior of a server, and its requests so far."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    next: dict[str, deque[Behavior]] = field(default_factory=dict)
    always: dict[str, Behavior] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def queue(self, path: str, *behaviors: Behavior) -> None:
        """Set how the next requests for a file are answered; those after them are answered well."""
        self.next.setdefault(path, deque()).extend(behaviors)

    def next_behavior(self, path: str) -> Behavior:
        queue = self.next.get(path)
        return queue.popleft() if queue else self.always.get(path, Behavior())


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        behavior, body = self.state.next_behavior(path), self.state.files.get(path)
        value = self.headers.get("Range")
        start = int(value.removeprefix("bytes=").rstrip("-")) if value else None
        if body is not None and not behavior.code and not behavior.redirect:
            self._send(body, start, behavior)
            return
        self.state.requests.append(Request(path, start, 0))
        if behavior.redirect:
            self.send_response(302)
            self.send_header("Location", behavior.redirect)
            for header, content in behavior.headers:
                self.send_header(header, content)
            self.end_headers()
            self.wfile.write(body or b"")
        else:
            self.send_error(behavior.code or 404)

    def _send(self, body: bytes, start: int | None, behavior: Behavior) -> None:
        total, code, content_range = len(body), 200, ""
        if behavior.flip is not None:
            body = body[: behavior.flip] + bytes([body[behavior.flip] ^ 1]) + body[behavior.flip + 1 :]
        if start is not None and behavior.ranges:
            first = start + behavior.shift
            code, body = (206, body[first:][: behavior.max_range]) if start < total else (416, b"")
            content_range = f"bytes {first}-{first + len(body) - 1}/{total}" if body else f"bytes */{total}"
        length, body = len(body), body[: behavior.cut]
        self.state.requests.append(Request(self.path.lstrip("/"), start, len(body)))
        self.send_response(code)
        headers = {"Content-Range": content_range, "Content-Length": str(length) if behavior.length else ""}
        for header, content in (headers | dict(behavior.headers)).items():
            if content:
                self.send_header(header, content)
        self.end_headers()
        time.sleep(behavior.stall)
        for byte in body if behavior.drip else ():
            self.wfile.write(bytes([byte]))
            time.sleep(behavior.drip)
        self.wfile.write(b"" if behavior.drip else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Do not print requests."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients may have closed their connections."""


@contextmanager
def serve(**files: bytes) -> Iterator[Server]:
    """A server with some files."""
    state = Server(files=dict(files))
    handler = type("Handler", (_Handler,), {"state": state})
    server = _QuietServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serve_s3(bucket: str) -> Iterator[Any]:
    """The file system of an S3 server with an empty bucket; the environment names the server."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # of the server of another test
        system = s3fs.S3FileSystem(use_listings_cache=False)
        system.mkdir(bucket)
        yield system
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()

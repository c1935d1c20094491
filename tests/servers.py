"""A little web server on this machine that behaves badly when told to."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True)
class Asked:
    """What one request was for, and what went out."""

    path: str
    start: int | None
    sent: int


@dataclass(frozen=True)
class Manner:
    """How one request is answered."""

    code: int = 0
    """an answer without the file: 404, 503"""
    cut: int | None = None
    """bytes after which the connection is cut"""
    flip: int | None = None
    """which byte of the file is wrong"""
    ranges: bool = True
    """whether the server knows ranges"""
    shift: int = 0
    """by how many bytes the range that is sent lies beside the one that was asked for"""
    most: int | None = None
    """bytes of one answer to a range"""
    length: bool = True
    """whether the length is said"""
    stall: float = 0.0
    """seconds of silence before the body"""
    drip: float = 0.0
    """seconds before every byte"""
    to: str = ""
    """where to look instead"""
    says: tuple[tuple[str, str], ...] = ()
    """headers that are sent instead of the true ones"""


@dataclass  # mutable: a server is told what to do, and remembers what it did
class Server:
    """What a server has, how it behaves, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    manners: dict[str, deque[Manner]] = field(default_factory=dict)
    always: dict[str, Manner] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def behave(self, path: str, *manners: Manner) -> None:
        """How the next requests for a file are answered; those after them are answered well."""
        self.manners.setdefault(path, deque()).extend(manners)

    def manner(self, path: str) -> Manner:
        queue = self.manners.get(path)
        return queue.popleft() if queue else self.always.get(path, Manner())


class _Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state, path = self.server_state, self.path.lstrip("/")
        manner, body = state.manner(path), state.files.get(path)
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else None
        if body is not None and not manner.code and not manner.to:
            self._send(body, start, manner)
            return
        state.asked.append(Asked(path, start, 0))
        if manner.to:
            self.send_response(302)
            self.send_header("Location", manner.to)
            for name, words in manner.says:
                self.send_header(name, words)
            self.end_headers()
            self.wfile.write(body or b"")
        else:
            self.send_error(manner.code or 404)

    def _send(self, body: bytes, start: int | None, manner: Manner) -> None:
        total, code, span = len(body), 200, ""
        if manner.flip is not None:
            body = body[: manner.flip] + bytes([body[manner.flip] ^ 1]) + body[manner.flip + 1 :]
        if start is not None and manner.ranges:
            first = start + manner.shift
            code, body = (206, body[first:][: manner.most]) if start < total else (416, b"")
            span = f"bytes {first}-{first + len(body) - 1}/{total}" if body else f"bytes */{total}"
        length, body = len(body), body[: manner.cut]
        self.server_state.asked.append(Asked(self.path.lstrip("/"), start, len(body)))
        self.send_response(code)
        true = {"Content-Range": span, "Content-Length": str(length) if manner.length else ""}
        for name, words in (true | dict(manner.says)).items():
            if words:
                self.send_header(name, words)
        self.end_headers()
        time.sleep(manner.stall)
        for byte in body if manner.drip else ():
            self.wfile.write(bytes([byte]))
            time.sleep(manner.drip)
        self.wfile.write(b"" if manner.drip else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing is said of requests."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Whoever asked may have gone."""


@contextmanager
def serving(**files: bytes) -> Iterator[Server]:
    """A server with some files, as long as it is needed."""
    state = Server(files=dict(files))
    handler = type("Handler", (_Handler,), {"server_state": state})
    server = _Quiet(("127.0.0.1", 0), handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()

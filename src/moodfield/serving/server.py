"""Run the service until a signal stops it: connections with limits for slow clients, one process."""

import asyncio
import os
import socket

import uvicorn
from h11 import IDLE, SEND_BODY, SEND_RESPONSE, Data, EndOfMessage, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from moodfield.errors import UsageError
from moodfield.serving import access, app
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.problems import ProblemError

HEADER_SECONDS = 10.0
"""time in which a connection must have sent the head of a request"""
DRAIN_SECONDS = 30.0
"""time in which the rest of a body that was answered already is read, so that the client gets the answer"""
UNREAD_SECONDS = 60.0
"""time in which a client must read more of an answer; a browser that has paused goes on with a range"""
READ_BYTES = 2**17
"""bytes that are read of a connection at a time, so that many uploads do not delay other requests"""
MAX_CONNECTIONS = 512
"""connections at once; requests of more are answered 503"""
RETRY_SECONDS = 5
"""time after which these may try again"""
SHUTDOWN_SECONDS = 10
"""time in which requests under way may end when the service is stopped"""
_HEADERS = {**access.HEADERS, "cache-control": "no-store"}
"""headers of answers that the application does not make"""


class Connection(H11Protocol):
    """A connection that is closed if its client does not send, or read, in time what it must."""

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = _too_many
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        self._wait(HEADER_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Wait for the end of a head, or stop waiting when it is there; close a connection too many that is drained."""
        super().data_received(data)
        if self.conn.their_state is not IDLE:
            is_drained = self.conn.their_state is SEND_BODY and self.cycle and self.cycle.response_complete
            if not is_drained:
                self._stop_waiting()
        elif self.app is _too_many and self.cycle:
            self.transport.close()
        elif self._timer is None:
            self._wait(HEADER_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the rest of the request, if there is any; a connection too many is closed after it."""
        super().on_response_complete()
        self._stop_waiting()
        if self.conn.their_state is SEND_BODY:
            self._wait(DRAIN_SECONDS)
        elif self.app is _too_many:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request by a problem, unless an answer has begun; close the connection."""
        if self.conn.our_state in (IDLE, SEND_RESPONSE):
            problem = ProblemError(400, msg, headers=_HEADERS | {"connection": "close"}).response()
            head = Response(status_code=400, headers=problem.raw_headers, reason=b"Bad Request")
            for event in (head, Data(data=bytes(problem.body)), EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for the client to read."""
        super().resume_writing()
        if self._unread:
            self._unread.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        if self._unread:
            self._unread.cancel()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the request of a connection too many."""
    headers = _HEADERS | {"retry-after": str(RETRY_SECONDS)}
    if not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
        headers["connection"] = "close"  # at once: a client that is sending a body would get a reset, and no answer
    detail = f"{MAX_CONNECTIONS} connections are open; close some, or try again in {RETRY_SECONDS} s"
    await ProblemError(503, detail, headers=headers).response()(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises `UsageError` if the port is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror  # without the address, which is named already
        raise UsageError(
            f"{host}, port {port}, cannot be used: {reason}; choose another one by --port or --host"
        ) from error


def create(config: ServiceConfig) -> uvicorn.Server:
    """Create the server; its `run` serves on sockets until SIGINT or SIGTERM.

    Raises:
        LibraryError: The database cannot be opened.
        ModelError: A model cannot be loaded.
    """
    settings = uvicorn.Config(
        app.create(config),
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(settings)

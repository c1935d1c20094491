"""Limits of size, time and number (S13): every request ends with an answer, and nothing is left of it."""

import errno
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import services
from moodfield.serving import server, tagging
from moodfield.serving.configs import ServiceConfig
from services import Running

STALLED = 1.0
"""seconds"""
MIN_RATE = 50_000.0
"""bytes in a second"""
UPLOAD = 2.5
"""seconds"""
TAG = 3.0
"""seconds"""
LIMIT = 200_000
"""bytes"""
MEMORY = 2**30
"""bytes"""
MAX_WAIT = 20.0
"""seconds to wait for something"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with short limits, two places, and a stand-in for tagging."""
    config = ServiceConfig(
        tmp_path_factory.mktemp("db") / "library.db",
        queue=2,
        max_file_bytes=LIMIT,
        max_batch_bytes=3 * LIMIT,
        max_batch_files=4,
        stalled_seconds=STALLED,
        min_rate=MIN_RATE,
        upload_seconds=UPLOAD,
        tag_seconds=TAG,
        tag_memory_bytes=MEMORY,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tagging, "tag", services.tag_slowly)
        patch.setattr(server, "HEADER_SECONDS", STALLED)
        patch.setattr(server, "DRAIN_SECONDS", STALLED)
        with services.running(config) as started:
            assert services.wait(lambda: send(started, 0).status_code == 200)
            yield started


@pytest.fixture(autouse=True)
def nothing_is_left(running: Running) -> Iterator[None]:
    """After every test no request is under way, and no file is left."""
    yield
    assert services.wait(lambda: running.service.pool.requests == 0 and not list(running.service.folder.iterdir()))


def send(running: Running, seconds: float | str, *, size: int = 10) -> httpx.Response:
    """Send a file whose tagging takes so long."""
    headers = {"content-type": "audio/wav", "x-filename": str(seconds)}
    return running.client.post("/v1/tag", content=b"x" * size, headers=headers)


def parts(count: int, *, size: int = 10_000, pause: float = 0.0) -> Iterator[bytes]:
    """The parts of a chunked body."""
    for _ in range(count):
        yield b"x" * size
        time.sleep(pause)


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=MAX_WAIT)


def head(length: int | None, *, path: str = "/v1/tag", more: str = "") -> bytes:
    """The head of a request."""
    body = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n{body}\r\n{more}\r\n".encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("path", "limit"), [("/v1/tag", LIMIT), ("/v1/playlists", 2**16)])
def test_bodies_that_are_too_large_are_413(running: Running, path: str, limit: int, *, chunked: bool) -> None:
    count = limit // 10_000 + 2
    body = parts(count) if chunked else b"x" * 10_000 * count
    answer = running.client.post(path, content=body, headers={"content-type": "audio/wav"})
    assert answer.status_code == 413
    assert answer.json()["status"] == 413


def test_a_stated_size_is_answered_before_the_body_is_sent(running: Running) -> None:
    with connect(running) as connection:
        connection.sendall(head(10**15, more="Expect: 100-continue\r\n"))
        assert status(connection.recv(4_096)) == 413


def test_files_of_a_batch_have_the_limit_of_a_file_and_of_their_number(running: Running) -> None:
    large = running.client.post("/v1/tag/batch", files=[("file", ("0", b"x" * (LIMIT + 1)))])
    many = running.client.post("/v1/tag/batch", files=[("file", ("0", b"x"))] * 5)
    assert (large.status_code, many.status_code) == (413, 413)


@pytest.mark.parametrize("chunked", [False, True])
def test_stalled_uploads_are_408(running: Running, *, chunked: bool) -> None:
    start = time.monotonic()
    with connect(running) as connection:
        connection.sendall(head(None if chunked else 1_000) + (b"5\r\nabcde\r\n" if chunked else b"abcde"))
        answer = connection.recv(4_096)
        assert status(answer) == 408
        assert b"application/problem+json" in answer
        assert STALLED <= time.monotonic() - start < STALLED + 5


def test_slow_uploads_are_408(running: Running) -> None:
    start = time.monotonic()
    answer = running.client.post(
        "/v1/tag", content=parts(100, size=100, pause=0.1), headers={"content-type": "audio/wav"}
    )
    assert answer.status_code == 408
    assert time.monotonic() - start < STALLED + 5


def test_clients_that_go_on_after_408_get_the_answer(running: Running) -> None:
    with connect(running) as connection:
        connection.sendall(head(LIMIT) + b"x")
        time.sleep(STALLED + 0.1)
        for _ in range(3):
            connection.sendall(b"x" * 50_000)
        assert status(connection.recv(4_096)) == 408


def test_uploads_that_are_fast_enough_are_answered_however_long_they_take(running: Running) -> None:
    body = parts(15, size=10_000, pause=0.1)
    headers = {"content-type": "audio/wav", "x-filename": "0"}
    assert running.client.post("/v1/tag", content=body, headers=headers).status_code == 200


def test_uploads_end_in_time_however_fast_they_are(running: Running) -> None:
    body = parts(90, size=6_000, pause=0.1)
    answer = running.client.post("/v1/tag/batch", content=body, headers={"content-type": "audio/wav"})
    assert answer.status_code == 408
    assert f"{UPLOAD:g} s" in answer.json()["detail"]


def test_forms_with_many_fields_are_413(running: Running) -> None:
    fields = {f"field {number}": "x" for number in range(20)}
    answer = running.client.post("/v1/tag", data=fields, files={"file": ("0", b"x")})
    assert answer.status_code == 413
    del fields["field 0"], fields["field 1"], fields["field 2"], fields["field 3"]
    assert running.client.post("/v1/tag", data=fields, files={"file": ("0", b"x")}).status_code == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"nonsense\r\n\r\n",
        head(5, more="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    ],
)
def test_malformed_requests_are_problems(running: Running, lines: bytes) -> None:
    answer = b""
    with connect(running) as connection:
        connection.sendall(lines)
        while part := connection.recv(4_096):
            answer += part
    assert status(answer) == 400
    assert b"application/problem+json" in answer


def test_connections_beyond_the_limit_are_503(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    with connect(running) as first, connect(running) as second:
        second.sendall(head(5) + b"abcde")
        answer = b""
        while part := second.recv(4_096):
            answer += part
        assert status(answer) == 503
        assert b"application/problem+json" in answer
        assert b"retry-after: 5" in answer
        assert b"x-content-type-options: nosniff" in answer
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert status(first.recv(4_096)) == 200


def test_a_connection_too_many_gets_its_answer_during_an_upload(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    with connect(running), connect(running) as second:
        second.sendall(head(2**20))
        for _ in range(16):
            second.sendall(bytes(2**16))
            time.sleep(0.01)  # a connection that was reset meanwhile raises at the next bytes
        answer = b""
        while part := second.recv(4_096):
            answer += part
        assert status(answer) == 503
        assert b"connections are open" in answer


def test_a_request_too_many_without_a_body_closes_its_connection(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    with connect(running), connect(running) as second:
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while part := second.recv(4_096):
            answer += part
        assert status(answer) == 503
        assert b"connection: close" in answer


@pytest.mark.parametrize("beginning", [b"", b"POST /v1/tag HTTP/1.1\r\nHost: local"])
def test_connections_without_a_whole_head_are_closed(running: Running, beginning: bytes) -> None:
    start = time.monotonic()
    with connect(running) as connection:
        connection.sendall(beginning)
        assert connection.recv(100) == b""
        assert time.monotonic() - start < STALLED + 5


def test_heads_that_come_byte_by_byte_are_closed(running: Running) -> None:
    start = time.monotonic()
    with connect(running) as connection:
        try:
            while time.monotonic() - start < MAX_WAIT:
                connection.sendall(b"X" if time.monotonic() - start > 0.1 else b"GET / HTTP/1.1\r\nA: ")
                time.sleep(0.1)
        except OSError:
            pass  # closed by the server
    assert time.monotonic() - start < STALLED + 5


def test_heads_of_later_requests_have_the_same_limit(running: Running) -> None:
    with connect(running) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(4_096)
        assert status(answer) == 200
        while not answer.endswith(b"}"):
            answer += connection.recv(4_096)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert connection.recv(100) == b""


def test_endless_bodies_are_read_for_a_while_so_that_the_answer_arrives(running: Running) -> None:
    start, answer, sent = time.monotonic(), b"", 0
    with connect(running) as connection:
        connection.sendall(head(None))
        try:
            while time.monotonic() - start < MAX_WAIT:
                connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                sent += 10_000
                if not answer and sent > LIMIT:
                    answer = connection.recv(4_096)
        except OSError:
            pass  # closed by the server
    assert status(answer) == 413
    assert time.monotonic() - start < STALLED + 5


def test_files_that_take_too_long_are_stopped_and_the_next_one_is_tagged(running: Running) -> None:
    killed, start = running.service.pool.killed, time.monotonic()
    answer = send(running, 1_000)
    assert answer.status_code == 422
    assert f"{TAG:g} s" in answer.json()["detail"]
    assert time.monotonic() - start < 15
    assert running.service.pool.killed == killed + 1
    assert send(running, 0).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is one of Linux")
def test_files_that_need_much_memory_are_problems(running: Running) -> None:
    killed = running.service.pool.killed
    answer = send(running, f"memory {2 * MEMORY}")
    assert answer.status_code == 422
    assert "memory" in answer.json()["detail"]
    assert running.service.pool.killed == killed + 1
    assert send(running, f"memory {MEMORY // 4}").status_code == 200


def test_files_that_crash_their_process_are_problems(running: Running) -> None:
    assert send(running, "crash").status_code == 422
    assert send(running, 0).status_code == 200


def test_more_files_than_there_are_places_are_503_while_healthz_answers(running: Running) -> None:
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(send, running, 1.5) for _ in range(2)]
        assert services.wait(lambda: running.service.pool.requests == 2)
        answer = send(running, 0, size=LIMIT)
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        start = time.monotonic()
        assert running.client.get("/healthz").status_code == 200
        assert time.monotonic() - start < 1
        assert [future.result().status_code for future in slow] == [200, 200]
    assert send(running, 0).status_code == 200


def test_other_files_are_tagged_between_those_of_a_batch(running: Running) -> None:
    batch = [("file", ("0.4", b"x"))] * 4
    with ThreadPoolExecutor(2) as threads:
        lines = threads.submit(running.client.post, "/v1/tag/batch", files=batch)
        assert services.wait(lambda: running.service.pool._files == 4)
        single = threads.submit(send, running, 0.2)
        assert services.wait(lambda: running.service.pool.requests == 2)
        full = send(running, 0)
        assert full.status_code == 503
        assert int(full.json()["detail"].split()[0]) > 2, "files, and not requests"
        assert single.result().status_code == 200
        assert not lines.done()
        assert len(lines.result().text.splitlines()) == 4
    assert running.service.pool._files == 0


def test_many_clients_all_get_an_answer(running: Running) -> None:
    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda _: send(running, 0.05, size=LIMIT // 2), range(120)))
    assert {answer.status_code for answer in answers} <= {200, 408, 503}, "408 on a machine that is very busy"
    assert sum(answer.status_code == 200 for answer in answers) >= 2


@pytest.mark.parametrize("sent", [b"", b"x" * 500])
def test_clients_that_leave_during_an_upload_leave_nothing(running: Running, sent: bytes) -> None:
    with connect(running) as connection:
        connection.sendall(head(1_000) + sent)
        assert services.wait(lambda: running.service.pool.requests == 1)


def test_files_of_clients_that_left_while_they_waited_are_not_tagged(running: Running) -> None:
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(send, running, 1.0)
        assert services.wait(lambda: running.service.pool.requests == 1)
        with connect(running) as connection:
            connection.sendall(head(5, more="X-Filename: 1000\r\n") + b"abcde")
            assert services.wait(lambda: running.service.pool.requests == 2)
        assert slow.result().status_code == 200
    start = time.monotonic()
    assert send(running, 0).status_code == 200
    assert time.monotonic() - start < TAG, "the file of 1000 s was tagged until it was stopped"


def test_clients_that_leave_during_a_batch_leave_nothing(running: Running) -> None:
    files = [("file", ("0.3", b"x"))] * 4
    with running.client.stream("POST", "/v1/tag/batch", files=files) as answer:
        assert next(answer.iter_lines()).startswith('{"number":')


def test_a_full_disk_is_507(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        answer = send(running, 0)
    assert answer.status_code == 507


@pytest.mark.parametrize("error", [ValueError("a secret"), OSError("a secret")])
def test_errors_that_nobody_expected_show_nothing_and_are_logged(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(running.service.library), "snapshot", fail)
    answer = running.client.get("/v1/tracks")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "GET /v1/tracks: " in caplog.text
    assert "secret" in caplog.text


def test_errors_of_files_of_a_batch_are_logged(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> bytes:
        raise ValueError("a secret")

    monkeypatch.setattr(type(running.service.pool), "tag", fail)
    answer = running.client.post("/v1/tag/batch", files=[("file", ("0", b"x"))])
    assert answer.json()["problem"]["status"] == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_the_service_opens_no_connection(running: Running) -> None:
    addresses: list[object] = []
    is_watching = threading.Event()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching.is_set() and event == "socket.connect":
            addresses.append(arguments[1])
        if is_watching.is_set() and event == "socket.getaddrinfo":
            addresses.append(arguments[:2])

    sys.addaudithook(watch)
    is_watching.set()
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/v1/models", "/v1/tracks", "/v1/map", "/v1/stats"):
        assert running.client.get(path).status_code == 200
    assert send(running, 0).status_code == 200
    is_watching.clear()
    assert addresses
    assert all(address[:2] == ("127.0.0.1", running.port) for address in addresses)


def test_metrics_count_requests_by_route(running: Running) -> None:
    send(running, 0)
    running.client.get("/v1/tracks/7")
    running.client.request("BREW", "/healthz")
    text = running.client.get("/metrics").text
    assert 'moodfield_requests_total{method="POST",route="/v1/tag",status="200"}' in text
    assert 'moodfield_requests_total{method="GET",route="/v1/tracks/{number}",status="404"}' in text
    assert 'moodfield_requests_total{method="other",route="/healthz",status="405"}' in text
    assert "BREW" not in text
    assert "moodfield_max_uploads 2.0" in text

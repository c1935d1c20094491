"""Who may use the service: hosts, origins, tokens and sessions."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Scope

import services
from moodfield.errors import ConfigError
from moodfield.serving import access, head
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.head import HeadMiddleware
from services import Running

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with services.running(ServiceConfig(tmp_path_factory.mktemp("db") / "library.db"), tags=False) as started:
        yield started


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with services.running(
        ServiceConfig(tmp_path_factory.mktemp("db") / "library.db", token=TOKEN), tags=False
    ) as started:
        yield started


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are_served(running: Running, host: str) -> None:
    assert running.client.get("/v1/tracks", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "0.0.0.0", "[::1", ""])
@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/tracks", "/docs"])
def test_other_names_are_not_served(running: Running, path: str, host: str) -> None:
    answer = running.client.get(path, headers={"host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_requests_of_other_pages_are_not_answered(running: Running, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/v1/tracks"), ("POST", "/v1/tag"), ("POST", "/v1/scans"), ("GET", "/metrics")):
        answer = running.client.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/v1/track", 404, "/v1/track;"),
        ("GET", "/v1/tracks/", 404, "/v1/tracks/;"),
        ("PUT", "/v1/tag", 405, "PUT"),
        ("POST", "/v1/playlists", 422, "Content-Type"),
    ],
)
def test_slips_are_answered_with_what_to_do(running: Running, method: str, path: str, status: int, word: str) -> None:
    answer = running.client.request(method, path, data={"tags": "calm"} if status == 422 else None)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert word in answer.json()["detail"]
    assert status != 405 or answer.headers["allow"] == "POST"


def test_head_is_named_in_the_log(running: Running) -> None:
    answer = running.client.head("/v1/tag")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")
    scope = {"type": "http", "method": "HEAD", "headers": []}
    seen = []

    async def app(inner: Scope, _receive: object, _send: object) -> None:
        seen.append((inner["method"], head.method(inner)))

    asyncio.run(HeadMiddleware(app)(scope, None, None))
    assert seen == [("GET", "HEAD")]


def test_requests_of_the_page_are_answered(running: Running) -> None:
    headers = {"origin": running.url, "sec-fetch-site": "same-origin"}
    assert running.client.get("/v1/tracks", headers=headers).status_code == 200
    assert running.client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200, "a link to the page"


def test_every_answer_has_the_headers_that_protect_the_page(running: Running) -> None:
    for path in ("/", "/v1/tracks", "/nothing", "/docs", "/v1/tracks?limit=0"):
        headers = running.client.get(path).headers
        assert all(headers[name] == value for name, value in access.HEADERS.items())
    policy = dict(part.strip().split(" ", 1) for part in access.POLICY.split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert "http" not in access.POLICY
    assert "unsafe" not in access.POLICY


def test_without_the_token_nothing_private_is_answered(protected: Running) -> None:
    paths = ("/v1/tracks", "/v1/models", "/v1/map", "/v1/tracks/1/audio", "/metrics", "/v1/session", "/v1/nothing")
    for path in paths:
        for headers in (
            {},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": TOKEN},
            {"cookie": "moodfield_session=x"},
        ):
            answer = protected.client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/healthz", "/docs", "/openapi.json"):
        assert protected.client.get(path).status_code == 200


def test_the_token_opens_everything_under_any_name(protected: Running) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "host": "music.example"}
    assert protected.client.get("/v1/tracks", headers=headers).status_code == 200
    assert protected.client.get("/metrics", headers=headers).status_code == 200


def test_a_session_stands_for_the_token_for_audio_alone_until_it_ends(protected: Running) -> None:
    assert protected.client.post("/v1/session").status_code == 401
    begun = protected.client.post("/v1/session", headers={"authorization": f"Bearer {TOKEN}"})
    cookie = begun.headers["set-cookie"]
    assert begun.status_code == 204
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert "path=/v1/tracks" in cookie.lower()
    audio = "/v1/tracks/1/audio"
    assert protected.client.get(audio).status_code == 404, "the library is empty"
    assert protected.client.get(audio, headers={"origin": "http://evil.example"}).status_code == 403
    value = cookie.partition(";")[0]
    for method, path in (("GET", "/v1/tracks"), ("GET", "/v1/tracks/1"), ("PATCH", "/v1/tracks/1"), ("POST", audio)):
        assert protected.client.request(method, path).status_code == 401
    assert protected.client.post("/v1/scans", headers={"cookie": value}).status_code == 401
    assert protected.client.delete("/v1/session", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 204
    assert protected.client.get(audio).status_code == 401


def test_sessions_without_a_token_set_no_cookie(running: Running) -> None:
    answer = running.client.post("/v1/session")
    assert answer.status_code == 204
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "0.0.0.0"}, "MOODFIELD_TOKEN"),
        ({"host": "192.168.1.2"}, "MOODFIELD_TOKEN"),
        ({"token": "short"}, "16"),
        ({"token": " 0123456789abcdef"}, "space"),
        ({"token": "Schlüssel-0123456789"}, "ASCII"),
        ({"token": "0123456789\nabcdef"}, "ASCII"),
        ({"models": ("default", "default")}, "twice"),
    ],
)
def test_unsafe_configs_raise(tmp_path: Path, values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ServiceConfig(tmp_path / "library.db", **values)


def test_a_token_is_in_no_text(tmp_path: Path) -> None:
    assert TOKEN not in repr(ServiceConfig(tmp_path / "library.db", token=TOKEN))


@pytest.mark.parametrize(
    "path",
    [
        "/assets/..%2f..%2f__init__.py",
        "/assets/../access.py",
        "/assets/%2e%2e/access.py",
        "/assets/..",
        "/assets/%2fetc%2fpasswd",
        "/assets/a%00b",
        "/../../etc/passwd",
        "/v1/tracks/..%2f..%2fetc%2fpasswd/audio",
        "/v1/tracks/%2e%2e/audio",
    ],
)
def test_no_path_leads_to_other_files(running: Running, path: str) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", path)  # as it is: httpx would resolve the dots
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (404, 422), body
    assert b"root:" not in body
    assert b"import" not in body

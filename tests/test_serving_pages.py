"""The page, its assets, and the command that serves them."""

import gzip
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import commands
import services
from moodfield import temporary
from moodfield.cli import serve
from moodfield.errors import UsageError
from moodfield.serving import pages, server
from moodfield.serving.configs import ServiceConfig
from services import Running

SCRIPT = b"console.log('hello');" * 100


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with services.running(ServiceConfig(tmp_path_factory.mktemp("db") / "library.db"), tags=False) as started:
        yield started


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built page."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>a page</title>")
    (tmp_path / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "link.js").symlink_to("/etc/passwd")
    monkeypatch.setattr(pages, "STATIC", tmp_path)
    return tmp_path


def test_the_page_and_its_assets_are_served(running: Running, built: Path) -> None:
    page = running.client.get("/")
    assert (page.headers["content-type"], page.headers["cache-control"]) == ("text/html; charset=utf-8", "no-cache")
    assert "a page" in page.text
    script = running.client.get("/assets/index-1a2b.js")
    assert script.content == SCRIPT
    assert "javascript" in script.headers["content-type"]
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-encoding"] == "gzip"
    assert int(script.headers["content-length"]) == len(gzip.compress(SCRIPT, 9))
    plain = running.client.get("/assets/index-1a2b.js", headers={"accept-encoding": "identity"})
    assert plain.content == SCRIPT
    (built / "index.html").write_text("another page")
    os.utime(built / "index.html", ns=(1, 1))
    assert running.client.get("/").text == "another page"


def test_no_other_files_are_served(running: Running, built: Path) -> None:
    for name in ("assets/link.js", "assets/none.js", "index.html", "assets/", f"assets/{'a' * 300}"):
        assert running.client.get(f"/{name}").status_code == 404


def test_without_a_page_there_is_a_message(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "STATIC", tmp_path)
    page = running.client.get("/")
    assert page.status_code == 200
    assert "docs" in page.text


def test_the_command_serves_until_a_signal(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = commands.start("serve", "--db", tmp_path / "a.db", "--port", "0", "--jobs", "1", env=environment)
    try:
        assert process.stderr
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
        assert httpx.get(f"{url}healthz").status_code == 200
        form = {"file": ("song.wav", services.wav())}
        assert httpx.post(f"{url}v1/tag", files=form, timeout=services.MAX_WAIT).json()["source"] == "song.wav"
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=services.MAX_WAIT)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_processes_end_with_a_killed_service(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # a killed service leaves its folder
    process = commands.start("serve", "--db", tmp_path / "a.db", "--port", "0", "--jobs", "2", env=environment)
    assert process.stderr
    url = process.stderr.readline().split(" at ")[1].split(";")[0]
    assert httpx.post(f"{url}v1/tag", files={"file": ("a", services.wav())}, timeout=60).status_code == 200
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    children += [child for task in Path(f"/proc/{process.pid}/task").iterdir() for child in _children(task)]
    process.kill()
    process.communicate()
    assert children
    assert services.wait(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    (left,) = tmp_path.glob(f"{temporary.PREFIX}*")
    temporary.remove_abandoned(tmp_path)
    assert not left.exists()


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


@pytest.mark.parametrize(
    ("words", "token"),
    [
        (["--host", "0.0.0.0"], None),
        (["--host", "0.0.0.0"], "short"),
        (["--model", "nothing"], None),
        (["--model", "default", "--model", "default"], None),
        (["--port", "99999"], None),
    ],
)
def test_unusable_options_end_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], token: str | None
) -> None:
    if token:
        monkeypatch.setenv("MOODFIELD_TOKEN", token)
    result = commands.invoke("serve", "--db", tmp_path / "a.db", *words)
    assert result.code in (1, 2)
    assert result.err
    assert token is None or token not in result.err


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("0.0.0.0", socket.gethostname()),
        ("::", socket.gethostname()),
    ],
)
def test_the_address_is_one_that_browsers_can_open(host: str, shown: str) -> None:
    assert serve.address(host, 8000) == f"http://{shown}:8000/"


def test_a_port_that_is_taken_is_a_usage_error() -> None:
    with server.listen("127.0.0.1", 0) as listening, pytest.raises(UsageError, match="--port"):
        server.listen("127.0.0.1", listening.getsockname()[1])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = commands.invoke("serve", "--db", tmp_path / "file" / "library.db", "--port", "0")
    assert result.code == 1
    assert "--db" in result.err


def test_another_database_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("no database")
    assert commands.invoke("serve", "--db", path, "--port", "0").code == 1
    assert path.read_text() == "no database"

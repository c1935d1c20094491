"""The steps of the Dockerfile, as far as they can be tried without a daemon, and the systemd unit."""

import configparser
import fnmatch
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import commands
import services

ROOT = Path(__file__).parent.parent
TOKEN = "0123456789abcdef"
PORT = "8000"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, with their arguments."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, argument.strip()) for name, argument in lines]


def arguments(name: str) -> list[str]:
    return [argument for other, argument in instructions() if other == name]


def sources() -> list[str]:
    """What is copied from the folder that is built."""
    copied = [argument.split()[:-1] for argument in arguments("COPY") if "--from" not in argument]
    return [source for line in copied for source in line]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    for source in sources():
        assert (ROOT / source).exists()
        assert f"!{source}" in lines
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(kept) == sorted(sources()), "nothing else is sent to the daemon"
    assert any(fnmatch.fnmatch("src/moodfield/__pycache__", line) for line in lines if line.startswith("**"))


def test_the_image_is_slim_and_runs_as_another_user_than_root() -> None:
    names = [name for name, _ in instructions()]
    assert all(base.startswith("python:3") and "-slim" in base for base in arguments("FROM"))
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert arguments("USER") == ["moodfield"]
    assert any("useradd" in line and "moodfield" in line for line in arguments("RUN"))
    assert not any("TOKEN" in line for line in arguments("ENV")), "a secret is no part of an image"


def test_the_container_needs_a_token_and_its_health_check_works(tmp_path: Path) -> None:
    """Its command, with the port of a test."""
    program, *words = json.loads(arguments("ENTRYPOINT")[0])
    assert program == "moodfield"
    environment = {name: value for name, value in os.environ.items() if name != "MOODFIELD_TOKEN"}
    environment |= {"MOODFIELD_DB": str(tmp_path / "library.db")}
    words[words.index(PORT)] = "0"
    unprotected = commands.start(*words, env=environment)
    _, errors = unprotected.communicate(timeout=services.MAX_WAIT)
    assert unprotected.returncode == 1
    assert "MOODFIELD_TOKEN" in errors
    process = commands.start(*words, env=environment | {"MOODFIELD_TOKEN": TOKEN})
    try:
        assert process.stderr
        port = process.stderr.readline().split("/;")[0].rpartition(":")[2]
        check = json.loads(arguments("HEALTHCHECK")[0].partition("CMD")[2])
        assert PORT in check[-1]
        healthy = [sys.executable, *check[1:-1], check[-1].replace(PORT, port)]
        assert subprocess.run(healthy, check=False).returncode == 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=services.MAX_WAIT)
    assert subprocess.run(healthy, check=False, stderr=subprocess.DEVNULL).returncode != 0
    assert (tmp_path / "library.db").exists()


@pytest.mark.slow
def test_the_copied_files_install_and_serve(tmp_path: Path) -> None:
    """The steps of the build, in a folder instead of an image; packages are downloaded."""
    for source in sources():
        target = tmp_path / "source" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, target)
    environment = tmp_path / "environment"
    for line in arguments("RUN"):
        if "/opt/moodfield" not in line:
            continue
        words = shlex.split(line.replace("/opt/moodfield", str(environment)))
        if words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(words, cwd=tmp_path / "source", check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    program = environment / "bin" / "moodfield"
    python = environment / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = [python, "-P", "-c", "import moodfield; print(moodfield.__file__)"]
    place = subprocess.run(code, env=clean, check=True, capture_output=True, text=True)
    assert str(environment) in place.stdout
    words = [program, "serve", "--db", tmp_path / "library.db", "--port", "0", "--jobs", "1"]
    process = subprocess.Popen(words, env=clean, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        url = process.stderr.readline().split(" at ")[1].split(";")[0]
        tagged = httpx.post(f"{url}v1/tag", files={"file": ("a.wav", services.wav())}, timeout=services.MAX_WAIT)
        assert tagged.json()["duration"] == 3.0
    finally:
        process.terminate()
        process.communicate(timeout=services.MAX_WAIT)


def test_the_unit_runs_the_command() -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read(ROOT / "docs" / "moodfield-serve.service")
    program, *words = shlex.split(parser["Service"]["ExecStart"])
    assert Path(program).name == "moodfield"
    assert commands.invoke(*words, "--help").code == 0
    assert parser["Service"]["SuccessExitStatus"] == str(128 + signal.SIGTERM)
    if shutil.which("systemd-analyze"):
        unit = ROOT / "docs" / "moodfield-serve.service"
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", unit], check=False, capture_output=True, text=True
        )
        assert "Unknown" not in done.stderr

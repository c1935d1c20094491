"""Tagging opens no network connection, and writes nothing to the home folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import models

MAX_WAIT = 60
"""seconds to wait at most for the telemetry of ONNX Runtime, which looks up its server after nine"""
TAG = "import sys, time, moodfield; moodfield.load().tag(sys.argv[1]); time.sleep(float(sys.argv[2]))"
BARE = """
import sys, time, onnxruntime
from pathlib import Path
import importlib.util
folder = Path(importlib.util.find_spec("moodfield").origin).parent
onnxruntime.InferenceSession(next(folder.glob("*/default/model.onnx")), providers=["CPUExecutionProvider"])
time.sleep(float(sys.argv[2]))
"""


def traced(home: Path, *words: str | Path) -> tuple["subprocess.Popen[bytes]", Path]:
    """Start a Python process with its own home folder; returns it with the file of its network system calls."""
    home.mkdir()
    trace = home.with_suffix(".trace")
    known = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = ["strace", "-f", "-e", "trace=network", "-o", trace, sys.executable, *words]
    return subprocess.Popen(
        command, env=known | {"HOME": str(home)}, stdout=subprocess.DEVNULL, start_new_session=True
    ), trace


def sockets(trace: Path) -> list[str]:
    """System calls that open a socket to other machines."""
    return [
        line
        for line in (trace.read_text() if trace.exists() else "").splitlines()
        if "socket(" in line and "AF_UNIX" not in line
    ]


needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: apt-get install strace")


@needs_strace
def test_the_command_opens_no_socket_and_leaves_no_file(tmp_path):
    song = models.save(tmp_path / "song.ogg", models.music(5))
    command, trace = traced(tmp_path / "command", "-m", "moodfield", "tag", song)
    assert command.wait(timeout=120) == 0
    assert trace.is_file()
    assert sockets(trace) == []
    assert [path for path in (tmp_path / "command").rglob("*") if path.is_file()] == []


@pytest.mark.slow  # waits until the telemetry of ONNX Runtime would connect
@needs_strace
def test_tagging_opens_no_socket_and_leaves_no_file(tmp_path):
    song = models.save(tmp_path / "song.ogg", models.music(5))
    api, trace = traced(tmp_path / "api", "-c", TAG, song, str(2 * MAX_WAIT))
    bare, bare_trace = traced(tmp_path / "bare", "-c", BARE, song, str(2 * MAX_WAIT))
    command, command_trace = traced(tmp_path / "command", "-m", "moodfield", "tag", song, song, "--jobs", "2")
    import onnxruntime

    has_telemetry = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 32)
    assert command.wait(timeout=120) == 0
    until = time.monotonic() + MAX_WAIT
    while has_telemetry and not sockets(bare_trace) and time.monotonic() < until:
        time.sleep(0.5)
    time.sleep(2)
    assert api.poll() is None  # it has run as long as the other process
    for process in (api, bare):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    for home, calls in ((tmp_path / "api", trace), (tmp_path / "command", command_trace)):
        assert sockets(calls) == []
        assert [path for path in home.rglob("*") if path.is_file()] == []


def test_telemetry_that_can_no_longer_be_disabled_causes_a_warning():
    program = "import onnxruntime, moodfield"
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    loud = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for environment, warned in ((quiet, False), (loud, True)):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        assert ("import moodfield first" in " ".join(done.stderr.split())) is warned

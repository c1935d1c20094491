"""Nothing leaves the machine, and nothing is left in the home folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import models

PATIENCE = 60
"""seconds that are waited at most for the telemetry of ONNX Runtime to look up its server; it does after nine"""
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
    """A Python process with a home of its own, and where its system calls about the network are written."""
    home.mkdir()
    trace = home.with_suffix(".trace")
    known = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = ["strace", "-f", "-e", "trace=network", "-o", trace, sys.executable, *words]
    return subprocess.Popen(
        command, env=known | {"HOME": str(home)}, stdout=subprocess.DEVNULL, start_new_session=True
    ), trace


def sockets(trace: Path) -> list[str]:
    """Calls that make a socket to anything but this machine."""
    return [
        line
        for line in (trace.read_text() if trace.exists() else "").splitlines()
        if "socket(" in line and "AF_UNIX" not in line
    ]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace, to see system calls: as root, apt-get install strace")
def test_tagging_opens_no_socket_and_leaves_no_file(tmp_path):
    song = models.save(tmp_path / "song.ogg", models.music(5))
    api, trace = traced(tmp_path / "api", "-c", TAG, song, str(2 * PATIENCE))
    bare, bare_trace = traced(tmp_path / "bare", "-c", BARE, song, str(2 * PATIENCE))
    command, command_trace = traced(tmp_path / "command", "-m", "moodfield", "tag", song, song, "--jobs", "2")
    import onnxruntime

    has_telemetry = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 32)
    assert command.wait(timeout=120) == 0
    until = time.monotonic() + PATIENCE
    while has_telemetry and not sockets(bare_trace) and time.monotonic() < until:
        time.sleep(0.5)
    time.sleep(2)
    assert api.poll() is None  # it has lived as long as the other one
    for process in (api, bare):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    for home, calls in ((tmp_path / "api", trace), (tmp_path / "command", command_trace)):
        assert sockets(calls) == []
        assert [path for path in home.rglob("*") if path.is_file()] == []


def test_telemetry_that_cannot_be_switched_off_any_more_is_warned_of():
    program = "import onnxruntime, moodfield"
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    loud = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for environment, warned in ((quiet, False), (loud, True)):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        assert ("import moodfield first" in " ".join(done.stderr.split())) is warned

"""Damaged files of every format, read in child processes: a small part of `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="child processes are forked")
@pytest.mark.parametrize("mutations", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_raise_an_error_within_their_limits(mutations):
    pytest.importorskip("av")
    done = subprocess.run(
        [sys.executable, FUZZ, "--count", str(12 * mutations)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    assert all(int(count) == mutations for _, count, _ in rows)
    assert sum(int(read) for *_, read in rows) > 2.5 * mutations


def test_a_child_that_breaks_its_limits_is_detected(tmp_path):
    """The script itself, on a reader that fails in each way."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz
from pathlib import Path
from moodfield import audio

def die(path, **_): os.kill(os.getpid(), signal.SIGSEGV)
def write(path, **_): os.write(2, b"noise")
def fail(path, **_): raise ValueError("a bug")
def fill(path, **_): return bytearray(700 * 2**20)

for broken in (die, write, fail, fill):
    audio.read = broken
    assert fuzz.tried(Path("x")).bad, broken
"""
    pytest.importorskip("av")
    subprocess.run([sys.executable, "-c", program], check=True)

"""Damaged files of every kind, in child processes: a small part of `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="child processes are forked")
def test_damaged_files_are_read_or_refused_within_their_limits():
    pytest.importorskip("av")
    done = subprocess.run([sys.executable, FUZZ, "--count", "240"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    assert all(int(mutations) == 20 for _, mutations, _ in rows)
    assert sum(int(read) for *_, read in rows) > 50


def test_a_child_that_breaks_its_limits_is_noticed(tmp_path):
    """The script itself, on a reader that fails in each way."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz
from pathlib import Path
from moodfield import audio

def die(path, rate): os.kill(os.getpid(), signal.SIGSEGV)
def write(path, rate): os.write(2, b"noise")
def fail(path, rate): raise ValueError("a bug")
def fill(path, rate): return bytearray(700 * 2**20)

for broken in (die, write, fail, fill):
    audio.read = broken
    assert fuzz.tried(Path("x")).bad, broken
"""
    pytest.importorskip("av")
    subprocess.run([sys.executable, "-c", program], check=True)

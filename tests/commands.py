"""Runs the command line in tests, in this process or in one of its own."""

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import typer.testing
from typer.testing import CliRunner

from moodfield.cli import main

# The parsers of all commands are built once a process: typer builds them for every invocation, 25 ms each time.
typer.testing._get_command = functools.cache(typer.testing._get_command)


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def invoke(*words: object) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(main.app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Result(result.exit_code, result.stdout, result.stderr)


def start(*words: str | Path, **options: object) -> "subprocess.Popen[str]":
    """Start a command in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen([sys.executable, "-m", "moodfield", *map(str, words)], **(pipes | options))


def json_lines(out: str) -> list[dict[str, object]]:
    """The objects of JSON lines, without anything else."""
    return [json.loads(line) for line in out.splitlines()]

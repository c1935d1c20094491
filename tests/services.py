"""Services in a thread of the tests, on a port of their own."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from moodfield.serving import server, tagging
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.service import Service
from moodfield.serving.tagging import Task

MAX_WAIT = 60.0
"""seconds to wait for a service, or a scan"""
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""one client for all requests, each on a connection of its own: another client would load certificates again"""


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    url: str
    """its address"""
    port: int
    """its port"""
    client: httpx.Client
    """a client of it"""
    service: Service
    """its parts"""


class NoWorker:
    """Stands for a process that tags, in services to which no file is sent."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def call(self, *_: object, **__: object) -> bytes:
        """The result for a task."""
        return b""

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def running(config: ServiceConfig, *, tags: bool = True) -> Iterator[Running]:
    """A context with a service; without `tags` no process starts, and no file can be sent."""
    listening = server.listen("127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as patch:
        if not tags:
            patch.setattr(tagging, "Worker", NoWorker)
        created = server.create(config)
    service = created.config.app.state.service
    thread = threading.Thread(target=created.run, args=([listening],))
    thread.start()
    try:
        deadline = time.monotonic() + MAX_WAIT
        while not created.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        port = listening.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=MAX_WAIT, limits=LIMITS) as client:
            yield Running(url, port, client, service)
    finally:
        created.should_exit = True
        thread.join()
        listening.close()


def tag_slowly(task: Task) -> bytes:
    """Stands for tagging: waits as long as the name of a file states, in seconds, allocates, or ends its process."""
    if task.name == "crash":
        os._exit(1)
    if task.name.startswith("memory "):
        assert bytearray(int(task.name.split()[1]))
        return b"{}"
    time.sleep(float(task.name or 0))
    return b'{"decided":[]}'


def tag_at_once(task: Task) -> bytes:
    """Stands for tagging: the same result for every file."""
    values = {"a": 0.5}
    names = ("scores", "times_usual", "evidence", "thresholds", "priors")
    by_tag = dict.fromkeys(names, values)
    lists: dict[str, list[str]] = {name: [] for name in ("decided", "moods", "themes")}
    head = {"source": task.name, "duration": 1.0, "model": "m", "relative": False}
    return json.dumps({**head, **lists, **by_tag}).encode()


def wav(seconds: float = 3.0, *, seed: int = 0, rate: int = 22_050) -> bytes:
    """A WAV file of noise that swells."""
    samples = np.random.default_rng(seed).normal(size=int(seconds * rate)) * np.linspace(0.01, 0.2, int(seconds * rate))
    file = BytesIO()
    soundfile.write(file, samples.astype(np.float32), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_music(folder: Path, count: int) -> Path:
    """A folder of music."""
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed}.wav").write_bytes(wav(seed=seed))
    return folder


def wait(condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true in time."""
    deadline = time.monotonic() + MAX_WAIT
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def wait_for_scan(client: httpx.Client, number: int) -> dict[str, object]:
    """A scan when it has ended."""
    deadline = time.monotonic() + MAX_WAIT
    while True:
        scan: dict[str, object] = client.get(f"/v1/scans/{number}").json()
        if scan["state"] != "running":
            return scan
        assert time.monotonic() < deadline
        time.sleep(0.1)

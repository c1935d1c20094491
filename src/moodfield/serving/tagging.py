"""Tag uploads in processes with limits of time and memory; a bounded number of requests waits."""

import asyncio
import hashlib
import logging
import math
import queue
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from fastapi import Request

from moodfield import tagger
from moodfield.audio import Envelope
from moodfield.card import Card
from moodfield.errors import AudioError, MoodfieldError, WorkerCrashedError
from moodfield.parallel import Worker
from moodfield.serving import problems
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.problems import ProblemError
from moodfield.tagger import Tagger
from moodfield.tagging import Tagging

MAX_MODELS = 8
"""models that a process keeps loaded"""
MAX_PEAKS = 2_000
"""values of a waveform"""
NICENESS = 5
"""priority of the processes below that of the service, which answers others meanwhile"""
FIRST_SECONDS = 1.0
"""time to tag a file, assumed before the first one"""


@dataclass(frozen=True)
class Task:
    """A file to tag, and what is wanted of it."""

    path: Path
    """temporary file"""
    name: str
    """name that replaces the path in results and messages"""
    model: str
    """name, folder or run of the model"""
    over_time: bool = False
    """whether scores over time and the waveform are wanted"""
    embedding: bool = False
    """whether the embedding is wanted"""


class TaggingPool:
    """Processes that tag, with a limit for the requests that are handled at once."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(config.jobs, "tagging")
        self._workers = [
            Worker(tag, niceness=NICENESS, memory_bytes=config.tag_memory_bytes) for _ in range(config.jobs)
        ]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._turn = asyncio.Semaphore(config.jobs)
        self._seconds = FIRST_SECONDS
        self._files = 0
        self.requests = 0
        """requests that are uploaded, wait or are tagged"""
        self.killed = 0
        """processes that were killed or died"""

    @contextmanager
    def admit(self) -> Iterator[None]:
        """A context for a request with files; raises `ProblemError` 503 if there are too many."""
        if self.requests >= self._config.max_requests:
            files = max(self._files, self.requests)
            wait = min(60, math.ceil(self._seconds * files / self._config.jobs))
            raise ProblemError(
                503,
                f"{files} files are being uploaded or tagged; try again in {wait} s",
                headers={"retry-after": str(wait)},
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def tag(self, task: Task, request: Request | None = None, batch: asyncio.Semaphore | None = None) -> bytes:
        """The JSON of a tagging, when a process is free.

        Args:
            task: The file.
            request: Whose file is not tagged if the client has gone.
            batch: Lets some files of a batch wait with those of other requests, and the others wait for these.

        Raises:
            MoodfieldError: The file cannot be tagged.
            ProblemError: 400: the client of the request has gone meanwhile.
        """
        self._files += 1
        try:
            async with batch or nullcontext(), self._turn:
                if request and await request.is_disconnected():
                    raise ProblemError(400, "the connection was closed")
                result = await asyncio.get_running_loop().run_in_executor(self._threads, self._tag, task)
        finally:
            self._files -= 1
        if isinstance(result, MoodfieldError):
            raise result
        return result

    def start(self) -> None:
        """Start all processes, which load the models meanwhile."""
        for _ in self._workers:
            self._threads.submit(self._tag, Task(Path(), "", self._config.models[0]))

    def close(self) -> None:
        """Terminate all processes."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(cancel_futures=True)

    def _tag(self, task: Task) -> bytes | MoodfieldError:
        worker, start = self._free.get(), time.monotonic()
        try:
            result = worker.call(task, seconds=self._config.tag_seconds)
        finally:
            self._free.put(worker)
        self._seconds += 0.1 * (time.monotonic() - start - self._seconds)
        if isinstance(result, WorkerCrashedError):
            self.killed += 1
        return result


def tag(task: Task) -> bytes:
    """Tag a file in a process of the pool; the temporary path is in no result and no message."""
    logging.getLogger("moodfield").setLevel(logging.ERROR)  # warnings are in the answer
    try:
        tagging = load(task.model).tag(task.path)
    except AudioError as error:
        raise AudioError(error.reason, str(error).replace(str(task.path), task.name)) from None
    warnings = tuple(warning.replace(str(task.path), task.name) for warning in tagging.warnings)
    return problems.encode(to_dict(replace(tagging, source=task.name, warnings=warnings), task))


def to_dict(tagging: Tagging, task: Task) -> dict[str, object]:
    """`Tagging.to_dict`, and with scores over time the waveform: `envelope`, peaks of equal parts of the track."""
    values = tagging.to_dict(over_time=task.over_time, embedding=task.embedding)
    if task.over_time:
        values["envelope"] = peaks(tagging.envelope)
    return values


def peaks(envelope: Envelope | None, count: int = MAX_PEAKS) -> list[float]:
    """The largest peak in each of at most `count` equal parts of a track, 0 … 1."""
    if envelope is None or not len(envelope.peaks):
        return []
    starts = np.linspace(0, len(envelope.peaks), min(count, len(envelope.peaks)), endpoint=False).astype(int)
    return [round(float(peak), 3) for peak in np.maximum.reduceat(envelope.peaks, starts)]


@lru_cache(maxsize=MAX_MODELS)
def load(model: str) -> Tagger:
    """The tagger of this process, on one core."""
    return tagger.load(model, threads=1)


def read_cards(config: ServiceConfig) -> Mapping[str, tuple[str, Card]]:
    """The served models: name in the card → name or folder by which it is loaded, and its card."""
    cards: dict[str, tuple[str, Card]] = {}
    for model in config.models:
        card = Card.read(tagger.model_folder(model))
        cards.setdefault(card.name, (model, card))
    return cards


def describe(card: Card) -> dict[str, object]:
    """A model for programs: its name, licence and tags."""
    kinds = {tag: "theme" if tag in card.themes else "mood" for tag in card.vocabulary}
    return {
        "name": card.name,
        "version": hashlib.sha256(card.to_json().encode()).hexdigest()[:12],
        "licence": card.licence,
        "tags": [{"name": tag, "kind": kind} for tag, kind in kinds.items()],
        "heads": {head.name: list(head.vocabulary) for head in card.heads},
    }

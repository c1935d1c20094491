"""Workers that fetch files and tag each of them in a child process, which a damaged file may crash."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from moodfield import parallel, temporary
from moodfield.catalogue import networks, rows, storage
from moodfield.catalogue.networks import PreparedTrack
from moodfield.catalogue.rows import Record
from moodfield.errors import AudioError, ModelError, UnknownNameError, WorkerCrashedError
from moodfield.library import analysis
from moodfield.library.analysis import Analysis

AHEAD = 2
"""files that are fetched while one is tagged"""
FILE_SECONDS = 600.0
"""time after which the process of a file is killed: six hours of music take about one minute"""

Item: TypeAlias = tuple[int, int, str]
"""an input: its part, its row in the part, its source"""
Analyse: TypeAlias = Callable[[tuple[str, ...], Path], Analysis | PreparedTrack]
"""tags a file by models, as `analysis.analyse` does"""


@dataclass(frozen=True)
class WorkerConfig:
    """What workers do."""

    models: tuple[str, ...] = ()
    """names of models, as for `moodfield.load`"""
    analyse: Analyse = analysis.analyse
    """tags a file in a process, which may crash"""
    networks: int | None = None
    """actors that run networks for the workers of a Ray cluster; None: one for each GPU that ONNX Runtime can use"""


class TrackWorker:
    """Fetches files, tags them in one child process, and returns records; the process is kept between calls."""

    def __init__(self, config: WorkerConfig) -> None:
        self._process = parallel.Worker(partial(config.analyse, config.models))
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(temporary.folder())
        self._numbers = itertools.count()
        self._closed = threading.Event()

    def tag(self, items: Iterable[Item]) -> Iterator[Record]:
        """Records of files, in their order; of files that cannot be tagged, with the error."""
        pending: deque[tuple[Item, Future[Path]]] = deque()
        remaining = iter(items)
        while not self._closed.is_set():
            while len(pending) <= AHEAD and (item := next(remaining, None)):
                pending.append((item, self._fetcher.submit(self._fetch, item[2])))
            if not pending:
                return
            (part, row, source), future = pending.popleft()
            record = self._record(source, future)
            if not self._closed.is_set():
                yield {"part": part, "row": row, **record}

    def close(self) -> None:
        """Terminate the process, also during a call."""
        self._closed.set()
        self._fetcher.shutdown(wait=False, cancel_futures=True)
        self._process.close()
        self._stack.close()

    def _fetch(self, source: str) -> Path:
        return storage.fetch(source, self._folder / str(next(self._numbers)), self._closed)

    def _record(self, source: str, future: "Future[Path]") -> Record:
        """The record of a file that is being fetched."""
        try:
            path = future.result()
        except AudioError as error:
            return rows.from_error(error)
        try:
            result = self._analyse(path)
            size = path.stat().st_size if path.exists() else None
        finally:
            if path.parent == self._folder:
                path.unlink(missing_ok=True)
        if isinstance(result, Analysis):
            return rows.from_analysis(result, size)
        if isinstance(result, PreparedTrack):
            return networks.to_record(result, size)
        if isinstance(result, ModelError | UnknownNameError):
            raise result  # it would be the same for all files
        record = rows.from_error(result)
        return record | {"error": record["error"].replace(str(path), storage.public_name(source))}

    def _analyse(self, path: Path) -> Analysis | PreparedTrack | Exception:
        """Tag a file; one that crashes its process is tried again, since it may have died of something else."""
        result: Analysis | PreparedTrack | Exception | None = None
        start, tries = time.monotonic(), 0
        while tries < parallel.MAX_TRIES and time.monotonic() - start < FILE_SECONDS:  # it would take as long again
            tries += 1
            try:
                result = self._process.call(path, seconds=FILE_SECONDS)
            except Exception as error:  # noqa: BLE001 (a fault that one file of millions reveals is its row)
                return error
            if self._closed.is_set() or not isinstance(result, WorkerCrashedError):
                return result
        return WorkerCrashedError(f"{path} was tried {tries} times: {result}")

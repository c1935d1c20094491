"""Tag the inputs of a catalogue part by part, on this machine or on Ray; skip committed parts."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from moodfield.catalogue import on_ray, parts, rows, storage
from moodfield.catalogue.dataset import Catalogue
from moodfield.catalogue.rows import Record
from moodfield.catalogue.workers import Item, TrackWorker, WorkerConfig
from moodfield.errors import AudioError, CatalogueError
from moodfield.parallel import Backend

UNDELIVERED = 50
"""files one after the other that storage does not deliver, after which a run stops"""


def run(
    catalogue: Catalogue,
    plan: parts.Plan,
    config: WorkerConfig,
    *,
    on: Backend = Backend.LOCAL,
    jobs: int = 1,
) -> Generator[Record]:
    """Tag what is left to do, and commit every part as soon as its last file is tagged.

    Args:
        catalogue: The catalogue.
        plan: What is left to do.
        config: What workers do.
        on: Where to run. On Ray, local paths must exist on all machines.
        jobs: Processes on this machine; Ray uses all cores of the cluster.

    Yields:
        The record of every file, in any order, after the part that it completes is committed.

    Raises:
        CatalogueError: Storage delivers none of `UNDELIVERED` files one after the other, which no run has tried before;
            a part cannot be written; or the cluster stops.
        ModelError, UnknownNameError, UsageError: A worker cannot load the model, or open any storage of that kind.
    """
    if on is Backend.RAY:
        records = on_ray.run(catalogue, plan, config)
    else:
        items = (item for part in plan.parts for item in parts.items_of(catalogue, part, again=part in plan.again))
        records = _run_local(items, config, jobs)
    waiting: dict[int, dict[int, Record]] = {}
    left, undelivered = set(plan.parts) - plan.again, 0
    with contextlib.closing(records):
        for record in records:
            part = record["part"]
            if part not in waiting:
                waiting[part] = parts.kept(catalogue, part) if part in plan.again else {}
            waiting[part][record["row"]] = record
            if len(waiting[part]) == catalogue.rows_of(part):
                parts.commit(catalogue, part, waiting.pop(part))
                left.discard(part)
            if part not in plan.again:  # there, files may be undelivered for good
                undelivered = undelivered + 1 if record["reason"] == storage.STORAGE else 0
            yield record
            if undelivered == UNDELIVERED:
                for number, done in waiting.items():
                    _commit_unfinished(catalogue, number, done)
                raise CatalogueError(f"storage delivers no files; run the command again later; {record['error']}")
    if left:
        raise CatalogueError(f"{len(left)} parts have no rows, such as part {min(left)}; run the command again")


def _commit_unfinished(catalogue: Catalogue, part: int, done: Mapping[int, Record]) -> None:
    """Commit a part of which some files were not tried: what is done is kept, and the next run starts elsewhere."""
    error = AudioError(storage.STORAGE, "it was not tried, since storage delivered no files; run the command again")
    parts.commit(catalogue, part, {row: rows.from_error(error) for row in range(catalogue.rows_of(part))} | dict(done))


class _SharedItems:
    """An iterator that several threads use, and that can be stopped."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items, self._lock = iter(items), threading.Lock()
        self.is_stopped = False

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._lock:
            if self.is_stopped:
                raise StopIteration
            return next(self._items)


def _run_local(items: Iterable[Item], config: WorkerConfig, jobs: int) -> Generator[Record]:
    """Records of files by workers in threads, each with a process."""
    shared = _SharedItems(items)
    results: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
    workers = [TrackWorker(config) for _ in range(jobs)]

    def work(worker: TrackWorker) -> None:
        try:
            for record in worker.tag(shared):
                results.put(record)
        finally:
            results.put(None)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(work, worker) for worker in workers]
        try:
            for _ in workers:
                yield from iter(results.get, None)  # until one of them has ended
            for future in futures:
                future.result()
        finally:
            shared.is_stopped = True
            for worker in workers:
                worker.close()

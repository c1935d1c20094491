"""Map a function over items: in this process, in several processes, or on a Ray cluster."""

import concurrent.futures
import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import resource_tracker
from queue import SimpleQueue
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

from moodfield.errors import ConfigError, MoodfieldError, WorkerCrashedError

Item = TypeVar("Item")
Result = TypeVar("Result")

PREFETCH = 4
"""items submitted for each process before the first result is awaited"""
MAX_TRIES = 3
"""processes of a cluster that an item may crash: each may have died of something else"""
START_SECONDS = 120.0
"""time in which a process must start, and import what it needs"""
GRACE_SECONDS = 0.5
"""time for terminated processes to remove their partial files before they are killed"""


class Backend(StrEnum):
    """Where items are processed."""

    LOCAL = "local"
    """processes of this machine"""
    RAY = "ray"
    """a Ray cluster"""


@dataclass(frozen=True)
class _Outcome(Generic[Result]):
    """What a worker process returns for one item."""

    result: Result | MoodfieldError
    records: list[logging.LogRecord]
    """log records of the loggers below `moodfield`"""
    issued: list[tuple[Warning | str, type[Warning], str, int]]
    """warnings: message, category, file, line"""


def cpu_count() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(count: int, per_job: int = 4) -> int:
    """The number of processes for `count` items: one a core, each with at least `per_job` items, since starting costs.

    >>> default_jobs(3)
    1
    """
    return min(cpu_count(), max(1, count // per_job))


def map(  # noqa: A001 (as concurrent.futures names it)
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int = 1,
    backend: Backend = Backend.LOCAL,
    with_gpu: bool = False,
) -> Iterator[tuple[Item, Result | MoodfieldError]]:
    """Apply a function to every item, in parallel, and yield items and results in order.

    Log records and warnings of worker processes are re-issued in this process, before the result they belong to. A
    caller that stops early or is interrupted terminates the workers without waiting for them. Items whose worker died
    together with another item's are processed again.

    Args:
        function: Applied to every item; picklable if `jobs` > 1.
        items: Consumed lazily, `PREFETCH` per job in advance; picklable if `jobs` > 1.
        jobs: Processes of the local backend; 1 runs in this process. Ray runs as many as the cluster has cores.
        backend: Where to run. On Ray, paths in the items must exist on all machines.
        with_gpu: On Ray, reserve a GPU for each job, if the cluster has any.

    Yields:
        Each item with its result, or with the `MoodfieldError` that the function raised for it, or with a
        `WorkerCrashedError` if it killed its process, or if there was too little memory for it.

    Raises:
        ConfigError: No process can be started, as in a script without `if __name__ == "__main__":`.

    Example:
        >>> list(map(abs, [-1, 2]))
        [(-1, 1), (2, 2)]
    """
    if backend is Backend.RAY:
        yield from _map_on_ray(function, items, with_gpu=with_gpu)
    elif jobs > 1:
        yield from _map_in_processes(function, items, jobs)
    else:
        for item in items:
            yield item, _call(function, item)


class Worker:
    """A process that calls a function for one item at a time, and is killed if a call takes too long.

    Args:
        function: Applied to every item; picklable.
        niceness: How much lower than that of this process its priority is.
        memory_bytes: Memory that it may allocate, where the system limits that (Linux); None: any.
    """

    def __init__(
        self, function: Callable[[Item], Result], *, niceness: int = 0, memory_bytes: int | None = None
    ) -> None:
        self._function, self._niceness, self._memory_bytes, self._is_closed = function, niceness, memory_bytes, False
        self._start()

    def call(self, item: Item, *, seconds: float) -> Result | MoodfieldError:
        """The result for an item, the `MoodfieldError` that the function raised, or a `WorkerCrashedError`.

        After a crash, an allocation that fails, or `seconds` in which there is no result, the process is replaced by
        another one. The time in which a process starts does not count.
        """
        try:
            self._started.result(START_SECONDS)
            future = _submit(self._pool, _call_recorded, self._function, item)
            if not concurrent.futures.wait([future], seconds).done:
                error = WorkerCrashedError(f"it was stopped after {seconds:g} s, the limit for one file")
            elif isinstance(result := _reissue(future.result()), WorkerCrashedError):
                raise MemoryError
            else:
                return result
        except MemoryError:
            limit = "there is" if self._memory_bytes is None else f"the limit of {self._memory_bytes / 2**30:g} GiB"
            error = WorkerCrashedError(f"it was stopped since it needs more memory than {limit}; it may be damaged")
        except (BrokenProcessPool, concurrent.futures.TimeoutError):
            error = WorkerCrashedError("the process that worked on it died; it may be damaged")
        if not self._is_closed:
            _terminate(self._pool)
            self._start()
        return error

    def close(self) -> None:
        """Terminate the process, also during a call of another thread; no other call may follow."""
        self._is_closed = True
        _terminate(self._pool)

    def _start(self) -> None:
        """Start a process, which imports the function meanwhile."""
        self._pool = _pool(1, self._niceness, self._memory_bytes)
        self._started = _submit(self._pool, callable, self._function)


def _map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[tuple[Item, Result | MoodfieldError]]:
    pool = _pool(jobs)
    pending: deque[tuple[Item, Future[_Outcome[Result]]]] = deque()

    def submit(item: Item) -> Future[_Outcome[Result]]:
        try:
            return _submit(pool, _call_recorded, function, item)
        except BrokenProcessPool as error:  # it died since the last item; `next_result` handles it
            failed: Future[_Outcome[Result]] = Future()
            failed.set_exception(error)
            return failed

    def next_result() -> tuple[Item, Result | MoodfieldError]:
        nonlocal pool, pending
        item, future = pending.popleft()
        try:
            return item, _reissue(future.result())
        except BrokenProcessPool:
            pool.shutdown()  # when it returns, every future is either done or broken
            pool = _pool(jobs)
            pending = deque((item, submit(item) if _is_broken(future) else future) for item, future in pending)
            return item, _call_isolated(function, item)

    try:
        for item in items:
            pending.append((item, submit(item)))
            if len(pending) >= jobs * PREFETCH:
                yield next_result()
        while pending:
            yield next_result()
    except BaseException:
        _terminate(pool)
        raise
    pool.shutdown()


def _map_on_ray(
    function: Callable[[Item], Result], items: Iterable[Item], *, with_gpu: bool
) -> Iterator[tuple[Item, Result | MoodfieldError]]:
    """Map on the cluster at RAY_ADDRESS, or on a new one of this machine alone."""
    import ray

    init_ray()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_gpus = int(with_gpu and resources.get("GPU", 0) >= 1)
    call: Any = ray.remote(max_retries=MAX_TRIES - 1, num_gpus=num_gpus)(_call_recorded)
    shared = ray.put(function)
    pending: deque[tuple[Item, Any]] = deque()

    def next_result() -> tuple[Item, Result | MoodfieldError]:
        item, reference = pending[0]
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayTaskError:
            raise  # a bug in the function
        except ray.exceptions.RayError:
            message = f"{MAX_TRIES} processes died of {item}; it may be damaged: leave it out"
            outcome = _Outcome(WorkerCrashedError(message), [], [])
        pending.popleft()  # only now, so that an interrupted caller cancels this one, too
        return item, _reissue(outcome)

    try:
        ahead = PREFETCH * max(1, int(resources.get("CPU", 1)))
        for item in items:
            pending.append((item, call.remote(shared, item)))
            if len(pending) >= ahead:
                yield next_result()
        while pending:
            yield next_result()
    finally:
        for _, reference in pending:
            ray.cancel(reference)  # not by force, which can kill Ray itself; native code ends with the driver


def init_ray() -> None:
    """Join the cluster at RAY_ADDRESS, or start one of this machine alone; does nothing if that is done."""
    import ray

    if not ray.is_initialized():
        with _sigterm_handler_kept():
            address = os.environ.get("RAY_ADDRESS") or "local"  # not None, which joins any cluster of this machine
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)


def _call(function: Callable[[Item], Result], item: Item) -> Result | MoodfieldError:
    try:
        return function(item)
    except MoodfieldError as error:
        return error
    except MemoryError as error:
        return WorkerCrashedError(f"there is too little memory for {item} ({error}); use fewer jobs, or leave it out")


def _call_recorded(function: Callable[[Item], Result], item: Item) -> _Outcome[Result]:
    """Call the function in a worker process, and collect log records and warnings instead of printing them."""
    logger, records = logging.getLogger("moodfield"), SimpleQueue[logging.LogRecord]()
    handler, propagates = logging.handlers.QueueHandler(records), logger.propagate  # records that can be pickled
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as issued:
            result = _call(function, item)
    except SystemExit:
        os._exit(1)  # terminated; the executor would take this for a result, and go on
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
    logged = [records.get() for _ in range(records.qsize())]
    return _Outcome(result, logged, [(w.message, w.category, w.filename, w.lineno) for w in issued])


def _reissue(outcome: _Outcome[Result]) -> Result | MoodfieldError:
    """The result of a worker, after its log records and warnings were issued in this process."""
    for record in outcome.records:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    for message, category, filename, line in outcome.issued:
        warnings.warn_explicit(message, category, filename, line)
    return outcome.result


def _call_isolated(function: Callable[[Item], Result], item: Item) -> Result | MoodfieldError:
    """Call the function for an item in a process of its own, which it may kill."""
    pool = _pool(1)
    try:
        try:
            _submit(pool, os.getpid).result()
        except BrokenProcessPool as error:
            raise ConfigError(
                "several jobs were requested, but no worker process could be started; a script must call this under "
                '`if __name__ == "__main__":` (each worker imports it again), or use jobs=1'
            ) from error
        try:
            return _reissue(_submit(pool, _call_recorded, function, item).result())
        except BrokenProcessPool:
            return WorkerCrashedError(f"the process that worked on {item} died; it may be damaged: leave it out")
    finally:
        _terminate(pool)


def _is_broken(future: Future[Any]) -> bool:
    """Whether the worker died before it had the result."""
    return isinstance(future.exception(), BrokenProcessPool)


def _pool(jobs: int, niceness: int = 0, memory_bytes: int | None = None) -> ProcessPoolExecutor:
    """A pool of spawned processes (a fork of a process with threads may hang)."""
    context = multiprocessing.get_context("spawn")
    with _signals_blocked():
        return ProcessPoolExecutor(jobs, context, initialize_worker, (niceness, memory_bytes))


def _submit(pool: ProcessPoolExecutor, function: Callable[..., Result], *arguments: object) -> Future[Result]:
    """Submit a call; a process that the pool starts for it is not interrupted before `initialize_worker`."""
    with _signals_blocked():
        return pool.submit(function, *arguments)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP; processes started meanwhile inherit that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # a hang-up would kill it; when it starts it unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM, which `ray.init` replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _terminate(pool: ProcessPoolExecutor) -> None:
    """Terminate the processes of a pool, then kill those that remain."""
    processes = list((pool._processes or {}).values())  # public in Python 3.14
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        with contextlib.suppress(ValueError):  # closed by the pool
            process.kill()
    pool.shutdown(cancel_futures=True)


def initialize_worker(niceness: int = 0, memory_bytes: int | None = None) -> None:
    """Use one core at lower priority and limited memory, leave SIGINT and SIGHUP to the parent, and end with it."""
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    _limit_memory(memory_bytes)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # the jobs are the threads; BLAS reads this when it is imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _limit_memory(size: int | None) -> None:
    """Let allocations of this process fail beyond `size` bytes; does nothing where the system has no such limit."""
    if size is not None and sys.platform == "linux":  # macOS has the limit, and does not apply it
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)  # not RLIMIT_AS, which counts reserved addresses, too
        resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Raise `SystemExit`, which removes partial files."""
    raise SystemExit(1)


def _end_with_parent() -> None:
    """Exit when the parent process ends, even if it was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)

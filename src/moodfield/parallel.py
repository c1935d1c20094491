"""One function over many things: here, in processes, or on Ray.

In: a function and things to do it to. Out: a result or an error for each, in order.
Knows nothing of: what the function does.
"""

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import signal
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
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

from moodfield.errors import ConfigError, MoodfieldError, WorkerCrashedError

Thing = TypeVar("Thing")
Result = TypeVar("Result")

AHEAD = 4
"""things given to each process before the first of them is done"""
TRIES = 3
"""processes of a cluster that a thing may kill, each of which may have died of something else"""
GRACE = 0.5
"""seconds that terminated processes have to remove their partial files before they are killed"""


class Backend(StrEnum):
    """Where the work is done."""

    LOCAL = "here"
    RAY = "ray"


@dataclass(frozen=True)
class _Outcome(Generic[Result]):
    """What a process returns of one thing."""

    result: Result | MoodfieldError
    records: list[logging.LogRecord]
    """what the loggers below `moodfield` recorded meanwhile"""
    warned: list[tuple[Warning | str, type[Warning], str, int]]
    """the warnings that were issued meanwhile: message, category, file, line"""


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map(  # noqa: A001 (as concurrent.futures names it)
    function: Callable[[Thing], Result],
    things: Iterable[Thing],
    *,
    jobs: int = 1,
    backend: Backend = Backend.LOCAL,
    with_gpu: bool = False,
) -> Iterator[tuple[Thing, Result | MoodfieldError]]:
    """`function` of every thing, in the order they come; what it refuses comes as its error and stops nothing.

    With several `jobs` the function runs in as many fresh processes; it and the things must then be picklable. Refuses
    with `ConfigError` when none can be started, as for a script without `if __name__ == "__main__":`. One that kills
    its process comes as `Crashed`, and what was under way beside it is done again. On Ray there are as many
    jobs as the cluster has cores, and whatever the things name must be found by all of its machines; `with_gpu` gives
    each job a GPU, if the cluster has any.

    Log records and warnings of the processes are passed on in this one, with the result they belong to. A caller that
    stops early, or is interrupted, terminates the processes: it does not wait for what they work on.
    """
    if backend is Backend.RAY:
        yield from _on_ray(function, things, with_gpu=with_gpu)
    elif jobs > 1:
        yield from _in_processes(function, things, jobs)
    else:
        for thing in things:
            yield thing, _attempt(function, thing)


def _in_processes(
    function: Callable[[Thing], Result], things: Iterable[Thing], jobs: int
) -> Iterator[tuple[Thing, Result | MoodfieldError]]:
    """The same in processes of this machine."""
    pool = _pool(jobs)
    waiting: deque[tuple[Thing, Future[_Outcome[Result]]]] = deque()

    def submit(thing: Thing) -> Future[_Outcome[Result]]:
        try:
            return _submit(pool, _record, function, thing)
        except BrokenProcessPool as error:  # it died since the last thing; `settle` will notice
            dead: Future[_Outcome[Result]] = Future()
            dead.set_exception(error)
            return dead

    def settle() -> tuple[Thing, Result | MoodfieldError]:
        nonlocal pool, waiting
        thing, future = waiting.popleft()
        try:
            return thing, _passed_on(future.result())
        except BrokenProcessPool:
            pool.shutdown()  # when it returns, every future says whether it was done before
            pool = _pool(jobs)
            waiting = deque((other, submit(other) if _broken(was) else was) for other, was in waiting)
            return thing, _alone(function, thing)

    try:
        for thing in things:
            waiting.append((thing, submit(thing)))
            if len(waiting) >= jobs * AHEAD:
                yield settle()
        while waiting:
            yield settle()
    except BaseException:
        _terminate(pool)
        raise
    pool.shutdown()


def _on_ray(
    function: Callable[[Thing], Result], things: Iterable[Thing], *, with_gpu: bool
) -> Iterator[tuple[Thing, Result | MoodfieldError]]:
    """The same on the cluster that RAY_ADDRESS names, or one of this machine alone."""
    import ray

    if not ray.is_initialized():
        with _handlers_stay():
            # without an address Ray would join whatever cluster runs here, and lose its work when that one's owner ends
            ray.init(os.environ.get("RAY_ADDRESS") or "local", log_to_driver=False, include_dashboard=False)
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    record: Any = ray.remote(max_retries=TRIES - 1, num_gpus=int(with_gpu and has.get("GPU", 0) >= 1))(_record)
    shared = ray.put(function)
    waiting: deque[tuple[Thing, Any]] = deque()

    def settle() -> tuple[Thing, Result | MoodfieldError]:
        thing, coming = waiting[0]
        try:
            outcome = ray.get(coming)
        except ray.exceptions.RayTaskError:
            raise  # a fault of the function
        except ray.exceptions.RayError:
            outcome = _Outcome(
                WorkerCrashedError(
                    f"{TRIES} processes that worked on {thing} died of it; it may be damaged: leave it out"
                ),
                [],
                [],
            )
        waiting.popleft()  # only now: a caller that is interrupted cancels this one, too
        return thing, _passed_on(outcome)

    try:
        ahead = AHEAD * max(1, int(has.get("CPU", 1)))
        for thing in things:
            waiting.append((thing, record.remote(shared, thing)))
            if len(waiting) >= ahead:
                yield settle()
        while waiting:
            yield settle()
    finally:
        for _, coming in waiting:
            ray.cancel(
                coming
            )  # not by force, of which Ray itself may die; code that is not Python ends with the driver


def _attempt(function: Callable[[Thing], Result], thing: Thing) -> Result | MoodfieldError:
    try:
        return function(thing)
    except MoodfieldError as error:
        return error


class _Records(logging.handlers.QueueHandler):
    """Keeps log records, so prepared that they can be sent to another process."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.queue.append(record)  # type: ignore[attr-defined]


def _record(function: Callable[[Thing], Result], thing: Thing) -> _Outcome[Result]:
    """Run in a process of its own what `_attempt` runs, with log records and warnings kept from its terminal."""
    logger, records = logging.getLogger("moodfield"), deque[logging.LogRecord]()
    handler, propagates = _Records(records), logger.propagate  # type: ignore[arg-type]
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as warned:
            result = _attempt(function, thing)
    except SystemExit:
        os._exit(1)  # terminated; the executor would take this for a result, and go on
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
    issued = [(each.message, each.category, each.filename, each.lineno) for each in warned]
    return _Outcome(result, list(records), issued)


def _passed_on(outcome: _Outcome[Result]) -> Result | MoodfieldError:
    """The result of a process, after its log records and warnings became some of this one."""
    for record in outcome.records:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    for message, category, filename, line in outcome.warned:
        warnings.warn_explicit(message, category, filename, line)
    return outcome.result


def _alone(function: Callable[[Thing], Result], thing: Thing) -> Result | MoodfieldError:
    """The result of a thing in a process of its own, which it may kill; refuses where no process can live at all."""
    pool = _pool(1)
    try:
        try:
            _submit(pool, os.getpid).result()
        except BrokenProcessPool as error:
            raise ConfigError(
                "several jobs were wanted, but no process could be started for them; a script that asks for them does "
                'so under `if __name__ == "__main__":` (each process imports it again), or wants jobs=1'
            ) from error
        try:
            return _passed_on(_submit(pool, _record, function, thing).result())
        except BrokenProcessPool:
            return WorkerCrashedError(f"the process that worked on {thing} died of it; it may be damaged: leave it out")
    finally:
        _terminate(pool)


def _broken(future: Future[Any]) -> bool:
    """Whether what a process was to do died with it."""
    return isinstance(future.exception(), BrokenProcessPool)


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes (a fork of one with threads may hang)."""
    with _interrupts_wait():
        return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _submit(pool: ProcessPoolExecutor, function: Callable[..., Result], *arguments: object) -> Future[Result]:
    """Give a pool something to do; a process that it starts for it is not interrupted before `_begin`."""
    with _interrupts_wait():
        return pool.submit(function, *arguments)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold back Ctrl-C and hang-ups meanwhile; processes that are started inherit that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # it would die of a hang-up; when it starts it lets Ctrl-C through again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handlers_stay() -> Iterator[None]:
    """Keep what this process does when it is to terminate; Ray has a way of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _terminate(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool, whatever they do."""
    processes = list((pool._processes or {}).values())  # a public way comes with Python 3.14
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        with contextlib.suppress(ValueError):  # the pool has closed it meanwhile
            process.kill()
    pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """A process keeps to one core, leaves Ctrl-C and hang-ups to its parent, and does not outlive it."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # the jobs are the threads; linear algebra reads this when it is first imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End as an exception does, which removes partial files."""
    raise SystemExit(1)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its processes to stop."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)

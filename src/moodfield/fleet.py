"""One function over many things: here, in processes, or on Ray.

In: a function and things to do it to. Out: a result or an error for each, in order.
Knows nothing of: what the function does.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from typing import Any, TypeVar

from moodfield.errors import BadConfig, Crashed, MoodfieldError

Thing = TypeVar("Thing")
Result = TypeVar("Result")

AHEAD = 4
"""things given to each process before the first of them is done"""
TRIES = 3
"""processes of a cluster that a thing may kill, each of which may have died of something else"""


class Where(StrEnum):
    """Where the work is done."""

    HERE = "here"
    RAY = "ray"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[[Thing], Result],
    things: Iterable[Thing],
    *,
    jobs: int = 1,
    on: Where = Where.HERE,
    with_gpu: bool = False,
) -> Iterator[tuple[Thing, Result | MoodfieldError]]:
    """`function` of every thing, in the order they come; what it refuses comes as its error and stops nothing.

    With several `jobs` the function runs in as many fresh processes; it and the things must then be picklable. Refuses
    with `BadConfig` when none can be started, as for a script without `if __name__ == "__main__":`. A thing that kills
    its process comes as `Crashed`, and what was under way beside it is done again. On Ray there are as many
    jobs as the cluster has cores, and whatever the things name must be found by all of its machines; `with_gpu` gives
    each job a GPU, if the cluster has any.
    """
    if on is Where.RAY:
        yield from _on_ray(function, things, with_gpu=with_gpu)
        return
    if jobs <= 1:
        for thing in things:
            yield thing, _attempt(function, thing)
        return
    pool = _pool(jobs)
    waiting: deque[tuple[Thing, Future[Result | MoodfieldError]]] = deque()

    def submit(thing: Thing) -> Future[Result | MoodfieldError]:
        try:
            return pool.submit(_attempt, function, thing)
        except BrokenProcessPool as error:  # it died since the last thing; `settle` will notice
            dead: Future[Result | MoodfieldError] = Future()
            dead.set_exception(error)
            return dead

    def settle() -> tuple[Thing, Result | MoodfieldError]:
        nonlocal pool, waiting
        thing, future = waiting.popleft()
        try:
            return thing, future.result()
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
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _on_ray(
    function: Callable[[Thing], Result], things: Iterable[Thing], *, with_gpu: bool
) -> Iterator[tuple[Thing, Result | MoodfieldError]]:
    """The same on the cluster that RAY_ADDRESS names, or one of this machine alone."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    attempt: Any = ray.remote(max_retries=TRIES - 1, num_gpus=int(with_gpu and has.get("GPU", 0) >= 1))(_attempt)
    shared = ray.put(function)
    waiting: deque[tuple[Thing, Any]] = deque()

    def settle() -> tuple[Thing, Result | MoodfieldError]:
        thing, coming = waiting.popleft()
        try:
            return thing, ray.get(coming)
        except ray.exceptions.RayTaskError:
            raise  # a fault of the function
        except ray.exceptions.RayError:
            return thing, Crashed(
                f"{TRIES} processes that worked on {thing} died of it; it may be damaged: leave it out"
            )

    try:
        ahead = AHEAD * max(1, int(has.get("CPU", 1)))
        for thing in things:
            waiting.append((thing, attempt.remote(shared, thing)))
            if len(waiting) >= ahead:
                yield settle()
        while waiting:
            yield settle()
    finally:
        for _, coming in waiting:
            ray.cancel(coming)


def _attempt(function: Callable[[Thing], Result], thing: Thing) -> Result | MoodfieldError:
    try:
        return function(thing)
    except MoodfieldError as error:
        return error


def _alone(function: Callable[[Thing], Result], thing: Thing) -> Result | MoodfieldError:
    """The result of a thing in a process of its own, which it may kill; refuses where no process can live at all."""
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise BadConfig(
                "several jobs were wanted, but no process could be started for them; a script that asks for them does "
                'so under `if __name__ == "__main__":` (each process imports it again), or wants jobs=1'
            ) from error
        try:
            return pool.submit(_attempt, function, thing).result()
        except BrokenProcessPool:
            return Crashed(f"the process that worked on {thing} died of it; it may be damaged: leave it out")


def _broken(future: Future[Any]) -> bool:
    """Whether what a process was to do died with it."""
    return isinstance(future.exception(), BrokenProcessPool)


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes (a fork of one with threads may hang)."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_settle_in)


def _settle_in() -> None:
    """A process keeps to one core, leaves Ctrl-C to its parent, and does not outlive it."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # the jobs are the threads; linear algebra reads this when it is first imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its processes to stop."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)

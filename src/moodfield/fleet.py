"""One function over many things: here, or in processes.

In: a function and things to do it to. Out: a result or an error for each, in order.
Knows nothing of: what the function does.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from moodfield.errors import Crashed, MoodfieldError

Thing = TypeVar("Thing")
Result = TypeVar("Result")

AHEAD = 4
"""things given to each process before the first of them is done"""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[[Thing], Result], things: Iterable[Thing], *, jobs: int = 1
) -> Iterator[tuple[Thing, Result | MoodfieldError]]:
    """`function` of every thing, in the order they come; what it refuses comes as its error and stops nothing.

    With several `jobs` the function runs in as many fresh processes; it and the things must then be picklable. A thing
    that kills its process comes as `Crashed`, and what was under way beside it is done again.
    """
    if jobs <= 1:
        for thing in things:
            yield thing, _attempt(function, thing)
        return
    pool = _pool(jobs)
    waiting: deque[tuple[Thing, Future[Result | MoodfieldError]]] = deque()

    def settle() -> tuple[Thing, Result | MoodfieldError]:
        nonlocal pool, waiting
        thing, future = waiting.popleft()
        try:
            return thing, future.result()
        except BrokenProcessPool:
            pool = _pool(jobs)
            waiting = deque((other, pool.submit(_attempt, function, other)) for other, _ in waiting)
            return thing, _alone(function, thing)

    try:
        for thing in things:
            waiting.append((thing, pool.submit(_attempt, function, thing)))
            if len(waiting) >= jobs * AHEAD:
                yield settle()
        while waiting:
            yield settle()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(function: Callable[[Thing], Result], thing: Thing) -> Result | MoodfieldError:
    try:
        return function(thing)
    except MoodfieldError as error:
        return error


def _alone(function: Callable[[Thing], Result], thing: Thing) -> Result | MoodfieldError:
    """The result of a thing in a process of its own, which it may kill."""
    with _pool(1) as pool:
        try:
            return pool.submit(_attempt, function, thing).result()
        except BrokenProcessPool:
            return Crashed(f"the process that worked on {thing} died of it; it may be damaged: leave it out")


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes (a fork of one with threads may hang), each of which keeps to one core."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_keep_to_one_core)


def _keep_to_one_core() -> None:
    """The jobs are the threads: linear algebra in each of them reads this when it is first imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"

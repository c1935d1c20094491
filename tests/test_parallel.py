"""Parallel map: every item once and in order, although worker processes may die."""

import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from moodfield import files, parallel
from moodfield.errors import AudioError, ConfigError, MoodfieldError, MoodfieldWarning, WorkerCrashedError

COUNT = 14


def double(number: int) -> int:
    return 2 * number


def raise_for_thirds(number: int) -> int:
    """Raise `AudioError` for every third number."""
    if number % 3 == 0:
        raise AudioError("silent", f"{number} is silent")
    return number


def raise_value_error(number: int) -> int:
    if number == 2:
        raise ValueError("a fault of the program")
    return number


def kill_process(log: Path, poison: tuple[int, ...], method: str, number: int) -> int:
    """Append the number to a log; numbers in `poison` end the process."""
    with log.open("a") as file:
        file.write(f"{number}\n")
    if number in poison and method == "exit":
        os._exit(1)
    if number in poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def kill_process_last(log: Path, number: int) -> int:
    """The seventh item ends its process after the other process has done all others."""
    deadline = time.monotonic() + 20
    while number == 6 and time.monotonic() < deadline and len(set(log.read_text().split()) - {"6"}) < COUNT - 1:
        time.sleep(0.05)
    time.sleep(1.0 if number == 6 else 0)  # for the results to arrive
    return kill_process(log, (6,), "exit", number)


def pid_and_threads(number: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def run_concurrently(folder: Path, number: int) -> bool:
    """Return whether the other of two items ran at the same time."""
    (folder / str(number)).touch()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (folder / str(1 - number)).exists():
        time.sleep(0.01)
    return (folder / str(1 - number)).exists()


def log_and_warn(number: int) -> int:
    """Log and warn for every odd number."""
    if number % 2:
        logging.getLogger("moodfield.part").warning("%s is damaged", number)
        warnings.warn(f"{number} is odd", MoodfieldWarning, stacklevel=1)
    return number


def sleep_long(folder: Path, number: int) -> None:
    """Sleep with a partial file; for odd numbers run C code that handles no signals."""
    if number == 0:
        return
    with files.atomic_path(folder / f"{number}.npy") as partial_file:
        partial_file.touch()
        (folder / f"{number}.pid").write_text(str(os.getpid()))
        if number % 2:
            sum(map(int, itertools.repeat(1, 2**40)))
        time.sleep(60)


def simplify(results: Iterator[tuple[int, object]]) -> list[tuple[int, object]]:
    return [(item, type(result) if isinstance(result, MoodfieldError) else result) for item, result in results]


def has_processes(group: int) -> bool:
    """Return whether a process of a group is still alive after 15 s."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(autouse=True)
def no_processes_left() -> Iterator[None]:
    """No test leaves a process of its own behind."""
    yield
    assert not multiprocessing.active_children()


# ---------------------------------------------------------------- results in order


@pytest.mark.parametrize("jobs", [0, 1, 2, 3])
def test_every_item_has_its_result_in_order(jobs):
    assert list(parallel.map(double, range(COUNT), jobs=jobs)) == [(n, 2 * n) for n in range(COUNT)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_items_give_no_results(jobs):
    assert list(parallel.map(double, [], jobs=jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_moodfield_errors_are_results_of_their_items(jobs):
    results = dict(parallel.map(raise_for_thirds, range(COUNT), jobs=jobs))
    assert list(results) == list(range(COUNT))
    assert [n for n, result in results.items() if isinstance(result, AudioError)] == [0, 3, 6, 9, 12]
    error = results[6]
    assert isinstance(error, AudioError)
    assert (error.reason, str(error)) == ("silent", "6 is silent")


@pytest.mark.parametrize("jobs", [1, 2])
def test_other_exceptions_propagate(jobs):
    with pytest.raises(ValueError, match="a fault of the program"):
        list(parallel.map(raise_value_error, range(COUNT), jobs=jobs))


def test_jobs_are_processes_of_one_core_each():
    results = dict(parallel.map(pid_and_threads, range(COUNT), jobs=2))
    pids = {pid for pid, _ in results.values()}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    assert {threads for _, threads in results.values()} == {"1"}


def test_jobs_run_concurrently(tmp_path):
    assert simplify(parallel.map(partial(run_concurrently, tmp_path), [0, 1], jobs=2)) == [(0, True), (1, True)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_items_are_taken_as_needed(jobs):
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(10**9):
            taken.append(n)
            yield n

    results = parallel.map(double, items(), jobs=jobs)
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 2), (2, 4)]
    results.close()
    assert len(taken) <= 3 + jobs * parallel.PREFETCH


def test_cpu_count_is_at_most_that_of_the_machine():
    assert 1 <= parallel.cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("count", "per_job", "jobs"), [(0, 4, 1), (7, 4, 1), (8, 4, 2), (99, 4, 3), (150, 100, 1)])
def test_jobs_are_limited_by_cores_and_items(monkeypatch, count, per_job, jobs):
    monkeypatch.setattr(parallel, "cpu_count", lambda: 3)
    assert parallel.default_jobs(count, per_job) == jobs


# ---------------------------------------------------------------- records and warnings


@pytest.mark.parametrize("jobs", [1, 2])
def test_log_records_and_warnings_arrive_with_their_results(jobs, caplog, capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        counts = []
        for _, _ in parallel.map(log_and_warn, range(6), jobs=jobs):
            counts.append((len(caplog.records), len(caught)))
    assert counts == [(0, 0), (1, 1), (1, 1), (2, 2), (2, 2), (3, 3)]
    assert [record.getMessage() for record in caplog.records] == ["1 is damaged", "3 is damaged", "5 is damaged"]
    assert {record.name for record in caplog.records} == {"moodfield.part"}
    assert [str(warning.message) for warning in caught] == ["1 is odd", "3 is odd", "5 is odd"]
    assert "odd" not in capfd.readouterr().err


def test_worker_processes_write_no_records_or_warnings(capfd):
    logger = logging.getLogger("moodfield")
    quiet = logging.NullHandler()
    logger.addHandler(quiet)
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            list(parallel.map(log_and_warn, range(4), jobs=2))
    finally:
        logger.removeHandler(quiet)
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- processes that die


@pytest.mark.parametrize(
    ("poison", "method"),
    [
        ((5,), "exit"),
        ((3, 4), "kill"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product([(0,), (5,), (COUNT - 1,), (3, 4), (1, 12)], ["exit", "kill"])
            if case not in (((5,), "exit"), ((3, 4), "kill"))
        ),
    ],
    ids=str,
)
def test_an_item_that_kills_its_process_is_named_and_all_others_are_done(tmp_path, poison, method):
    log = tmp_path / "log"
    results = simplify(parallel.map(partial(kill_process, log, poison, method), range(COUNT), jobs=2))
    assert results == [(n, WorkerCrashedError if n in poison else 2 * n) for n in range(COUNT)]
    runs = Counter(map(int, log.read_text().split()))
    assert set(runs) == set(range(COUNT))
    # a process that dies loses at most the items of both jobs that are in flight
    assert sum(runs.values()) <= COUNT + 8 * len(poison)


def test_finished_items_are_not_repeated(tmp_path):
    log = tmp_path / "log"
    log.touch()
    results = simplify(parallel.map(partial(kill_process_last, log), range(COUNT), jobs=2))
    assert results == [(n, WorkerCrashedError if n == 6 else 2 * n) for n in range(COUNT)]
    runs = Counter(map(int, log.read_text().split()))
    assert runs == {
        n: 2 if n == 6 else 1 for n in range(COUNT)
    }  # repeated alone to find the item that kills its process


def test_an_item_that_crashed_is_named():
    ((_, error),) = parallel.map(partial(kill_process, Path(os.devnull), (7,), "kill"), [7], jobs=2)
    assert isinstance(error, WorkerCrashedError)
    assert "7" in str(error)


def lack_memory(number: int) -> int:
    """Raise `MemoryError` for 3."""
    if number == 3:
        raise MemoryError
    return 2 * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_item_with_too_little_memory_is_an_error_and_all_others_are_done(jobs):
    results = dict(parallel.map(lack_memory, range(COUNT), jobs=jobs))
    error = results.pop(3)
    assert isinstance(error, WorkerCrashedError)
    assert "memory for 3" in str(error)
    assert results == {n: 2 * n for n in range(COUNT) if n != 3}


def test_all_processes_may_die(tmp_path):
    items = tuple(range(4))
    results = simplify(parallel.map(partial(kill_process, tmp_path / "log", items, "exit"), items, jobs=2))
    assert results == [(n, WorkerCrashedError) for n in items]


def test_processes_may_die_while_results_are_consumed(tmp_path):
    results = parallel.map(partial(kill_process, tmp_path / "log", (3,), "exit"), range(COUNT), jobs=2)
    collected = []
    for item, result in results:
        time.sleep(1.0 if item == 0 else 0)  # meanwhile the fourth kills its process, and the ninth is submitted
        collected.append((item, type(result) if isinstance(result, WorkerCrashedError) else result))
    assert collected == [(n, WorkerCrashedError if n == 3 else 2 * n) for n in range(COUNT)]


# ---------------------------------------------------------------- the end

SLEEP_PROGRAM = """
import sys, time
from pathlib import Path
from moodfield import parallel

def nap(number):
    Path(sys.argv[1], str(number)).touch()
    time.sleep(float(sys.argv[2]))

if __name__ == "__main__":
    for _ in parallel.map(nap, range(100), jobs=2):
        pass
"""


@pytest.fixture
def start_sleepers(tmp_path: Path) -> Iterator[Callable[[float], "subprocess.Popen[str]"]]:
    """A function that starts a program in its own process group with two sleeping workers; killed at the end."""
    programs: list[subprocess.Popen[str]] = []

    def start(seconds: float) -> "subprocess.Popen[str]":
        (tmp_path / "sleepers.py").write_text(SLEEP_PROGRAM)
        command = [sys.executable, tmp_path / "sleepers.py", tmp_path, str(seconds)]
        programs.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True))
        deadline = time.monotonic() + 30
        while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
            assert time.monotonic() < deadline, "they did not start"
            time.sleep(0.02)
        return programs[0]

    yield start
    for program in programs:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def test_ctrl_c_leaves_no_processes_and_is_printed_once(tmp_path, start_sleepers):
    program = start_sleepers(0.5)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does, to the whole group
    _, err = program.communicate(timeout=30)
    assert program.returncode != 0
    assert not has_processes(program.pid)
    assert err.count("KeyboardInterrupt") == 1
    assert "Process" not in err.replace("ProcessPoolExecutor", "")
    assert len(list(tmp_path.iterdir())) < 12  # items that had not started are not started


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_do_not_outlive_a_parent_that_is_killed(start_sleepers, signal_number):
    program = start_sleepers(300)
    program.send_signal(signal_number)
    program.wait(timeout=30)
    assert not has_processes(program.pid)


@pytest.mark.parametrize("fault", ["close", "raise"])
def test_a_caller_that_stops_early_leaves_no_processes(fault):
    results = parallel.map(double, range(COUNT), jobs=2)
    next(results)
    assert multiprocessing.active_children()
    if fault == "close":
        results.close()
    else:
        with pytest.raises(KeyError):
            results.throw(KeyError)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("fault", ["close", "raise"])
def test_a_caller_that_stops_early_does_not_wait(tmp_path, fault):
    """Running and submitted items are not awaited; those that can be interrupted remove their partial files."""
    results = parallel.map(partial(sleep_long, tmp_path), range(20), jobs=2)
    assert next(results) == (0, None)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    start = time.monotonic()
    if fault == "close":
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    assert time.monotonic() - start < 1.5
    assert sorted(path.name.partition(".")[0] for path in tmp_path.glob("*.part")) == ["1"]
    assert len(list(tmp_path.glob("*.pid"))) == 2


def test_a_script_without_a_main_guard_gets_an_error(tmp_path):
    """Its workers import the script again, start workers themselves, and die: no item is named."""
    script = tmp_path / "script.py"
    script.write_text("from moodfield import parallel\nprint(list(parallel.map(abs, range(50), jobs=2)))\n")
    process = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    assert process.stdout == ""
    assert any(
        "if __name__" in line for line in process.stderr.splitlines()
    )  # the tracker of semaphores may complain after it
    assert "Crashed" not in process.stderr


def sleep_or_fail(word: str) -> tuple[str, int]:
    """Sleep for so many seconds, end the process, or raise."""
    if word == "crash":
        os._exit(1)
    if word == "error":
        raise ConfigError(word)
    if word == "memory":
        raise MemoryError
    time.sleep(float(word))
    return word, os.getpid()


def test_a_worker_is_killed_after_a_time_and_replaced():
    worker = parallel.Worker(sleep_or_fail)
    try:
        first = worker.call("0", seconds=60.0)
        assert worker.call("0.1", seconds=60.0)[1] == first[1], "one process for all calls"
        start = time.monotonic()
        late = worker.call("100", seconds=0.5)
        assert time.monotonic() - start < 10
        assert isinstance(late, WorkerCrashedError)
        assert "0.5 s" in str(late)
        assert worker.call("0", seconds=60.0)[1] != first[1]
        assert isinstance(worker.call("crash", seconds=60.0), WorkerCrashedError)
        assert isinstance(worker.call("error", seconds=60.0), ConfigError)
        before = worker.call("0", seconds=60.0)[1]
        assert "memory" in str(worker.call("memory", seconds=60.0))
        assert worker.call("0", seconds=60.0)[1] != before
        assert worker.call("0", seconds=60.0)[0] == "0"
    finally:
        worker.close()


def test_a_closed_worker_ends_a_call_of_another_thread():
    worker = parallel.Worker(sleep_or_fail)
    assert worker.call("0", seconds=60.0)[0] == "0"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(worker.call, "100", seconds=60.0)
        time.sleep(0.2)
        worker.close()
        assert isinstance(waiting.result(timeout=10), WorkerCrashedError)

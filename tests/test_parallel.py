"""Many things, one function: every thing once, in order, whatever happens to the processes."""

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
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from moodfield import files, parallel
from moodfield.errors import AudioError, MoodfieldError, MoodfieldWarning, WorkerCrashedError

COUNT = 14


def double(number: int) -> int:
    return 2 * number


def picky(number: int) -> int:
    """Refuses every third."""
    if number % 3 == 0:
        raise AudioError("silent", f"{number} is silent")
    return number


def faulty(number: int) -> int:
    if number == 2:
        raise ValueError("a fault of the program")
    return number


def deadly(log: Path, poison: tuple[int, ...], how: str, number: int) -> int:
    """Notes that it ran; a poison ends its process."""
    with log.open("a") as file:
        file.write(f"{number}\n")
    if number in poison and how == "exit":
        os._exit(1)
    if number in poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def deadly_last(log: Path, number: int) -> int:
    """The seventh ends its process, after all others are done by the other one."""
    until = time.monotonic() + 20
    while number == 6 and time.monotonic() < until and len(set(log.read_text().split()) - {"6"}) < COUNT - 1:
        time.sleep(0.05)
    time.sleep(1.0 if number == 6 else 0)  # for the results to arrive
    return deadly(log, (6,), "exit", number)


def whereabouts(number: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def meet(folder: Path, number: int) -> bool:
    """Whether the other of two was there at the same time."""
    (folder / str(number)).touch()
    until = time.monotonic() + 20
    while time.monotonic() < until and not (folder / str(1 - number)).exists():
        time.sleep(0.01)
    return (folder / str(1 - number)).exists()


def noisy(number: int) -> int:
    """Records and warns, of every other number."""
    if number % 2:
        logging.getLogger("moodfield.part").warning("%s is damaged", number)
        warnings.warn(f"{number} is odd", MoodfieldWarning, stacklevel=1)
    return number


def long(folder: Path, number: int) -> None:
    """Takes long, with a partial file; if `number` is odd, in code that is not Python and heeds no signal."""
    if number == 0:
        return
    with files.atomic_path(folder / f"{number}.npy") as partial_file:
        partial_file.touch()
        (folder / f"{number}.pid").write_text(str(os.getpid()))
        if number % 2:
            sum(map(int, itertools.repeat(1, 2**40)))
        time.sleep(60)


def plain(results: Iterator[tuple[int, object]]) -> list[tuple[int, object]]:
    return [(thing, type(result) if isinstance(result, MoodfieldError) else result) for thing, result in results]


def alive(group: int) -> bool:
    """Whether any process of a group is left, a moment of grace given."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(autouse=True)
def nobody_stays() -> Iterator[None]:
    """No test leaves a process of its own behind."""
    yield
    assert not multiprocessing.active_children()


# ---------------------------------------------------------------- every thing, in order


@pytest.mark.parametrize("jobs", [0, 1, 2, 3])
def test_every_thing_has_its_result_in_order(jobs):
    assert list(parallel.map(double, range(COUNT), jobs=jobs)) == [(n, 2 * n) for n in range(COUNT)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_to_do_is_done(jobs):
    assert list(parallel.map(double, [], jobs=jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_refused_comes_as_its_error_and_stops_nothing(jobs):
    results = dict(parallel.map(picky, range(COUNT), jobs=jobs))
    assert list(results) == list(range(COUNT))
    assert [n for n, result in results.items() if isinstance(result, AudioError)] == [0, 3, 6, 9, 12]
    error = results[6]
    assert isinstance(error, AudioError)
    assert (error.reason, str(error)) == ("silent", "6 is silent")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_of_the_program_is_not_hidden(jobs):
    with pytest.raises(ValueError, match="a fault of the program"):
        list(parallel.map(faulty, range(COUNT), jobs=jobs))


def test_jobs_are_processes_of_one_core_each():
    places = dict(parallel.map(whereabouts, range(COUNT), jobs=2))
    pids = {pid for pid, _ in places.values()}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    assert {threads for _, threads in places.values()} == {"1"}


def test_jobs_work_at_the_same_time(tmp_path):
    assert plain(parallel.map(partial(meet, tmp_path), [0, 1], jobs=2)) == [(0, True), (1, True)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_things_are_taken_as_they_are_needed(jobs):
    taken: list[int] = []

    def things() -> Iterator[int]:
        for n in range(10**9):
            taken.append(n)
            yield n

    results = parallel.map(double, things(), jobs=jobs)
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 2), (2, 4)]
    results.close()
    assert len(taken) <= 3 + jobs * parallel.PREFETCH


def test_cores_are_those_that_may_be_used():
    assert 1 <= parallel.cpu_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("count", "per_job", "jobs"), [(0, 4, 1), (7, 4, 1), (8, 4, 2), (99, 4, 3), (150, 100, 1)])
def test_jobs_are_limited_by_cores_and_items(monkeypatch, count, per_job, jobs):
    monkeypatch.setattr(parallel, "cpu_count", lambda: 3)
    assert parallel.default_jobs(count, per_job) == jobs


# ---------------------------------------------------------------- records and warnings


@pytest.mark.parametrize("jobs", [1, 2])
def test_log_records_and_warnings_arrive_here_with_their_results(jobs, caplog, capfd):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        counts = []
        for _, _ in parallel.map(noisy, range(6), jobs=jobs):
            counts.append((len(caplog.records), len(warned)))
    assert counts == [(0, 0), (1, 1), (1, 1), (2, 2), (2, 2), (3, 3)]
    assert [record.getMessage() for record in caplog.records] == ["1 is damaged", "3 is damaged", "5 is damaged"]
    assert {record.name for record in caplog.records} == {"moodfield.part"}
    assert [str(each.message) for each in warned] == ["1 is odd", "3 is odd", "5 is odd"]
    assert "odd" not in capfd.readouterr().err


def test_no_process_writes_records_or_warnings_by_itself(capfd):
    logger = logging.getLogger("moodfield")
    quiet = logging.NullHandler()
    logger.addHandler(quiet)
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            list(parallel.map(noisy, range(4), jobs=2))
    finally:
        logger.removeHandler(quiet)
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- processes that die


@pytest.mark.parametrize(
    ("poison", "how"),
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
def test_an_item_that_kills_its_process_is_named_and_all_others_are_done(tmp_path, poison, how):
    log = tmp_path / "log"
    results = plain(parallel.map(partial(deadly, log, poison, how), range(COUNT), jobs=2))
    assert results == [(n, WorkerCrashedError if n in poison else 2 * n) for n in range(COUNT)]
    ran = Counter(map(int, log.read_text().split()))
    assert set(ran) == set(range(COUNT))
    # each time one dies, at most the other job and what the two had been handed are lost with it
    assert sum(ran.values()) <= COUNT + 8 * len(poison)


def test_finished_items_are_not_repeated(tmp_path):
    log = tmp_path / "log"
    log.touch()
    results = plain(parallel.map(partial(deadly_last, log), range(COUNT), jobs=2))
    assert results == [(n, WorkerCrashedError if n == 6 else 2 * n) for n in range(COUNT)]
    ran = Counter(map(int, log.read_text().split()))
    assert ran == {n: 2 if n == 6 else 1 for n in range(COUNT)}  # once more, alone, to see whose fault it was


def test_an_item_that_crashed_is_named():
    ((_, error),) = parallel.map(partial(deadly, Path(os.devnull), (7,), "kill"), [7], jobs=2)
    assert isinstance(error, WorkerCrashedError)
    assert "7" in str(error)


def test_all_may_die(tmp_path):
    everything = tuple(range(4))
    results = plain(parallel.map(partial(deadly, tmp_path / "log", everything, "exit"), everything, jobs=2))
    assert results == [(n, WorkerCrashedError) for n in everything]


def test_processes_may_die_while_results_are_consumed(tmp_path):
    results = parallel.map(partial(deadly, tmp_path / "log", (3,), "exit"), range(COUNT), jobs=2)
    seen = []
    for thing, result in results:
        time.sleep(1.0 if thing == 0 else 0)  # meanwhile the fourth kills its process, and the ninth is to be handed on
        seen.append((thing, type(result) if isinstance(result, WorkerCrashedError) else result))
    assert seen == [(n, WorkerCrashedError if n == 3 else 2 * n) for n in range(COUNT)]


# ---------------------------------------------------------------- the end

SLEEPERS = """
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
def sleepers(tmp_path: Path) -> Iterator[Callable[[float], "subprocess.Popen[str]"]]:
    """Starts a program in a group of its own, two of whose processes are asleep; whatever is left of it is ended."""
    begun: list[subprocess.Popen[str]] = []

    def begin(seconds: float) -> "subprocess.Popen[str]":
        (tmp_path / "sleepers.py").write_text(SLEEPERS)
        asked = [sys.executable, tmp_path / "sleepers.py", tmp_path, str(seconds)]
        begun.append(subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, start_new_session=True))
        until = time.monotonic() + 30
        while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
            assert time.monotonic() < until, "they did not start"
            time.sleep(0.02)
        return begun[0]

    yield begin
    for program in begun:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


def test_ctrl_c_leaves_no_processes_and_is_printed_once(tmp_path, sleepers):
    program = sleepers(0.5)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = program.communicate(timeout=30)
    assert program.returncode != 0
    assert not alive(program.pid)
    assert said.count("KeyboardInterrupt") == 1
    assert "Process" not in said.replace("ProcessPoolExecutor", "")
    assert len(list(tmp_path.iterdir())) < 12  # what had not begun was not begun


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_do_not_outlive_a_parent_that_is_killed(sleepers, how):
    program = sleepers(300)
    program.send_signal(how)
    program.wait(timeout=30)
    assert not alive(program.pid)


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
    """Neither for what runs nor for what was handed on; what can be interrupted removes its partial files."""
    results = parallel.map(partial(long, tmp_path), range(20), jobs=2)
    assert next(results) == (0, None)
    until = time.monotonic() + 30
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.1)
    began = time.monotonic()
    if fault == "close":
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    assert time.monotonic() - began < 1.5
    assert sorted(path.name.partition(".")[0] for path in tmp_path.glob("*.part")) == ["1"]
    assert len(list(tmp_path.glob("*.pid"))) == 2


def test_a_script_without_a_main_guard_gets_an_error(tmp_path):
    """Its processes import it again, ask for processes themselves, and die: no thing is to blame."""
    script = tmp_path / "script.py"
    script.write_text("from moodfield import parallel\nprint(list(parallel.map(abs, range(50), jobs=2)))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert any(
        "if __name__" in line for line in done.stderr.splitlines()
    )  # the tracker of semaphores may complain after it
    assert "Crashed" not in done.stderr

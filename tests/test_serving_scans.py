"""Scans end one after the other, whatever is cancelled meanwhile."""

import threading
from pathlib import Path

import pytest

import scan_stand_ins
import services
from moodfield.serving import scans
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.problems import ProblemError
from moodfield.serving.scans import Scan, Scans


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scans:
    """Scans whose processes take a second to end, and those that are asked for while one is cancelled."""
    monkeypatch.setattr(scans, "_scan", scan_stand_ins.scan_until_terminated)
    return Scans(ServiceConfig(tmp_path / "library.db"), lambda: None)


def start(started: Scans) -> Scan:
    scan = started.start(None)
    assert services.wait(lambda: scan.total is not None)
    return scan


def test_a_cancelled_scan_runs_until_its_process_has_ended_and_the_next_one_goes_on(started: Scans) -> None:
    first = start(started)
    cancelling = threading.Thread(target=started.cancel, args=(first.id,))
    cancelling.start()
    assert services.wait(lambda: first.is_cancelled)
    with pytest.raises(ProblemError, match="scan 1"):
        started.start(None)
    assert services.wait(lambda: first.state == "cancelled")
    second = start(started)
    cancelling.join()
    assert (second.state, second.process.is_alive()) == ("running", True)
    started.close()
    assert (second.state, second.process.is_alive()) == ("cancelled", False)


def test_a_scan_that_is_done_before_it_can_be_cancelled_is_done(
    started: Scans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "_scan", scan_stand_ins.scan_until_terminated_and_finish)
    scan = start(started)
    assert started.cancel(scan.id).state == "done"


def test_the_library_is_read_anew_before_a_scan_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[str] = []
    monkeypatch.setattr(scans, "_scan", scan_stand_ins.scan_until_terminated)
    started = Scans(ServiceConfig(tmp_path / "library.db"), lambda: states.append(started.get(1).state))
    scan = start(started)
    started.close()
    assert (states, scan.state) == (["running"], "cancelled")

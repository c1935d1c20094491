"""Scans of folders into the library, one at a time, each in a process of its own."""

import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from moodfield import parallel
from moodfield.errors import AudioError, MoodfieldError
from moodfield.library import database
from moodfield.library import scan as scanning
from moodfield.serving.configs import ServiceConfig
from moodfield.serving.problems import ProblemError

MAX_ERRORS = 200
"""errors of files that are kept of a scan"""
KEPT = 20
"""scans that are kept"""
NICENESS = 10
"""priority of a scan below that of requests"""
GRACE_SECONDS = 5.0
"""time of a cancelled scan to end by itself"""

State = Literal["running", "done", "failed", "cancelled"]


@dataclass  # mutable: it is filled while the scan goes on
class Scan:
    """A scan, and how far it is."""

    id: int
    """number"""
    paths: tuple[str, ...]
    """folders; none: all of earlier scans"""
    process: BaseProcess = field(repr=False)
    """what scans"""
    thread: threading.Thread | None = field(default=None, repr=False)
    """what receives how far the process is"""
    is_cancelled: bool = False
    """whether it was to end early"""
    state: State = "running"
    """whether it goes on, or how it ended"""
    done: int = 0
    """files that are tagged or failed"""
    total: int | None = None
    """files that have to be tagged; None until that is known"""
    unchanged: int = 0
    """files that the library has already"""
    failed: int = 0
    """files that could not be tagged"""
    missing: int = 0
    """files that have gone since the last scan"""
    current: str | None = None
    """the file that was tagged last"""
    error: str | None = None
    """why the scan failed"""
    errors: list[dict[str, str]] = field(default_factory=list)
    """files that could not be tagged: path, reason, message"""
    began: float = field(default_factory=time.monotonic)
    """when tagging began"""
    seconds: float = 0.0
    """time since then"""

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, with files in a second and the seconds that are left."""
        rate = self.done / self.seconds if self.seconds and self.done else None
        left = (self.total - self.done) / rate if rate and self.total is not None and self.state == "running" else None
        names = ("id", "state", "done", "total", "unchanged", "failed", "missing", "current", "error", "errors")
        return {name: getattr(self, name) for name in names} | {
            "paths": list(self.paths),
            "rate": None if rate is None else round(rate, 3),
            "seconds_left": None if left is None else round(left, 1),
        }


class Scans:
    """Starts, follows and cancels scans.

    Args:
        config: With the library, the model and the number of processes.
        on_end: Called when a scan has ended, before its state shows that.
    """

    def __init__(self, config: ServiceConfig, on_end: Callable[[], None]) -> None:
        self._config, self._on_end = config, on_end
        self._scans: dict[int, Scan] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(self, path: str | None) -> Scan:
        """Start a scan of a folder, or of all folders of earlier scans.

        Raises:
            ProblemError: 409 while another scan goes on, 422 for a path that is no folder.
        """
        paths = () if path is None else (str(check_folder(path)),)
        with self._lock:
            if running := next((scan for scan in self._scans.values() if scan.state == "running"), None):
                raise ProblemError(
                    409, f"scan {running.id} is going on; wait for it, or cancel it", members={"id": running.id}
                )
            receiver, sender = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(
                target=_scan, args=(sender, self._config.database, paths, self._config.models[0], self._config.jobs)
            )
            process.start()
            sender.close()
            scan = Scan(next(self._numbers), paths, process)
            scan.thread = threading.Thread(target=self._follow, args=(scan, receiver), daemon=True)
            scan.thread.start()
            self._scans[scan.id] = scan
            for number in list(self._scans)[:-KEPT]:
                del self._scans[number]
        return scan

    def get(self, number: int) -> Scan:
        """A scan by its number; raises `ProblemError` 404."""
        if (scan := self._scans.get(number)) is None:
            raise ProblemError(404, f"there is no scan {number}")
        return scan

    def all(self) -> Sequence[Scan]:
        """The last scans, the newest first."""
        return list(self._scans.values())[::-1]

    def cancel(self, number: int) -> Scan:
        """End a scan; tracks that it has tagged are kept, and it is running until its process has ended."""
        scan = self.get(number)
        with self._lock:
            if scan.state != "running":
                return scan
            scan.is_cancelled = True
        scan.process.terminate()
        scan.process.join(GRACE_SECONDS)
        scan.process.kill()
        if scan.thread:
            scan.thread.join(GRACE_SECONDS)
        return scan

    def close(self) -> None:
        """Cancel the scan that goes on."""
        for scan in self.all():
            self.cancel(scan.id)

    def _follow(self, scan: Scan, receiver: Connection) -> None:
        """Receive what a scan's process sends until it ends, and then its state."""
        state: State | None = None
        with receiver, contextlib.suppress(EOFError):
            while True:
                values = receiver.recv()
                if "file" in values:
                    scan.done, scan.current = scan.done + 1, values["file"]
                    scan.seconds = time.monotonic() - scan.began
                if error := values.get("failure"):
                    scan.failed += 1
                    scan.errors = [*scan.errors, error][:MAX_ERRORS]
                for name in ("total", "unchanged", "missing", "error"):
                    setattr(scan, name, values.get(name, getattr(scan, name)))
                if "total" in values:
                    scan.began = time.monotonic()
                state = values.get("state", state)
        scan.process.join()
        self._on_end()
        if state is None and not scan.is_cancelled:
            scan.error = "the process of the scan died; start it again"
        scan.state = state or ("cancelled" if scan.is_cancelled else "failed")


def check_folder(path: str) -> Path:
    """An absolute folder; raises `ProblemError` 422 for other paths."""
    folder = Path(os.path.expanduser(path) if "\0" not in path else "")  # noqa: PTH111 (no error for unknown users)
    if not folder.is_absolute() or not os.path.isdir(folder):  # noqa: PTH112 (no error where it may not look)
        raise ProblemError(
            422, f"{path} is not a folder of this server; give the absolute path of one, such as /home/me/Music"
        )
    return folder


def _scan(sender: Connection, path: Path, paths: Sequence[str], model: str, jobs: int) -> None:
    """Scan in a process of its own, and send what happens."""
    parallel.initialize_worker(NICENESS)
    try:
        with database.lock(path), database.write(path) as connection:
            plan = scanning.plan(connection, [Path(name) for name in paths], (model,), jobs=jobs)
            sender.send({"total": len(plan.files), "unchanged": plan.unchanged, "missing": plan.missing})
            for file, error in scanning.run(connection, plan, (model,), jobs=jobs):
                sender.send({"file": str(file)} | ({"failure": _describe(file, error)} if error else {}))
        sender.send({"state": "done"})
    except (MoodfieldError, OSError) as error:
        sender.send({"state": "failed", "error": str(error)})


def _describe(file: Path, error: MoodfieldError) -> dict[str, str]:
    reason = error.reason if isinstance(error, AudioError) else type(error).__name__
    return {"path": str(file), "reason": reason, "message": str(error)}

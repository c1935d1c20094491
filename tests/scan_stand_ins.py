"""Stand-ins for scans; processes import this module alone, since each import takes them time."""

import signal
import threading
import time
from multiprocessing.connection import Connection


def scan_until_terminated(sender: Connection, *_: object) -> None:
    """Stands for a scan: goes on until it is terminated, and takes a while to end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sender.send({"total": 1, "unchanged": 0, "missing": 0})
    while not stop.wait(0.02):
        pass
    time.sleep(0.5)


def scan_until_terminated_and_finish(sender: Connection, *_: object) -> None:
    """Stands for a scan that is done when it is terminated."""
    scan_until_terminated(sender)
    sender.send({"state": "done"})

"""Suppress what C libraries write to standard error."""

import ctypes
import sys
import threading
from typing import Any


class Suppressed:
    """A context in which C libraries, such as libmpg123 in libsndfile, cannot write to standard error.

    It points the variable `stderr` of the C library to the null device; Python's output is not affected. Contexts of
    several threads may overlap. Only with glibc and on macOS can the variable be changed; elsewhere nothing happens.
    """

    def __init__(self) -> None:
        self._lock, self._depth = threading.Lock(), 0
        self._null = _c_null()
        self._stream = _c_stderr() if self._null else None
        self._saved: int | None = None

    def __enter__(self) -> None:
        if self._stream is None:
            return
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._saved, self._stream.value = self._stream.value, self._null

    def __exit__(self, *_: object) -> None:
        if self._stream is None:
            return
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._stream.value = self._saved


def _c_stderr() -> Any:
    """The variable `stderr` of the C library, or None."""
    name = {"linux": "stderr", "darwin": "__stderrp"}.get(sys.platform, "")
    library = ctypes.CDLL(None) if name else None
    if library is None or (sys.platform == "linux" and not hasattr(library, "gnu_get_libc_version")):
        return None  # musl keeps it in memory that cannot be written to
    return ctypes.c_void_p.in_dll(library, name)


def _c_null() -> int | None:
    """A C stream to the null device, or None."""
    if sys.platform not in ("linux", "darwin"):
        return None
    fopen = ctypes.CDLL(None).fopen
    fopen.restype = ctypes.c_void_p
    stream: int | None = fopen(b"/dev/null", b"w")
    return stream


SUPPRESSED = Suppressed()

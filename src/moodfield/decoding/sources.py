"""Sources: paths, bytes, file objects and samples become what a decoder reads.

In: whatever somebody gives. Out: an open binary file, or samples of all channels; or a `AudioError` that says why not.
Knows nothing of: what is in a file.
"""

import inspect
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from moodfield.decoding import decoders
from moodfield.decoding.byte_ranges import BinaryFile
from moodfield.decoding.decoders import Samples
from moodfield.errors import AudioError

READ_AHEAD = 2**18
"""bytes of a file that are read at a time"""
REASONS = {
    "bad-source": "a path, bytes, a binary file object that can seek, or (samples, sample_rate) with a NumPy array",
    "missing": "an audio file; check its name",
    "directory": "an audio file; name the file, or allow the folder to be searched",
    "not-a-file": "an audio file; save what it delivers to a file first",
    "no-permission": "a file that may be read; change its permissions",
    "unreadable": "a file that plays; export or download it again",
    "not-samples": "an array of real numbers of shape (samples,), (samples, channels) or (channels, samples)",
}
"""every `AudioError.reason` of this module, with what is expected and what to do"""


@contextmanager
def opened(source: object) -> Iterator[BinaryFile]:
    """A source as a binary file."""
    if isinstance(source, str | Path):
        with _opened_path(Path(source)) as plain:
            yield plain
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(bytes(source))
    elif isinstance(source, BinaryFile) and not inspect.iscoroutinefunction(source.read):
        file = _GivenFile(source)
        try:
            file.seek(0)
            binary = isinstance(source.read(0), bytes)
        except OSError as error:
            raise _bad("bad-source", f"a file object that cannot be read from its start ({error}) was given") from error
        if not binary:
            raise _bad("bad-source", "a file object that yields no bytes, opened as text, was given")
        yield file
    else:
        raise _bad("bad-source", f"an object of type {type(source).__name__} was given")


def array(source: tuple[Any, ...]) -> tuple[Samples, int]:
    """Samples of one or more channels, full scale made 1, and their rate; the longer axis is time."""
    samples, rate = source if len(source) == 2 else (None, None)
    if not isinstance(samples, np.ndarray) or not (
        isinstance(rate, Integral) or (isinstance(rate, float) and rate % 1 == 0)
    ):
        raise _bad(
            "bad-source", f"a tuple of {', '.join(type(part).__name__ for part in source) or 'nothing'} was given"
        )
    samples = np.asarray(samples)
    if samples.dtype.kind not in "fiu" or samples.ndim not in (1, 2) or not samples.size:
        raise _bad("not-samples", f"an array of {samples.dtype}, of shape {samples.shape}, was given")
    samples = samples.reshape(len(samples), -1)
    samples = samples.T if samples.shape[0] < samples.shape[1] else samples
    if samples.shape[1] > decoders.MOST_CHANNELS:
        raise _bad("not-samples", f"an array of shape {source[0].shape} was given")
    return decoders.full_scale(samples), int(rate)


class _GivenFile:
    """A file object of somebody else, which may raise anything, and read less than it is asked for."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """As many bytes as there are, up to `size`."""
        found: list[bytes] = []
        with _os_errors():
            while size and (block := self._file.read(size)):
                found.append(block)
                size -= len(block)
        return b"".join(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Change the position, and return it."""
        with _os_errors():
            self._file.seek(offset, whence)
            return self._file.tell()

    def tell(self) -> int:
        """The position."""
        with _os_errors():
            return self._file.tell()


@contextmanager
def _os_errors() -> Iterator[None]:
    """Whatever goes wrong is an `OSError`, as of other files."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def _opened_path(path: Path) -> io.BufferedReader:
    """A regular file, opened; others are refused before, since opening waits for a pipe and may set off a device."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise _bad("no-permission", f"{path} is a folder that may not be searched")
            raise _bad("directory", f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise _bad("not-a-file", f"{path} is a pipe, socket or device")
        return io.BufferedReader(io.FileIO(path), READ_AHEAD)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: no file can be called that
        broken = os.path.islink(path)  # noqa: PTH114
        raise _bad("missing", f"{path} links to nothing" if broken else f"{path} does not exist") from error
    except PermissionError as error:
        raise _bad("no-permission", f"{path} may not be read") from error
    except OSError as error:
        raise _bad("unreadable", f"{path} cannot be opened ({error.strerror})") from error


def _bad(reason: str, came: str) -> AudioError:
    return AudioError(reason, f"{came}: wanted {REASONS[reason]}")

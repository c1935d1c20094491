"""Sources of audio: paths, bytes, file objects and arrays, opened for decoding."""

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
def open_file(source: object) -> Iterator[BinaryFile]:
    """A context with a path, bytes or file object as a binary file; raises `AudioError`."""
    if isinstance(source, str | Path):
        with _open_path(Path(source)) as plain:
            yield plain
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(bytes(source))
    elif isinstance(source, BinaryFile) and not inspect.iscoroutinefunction(source.read):
        file = _SafeFile(source)
        try:
            file.seek(0)
            binary = isinstance(source.read(0), bytes)
        except OSError as error:
            raise _error("bad-source", f"a file object that cannot be read from its start ({error})") from error
        if not binary:
            raise _error("bad-source", "a file object that yields no bytes, opened as text, was given")
        yield file
    else:
        raise _error("bad-source", f"an object of type {type(source).__name__} was given")


def array(source: tuple[Any, ...]) -> tuple[Samples, int]:
    """Samples of one or more channels, scaled to −1 … 1, and their rate; the longer axis is time."""
    samples, rate = source if len(source) == 2 else (None, None)
    if not isinstance(samples, np.ndarray) or not isinstance(rate, Integral | float) or rate % 1:
        raise _error("bad-source", f"a tuple ({', '.join(type(part).__name__ for part in source)}) was given")
    samples = np.asarray(samples)
    if samples.dtype.kind not in "fiu" or samples.ndim not in (1, 2) or not samples.size:
        raise _error("not-samples", f"an array of {samples.dtype}, of shape {samples.shape}, was given")
    samples = samples.reshape(len(samples), -1)
    samples = samples.T if samples.shape[0] < samples.shape[1] else samples
    if samples.shape[1] > decoders.MAX_CHANNELS:
        raise _error("not-samples", f"an array of shape {source[0].shape} was given")
    return decoders.to_float32(samples), int(rate)


class _SafeFile:
    """A file object of the caller, with complete reads, and with every exception as `OSError`."""

    def __init__(self, file: BinaryFile) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, fewer only at the end of the file."""
        blocks: list[bytes] = []
        with _os_errors():
            while size and (block := self._file.read(size)):
                blocks.append(block)
                size -= len(block)
        return b"".join(blocks)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position, and return it."""
        with _os_errors():
            self._file.seek(offset, whence)
            return self._file.tell()

    def tell(self) -> int:
        """The position."""
        with _os_errors():
            return self._file.tell()


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise every exception as `OSError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def _open_path(path: Path) -> io.BufferedReader:
    """Open a regular file; others are not opened, since that would wait for a pipe or start a device."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise _error("no-permission", f"{path} is a folder that may not be searched")
            raise _error("directory", f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise _error("not-a-file", f"{path} is a pipe, socket or device")
        return io.BufferedReader(io.FileIO(path), READ_AHEAD)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: not a possible name
        broken = os.path.islink(path)  # noqa: PTH114
        raise _error("missing", f"{path} links to nothing" if broken else f"{path} does not exist") from error
    except PermissionError as error:
        raise _error("no-permission", f"{path} may not be read") from error
    except OSError as error:
        raise _error("unreadable", f"{path} cannot be opened ({error.strerror})") from error


def _error(reason: str, problem: str) -> AudioError:
    return AudioError(reason, f"{problem}: expected {REASONS[reason]}")

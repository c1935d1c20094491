"""Files made of pieces of other files.

In: a binary file, and ranges of its bytes. Out: a read-only file of these ranges, one after the other.
Knows nothing of: what the bytes mean.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

WINDOWS = 2**14, 2**20
"""fewest and most bytes that are searched at a time: from one window to the next they grow"""
BLOCK = 2**16
"""bytes that are read ahead for a decoder"""
OVERLAP = 16
"""bytes of a window that the next one repeats: patterns are not longer"""


@runtime_checkable
class BinaryFile(Protocol):
    """A file object that yields bytes and can be positioned."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; all that are left if it is negative."""

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Change the position, and return it."""

    def tell(self) -> int:
        """The position."""


Piece = bytes | tuple[int, int]
"""bytes as they are, or the start and end of a range of a file"""


@dataclass(frozen=True)
class Stream:
    """One stream of audio in a file."""

    format: str
    """`ogg`, `mpeg`, `flac` or `wav`, or `other`: not known here, a decoder may know it"""
    pieces: tuple[Piece, ...]
    """what a decoder is to read, in order"""
    faults: tuple[str, ...] = ()
    """what is damaged in it, and therefore left out of the pieces, in words"""
    samples: int | None = None
    """samples per channel that its header states; it may be wrong"""


class Pieces(RawIOBase):
    """A read-only file made of pieces of another one; `error` is what went wrong, after which it seems to end.

    Decoders call it from C, where nothing can be raised.
    """

    def __init__(self, file: BinaryFile, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._file, self._pieces = file, tuple(pieces)
        self._starts = list(accumulate(map(length, self._pieces), initial=0))
        self._position = 0
        self._block, self._block_start = b"", 0
        self.error: BaseException | None = None

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return self._starts[-1]

    def keep(self, _kind: object, error: BaseException, _traceback: object) -> None:
        """Keep an exception as the `error`."""
        self.error = self.error or error

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start of the first piece."""
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Change the position, and return it; -1, and no change, where it would be negative."""
        wanted = offset + {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._starts[-1]}.get(whence, 0)
        if wanted < 0:
            return -1
        self._position = wanted
        return wanted

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes; returns how many there were."""
        if self.error:
            return 0
        count, offset = len(buffer), self._position - self._block_start
        if offset < 0 or offset + count > len(self._block):  # libmpg123 reads some bytes at a time: they come from here
            self._block, self._block_start, offset = self._bytes(max(count, BLOCK)), self._position, 0
        found = self._block[offset : offset + count]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _bytes(self, count: int) -> bytes:
        """The next bytes, as many as there are, up to `count`; the position stays."""
        found, position, end = [], self._position, min(self._position + count, self._starts[-1])
        while position < end:
            index = bisect_right(self._starts, position) - 1
            piece, offset = self._pieces[index], position - self._starts[index]
            wanted = min(end, self._starts[index + 1]) - position
            block = (
                piece[offset : offset + wanted] if isinstance(piece, bytes) else self._read(piece[0] + offset, wanted)
            )
            if not block:
                break
            found.append(block)
            position += len(block)
        return b"".join(found)

    def _read(self, start: int, count: int) -> bytes:
        try:
            self._file.seek(start)
            return self._file.read(count)
        except OSError as error:
            self.error = error
            return b""


def length(piece: Piece) -> int:
    """Bytes of a piece."""
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def at(file: BinaryFile, start: int, count: int) -> bytes:
    """Up to `count` bytes of a file from `start` on."""
    file.seek(start)
    return file.read(count)


def windows(file: BinaryFile, start: int, end: int, *, overlap: int) -> Iterator[tuple[int, bytes]]:
    """The bytes from `start` to `end` in windows that overlap, each with its place; small ones first."""
    size, most = WINDOWS
    while start < end:
        window = at(file, start, min(size, end - start))
        yield start, window
        if len(window) < min(size, end - start) or start + len(window) >= end:
            return
        start, size = start + size - overlap, min(4 * size, most)


def find(file: BinaryFile, start: int, end: int, pattern: "re.Pattern[bytes]") -> int:
    """Where a pattern of up to `OVERLAP` bytes is found first from `start` on; `end` if nowhere before it."""
    for place, window in windows(file, start, end, overlap=OVERLAP):
        if found := pattern.search(window):
            return place + found.start()
    return end


def joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same pieces; ranges that follow each other in the file become one."""
    found: list[Piece] = []
    for piece in pieces:
        before = found[-1] if found else b""
        if isinstance(piece, tuple) and isinstance(before, tuple) and before[1] == piece[0]:
            found[-1] = (before[0], piece[1])
        else:
            found.append(piece)
    return tuple(found)


def within(pieces: Sequence[Piece], below: Sequence[Piece]) -> tuple[Piece, ...]:
    """Pieces of a file that is itself made of pieces `below`, as pieces of the file under it."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            found.append(piece)
            continue
        position = 0
        for under in below:
            first, last = max(piece[0] - position, 0), min(piece[1] - position, length(under))
            if first < last:
                found.append(under[first:last] if isinstance(under, bytes) else (under[0] + first, under[0] + last))
            position += length(under)
    return tuple(found)


def after_id3(file: BinaryFile, start: int) -> int:
    """Where the bytes after any ID3v2 tags at `start` begin."""
    while (head := at(file, start, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    return start


def before_tags(file: BinaryFile, start: int, end: int) -> int:
    """Where ID3v1 and APE tags at the end of a file begin; `end` if there are none."""
    if end - start > 128 and at(file, end - 128, 3) == b"TAG":
        end -= 128
    foot = at(file, max(start, end - 32), 32)
    if foot[:8] == b"APETAGEX":
        size = int.from_bytes(foot[12:16], "little") + (32 if foot[23] & 0x80 else 0)
        end = end - size if start < end - size else end
    return end

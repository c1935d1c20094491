"""Read-only files that are composed of byte ranges of other files."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

WINDOWS = 2**14, 2**20
"""bytes of the first window of a search, and of the largest: windows grow"""
BLOCK = 2**16
"""bytes that are read ahead for a decoder"""
OVERLAP = 16
"""bytes that consecutive windows share, and the longest pattern"""


@runtime_checkable
class BinaryFile(Protocol):
    """A seekable binary file object."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, or all if it is negative."""

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Set the position, and return it."""

    def tell(self) -> int:
        """The position."""


Piece = bytes | tuple[int, int]
"""literal bytes, or the start and end of a byte range"""


@dataclass(frozen=True)
class Stream:
    """An audio stream in a file."""

    format: str
    """`ogg`, `mpeg`, `flac`, `wav`, or `other`, which is left to the decoders"""
    pieces: tuple[Piece, ...]
    """content for the decoder, in order"""
    faults: tuple[str, ...] = ()
    """descriptions of damaged parts, which are not in the pieces"""
    samples: int | None = None
    """samples per channel that the header states; may be wrong"""


class Pieces(RawIOBase):
    """A read-only file that is composed of pieces of another one.

    Decoders call it from C, where no exception can be raised: `error` keeps the first one, after which the file ends.
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
        """The size of all pieces, in bytes."""
        return self._starts[-1]

    def keep(self, _kind: object, error: BaseException, _traceback: object) -> None:
        """Keep the first exception as `error`."""
        self.error = self.error or error

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Set the position, and return it; a negative position is ignored, and -1 returned."""
        position = offset + {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._starts[-1]}.get(whence, 0)
        if position < 0:
            return -1
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return the number of bytes."""
        if self.error:
            return 0
        count, offset = len(buffer), self._position - self._block_start
        if offset < 0 or offset + count > len(self._block):  # libmpg123 reads a few bytes at a time: they are buffered
            self._block, self._block_start, offset = self._bytes(max(count, BLOCK)), self._position, 0
        content = self._block[offset : offset + count]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _bytes(self, count: int) -> bytes:
        """Up to `count` bytes from the position, which stays."""
        blocks, position, end = [], self._position, min(self._position + count, self._starts[-1])
        while position < end:
            index = bisect_right(self._starts, position) - 1
            piece, offset = self._pieces[index], position - self._starts[index]
            size = min(end, self._starts[index + 1]) - position
            block = piece[offset : offset + size] if isinstance(piece, bytes) else self._read(piece[0] + offset, size)
            if not block:
                break
            blocks.append(block)
            position += len(block)
        return b"".join(blocks)

    def _read(self, start: int, count: int) -> bytes:
        try:
            self._file.seek(start)
            return self._file.read(count)
        except OSError as error:
            self.error = error
            return b""


def length(piece: Piece) -> int:
    """The size of a piece in bytes."""
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def read_at(file: BinaryFile, start: int, count: int) -> bytes:
    """Read up to `count` bytes of a file from `start` on."""
    file.seek(start)
    return file.read(count)


def windows(file: BinaryFile, start: int, end: int, *, overlap: int) -> Iterator[tuple[int, bytes]]:
    """The bytes from `start` to `end` in overlapping windows of growing size, each with its position."""
    size, max_size = WINDOWS
    while start < end:
        window = read_at(file, start, min(size, end - start))
        yield start, window
        if len(window) < min(size, end - start) or start + len(window) >= end:
            return
        start, size = start + size - overlap, min(4 * size, max_size)


def find(file: BinaryFile, start: int, end: int, pattern: "re.Pattern[bytes]") -> int:
    """The first position of a pattern of up to `OVERLAP` bytes from `start` on; `end` if there is none."""
    for position, window in windows(file, start, end, overlap=OVERLAP):
        if match := pattern.search(window):
            return position + match.start()
    return end


def merge(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Merge consecutive byte ranges into one."""
    merged: list[Piece] = []
    for piece in pieces:
        before = merged[-1] if merged else b""
        if isinstance(piece, tuple) and isinstance(before, tuple) and before[1] == piece[0]:
            merged[-1] = (before[0], piece[1])
        else:
            merged.append(piece)
    return tuple(merged)


def translate(pieces: Sequence[Piece], outer: Sequence[Piece]) -> tuple[Piece, ...]:
    """Translate pieces of a file that is composed of the pieces `outer` to pieces of the original file."""
    translated: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            translated.append(piece)
            continue
        position = 0
        for part in outer:
            first, last = max(piece[0] - position, 0), min(piece[1] - position, length(part))
            if first < last:
                translated.append(part[first:last] if isinstance(part, bytes) else (part[0] + first, part[0] + last))
            position += length(part)
    return tuple(translated)


def after_id3(file: BinaryFile, start: int) -> int:
    """The position after any ID3v2 tags at `start`."""
    while (head := read_at(file, start, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    return start


def before_tags(file: BinaryFile, start: int, end: int) -> int:
    """The position of ID3v1 and APE tags at the end of a file; `end` if there are none."""
    if end - start > 128 and read_at(file, end - 128, 3) == b"TAG":
        end -= 128
    foot = read_at(file, max(start, end - 32), 32)
    if foot[:8] == b"APETAGEX":
        size = int.from_bytes(foot[12:16], "little") + (32 if foot[23] & 0x80 else 0)
        end = end - size if start < end - size else end
    return end

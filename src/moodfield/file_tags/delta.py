"""Deltas, which restore the earlier content of a file from its present one."""

import struct
import zlib
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

from moodfield.errors import FileTagsError

PROBE = 64
"""bytes by which equal parts are recognised"""
WINDOW = 2**24
"""bytes in which moved parts are searched"""
BLOCK = 2**16
COPY, LITERAL = 0, 1
RECORD = struct.Struct("<BQQ")
"""kind, then start and length of a part of the present file, or 0 and the length of the bytes that follow"""


def diff(old: Path, new: Path) -> bytes:
    """A delta that restores the content of `old` from that of `new`: parts that `new` has, and the bytes it has not.

    Tags move audio and change a few headers, so that a delta is about as large as the tags that changed.
    """
    records = bytearray()
    with _mapped(old) as before, _mapped(new) as after:
        start = other = 0
        while start < len(before):
            if length := _equal(before, after, start, other):
                records += RECORD.pack(COPY, other, length)
                start, other = start + length, other + length
            if start < len(before):
                literal, other = _resume(before, after, start, other)
                records += RECORD.pack(LITERAL, 0, literal) + before[start : start + literal]
                start += literal
    return zlib.compress(bytes(records), 6)


def apply(new: Path, delta: bytes, output: Path) -> None:
    """Write the earlier content of a file; raises `FileTagsError` if the delta is damaged."""
    try:
        records = zlib.decompress(delta)
        with _mapped(new) as present, output.open("wb") as file:
            position = 0
            while position < len(records):
                kind, start, length = RECORD.unpack_from(records, position)
                position += RECORD.size
                if kind == LITERAL:
                    file.write(records[position : position + length])
                    position += length
                else:
                    for block in range(start, start + length, BLOCK):
                        file.write(present[block : min(block + BLOCK, start + length)])
    except (zlib.error, struct.error) as error:
        raise FileTagsError(f"the journal's entry for {new} is damaged ({error}); the file is as it was") from error


class _mapped:  # noqa: N801 (a context, like open)
    """A context with the content of a file; an empty file cannot be mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "mmap | bytes":
        with self._path.open("rb") as file:
            self._content: mmap | bytes = mmap(file.fileno(), 0, access=ACCESS_READ) if file.seek(0, 2) else b""
        return self._content

    def __exit__(self, *_: object) -> None:
        if isinstance(self._content, mmap):
            self._content.close()


def _equal(before: "mmap | bytes", after: "mmap | bytes", start: int, other: int) -> int:
    """How many bytes from two positions on are equal."""
    length, limit = 0, min(len(before) - start, len(after) - other)
    step = BLOCK
    while length < limit and step:
        end = min(length + step, limit)
        if before[start + length : start + end] == after[other + length : other + end]:
            length = end
        else:
            step //= 2
    return length


def _resume(before: "mmap | bytes", after: "mmap | bytes", start: int, other: int) -> tuple[int, int]:
    """After a difference: the number of bytes without equal ones, and where in `after` equal ones begin."""
    for skip in range(1, min(PROBE, len(before) - start - PROBE)):  # as in the headers of Ogg pages
        if before[start + skip : start + skip + PROBE] == after[other + skip : other + skip + PROBE]:
            return skip, other + skip
    for skip in _steps(len(before) - start):
        probe = before[start + skip : start + skip + PROBE]
        if len(probe) < PROBE:
            break
        if (place := after.find(probe, other, min(len(after), other + WINDOW))) >= 0:
            return skip, place
    return len(before) - start, other


def _steps(limit: int) -> Iterator[int]:
    """Distances that are tried: 1 … 16, then growing by an eighth."""
    step = 1
    while step < limit:
        yield step
        step += max(1, step // 8)

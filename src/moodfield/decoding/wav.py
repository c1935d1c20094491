"""WAV files: how long their data really is.

In: a WAV file. Out: its stream, and those of WAV files joined to it, with headers that state the length that there is.
Knows nothing of: sample formats.
"""

import re
from typing import Literal, TypeAlias

from moodfield.decoding import byte_ranges
from moodfield.decoding.byte_ranges import BinaryFile, Stream

Order: TypeAlias = Literal["big", "little"]
UNKNOWN = 2**32 - 1
"""a length that a header states when it does not know it, or when it is too large"""
PLACEHOLDER = 2**31 - 2**16
"""lengths from here on may be placeholders, so that a file is not cut off for having less"""
MOST_JUNK = 2**16
"""bytes after the data that may be something else than data, though they are no chunk"""
MOST_CHUNKS = 10_000
NAME = re.compile(rb"[A-Za-z0-9_ \xa9]{4}|ID3|TAG|APETAGEX|\x00{8}", re.DOTALL)
"""how what follows the data begins that is no data: a chunk, a tag, or nothing"""


def streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """The stream of each WAV file of those that were joined; one whose recorder was killed has data up to its end."""
    found: list[Stream] = []
    while start < end:
        order: Order = "big" if byte_ranges.at(file, start, 4) == b"RIFX" else "little"
        place, stated, ds64 = _data(file, start, end, order)
        if place and not _is_length(file, place, stated, end):
            true = end - place
            head = _head(byte_ranges.at(file, start, place - start), true, ds64 - start if ds64 else 0, order)
            cut = [f"it is cut off: {true} bytes of {stated} are there"] if true < stated < PLACEHOLDER else []
            return [*found, Stream("wav", (head, (place, end)), tuple(cut))]
        following = _joined(file, place + stated) if place else end
        found.append(Stream("wav", ((start, following or end),)))
        start = following or end
    return found


def _joined(file: BinaryFile, place: int) -> int | None:
    """Where a WAV file begins that was joined to data which ends there, if one does."""
    for start in (place, place + place % 2):
        head = byte_ranges.at(file, start, 12)
        if head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE":
            return start
    return None


def _data(file: BinaryFile, start: int, end: int, order: Order) -> tuple[int | None, int, int]:
    """Where the data begins, the length that is stated for it, and where a chunk with 64-bit lengths is, if any."""
    position, ds64 = start + 12, 0
    for _ in range(MOST_CHUNKS):
        chunk = byte_ranges.at(file, position, 8)
        if len(chunk) < 8:
            break
        name, size = chunk[:4], int.from_bytes(chunk[4:], order)
        if name == b"data":
            if ds64 and size == UNKNOWN:
                size = int.from_bytes(byte_ranges.at(file, ds64 + 16, 8), "little")
            return position + 8, size, ds64
        ds64 = position if name == b"ds64" else ds64
        position += 8 + size + size % 2
    return None, 0, 0


def _head(head: bytes, true: int, ds64: int, order: Order) -> bytes:
    """A header that states so many bytes of data; in 64 bits where it has them, or needs them."""
    whole = len(head) - 8 + true
    if true >= UNKNOWN and not ds64 and order == "little":
        lengths = (whole + 36).to_bytes(8, order) + true.to_bytes(8, order) + bytes(12)
        head = b"RF64" + head[4:12] + b"ds64" + len(lengths).to_bytes(4, order) + lengths + head[12:]
    elif ds64:
        head = head[: ds64 + 16] + true.to_bytes(8, "little") + head[ds64 + 24 :]
    lengths32 = [min(length, UNKNOWN).to_bytes(4, order) for length in (whole, true)]
    return head[:4] + lengths32[0] + head[8:-4] + lengths32[1]


def _is_length(file: BinaryFile, begin: int, stated: int, end: int) -> bool:
    """Whether data that begins there can be as long as its header states: hardly anything follows, or no data."""
    rest = end - begin - stated
    if stated <= 0 or stated == UNKNOWN or rest < 0:
        return rest == 0
    if rest <= MOST_JUNK:
        return True
    for place in {begin + stated, begin + stated + stated % 2}:
        chunk = byte_ranges.at(file, place, 8)
        if NAME.match(chunk) or int.from_bytes(chunk[4:], "little") <= rest - 8:
            return True
    return False

"""WAV files: streams with headers that state the actual length of the data."""

import re
from typing import Literal, TypeAlias

from moodfield.decoding import byte_ranges
from moodfield.decoding.byte_ranges import BinaryFile, Stream

Order: TypeAlias = Literal["big", "little"]
UNKNOWN = 2**32 - 1
"""stated length that is unknown, or too large for 32 bits"""
PLACEHOLDER = 2**31 - 2**16
"""stated lengths from here on may be placeholders: a shorter file is not cut off"""
MAX_JUNK = 2**16
"""bytes after the data that are neither data nor chunks"""
MAX_CHUNKS = 10_000
NAME = re.compile(rb"[A-Za-z0-9_ \xa9]{4}|ID3|TAG|APETAGEX|\x00{8}", re.DOTALL)
"""beginning of what may follow the data: a chunk, a tag, or zeros"""


def streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """Find the streams of appended WAV files; if a stated length is wrong, the data extends to the end."""
    streams: list[Stream] = []
    while start < end:
        order: Order = "big" if byte_ranges.read_at(file, start, 4) == b"RIFX" else "little"
        place, stated, ds64 = _data(file, start, end, order)
        if place and not _is_length(file, place, stated, end):
            actual = end - place
            head = _head(byte_ranges.read_at(file, start, place - start), actual, ds64 - start if ds64 else 0, order)
            cut = [f"it is cut off: {actual} bytes of {stated} exist"] if actual < stated < PLACEHOLDER else []
            return [*streams, Stream("wav", (head, (place, end)), tuple(cut))]
        following = _appended(file, place + stated) if place else end
        streams.append(Stream("wav", ((start, following or end),)))
        start = following or end
    return streams


def _appended(file: BinaryFile, place: int) -> int | None:
    """The position of a WAV file that is appended to data which ends at a position, if there is one."""
    for start in (place, place + place % 2):
        head = byte_ranges.read_at(file, start, 12)
        if head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE":
            return start
    return None


def _data(file: BinaryFile, start: int, end: int, order: Order) -> tuple[int | None, int, int]:
    """The position of the data, its stated length, and the position of a chunk with 64-bit lengths or 0."""
    position, ds64 = start + 12, 0
    for _ in range(MAX_CHUNKS):
        chunk = byte_ranges.read_at(file, position, 8)
        if len(chunk) < 8:
            break
        name, size = chunk[:4], int.from_bytes(chunk[4:], order)
        if name == b"data":
            if ds64 and size == UNKNOWN:
                size = int.from_bytes(byte_ranges.read_at(file, ds64 + 16, 8), "little")
            return position + 8, size, ds64
        ds64 = position if name == b"ds64" else ds64
        position += 8 + size + size % 2
    return None, 0, 0


def _head(head: bytes, actual: int, ds64: int, order: Order) -> bytes:
    """The header with the actual length of the data, in 64 bits where it has or needs them."""
    whole = len(head) - 8 + actual
    if actual >= UNKNOWN and not ds64 and order == "little":
        lengths = (whole + 36).to_bytes(8, order) + actual.to_bytes(8, order) + bytes(12)
        head = b"RF64" + head[4:12] + b"ds64" + len(lengths).to_bytes(4, order) + lengths + head[12:]
    elif ds64:
        head = head[: ds64 + 16] + actual.to_bytes(8, "little") + head[ds64 + 24 :]
    lengths32 = [min(length, UNKNOWN).to_bytes(4, order) for length in (whole, actual)]
    return head[:4] + lengths32[0] + head[8:-4] + lengths32[1]


def _is_length(file: BinaryFile, begin: int, stated: int, end: int) -> bool:
    """Whether a stated length is plausible: little follows, or something that is not data."""
    rest = end - begin - stated
    if stated <= 0 or stated == UNKNOWN or rest < 0:
        return rest == 0
    if rest <= MAX_JUNK:
        return True
    for place in {begin + stated, begin + stated + stated % 2}:
        chunk = byte_ranges.read_at(file, place, 8)
        if NAME.match(chunk) or int.from_bytes(chunk[4:], "little") <= rest - 8:
            return True
    return False

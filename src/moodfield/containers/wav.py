"""WAV files: how long their data really is.

In: a WAV file. Out: the same, with a header that states the length of what is there.
Knows nothing of: sample formats.
"""

import re

from moodfield.containers import pieces
from moodfield.containers.pieces import BinaryFile, Stream

UNKNOWN = 2**32 - 1
"""a length that a header states when it does not know it, or when it is too large"""
MOST_JUNK = 2**16
"""bytes after the data that may be something else than data, though they are no chunks"""
NAME = re.compile(rb"[A-Za-z0-9_ ]{4}")


def stream(file: BinaryFile, start: int, end: int) -> Stream:
    """The stream of a WAV file; one whose recorder was killed has data up to its end."""
    position, ds64 = start + 12, 0
    while len(chunk := pieces.at(file, position, 8)) == 8:
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            true = end - position - 8
            stated = int.from_bytes(pieces.at(file, ds64 + 16, 8), "little") if ds64 and size == UNKNOWN else size
            if _is_length(file, position + 8, stated, end):
                break
            head = bytearray(pieces.at(file, start, position + 8 - start))
            head[4:8] = min(end - start - 8, UNKNOWN).to_bytes(4, "little")
            head[-4:] = min(true, UNKNOWN).to_bytes(4, "little")
            if ds64:
                head[ds64 - start + 16 : ds64 - start + 24] = true.to_bytes(8, "little")
            return Stream("wav", (bytes(head), (position + 8, end)))
        ds64 = position if name == b"ds64" else ds64
        position += 8 + size + size % 2
    return Stream("wav", ((start, end),))


def _is_length(file: BinaryFile, begin: int, stated: int, end: int) -> bool:
    """Whether data that begins there can be as long as its header states: other chunks follow, or hardly anything."""
    if stated <= 0 or begin + stated > end:
        return begin + stated == end
    if end - begin - stated <= MOST_JUNK:
        return True
    position = begin + stated + stated % 2
    while position < end:
        chunk = pieces.at(file, position, 8)
        if len(chunk) < 8 or not NAME.fullmatch(chunk[:4]):
            return False
        size = int.from_bytes(chunk[4:], "little")
        position += 8 + size + size % 2
    return position <= end + 1

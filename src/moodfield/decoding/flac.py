"""FLAC files (RFC 9639): one stream, or several that were joined.

In: a FLAC file. Out: its streams, with headers that state no length, no seek table and no tags.
Knows nothing of: frames.
"""

import re

from moodfield.decoding import byte_ranges
from moodfield.decoding.byte_ranges import BinaryFile, Stream

BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""the marker, and the head of the block that comes first"""
FRAME = re.compile(rb"\xff[\xf8\xf9]")
STREAMINFO = 34
"""bytes of the block that comes first"""
MOST_STREAMS, MOST_BLOCKS = 1_001, 10_000
"""streams that are looked for in one file, and blocks of metadata in one stream"""
MOST_SAMPLES = 2**36 - 1
"""what its 36 bits can state; 0 is unknown"""


def streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """The stream that begins at `start`, and those of FLAC files that follow it."""
    end = byte_ranges.before_tags(file, start, end)
    starts = [start]
    while (
        len(starts) < MOST_STREAMS and (found := byte_ranges.find(file, starts[-1] + 8 + STREAMINFO, end, BEGIN)) < end
    ):
        starts.append(found)
    return [stream(file, first, last) for first, last in zip(starts, [*starts[1:], end], strict=True)]


def stream(file: BinaryFile, start: int, end: int) -> Stream:
    """A single stream, whatever its blocks of metadata state."""
    head = byte_ranges.at(file, start, 8 + STREAMINFO)
    if not BEGIN.match(head) or len(head) < 8 + STREAMINFO:
        return Stream("other", ((start, end),))
    position, last = start + 8 + STREAMINFO, head[4] >= 0x80
    for _ in range(MOST_BLOCKS):
        if last or position >= end:
            break
        block = byte_ranges.at(file, position, 4)
        last, position = block[:1] >= b"\x80", position + 4 + int.from_bytes(block[1:4], "big")
    if position >= end or not FRAME.match(byte_ranges.at(file, position, 2)):  # a block is not as long as it states
        position = byte_ranges.find(file, start + 8 + STREAMINFO, end, FRAME)
    samples = int.from_bytes(head[21:26], "big") & MOST_SAMPLES
    info = head[8:21] + bytes([head[21] & 0xF0, 0, 0, 0, 0]) + head[26:]
    return Stream("flac", (b"fLaC\x80\x00\x00\x22" + info, (position, end)), samples=samples or None)

"""FLAC files (RFC 9639): streams without stated lengths, seek tables and tags."""

import re

from moodfield.decoding import byte_ranges
from moodfield.decoding.byte_ranges import BinaryFile, Stream

BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""the marker, and the header of the first metadata block"""
FRAME = re.compile(rb"\xff[\xf8\xf9]")
HEAD = 42
"""bytes of the marker and of the first metadata block, with its header"""
MAX_STREAMS, MAX_BLOCKS = 1_001, 10_000
"""streams of one file, and metadata blocks of one stream, that are read"""
MAX_SAMPLES = 2**36 - 1
"""largest number of samples in 36 bits; 0 is unknown"""


def streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """Find the stream at `start`, and those of FLAC files that are appended to it."""
    end = byte_ranges.before_tags(file, start, end)
    starts = [start]
    while len(starts) < MAX_STREAMS and (start := byte_ranges.find(file, starts[-1] + HEAD, end, BEGIN)) < end:
        starts.append(start)
    return [stream(file, first, last) for first, last in zip(starts, [*starts[1:], end], strict=True)]


def stream(file: BinaryFile, start: int, end: int) -> Stream:
    """A single stream, whatever its metadata states."""
    head = byte_ranges.read_at(file, start, HEAD)
    if not BEGIN.match(head) or len(head) < HEAD:
        return Stream("other", ((start, end),))
    position, last = start + HEAD, head[4] >= 0x80
    for _ in range(MAX_BLOCKS):
        if last or position >= end:
            break
        block = byte_ranges.read_at(file, position, 4)
        last, position = block[:1] >= b"\x80", position + 4 + int.from_bytes(block[1:4], "big")
    if position >= end or not FRAME.match(byte_ranges.read_at(file, position, 2)):  # a block states a wrong length
        position = byte_ranges.find(file, start + HEAD, end, FRAME)
    samples = int.from_bytes(head[21:26], "big") & MAX_SAMPLES
    info = head[8:21] + bytes([head[21] & 0xF0, 0, 0, 0, 0]) + head[26:]
    return Stream("flac", (b"fLaC\x80\x00\x00\x22" + info, (position, end)), samples=samples or None)

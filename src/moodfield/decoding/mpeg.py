"""MPEG audio files (MP3 and its kin): frames, and what lies between them.

In: a file that may hold MPEG audio. Out: its streams: frames of one kind that follow each other, without anything else.
Knows nothing of: what is in a frame, but for the tables of lengths that encoders put into the first one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from moodfield.decoding import byte_ranges
from moodfield.decoding.byte_ranges import BinaryFile, Piece, Stream

FEWEST = 3
"""frames in a row, of one kind, that make a stream; noise looks like one frame now and then"""
FARTHEST = 2**20
"""bytes before the first frame after which the file is taken for something else"""
LONGEST = 2_881
"""bytes of the longest frame: layer II, 384 kbit/s, 32 kHz, padded, and as many as are looked at ahead"""
TOLERATED = 1.02
"""times as many frames as there are that a header may count without a word"""
MOST_TRIES = 100_000
"""places in a row that look like a head, after which no frame is expected; a megabyte of noise has some hundreds"""
SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff](?=[\x10-\xef])")
TAGS = re.compile(rb"TAG|APETAGEX|ID3|LYRICS")
"""how bytes between frames begin that are no damage"""
LENGTHS = re.compile(rb"(Xing|Info)....", re.DOTALL)

_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (2 also for 2.5) and layer, for indexes from 1 on"""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""samples per second by the bits of the version"""


def _length(second: int, third: int) -> int:
    """Bytes of a frame, by the second and third byte of its head; 0 if they are no head, or of a free bitrate."""
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    bitrate, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if second < 0xE0 or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    bits = 1_000 * _BITRATES[1 if version == 3 else 2, layer][bitrate - 1]
    if layer == 1:
        return (12 * bits // _RATES[version][rate] + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // _RATES[version][rate] + padding


FRAME = [_length(head >> 8, head & 0xFF) for head in range(2**16)]
"""bytes of a frame by the second and third byte of its head; 0: no head"""


@dataclass(frozen=True)
class _Run:
    """Frames of one kind, one right behind the other."""

    start: int
    end: int
    kind: int
    frames: int


def streams(file: BinaryFile, start: int, end: int, *, most: int) -> list[Stream]:
    """The streams of a file; none if it is not MPEG audio, or if there are more than `most`.

    A stream ends where rate, layer or the number of channels change (the bitrate, too, of layers I and II: libmpg123
    guesses their length by it), and where a file begins that was joined to it: one with a table of lengths (Xing, Info)
    in its first frame. A table that counts fewer frames than there are is mended.
    """
    found: list[list[_Run]] = []
    faults: list[list[str]] = []
    position = start
    for run in _runs(file, start, end):
        if found and run.frames < FEWEST and run.kind != found[-1][-1].kind:  # their heads are damaged
            continue
        if not found or found[-1][-1].kind != run.kind or _has_table(byte_ranges.at(file, run.start, 64)):
            found.append([run])
            faults.append([])
            if len(found) > most:
                return []
        else:
            found[-1].append(run)
        faults[-1] += _gap(file, position, run.start, most=0 if position > start else LONGEST)
        position = run.end
    if found:
        faults[-1] += _gap(file, position, end, most=LONGEST)
    return [_stream(file, runs, tuple(lines)) for runs, lines in zip(found, faults, strict=True)]


def _gap(file: BinaryFile, start: int, end: int, *, most: int) -> list[str]:
    """A line about bytes that are neither frames nor tags, if there are more than `most`."""
    if end - start <= most or TAGS.match(byte_ranges.at(file, start, 8)):
        return []
    return [f"{end - start} bytes at byte {start} are no MPEG frames"]


def _stream(file: BinaryFile, runs: list[_Run], faults: tuple[str, ...]) -> Stream:
    """Frames with a table of lengths that counts them: without one, libmpg123 guesses by the bitrate of the first."""
    ranges: list[Piece] = [(run.start, run.end) for run in runs]
    first, count = runs[0].start, sum(run.frames for run in runs)
    head = byte_ranges.at(file, first, 64)
    place = _side(head[1], head[3])
    if _has_table(head) and head[place + 7] & 1:
        stated = int.from_bytes(head[place + 8 : place + 12], "big")
        if stated > TOLERATED * count:
            faults = (*faults, f"it is cut off: its header counts {stated} frames, {count - 1} are there")
        if stated < count - 1:
            ranges[:1] = [head[: place + 8] + (count - 1).to_bytes(4, "big"), (first + place + 12, runs[0].end)]
    elif head[1] & 6 == 2:  # layer III
        other = _has_table(head) or head[36:40] == b"VBRI"  # another table, which libmpg123 cannot use
        size = FRAME[head[1] << 8 | head[2]] if other else 0
        ranges[:1] = [_counting(head, count - 1 if other else count), (first + size, runs[0].end)]
    return Stream("mpeg", byte_ranges.joined(ranges), faults)


def _counting(head: bytes, count: int) -> bytes:
    """A frame of the same kind that holds nothing but a table of lengths."""
    start = bytes([0xFF, head[1] | 1, 0x90 | head[2] & 0x0C, head[3]])  # without a checksum, of a middle bitrate
    frame = start.ljust(_side(head[1], head[3]), b"\0") + b"Xing\0\0\0\1" + count.to_bytes(4, "big")
    return frame.ljust(FRAME[start[1] << 8 | start[2]], b"\0")


def _has_table(head: bytes) -> bool:
    """Whether a frame that begins so holds a table of lengths."""
    return bool(LENGTHS.match(head, _side(head[1], head[3])))


def _side(second: int, fourth: int) -> int:
    """Where data begins in a frame of layer III, after its head and side information."""
    mono = fourth >= 0xC0
    return 4 + ((17 if mono else 32) if second & 8 else (9 if mono else 17))


def _runs(file: BinaryFile, start: int, end: int) -> Iterator[_Run]:
    """Runs of frames; a new one begins at a table of lengths."""
    farthest, kind = start + FARTHEST, None
    while start < end:
        first = _first(file, start, end if kind else min(end, farthest), kind)
        if first is None:
            return
        start = first + 1
        for run in _run(file, first, end):
            yield run
            start, kind = run.end, run.kind


def _first(file: BinaryFile, start: int, end: int, kind: int | None) -> int | None:
    """The first frame from `start` on: the next ones follow it, or it is of a known kind and the last of the file."""
    tries = 0
    for place, window in byte_ranges.windows(file, start, end, overlap=FEWEST * LONGEST):
        at_end = place + len(window) >= end
        for found in SYNC.finditer(window):
            if found.start() > len(window) - FEWEST * LONGEST and not at_end:
                break  # the next window has all of it
            if _is_first(window, found.start(), kind, at_end=at_end):
                return place + found.start()
            tries += 1
        if tries > MOST_TRIES:
            return None
    return None


def _is_first(window: bytes, position: int, kind: int | None, *, at_end: bool) -> bool:
    """Whether enough frames of one kind begin here."""
    own = None
    for _ in range(FEWEST):
        head = window[position : position + 4]
        size = FRAME[head[1] << 8 | head[2]] if len(head) == 4 and head[0] == 0xFF else 0
        if not size:
            return own is not None and own == kind and at_end and len(window) - 4 <= position <= len(window)
        if own is not None and _kind(head[1], head[2], head[3]) != own:
            return False
        own = _kind(head[1], head[2], head[3])
        position += size
    return True


def _kind(second: int, third: int, fourth: int) -> int:
    """Version, layer, rate, the bitrate of layers I and II, and whether there is one channel, as one number."""
    return (second & 0x1E) << 8 | (third & (0x0C if second & 6 == 2 else 0xFC)) << 1 | (fourth >= 0xC0)


def _run(file: BinaryFile, start: int, end: int) -> Iterator[_Run]:
    """The frames from `start` on, while one follows the other; parted where their kind changes or a file begins."""
    position, frames, begin, kind = start, 0, start, -1
    for base, window in byte_ranges.windows(file, start, end, overlap=LONGEST):
        last = base + len(window) >= end
        offset = position - base
        while offset + LONGEST <= len(window) or (last and offset + 4 <= len(window)):
            second, third, fourth = window[offset + 1], window[offset + 2], window[offset + 3]
            size = FRAME[second << 8 | third] if window[offset] == 0xFF else 0
            if not size or base + offset + size > end:
                last = True
                break
            own, side = _kind(second, third, fourth), offset + _side(second, fourth)
            if own != kind or window[side : side + 4] in (b"Xing", b"Info"):
                if frames:
                    yield _Run(begin, base + offset, kind, frames)
                begin, frames, kind = base + offset, 0, own
            offset += size
            frames += 1
        position = base + offset
        if last:
            break
    if frames:
        yield _Run(begin, position, kind, frames)

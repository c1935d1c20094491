"""MPEG audio files (MP3, MP2): streams of frames, without other bytes between them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from moodfield.decoding import byte_ranges
from moodfield.decoding.byte_ranges import BinaryFile, Piece, Stream

MIN_FRAMES = 3
"""consecutive frames of one kind that make a stream; noise sometimes looks like a single frame"""
MAX_OFFSET = 2**20
"""bytes before the first frame; after more, the file is of another format"""
MAX_FRAME_BYTES = 2_881
"""bytes of the longest frame: layer II, 384 kbit/s, 32 kHz, padded; also of look-ahead"""
MAX_EXCESS = 1.02
"""stated number of frames divided by the actual one, above which the file is considered cut off"""
MAX_TRIES = 100_000
"""false frame headers after which the search ends; a megabyte of noise has some hundreds"""
MAX_GAPS = 10_000
"""interruptions of the frames after which the search ends"""
SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff](?=[\x10-\xef])")
TAGS = re.compile(rb"TAG|APETAGEX|ID3|LYRICS")
"""beginnings of bytes between frames that are not damage"""
LENGTHS = re.compile(rb"(Xing|Info)....", re.DOTALL)

_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (2 also for 2.5) and layer, from index 1 on"""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""sample rates by the version bits"""


def _length(second: int, third: int) -> int:
    """Bytes of a frame, by second (0xE0 or above) and third byte of its header; 0: invalid, or of a free bitrate."""
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    bitrate, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    bits = 1_000 * _BITRATES[1 if version == 3 else 2, layer][bitrate - 1]
    if layer == 1:
        return (12 * bits // _RATES[version][rate] + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // _RATES[version][rate] + padding


FRAME = [0] * 0xE000 + [_length(head >> 8, head & 0xFF) for head in range(0xE000, 2**16)]
"""bytes of a frame by the second and third byte of its header; 0: not a header"""


@dataclass(frozen=True)
class _Run:
    """Contiguous frames of one kind."""

    start: int
    end: int
    kind: int
    frames: int


def streams(file: BinaryFile, start: int, end: int, *, max_streams: int) -> list[Stream]:
    """Find the streams of a file; none if it is not MPEG audio, or has more than `max_streams`.

    A stream ends where rate, layer or the number of channels change (the bitrate, too, of layers I and II: libmpg123
    guesses their length by it), and where an appended file begins: one with a table of lengths (Xing, Info) in its
    first frame. A table that counts too few frames is corrected.
    """
    groups: list[list[_Run]] = []
    faults: list[list[str]] = []
    position = start
    for run in _runs(file, start, end):
        if groups and run.frames < MIN_FRAMES and run.kind != groups[-1][-1].kind:  # their headers are damaged
            continue
        if not groups or groups[-1][-1].kind != run.kind or _has_table(byte_ranges.read_at(file, run.start, 64)):
            groups.append([run])
            faults.append([])
            if len(groups) > max_streams:
                return []
        else:
            groups[-1].append(run)
        faults[-1] += _gap_faults(file, position, run.start, allowed=0 if position > start else MAX_FRAME_BYTES)
        position = run.end
    if groups:
        faults[-1] += _gap_faults(file, position, end, allowed=MAX_FRAME_BYTES)
    return [_stream(file, runs, tuple(lines)) for runs, lines in zip(groups, faults, strict=True)]


def _gap_faults(file: BinaryFile, start: int, end: int, *, allowed: int) -> list[str]:
    """A message about bytes that are neither frames nor tags, if there are more than `allowed`."""
    if end - start <= allowed or TAGS.match(byte_ranges.read_at(file, start, 8)):
        return []
    return [f"{end - start} bytes at byte {start} are not MPEG frames"]


def _stream(file: BinaryFile, runs: list[_Run], faults: tuple[str, ...]) -> Stream:
    """A stream with a correct table of lengths: without one, libmpg123 guesses the length from the first bitrate."""
    ranges: list[Piece] = [(run.start, run.end) for run in runs]
    first, count = runs[0].start, sum(run.frames for run in runs)
    head = byte_ranges.read_at(file, first, 64)
    place = _data_offset(head[1], head[3])
    if _has_table(head) and head[place + 7] & 1:
        stated = int.from_bytes(head[place + 8 : place + 12], "big")
        if stated > MAX_EXCESS * count:
            faults = (*faults, f"it is cut off: its header counts {stated} frames, {count - 1} exist")
        if stated < count - 1:
            ranges[:1] = [head[: place + 8] + (count - 1).to_bytes(4, "big"), (first + place + 12, runs[0].end)]
    elif head[1] & 6 == 2:  # layer III
        unusable = _has_table(head) or head[36:40] == b"VBRI"  # a table that libmpg123 cannot use
        size = FRAME[head[1] << 8 | head[2]] if unusable else 0
        ranges[:1] = [_table_frame(head, count - 1 if unusable else count), (first + size, runs[0].end)]
    return Stream("mpeg", byte_ranges.merge(ranges), faults)


def _table_frame(head: bytes, count: int) -> bytes:
    """A frame of the same kind with only a table of lengths."""
    start = bytes([0xFF, head[1] | 1, 0x90 | head[2] & 0x0C, head[3]])  # without a checksum, of a middle bitrate
    frame = start.ljust(_data_offset(head[1], head[3]), b"\0") + b"Xing\0\0\0\1" + count.to_bytes(4, "big")
    return frame.ljust(FRAME[start[1] << 8 | start[2]], b"\0")


def _has_table(head: bytes) -> bool:
    """Whether a frame with these first bytes has a table of lengths."""
    return bool(LENGTHS.match(head, _data_offset(head[1], head[3])))


def _data_offset(second: int, fourth: int) -> int:
    """The offset of the data in a frame of layer III, after header and side information."""
    mono = fourth >= 0xC0
    return 4 + ((17 if mono else 32) if second & 8 else (9 if mono else 17))


def _runs(file: BinaryFile, start: int, end: int) -> Iterator[_Run]:
    """Find runs of frames; a new one begins at a table of lengths."""
    limit, kind = start + MAX_OFFSET, None
    for _ in range(MAX_GAPS + 1):
        if start >= end:
            return
        first = _first(file, start, end if kind else min(end, limit), kind)
        if first is None:
            return
        start = first + 1
        for run in _run(file, first, end):
            yield run
            start, kind = run.end, run.kind


def _first(file: BinaryFile, start: int, end: int, kind: int | None) -> int | None:
    """The first frame from `start` on: others follow it, or it is the last of the file and of a known kind."""
    tries = 0
    for place, window in byte_ranges.windows(file, start, end, overlap=MIN_FRAMES * MAX_FRAME_BYTES):
        at_end = place + len(window) >= end
        for match in SYNC.finditer(window):
            if match.start() > len(window) - MIN_FRAMES * MAX_FRAME_BYTES and not at_end:
                break  # complete in the next window
            if _is_first(window, match.start(), kind, at_end=at_end):
                return place + match.start()
            tries += 1
        if tries > MAX_TRIES:
            return None
    return None


def _is_first(window: bytes, position: int, kind: int | None, *, at_end: bool) -> bool:
    """Whether `MIN_FRAMES` frames of one kind begin at a position."""
    own = None
    for _ in range(MIN_FRAMES):
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
    """Version, layer, sample rate, bitrate of layers I and II, and mono or not, as one number."""
    return (second & 0x1E) << 8 | (third & (0x0C if second & 6 == 2 else 0xFC)) << 1 | (fourth >= 0xC0)


def _run(file: BinaryFile, start: int, end: int) -> Iterator[_Run]:
    """Contiguous frames from `start` on, split where their kind changes or a file begins."""
    position, frames, begin, kind = start, 0, start, -1
    for base, window in byte_ranges.windows(file, start, end, overlap=MAX_FRAME_BYTES):
        last = base + len(window) >= end
        offset = position - base
        while offset + MAX_FRAME_BYTES <= len(window) or (last and offset + 4 <= len(window)):
            second, third, fourth = window[offset + 1], window[offset + 2], window[offset + 3]
            size = FRAME[second << 8 | third] if window[offset] == 0xFF else 0
            if not size or base + offset + size > end:
                last = True
                break
            own, side = _kind(second, third, fourth), offset + _data_offset(second, fourth)
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

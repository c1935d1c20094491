"""Ogg files (RFC 3533): pages, logical streams, chains of them.

In: an Ogg file. Out: one stream for each link of the chain, without damaged pages and without other streams beside it.
Knows nothing of: codecs, but for how their first packet begins.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import SEEK_END
from itertools import pairwise

from moodfield.decoding import byte_ranges, flac
from moodfield.decoding.byte_ranges import BinaryFile, Piece, Pieces, Stream

CAPTURE = re.compile(b"OggS\x00")
CODECS = {b"\x01vorbis": "ogg", b"OpusHead": "ogg", b"\x7fFLAC": "flac"}
"""how the first packet of a stream begins → the format that its decoder gets"""
HEAD = 27
"""bytes of a page before its table of segments, which has up to 255 more"""
NO_POSITION, FAR = 2**64 - 1, 2**40
"""the position of a page on which no packet ends, and one beyond any music"""
FLAC_MAPPING = 9
"""bytes of the first packet of Ogg FLAC before what is a FLAC file"""
MOST_BAD = 1_000
"""damaged pages in a row; what follows more of them is not searched"""
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class _Link:
    """Streams that begin together, by serial number."""

    pages: dict[int, list[Piece]] = field(default_factory=dict)
    positions: dict[int, list[int]] = field(default_factory=dict)
    bodies: dict[int, list[Piece]] = field(default_factory=dict)
    formats: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Page:
    start: int
    end: int
    body: int
    serial: int
    position: int
    begins: bool


def streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """One stream for each link of a chain: the first that has a known codec, else all of them together."""
    links, heads = [_Link()], True
    for page in _pages(file, start, end):
        if isinstance(page, str):
            links[-1].faults.append(page)
            continue
        if page.begins and not heads:
            links.append(_Link())
        heads, link = page.begins, links[-1]
        if page.begins:
            packet = byte_ranges.at(file, page.body, 8)
            link.formats[page.serial] = next((to for begin, to in CODECS.items() if packet.startswith(begin)), "other")
        link.pages.setdefault(page.serial, []).append((page.start, page.end))
        link.positions.setdefault(page.serial, []).append(page.position)
        link.bodies.setdefault(page.serial, []).append((page.body, page.end))
    return [_stream(file, link) for link in links if link.pages]


def _stream(file: BinaryFile, link: _Link) -> Stream:
    faults = tuple(link.faults)
    for serial, kind in link.formats.items():
        if kind == "ogg":
            return Stream(kind, _untrimmed(file, link.pages[serial], link.positions[serial]), faults)
        if kind == "flac":
            (first, stop), *rest = link.bodies[serial]
            below = byte_ranges.joined([(int(first) + FLAC_MAPPING, int(stop)), *rest])
            inside = Pieces(file, below)
            found = flac.stream(inside, 0, inside.seek(0, SEEK_END))
            return Stream(found.format, byte_ranges.within(found.pieces, below), faults, found.samples)
    return Stream("other", byte_ranges.joined(sorted(page for pages in link.pages.values() for page in pages)), faults)


def _pages(file: BinaryFile, start: int, end: int) -> Iterator[_Page | str]:
    """Every page, or what is wrong with the bytes where one should be."""
    bad = 0
    while start < end:
        if bad > MOST_BAD:
            yield f"the {end - start} bytes from byte {start} on are no Ogg pages"
            return
        bad += 1
        head = byte_ranges.at(file, start, HEAD + 255)
        count = head[26] if len(head) >= HEAD else 0
        size = HEAD + count + sum(head[HEAD : HEAD + count])
        if not CAPTURE.match(head) or len(head) < HEAD:
            following = byte_ranges.find(file, start + 1, end, CAPTURE)
            yield f"{following - start} bytes at byte {start} are no Ogg page"
            start = following
            continue
        page = byte_ranges.at(file, start, size)
        if size == len(page) and _is_intact(page):
            serial, position = (int.from_bytes(page[at : at + size], "little") for at, size in ((14, 4), (6, 8)))
            yield _Page(start, start + size, start + HEAD + count, serial, position, bool(page[5] & 2))
            start, bad = start + size, 0
            continue
        following = byte_ranges.find(file, start + 1, end, CAPTURE)
        if size > len(page) and following == end:
            yield f"it is cut off in the middle of an Ogg page, at byte {start}"
        else:
            yield f"the Ogg page at byte {start} is damaged"
        start = following


def _untrimmed(file: BinaryFile, pages: list[Piece], positions: list[int]) -> tuple[Piece, ...]:
    """Pages whose last one has a position beyond all others: by it libsndfile knows where the music ends."""
    known, last = [position for position in positions if position != NO_POSITION], pages[-1]
    rises = all(before <= after for before, after in pairwise(known)) and len(set(known)) > 1
    if isinstance(last, bytes) or (rises and positions[-1] != NO_POSITION):
        return byte_ranges.joined(pages)
    page = byte_ranges.at(file, last[0], last[1] - last[0])
    page = page[:6] + FAR.to_bytes(8, "little") + page[14:]
    return (*byte_ranges.joined(pages[:-1]), page[:22] + _checksum(page).to_bytes(4, "little") + page[26:])


def _is_intact(page: bytes) -> bool:
    """Whether a page has the checksum that it states."""
    return _checksum(page) == int.from_bytes(page[22:26], "little")


def _checksum(page: bytes) -> int:
    """The CRC-32 of a page, whose bits come in the other order than zlib's."""
    found = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(found.to_bytes(4, "big").translate(REVERSED), "little")

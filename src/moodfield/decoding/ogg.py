"""Ogg files (RFC 3533): one stream per link of a chain, without damaged pages and other streams."""

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
"""formats by the beginning of the first packet of a stream"""
HEAD = 27
"""bytes of a page before its segment table, which has up to 255 bytes"""
NO_POSITION, FAR = 2**64 - 1, 2**40
"""the position of a page on which no packet ends, and one beyond any real one"""
FLAC_MAPPING = 9
"""bytes of the first packet of Ogg FLAC before the FLAC stream"""
MAX_BAD = 10_000
"""damaged pages after which the search ends"""
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class _Link:
    """Streams that begin together: pages, positions, bodies and formats by serial number."""

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
    """One stream for each link of a chain: the first with a known codec, else all of them together."""
    links, heads = [_Link()], True
    for page in _pages(file, start, end):
        if isinstance(page, str):
            links[-1].faults.append(page)
            continue
        if page.begins and not heads:
            links.append(_Link())
        heads, link = page.begins, links[-1]
        if page.begins:
            packet = byte_ranges.read_at(file, page.body, 8)
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
            body = byte_ranges.merge([(int(first) + FLAC_MAPPING, int(stop)), *rest])
            inside = Pieces(file, body)
            stream = flac.stream(inside, 0, inside.seek(0, SEEK_END))
            return Stream(stream.format, byte_ranges.translate(stream.pieces, body), faults, stream.samples)
    return Stream("other", byte_ranges.merge(sorted(page for pages in link.pages.values() for page in pages)), faults)


def _pages(file: BinaryFile, start: int, end: int) -> Iterator[_Page | str]:
    """Every page, or a message about bytes that are not an intact page."""
    bad = 0
    while start < end:
        if bad > MAX_BAD:
            yield f"the {end - start} bytes from byte {start} on are not Ogg pages"
            return
        head = byte_ranges.read_at(file, start, HEAD + 255)
        count = head[26] if len(head) >= HEAD else 0
        size = HEAD + count + sum(head[HEAD : HEAD + count])
        if not CAPTURE.match(head) or len(head) < HEAD:
            bad += 1
            following = byte_ranges.find(file, start + 1, end, CAPTURE)
            yield f"{following - start} bytes at byte {start} are not an Ogg page"
            start = following
            continue
        page = byte_ranges.read_at(file, start, size)
        if size == len(page) and _is_intact(page):
            serial, position = (int.from_bytes(page[at : at + size], "little") for at, size in ((14, 4), (6, 8)))
            yield _Page(start, start + size, start + HEAD + count, serial, position, bool(page[5] & 2))
            start += size
            continue
        bad += 1
        following = byte_ranges.find(file, start + 1, end, CAPTURE)
        if size > len(page) and following == end:
            yield f"it is cut off in the middle of an Ogg page, at byte {start}"
        else:
            yield f"the Ogg page at byte {start} is damaged"
        start = following


def _untrimmed(file: BinaryFile, pages: list[Piece], positions: list[int]) -> tuple[Piece, ...]:
    """Merge pages, with a last position beyond all others if theirs are wrong: libsndfile stops at it."""
    stated, last = [position for position in positions if position != NO_POSITION], pages[-1]
    rises = all(before <= after for before, after in pairwise(stated)) and len(set(stated)) > 1
    if isinstance(last, bytes) or (rises and positions[-1] != NO_POSITION):
        return byte_ranges.merge(pages)
    page = byte_ranges.read_at(file, last[0], last[1] - last[0])
    page = page[:6] + FAR.to_bytes(8, "little") + page[14:]
    return (*byte_ranges.merge(pages[:-1]), page[:22] + _checksum(page).to_bytes(4, "little") + page[26:])


def _is_intact(page: bytes) -> bool:
    """Whether the checksum of a page is correct."""
    return _checksum(page) == int.from_bytes(page[22:26], "little")


def _checksum(page: bytes) -> int:
    """The CRC-32 of a page, with the bits in reverse order of zlib's."""
    crc = zlib.crc32((page[:22] + bytes(4) + page[26:]).translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "big").translate(REVERSED), "little")

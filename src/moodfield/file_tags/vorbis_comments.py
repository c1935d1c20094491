"""Vorbis comments in FLAC and Ogg files; comments of other fields stay, even if they are no UTF-8."""

import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from mutagen import flac, oggflac, oggopus, oggspeex, oggtheora, oggvorbis
from mutagen._vorbis import VComment
from mutagen.ogg import OggPage

from moodfield.errors import FileTagsError
from moodfield.file_tags import tag_file
from moodfield.file_tags.fields import Field
from moodfield.file_tags.tag_file import TagFile

CODECS = {
    oggvorbis.OggVorbis: (b"\x01vorbis", 7),
    oggopus.OggOpus: (b"OpusHead", 8),
    oggtheora.OggTheora: (b"\x80theora", 7),
    oggspeex.OggSpeex: (b"Speex   ", 0),
    oggflac.OggFLAC: (b"\x7fFLAC", 4),
}
"""kinds of Ogg files → how their stream begins, and bytes before the comments in its second packet"""
VORBIS_HEADERS = 3
"""packets before audio in a Vorbis stream"""
COMMENT_BLOCK, LAST_BLOCK = 4, 0x80
"""of FLAC: the kind of a block with comments, and the flag of the last block"""


class VorbisComments(TagFile):
    """Vorbis comments, in FLAC, Ogg Vorbis, Opus and other Ogg files."""

    def __init__(self, path: Path, file: Any) -> None:
        has_comments = file.tags is not None
        super().__init__(path, file)
        self._vendor, self._comments = self.tags.vendor.encode(), list[bytes]()
        if has_comments:
            with path.open("rb") as stream:
                packet = _flac_block(stream) if isinstance(file, flac.FLAC) else _ogg_packet(stream, file)
            self._vendor, self._comments = _parse(packet, path)
        is_flac = isinstance(file, flac.FLAC)
        self.tags.write = partial(self._render, not is_flac)  # mutagen's changes what is no UTF-8, and drops comments

    def read(self, field: Field) -> tuple[str, ...]:
        """The texts of a field; none if the file does not have it."""
        texts = [comment.partition(b"=")[2] for comment in self._comments if _is_of(comment, field)]
        return tuple(text.decode("utf-8", "replace") for text in texts if text)

    def change(self, field: Field, texts: Sequence[str]) -> None:
        """Give a field other texts; without any it is removed."""
        places = [place for place, comment in enumerate(self._comments) if _is_of(comment, field)]
        first = places[0] if places else len(self._comments)
        key = self._comments[first].partition(b"=")[0] if places else field.name.encode()
        rest = [comment for comment in self._comments[first:] if not _is_of(comment, field)]
        self._comments[first:] = [*(key + b"=" + text.encode() for text in texts), *rest]

    def others(self, changed: Sequence[Field]) -> dict[str, bytes]:
        """Digests of everything in the tags but these fields."""
        comments = [comment for comment in self._comments if not any(_is_of(comment, field) for field in changed)]
        blocks = [
            (block.code, block.write())
            for block in getattr(self.file, "metadata_blocks", [])
            if not isinstance(block, VComment | flac.Padding)
        ]
        ordered = enumerate([self._vendor, *comments])
        return {"comments": tag_file.digest(ordered), "blocks": tag_file.digest(enumerate(blocks))}

    def save(self) -> None:
        """Write the tags into the file, which is not atomic."""
        page = _find_joined_page(self.path) if isinstance(self.file, oggvorbis.OggVorbis) else None
        if page is None:
            super().save()
            return
        joined = OggPage()
        joined.packets = [b"\x03vorbis" + self._render(has_framing=True), *page.packets[1:]]
        joined.position = page.position
        with self.path.open("r+b") as stream:
            OggPage.replace(stream, [page], [joined])

    def _render(self, has_framing: bool, framing: bool | None = None) -> bytes:  # noqa: FBT001 (as mutagen calls it)
        """The packet, with a bit of framing at its end if mutagen wants one, or by default."""
        parts = [struct.pack("<I", len(self._vendor)), self._vendor, struct.pack("<I", len(self._comments))]
        for comment in self._comments:
            parts += [struct.pack("<I", len(comment)), comment]
        return b"".join(parts) + (b"\1" if (has_framing if framing is None else framing) else b"")


def _is_of(comment: bytes, field: Field) -> bool:
    """Whether a comment is of a field, in any case."""
    key, equals, _ = comment.partition(b"=")
    return bool(equals) and key.lower() == field.name.encode().lower()


def _parse(packet: bytes, path: Path) -> tuple[bytes, list[bytes]]:
    """The vendor and the comments of a packet; raises `FileTagsError` if it is damaged."""
    texts, position = list[bytes](), 0
    try:
        for part in range(2):  # the vendor, then the comments
            (count,) = struct.unpack_from("<I", packet, position) if part else (1,)
            position += 4 * part
            for _ in range(count):
                (length,) = struct.unpack_from("<I", packet, position)
                texts.append(struct.unpack_from(f"{length}s", packet, position + 4)[0])
                position += 4 + length
    except struct.error as error:
        raise FileTagsError(f"{path} has damaged tags, which would be lost; it is as it was") from error
    return texts[0], texts[1:]


def _flac_block(stream: BinaryIO) -> bytes:
    """The block of a FLAC file that has the comments; an ID3v2 tag may be before it."""
    head = stream.read(10)
    start = 10 + tag_file.integer(head[6:], 7) if head[:3] == b"ID3" else 0
    stream.seek(start + len(b"fLaC"))
    while len(head := stream.read(4)) == 4:
        content = stream.read(int.from_bytes(head[1:]))
        if head[0] & ~LAST_BLOCK == COMMENT_BLOCK:
            return content
        if head[0] & LAST_BLOCK:
            break
    return b""


def _ogg_packet(stream: BinaryIO, file: Any) -> bytes:
    """The comments in the second packet of an Ogg stream of the kind of the file."""
    begin, skipped = CODECS[type(file)]
    serial, pages = None, list[OggPage]()
    while not pages or not (pages[-1].complete or len(pages[-1].packets) > 1):
        page = OggPage(stream)
        if serial is None and page.packets and page.packets[0].startswith(begin):
            serial = page.serial
        elif page.serial == serial:
            pages.append(page)
    return bytes(OggPage.to_packets(pages, strict=False)[0][skipped:])


def _find_joined_page(path: Path) -> OggPage | None:
    """The page that has the comments, the third header, and the first packets of audio of a Vorbis stream.

    Audio should begin on a page of its own; mutagen would divide this one, and decoders then skip other samples. None
    if there is no such page.
    """
    begin, _ = CODECS[oggvorbis.OggVorbis]
    with path.open("rb") as stream:
        serial = None
        while True:
            page = OggPage(stream)
            if page.serial == serial:
                return page if len(page.packets) >= VORBIS_HEADERS else None
            if page.packets and page.packets[0].startswith(begin):
                serial = page.serial

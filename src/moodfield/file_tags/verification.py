"""Verify that two files decode to the same audio."""

import hashlib
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

from moodfield.decoding import c_stderr, decoders, sniffing, sources
from moodfield.decoding.byte_ranges import Pieces, Stream
from moodfield.errors import FileTagsError

BLOCK = 2**20
PAGE_HEADER = 27
"""bytes of the header of an Ogg page, of which the last one is the number of lacing values"""
TAGS_PACKET, HEADER_PACKETS = 1, 2
"""index of the packet with the tags, and packets before audio in Opus; Vorbis has one more"""
MAX_LACING = 255
"""a smaller lacing value ends a packet"""
DECODING_ERRORS = (
    decoders.DecodingError, decoders.EncodedError, decoders.MissingCodecsError, decoders.UnknownFormatError
)  # fmt: skip


def check_same_audio(before: Path, after: Path) -> None:
    """Raise `FileTagsError` unless two files have the same audio.

    Streams whose bytes are equal, without tags and other things between them, decode to equal samples; of Ogg, packets
    are compared, since pages get other numbers. If the bytes differ, as those of MP4 do, both files are decoded.
    """
    if _encoded(before) != _encoded(after) and _decoded(before) != _decoded(after):
        raise FileTagsError(f"the audio of {before} would change; the file is as it was: please report this")


def _encoded(path: Path) -> bytes:
    """A digest of the bytes of the audio streams of a file, as decoders get them."""
    digest = hashlib.sha256()
    with sources.open_file(path) as file:
        for stream in sniffing.streams(file):
            digest.update(f"{stream.format} {stream.samples}".encode())
            pieces = Pieces(file, stream.pieces)
            for part in _ogg_parts(pieces) if stream.format == "ogg" else iter(partial(pieces.read, BLOCK), b""):
                digest.update(part)
    return digest.digest()


def _ogg_parts(pieces: Pieces) -> Iterator[bytes]:
    """All packets of an Ogg stream but the second one, which has the tags; flags and positions of pages of audio."""
    packet = 0
    while head := pieces.read(PAGE_HEADER):
        lacing = pieces.read(head[-1]) or b""
        first = packet
        body = BytesIO(pieces.read(sum(lacing)) or b"")
        for length in lacing:
            content = body.read(length)
            if packet != TAGS_PACKET:
                yield content
            if length < MAX_LACING:
                packet += 1
                yield b"|"
        if packet > HEADER_PACKETS:
            yield head[6:14]
        if first > HEADER_PACKETS:  # before, a page may be continued or not, as long as the tags are
            yield head[5:6]


def _decoded(path: Path) -> bytes:
    """A digest of the decoded samples of all channels of a file, and of their rates."""
    digest = hashlib.sha256()
    with sources.open_file(path) as file, c_stderr.SUPPRESSED:
        streams: list[Stream] = sniffing.streams(file)
        try:
            for rate, samples in decoders.decode(file, streams, lambda _: None):
                digest.update(f"{rate} {samples.shape[1]}".encode())
                digest.update(samples.tobytes())
        except DECODING_ERRORS as error:
            advice = ', install "moodfield[codecs]"' if isinstance(error, decoders.MissingCodecsError) else ""
            raise FileTagsError(
                f"the audio of {path} cannot be decoded, so not verified{advice}; it is as it was"
            ) from error
    return digest.digest()

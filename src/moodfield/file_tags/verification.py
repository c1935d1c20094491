"""Verify that two files decode to the same audio."""

import hashlib
from pathlib import Path

from moodfield.decoding import c_stderr, decoders, sniffing, sources
from moodfield.decoding.byte_ranges import Pieces, Stream
from moodfield.errors import FileTagsError

BLOCK = 2**20
DECODING_ERRORS = (
    decoders.DecodingError, decoders.EncodedError, decoders.MissingCodecsError, decoders.UnknownFormatError
)  # fmt: skip


def check_same_audio(before: Path, after: Path) -> None:
    """Raise `FileTagsError` unless two files have the same audio.

    Streams whose bytes are equal, without tags and other things between them, decode to equal samples. If the bytes
    differ, as those of Ogg pages with other numbers do, both files are decoded.
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
            while block := pieces.read(BLOCK):
                digest.update(block)
    return digest.digest()


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

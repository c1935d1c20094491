"""Detection of the format of a file, and of its streams, by content."""

from io import SEEK_END

from moodfield.decoding import byte_ranges, flac, mpeg, ogg, wav
from moodfield.decoding.byte_ranges import BinaryFile, Stream

MAX_STREAMS = 1_000
"""streams of one file; a file that seems to have more is passed to a decoder as a whole"""
MPEG_VIDEO = (b"\0\0\1\xba", b"\0\0\1\xb3")
"""beginnings of MPEG program streams and of video"""
OTHERS = (b"FORM", b"RIFF", b"RIFX", b"caff", b"riff", b".snd", b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75", b"MAC ", b"wvpk")
"""beginnings of files without bare MPEG frames, though some of their bytes may look like frames"""


def streams(file: BinaryFile) -> list[Stream]:
    """Find the streams of a file, in order: one of format `other` if its structure is unknown.

    Raises the `OSError` of the file.
    """
    end = file.seek(0, SEEK_END)
    recognised = _known_streams(file, byte_ranges.after_id3(file, 0), end)
    return recognised if 0 < len(recognised) <= MAX_STREAMS else [Stream("other", ((0, end),))]


def _known_streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """The streams of formats whose structure is known."""
    head = byte_ranges.read_at(file, start, 12)
    if head.startswith(b"OggS"):
        return ogg.streams(file, start, end)
    if head.startswith(b"fLaC"):
        return flac.streams(file, start, end)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:] == b"WAVE":
        return wav.streams(file, start, end)
    if head.startswith(b".snd\0\0\0"):  # AU, with an unknown length in place of the stated one
        return [Stream("other", (head[:8] + b"\xff" * 4, (start + 12, end)))]
    transport = all(byte_ranges.read_at(file, start + offset, 1) == b"G" for offset in (0, 188, 376))
    if head.startswith(MPEG_VIDEO + OTHERS) or head[4:8] == b"ftyp" or transport:
        return []
    return mpeg.streams(file, start, end, max_streams=MAX_STREAMS)

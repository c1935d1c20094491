"""What a file holds, by its first bytes.

In: a binary file. Out: the streams in it.
Knows nothing of: names of files, and what they promise.
"""

from io import SEEK_END

from moodfield.decoding import byte_ranges, flac, mpeg, ogg, wav
from moodfield.decoding.byte_ranges import BinaryFile, Stream

MOST_STREAMS = 1_000
"""in one file; one that seems to have more is left to a decoder as a whole"""
OTHERS = (
    b"\0\0\1\xba",
    b"\0\0\1\xb3",
    b"FORM",
    b"RIFF",
    b"RIFX",
    b"caff",
    b"riff",
    b".snd",
    b"\x1aE\xdf\xa3",
    b"\x30\x26\xb2\x75",
    b"MAC ",
    b"wvpk",
)
"""how files begin that hold no bare MPEG frames, though some bytes in them may look like it"""


def streams(file: BinaryFile) -> list[Stream]:
    """The streams of a file, in order: one of format `other` if its structure is not known here.

    Raises the `OSError` of the file.
    """
    end = file.seek(0, SEEK_END)
    found = _streams(file, byte_ranges.after_id3(file, 0), end)
    return found if 0 < len(found) <= MOST_STREAMS else [Stream("other", ((0, end),))]


def _streams(file: BinaryFile, start: int, end: int) -> list[Stream]:
    """Those whose structure is known here."""
    head = byte_ranges.at(file, start, 12)
    if head.startswith(b"OggS"):
        return ogg.streams(file, start, end)
    if head.startswith(b"fLaC"):
        return flac.streams(file, start, end)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:] == b"WAVE":
        return wav.streams(file, start, end)
    if head.startswith(b".snd\0\0\0"):  # AU: of unknown length, whatever it states
        return [Stream("other", (head[:8] + b"\xff" * 4, (start + 12, end)))]
    transport = (
        head[:1] == b"G"
        and byte_ranges.at(file, start + 188, 1) == b"G"
        and byte_ranges.at(file, start + 376, 1) == b"G"
    )
    if head.startswith(OTHERS) or head[4:8] == b"ftyp" or transport:
        return []
    return mpeg.streams(file, start, end, most=MOST_STREAMS)

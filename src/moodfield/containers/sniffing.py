"""What a file holds, by its first bytes.

In: a binary file. Out: the streams in it.
Knows nothing of: names of files, and what they promise.
"""

from io import SEEK_END

from moodfield.containers import flac, mpeg, ogg, pieces, wav
from moodfield.containers.pieces import BinaryFile, Stream

OTHERS = (b"FORM", b"RIFF", b"RIFX", b"caff", b"riff", b".snd", b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75", b"MAC ", b"wvpk")
"""how files begin that hold no bare MPEG frames, though some bytes in them may look like it"""


def streams(file: BinaryFile) -> list[Stream]:
    """The streams of a file, in order: one of format `other` if its structure is not known here.

    Raises the `OSError` of the file.
    """
    end = file.seek(0, SEEK_END)
    start = pieces.after_id3(file, 0)
    head = pieces.at(file, start, 12)
    if head.startswith(b"OggS"):
        return ogg.streams(file, start, end) or [Stream("other", ((0, end),))]
    if head.startswith(b"fLaC"):
        return flac.streams(file, start, end)
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        return [wav.stream(file, start, end)]
    if head.startswith(b".snd\0\0\0") and head[8:] == bytes(4):  # an AU file of no length: of an unknown one
        return [Stream("other", (head[:8] + b"\xff" * 4, (start + 12, end)))]
    known = head.startswith(OTHERS) or head[4:8] == b"ftyp"
    return ([] if known else mpeg.streams(file, start, end)) or [Stream("other", ((0, end),))]

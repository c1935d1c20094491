"""The title, artist, album, genre and year of an audio file, from its own metadata."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import soundfile as sf

from moodfield.decoding import c_stderr, decoders

VARIOUS = frozenset(("various artists", "various", "va", "unknown artist", "unknown album", "unknown", "untitled"))
"""placeholders, which are not the name of an artist"""
YEAR = re.compile(r"\b(?:1[89]|20)\d\d")
"""a year in a date"""


@dataclass(frozen=True)
class Metadata:
    """Metadata of a file; empty strings where it has none."""

    artist: str = ""
    """name of the artist"""
    album: str = ""
    """name of the album"""
    title: str = ""
    """title of the track"""
    genre: str = ""
    """genre, as the file names it"""
    year: int | None = None
    """year of the recording or publication"""


def read(path: str | Path) -> Metadata:
    """Read the metadata of a file, by libsndfile or, if it is installed, PyAV; empty if there are none.

    Placeholders such as *Various Artists* count as none. Raises nothing for files that cannot be read.
    """
    values: dict[str, str] = {}
    with suppress(sf.SoundFileError, OSError, ValueError, TypeError), c_stderr.SUPPRESSED, sf.SoundFile(path) as file:
        values = file.copy_metadata()
    if not values.get("artist"):
        values |= _by_ffmpeg(path)
    artist, album, title, genre = (_clean(values.get(name, "")) for name in ("artist", "album", "title", "genre"))
    year = YEAR.search(values.get("date", ""))
    return Metadata(artist, album, title, genre, int(year[0]) if year else None)


def _by_ffmpeg(path: str | Path) -> dict[str, str]:
    """The metadata of a file, and of its first audio stream, by FFmpeg; none without PyAV."""
    try:
        import av  # optional: its wheels carry GPL codecs
    except ImportError:
        return {}
    options = {"format_whitelist": decoders.FORMATS, "protocol_whitelist": "file"}
    url = f"file:{path}"
    with (
        suppress(av.FFmpegError, OSError, ValueError),
        av.open(url, metadata_errors="replace", options=options) as file,
    ):
        streams = file.streams.audio
        both = (streams[0].metadata if streams else {}), file.metadata
        return {name.lower(): value for values in both for name, value in values.items()}
    return {}


def _clean(name: str) -> str:
    """A name without needless blanks and broken characters, or nothing for a placeholder."""
    name = " ".join(name.encode("utf-8", "replace").decode().replace("\0", " ").split())
    return "" if name.casefold() in VARIOUS else name

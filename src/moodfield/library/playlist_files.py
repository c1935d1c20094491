"""Files of playlists: M3U8, XSPF, and rules for Navidrome's smart playlists."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from moodfield import files
from moodfield.errors import UsageError
from moodfield.library.playlists import Request
from moodfield.library.tracks import LibraryTrack

XSPF_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<playlist version="1" xmlns="http://xspf.org/ns/0/">'
M3U, XSPF, NSP = (b"#extm3u",), (XSPF_HEAD.lower().encode(),), (b'{\n  "name"',)
KINDS = {".m3u8": M3U, ".m3u": M3U, ".xspf": XSPF, ".nsp": NSP}
"""suffixes of playlists → how such files begin, in lower case"""
SECONDS_PER_TRACK = 240
"""duration that a track of a smart playlist is assumed to have"""


def check(path: Path) -> None:
    """Raise `OutputError` or `UsageError` for a path that cannot be a playlist, or would replace another file."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{path} has no suffix of a playlist; name it like evening{', evening'.join(KINDS)}")
    files.check_output(path, kind=KINDS[path.suffix.lower()])


def write(path: Path, tracks: Sequence[LibraryTrack], *, absolute: bool = False) -> None:
    """Write a playlist of tracks as M3U8 or XSPF, by the suffix, atomically.

    Args:
        path: The file.
        tracks: Tracks in their order.
        absolute: Whether paths are absolute, and not relative to the folder of the playlist.
    """
    folder = path.absolute().parent
    places = [track.path if absolute else os.path.relpath(track.path, folder) for track in tracks]
    text = _xspf(path.stem, tracks, places) if path.suffix.lower() == ".xspf" else _m3u(tracks, places)
    files.write_output(path, text.encode("utf-8", "surrogateescape"), kind=KINDS[path.suffix.lower()])


def m3u8(tracks: Sequence[LibraryTrack]) -> bytes:
    """A playlist of tracks as M3U8 with absolute paths."""
    return _m3u(tracks, [track.path for track in tracks]).encode("utf-8", "surrogateescape")


def write_rules(path: Path, request: Request) -> None:
    """Write a smart playlist for Navidrome: rules for the tag MOOD of files, which it applies itself."""
    rules = [
        *({"contains": {"mood": tag}} for tag in request.tags),
        *({"notContains": {"mood": tag}} for tag in request.without),
    ]
    values = {
        "name": path.stem,
        "comment": "by moodfield",
        "all": rules,
        "sort": "random",
        "limit": max(1, round(request.seconds / SECONDS_PER_TRACK)),
    }
    files.write_output(path, (json.dumps(values, indent=2) + "\n").encode(), kind=NSP)


def _m3u(tracks: Sequence[LibraryTrack], places: Sequence[str]) -> str:
    """Extended M3U. A path that begins with `#` would be a comment, and line breaks would end it."""
    lines = ["#EXTM3U"]
    for track, place in zip(tracks, places, strict=True):
        label = " ".join(track.label.split())
        lines.append(f"#EXTINF:{round(track.duration or -1)},{label}")
        lines.append(f".{os.sep}{place}" if place.startswith("#") else place)
    return "".join(f"{line}\n" for line in lines)


def _xspf(name: str, tracks: Sequence[LibraryTrack], places: Sequence[str]) -> str:
    """XSPF, version 1."""
    lines = [XSPF_HEAD, f"  <title>{_xml(name)}</title>", "  <trackList>"]
    for track, place in zip(tracks, places, strict=True):
        uri = quote(os.fsencode(place.replace(os.sep, "/")))
        lines += ["    <track>", f"      <location>{'file://' if os.path.isabs(place) else ''}{uri}</location>"]  # noqa: PTH117
        for element, value in (("title", track.title), ("creator", track.artist), ("album", track.album)):
            if value:
                lines.append(f"      <{element}>{_xml(value)}</{element}>")
        if track.duration:
            lines.append(f"      <duration>{round(1000 * track.duration)}</duration>")
        lines.append("    </track>")
    return "\n".join([*lines, "  </trackList>", "</playlist>", ""])


def _xml(text: str) -> str:
    """Text for XML, which allows no control characters and no broken ones."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))

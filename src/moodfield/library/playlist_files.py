"""Files of playlists: M3U8, XSPF, and rules for Navidrome's smart playlists."""

import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from moodfield import files
from moodfield.errors import UsageError
from moodfield.library.playlists import Request
from moodfield.library.tracks import LibraryTrack

M3U_HEAD = "#EXTM3U\n# by moodfield\n"
XSPF_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- by moodfield -->
<playlist version="1" xmlns="http://xspf.org/ns/0/">
"""
NSP_HEAD = '{\n  "comment": "by moodfield"'
M3U, XSPF, NSP = ((head.lower().encode(),) for head in (M3U_HEAD, XSPF_HEAD, NSP_HEAD))
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""letters that XML cannot have"""
KINDS = {".m3u8": M3U, ".m3u": M3U, ".xspf": XSPF, ".nsp": NSP}
"""suffixes of playlists → how those of moodfield begin, in lower case; it replaces no others"""
BREAK = re.compile(r"[\r\n]")
SECONDS_PER_TRACK = 240
"""duration that a track of a smart playlist is assumed to have"""


def check(path: Path) -> None:
    """Raise `OutputError` or `UsageError` for a path that cannot be a playlist, or would replace another file."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{path} has no suffix of a playlist; name it like evening{', evening'.join(KINDS)}")
    files.check_output(path, kind=KINDS[path.suffix.lower()])


def write(path: Path, tracks: Sequence[LibraryTrack], *, absolute: bool = False) -> list[LibraryTrack]:
    """Write a playlist of tracks as M3U8 or XSPF, by the suffix, atomically.

    Args:
        path: The file.
        tracks: Tracks in their order.
        absolute: Whether paths are absolute, and not relative to the folder of the playlist.

    Returns:
        Tracks that are left out: an M3U has no way to write a path with a line break.
    """
    folder, is_xspf = path.absolute().parent, path.suffix.lower() == ".xspf"
    left_out = [] if is_xspf else [track for track in tracks if BREAK.search(track.path)]
    kept = [track for track in tracks if track not in left_out]
    places = [track.path if absolute else os.path.relpath(track.path, folder) for track in kept]
    text = _xspf(path.stem, kept, places) if is_xspf else _m3u(kept, places)
    files.write_output(path, text.encode("utf-8", "surrogateescape"), kind=KINDS[path.suffix.lower()])
    return left_out


def m3u8(tracks: Sequence[LibraryTrack]) -> bytes:
    """A playlist of tracks as M3U8 with absolute paths; those with a line break are left out, as in `write`."""
    kept = [track for track in tracks if not BREAK.search(track.path)]
    return _m3u(kept, [track.path for track in kept]).encode("utf-8", "surrogateescape")


def write_rules(path: Path, request: Request, themes: Collection[str]) -> None:
    """Write a smart playlist for Navidrome: rules for the tags MOOD and THEME of files, which it applies itself."""
    rules = [
        {operator: {"theme" if tag in themes else "mood": tag}}
        for operator, tags in (("is", request.tags), ("isNot", request.without))
        for tag in tags
    ]
    values = {
        "comment": "by moodfield",
        "name": path.stem,
        "all": rules,
        "sort": "random",
        "limit": max(1, round(request.seconds / SECONDS_PER_TRACK)),
    }
    files.write_output(path, (json.dumps(values, indent=2) + "\n").encode(), kind=NSP)


def _m3u(tracks: Sequence[LibraryTrack], places: Sequence[str]) -> str:
    """Extended M3U. A path that begins with `#` would be a comment, and line breaks would end it."""
    lines: list[str] = []
    for track, place in zip(tracks, places, strict=True):
        label = " ".join(track.label.split())
        lines.append(f"#EXTINF:{round(track.duration or -1)},{label}")
        lines.append(f".{os.sep}{place}" if place.startswith("#") else place)
    return M3U_HEAD + "".join(f"{line}\n" for line in lines)


def _xspf(name: str, tracks: Sequence[LibraryTrack], places: Sequence[str]) -> str:
    """XSPF, version 1."""
    lines = [f"  <title>{_xml(name)}</title>", "  <trackList>"]
    for track, place in zip(tracks, places, strict=True):
        uri = quote(os.fsencode(place.replace(os.sep, "/")))
        lines += ["    <track>", f"      <location>{'file://' if os.path.isabs(place) else ''}{uri}</location>"]  # noqa: PTH117
        for element, value in (("title", track.title), ("creator", track.artist), ("album", track.album)):
            if value:
                lines.append(f"      <{element}>{_xml(value)}</{element}>")
        if track.duration:
            lines.append(f"      <duration>{round(1000 * track.duration)}</duration>")
        lines.append("    </track>")
    return XSPF_HEAD + "\n".join([*lines, "  </trackList>", "</playlist>", ""])


def _xml(text: str) -> str:
    """Text for XML, with U+FFFD for what it cannot have."""
    return escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))

"""The rows of a library: all that is known of a track as plain values, for JSON and tables."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import numpy as np

from moodfield.library.decided import DecidedTracks
from moodfield.library.tracks import LibraryTrack

FIELDS: Mapping[str, str] = {
    "path": "absolute path",
    "title": "title, or the name of the file",
    "artist": "artist; empty if unknown",
    "album": "album; empty if unknown",
    "genre": "genre, as the file names it; empty if unknown",
    "year": "year; null if unknown",
    "duration": "seconds; null for a file that could not be read",
    "size": "bytes",
    "modified": "when the file was changed, ISO 8601 in UTC",
    "sha256": "SHA-256 of the file; null if it could not be read",
    "missing": "when it was noticed that the file has gone, ISO 8601 in UTC; null if it is there",
    "error": "null, or an object with `reason`, a short code, and `message`: why the file could not be tagged",
    "model": "name of the model; null if it has not tagged the track, and then all that follows is missing",
    "relative": "whether decisions and evidence are relative to the library",
    "decided": "decided tags, by decreasing evidence",
    "moods": "those that are moods",
    "themes": "those that are themes",
    "added": "tags that a person has added",
    "removed": "tags that a person has removed",
    "scores": "score of every tag, 0 … 1",
    "evidence": "evidence of every tag; 3 and −3 for tags that a person has added and removed",
}
"""the fields of a row, in their order, with their meaning"""


def rows(decided: DecidedTracks) -> Iterator[dict[str, object]]:
    """Rows of all tracks in their order, those that the model has not tagged last; fields as in `FIELDS`."""
    vocabulary, themes = decided.model.vocabulary, frozenset(decided.model.themes)
    scores = np.round(decided.scores.astype(np.float64), 6)
    evidence = np.round(decided.evidence.astype(np.float64), 3)
    for number, track in enumerate(decided.tracks):
        tags, correction = decided.decided(number), decided.correction(number)
        yield of_file(track) | {
            "model": decided.model.name,
            "relative": decided.relative,
            "decided": list(tags),
            "moods": [tag for tag in tags if tag not in themes],
            "themes": [tag for tag in tags if tag in themes],
            "added": sorted(correction.added),
            "removed": sorted(correction.removed),
            "scores": dict(zip(vocabulary, scores[number].tolist(), strict=True)),
            "evidence": dict(zip(vocabulary, evidence[number].tolist(), strict=True)),
        }
    for track in decided.untagged:
        yield of_file(track) | {"model": None}


def of_file(track: LibraryTrack) -> dict[str, object]:
    """The fields of the file, without those of a model."""
    return {
        "path": track.path,
        "title": track.title,
        "artist": track.artist,
        "album": track.album,
        "genre": track.genre,
        "year": track.year,
        "duration": None if track.duration is None else round(track.duration, 3),
        "size": track.size,
        "modified": format_time(track.mtime / 1e9),
        "sha256": track.digest.hex() if track.digest else None,
        "missing": None if track.missing is None else format_time(track.missing),
        "error": None if track.error is None else {"reason": track.reason, "message": track.error},
    }


def format_time(seconds: int | float) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC.

    >>> format_time(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

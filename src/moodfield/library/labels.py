"""Corrections as labels, from which tags are learned."""

import sqlite3
from pathlib import Path

from moodfield.errors import LibraryError
from moodfield.learning.labels import LabelledTrack
from moodfield.library import decided, tracks


def corrected(connection: sqlite3.Connection) -> list[LabelledTrack]:
    """The corrected tracks that are there as labelled tracks, for the tags of any correction.

    A track has the tags that are decided for it, relative to the library, after its corrections: who has corrected a
    track agrees with the rest.

    Raises:
        LibraryError: No track is corrected.
    """
    corrections = tracks.corrections(connection)
    names = {tag for correction in corrections.values() for tag in (*correction.added, *correction.removed)}
    taggings = decided.decide(connection)
    labelled = [
        LabelledTrack(Path(track.path), frozenset(names.intersection(taggings.decided(row))), track.artist)
        for row, track in enumerate(taggings.tracks)
        if track.id in corrections
    ]
    if not labelled:
        raise LibraryError(
            "no track of the library is corrected; do so with: moodfield library correct TRACK --add TAG"
        )
    return labelled

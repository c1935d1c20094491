"""The tracks of a library as those of an HTML report."""

import sqlite3
from collections.abc import Iterator

import numpy as np

from moodfield.errors import LibraryError
from moodfield.library import analysis
from moodfield.library.decided import DecidedTracks
from moodfield.report.track import Reference, Track


def reference(decided: DecidedTracks) -> Reference:
    """What the tracks share: tags, thresholds, and what is usual."""
    model, rule = decided.model, decided.rule
    return Reference(
        model=model.name,
        vocabulary=model.vocabulary,
        theme_vocabulary=model.themes,
        thresholds=rule.thresholds,
        usual=rule.priors if rule.usual is None else rule.usual.scores,
        statistics=rule.usual,
        relative=decided.relative,
        others="the library",
    )


def tracks(decided: DecidedTracks, connection: sqlite3.Connection) -> Iterator[Track]:
    """The tracks with their curves and waveforms, one at a time; corrections count as decisions.

    Raises:
        LibraryError: The curves of a track are damaged.
    """
    query = "SELECT logits, envelope FROM curves WHERE track = ? AND model = ?"
    n_tags = len(decided.model.vocabulary)
    for row, track in enumerate(decided.tracks):
        curves, envelope = connection.execute(query, (track.id, decided.model.id)).fetchone() or (b"", b"")
        if len(curves) not in (0, n_tags * analysis.STEPS):
            raise LibraryError(f"the curves of {track.path} are damaged; run: moodfield library check")
        yield Track(
            source=track.path,
            duration=track.duration or 0.0,
            scores=decided.scores[row],
            evidence=decided.evidence[row],
            is_decided=decided.is_decided[row],
            over_time=analysis.curves(curves) if curves else None,
            levels=np.frombuffer(envelope, np.uint8) / 255 if envelope else None,
            title=track.label if track.artist else "",
        )

"""What the page of a report needs of all its tracks: little of each, so that there may be very many."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from moodfield.report import data
from moodfield.report.track import MANY_TRACKS, Reference, Track


@dataclass(frozen=True, eq=False)
class Collection:
    """The tracks of a report, one item of each list per track."""

    reference: Reference
    """what the tracks share"""
    sources: list[str]
    """paths"""
    titles: list[str]
    """names that are shown; empty: the names of the files"""
    durations: list[float]
    """durations in seconds"""
    encoded: list[str]
    """the values of a track as JSON (see `data.encode_track`)"""
    decided: list[tuple[str, ...]]
    """decided tags, by decreasing evidence"""
    moods: list[str]
    """the strongest mood; the strongest tag if there are no moods"""
    scores: Float32[np.ndarray, "tracks tags"]
    """scores"""

    @classmethod
    def collect(cls, tracks: Iterable[Track], reference: Reference) -> "Collection":
        """Read tracks one at a time, and keep what the page needs of each."""
        names = reference.vocabulary
        candidates = set(reference.moods or range(len(names)))
        collected = cls(reference, [], [], [], [], [], [], np.empty((0, len(names)), np.float32))
        scores = bytearray()
        for track in tracks:
            collected.sources.append(track.source)
            collected.titles.append(track.title)
            collected.durations.append(track.duration)
            collected.encoded.append(data.script(data.encode_track(track, reference)))
            collected.decided.append(tuple(names[tag] for tag in track.decided))
            collected.moods.append(names[next(tag for tag in track.strongest if tag in candidates)])
            scores += np.asarray(track.scores, np.float32).tobytes()
        array = np.frombuffer(scores, np.float32).reshape(-1, len(names))
        return cls(**{**vars(collected), "scores": array})

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def is_large(self) -> bool:
        """Whether there are too many tracks for names on the map and open details."""
        return len(self) > MANY_TRACKS

    @property
    def counts(self) -> "Counter[str]":
        """Number of tracks with each decided tag."""
        return Counter(tag for tags in self.decided for tag in tags)

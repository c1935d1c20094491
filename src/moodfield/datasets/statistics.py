"""Statistics of dataset splits: tracks, hours, tag counts, co-occurrence of tags."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Int64

from moodfield.datasets.mtg_jamendo import Split


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of a split."""

    tracks: int
    """number of tracks"""
    seconds: float
    """total duration by the index"""
    longest: float
    """duration of the longest track in seconds"""
    untagged: int
    """number of tracks without tags"""
    tags: Mapping[str, int]
    """tag → number of tracks that have it, in the order of the vocabulary"""

    @property
    def tags_per_track(self) -> float:
        """Mean number of tags of a track."""
        return sum(self.tags.values()) / self.tracks

    def to_dict(self) -> dict[str, object]:
        """The numbers as plain values, for JSON."""
        return asdict(self) | {"tags_per_track": self.tags_per_track, "tags": dict(self.tags)}


def statistics(split: Split) -> SplitStatistics:
    """Count the tracks, hours and tags of a split.

    Example:
        >>> from moodfield.datasets.mtg_jamendo import Split, Track
        >>> split = Split((Track("a", "a.mp3", 60.0, ("sad",)), Track("b", "b.mp3", 90.0, ())), ("happy", "sad"))
        >>> statistics(split)
        SplitStatistics(tracks=2, seconds=150.0, longest=90.0, untagged=1, tags={'happy': 0, 'sad': 1})

    """
    return SplitStatistics(
        tracks=len(split.tracks),
        seconds=sum(track.seconds for track in split.tracks),
        longest=max(track.seconds for track in split.tracks),
        untagged=sum(not track.tags for track in split.tracks),
        tags=dict(zip(split.vocabulary, split.truth.sum(axis=0).tolist(), strict=True)),
    )


def cooccurrence(*truths: Bool[np.ndarray, "_tracks tags"]) -> Int64[np.ndarray, "tags tags"]:
    """Count the tracks that have both of two tags, over all matrices; the diagonal counts those that have one tag.

    Example:
        >>> cooccurrence(np.array([[True, True], [False, True]]))
        array([[1, 1],
               [1, 2]])

    """
    counts = np.concatenate(truths).astype(np.int64)
    return counts.T @ counts

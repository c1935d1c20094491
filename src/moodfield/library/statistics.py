"""Statistics of a library: tracks, hours, artists and tags."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np

from moodfield.library.decided import DecidedTracks
from moodfield.library.models import StoredModel


class ModelCount(TypedDict):
    """How many tracks a model has tagged; two versions of a model have the same name."""

    name: str
    tracks: int


@dataclass(frozen=True)
class LibraryStatistics:
    """Counts over tracks of a library."""

    tracks: int
    """number of tagged tracks"""
    untagged: int
    """number of tracks that the model has not tagged"""
    failed: int
    """number of those that could not be read"""
    hours: float
    """duration of the tagged tracks"""
    artists: int
    """number of artists that are known"""
    albums: int
    """number of albums that are known"""
    corrected: int
    """number of tracks with corrections"""
    relative: bool
    """whether decisions are relative to the library"""
    tags: dict[str, int]
    """number of tracks with each tag, the commonest first"""
    models: list[ModelCount]
    """models that have tagged tracks, the one with the most of them first"""
    bytes: int
    """size of the database"""

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def count(decided: DecidedTracks, models: Sequence[StoredModel], size: int) -> LibraryStatistics:
    """Count tracks of a library; `size` is that of its database in bytes."""
    counts = decided.is_decided.sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    return LibraryStatistics(
        tracks=len(decided.tracks),
        untagged=len(decided.untagged),
        failed=sum(track.error is not None for track in decided.untagged),
        hours=round(sum(track.duration or 0.0 for track in decided.tracks) / 3600, 2),
        artists=len({track.artist.casefold() for track in decided.tracks if track.artist}),
        albums=len({track.album.casefold() for track in decided.tracks if track.album}),
        corrected=sum(track.id in decided.corrections for track in decided.tracks),
        relative=decided.relative,
        tags={decided.model.vocabulary[tag]: int(counts[tag]) for tag in order if counts[tag]},
        models=[{"name": model.name, "tracks": model.tracks} for model in models if model.tracks],
        bytes=size,
    )

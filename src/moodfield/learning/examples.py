"""Labelled tracks with their embeddings: copies are one track, and tracks of an artist are one group."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

from moodfield import errors
from moodfield.decoding import metadata
from moodfield.errors import DatasetError
from moodfield.learning import labels
from moodfield.learning.embeddings import Embedding
from moodfield.learning.labels import LabelledTrack

MIN_TRACKS = 3
"""tracks with a tag, and without it, that it takes to learn the tag"""
MIN_GROUPS = 3
"""artists, or albums, that it takes for a cross-validation by them"""
MAX_UNLABELLED = 1_000
"""tracks without labels that are used as negatives"""

GroupedBy = Literal["artist", "album", "track"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Tracks to learn from."""

    vocabulary: tuple[str, ...]
    """tags, sorted"""
    truth: Bool[np.ndarray, "tracks tags"]
    """which track has which tag"""
    embeddings: Float32[np.ndarray, "tracks channels"]
    """embedding of every track"""
    groups: tuple[str, ...]
    """group of every track: tracks of a group are not divided in a cross-validation"""
    grouped_by: GroupedBy
    """what the groups are"""


@dataclass(frozen=True)
class Completed:
    """Labelled tracks, and unlabelled ones that are negatives."""

    tracks: tuple[LabelledTrack, ...]
    """all of them"""
    n_unlabelled: int
    """how many of them are unlabelled"""
    n_available: int
    """how many unlabelled tracks there are"""


def add_unlabelled(labelled: Sequence[LabelledTrack], audio_dir: str | Path | None, *, seed: int = 0) -> Completed:
    """Add the unlabelled tracks of a folder as negatives, if a tag is on all labelled ones; at most `MAX_UNLABELLED`.

    Args:
        labelled: Labelled tracks.
        audio_dir: Folder of audio, without which none are added.
        seed: Seed of the choice, if there are more.
    """
    if audio_dir is None or not labels.has_single_class(labelled):
        return Completed(tuple(labelled), 0, 0)
    paths = labels.unlabelled([track.path for track in labelled], audio_dir)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(len(paths), min(len(paths), MAX_UNLABELLED), replace=False)) if paths else ()
    rest = [LabelledTrack(paths[row], frozenset()) for row in chosen]
    return Completed((*labelled, *rest), len(rest), len(paths))


def build(tracks: Sequence[LabelledTrack], embeddings: Mapping[Path, Embedding]) -> Examples:
    """Build the examples of labelled tracks whose embeddings are computed; the others are left out.

    Files with the same content are one track with all of their tags. Groups are artists, by the labels or by the
    metadata of the files; with fewer than `MIN_GROUPS`, albums; else every track is a group.

    Raises:
        DatasetError: No track could be read.
    """
    by_content: dict[str, LabelledTrack] = {}
    for track in tracks:
        if (embedding := embeddings.get(track.path)) is None:
            continue
        first = by_content.setdefault(embedding.content, track)
        union = replace(first, tags=first.tags | track.tags, artist=first.artist or track.artist)
        by_content[embedding.content] = union
    if not by_content:
        raise DatasetError(f"none of the {len(tracks)} tracks could be read; give audio files that play")
    unique = list(by_content.values())
    vocabulary = labels.vocabulary(tracks)
    groups, grouped_by = _groups(unique)
    values = np.stack([embeddings[track.path].values for track in unique])
    return Examples(vocabulary, truth(unique, vocabulary), values, groups, grouped_by)


def truth(tracks: Sequence[LabelledTrack], vocabulary: Sequence[str]) -> Bool[np.ndarray, "tracks tags"]:
    """The truth matrix: which track has which tag."""
    return np.array([[tag in track.tags for tag in vocabulary] for track in tracks], bool)


def obstacle(tag: Bool[np.ndarray, "tracks"], groups: Sequence[str], grouped_by: GroupedBy) -> str:
    """Why a tag cannot be learned from the tracks that have it and those that do not; empty if it can.

    Example:
        >>> obstacle(np.array([True, True, False, False, False]), "abcde", "track")
        '2 tracks with it, expected 3 or more'
    """
    for kind, word in ((tag, "with"), (~tag, "without")):
        if (count := int(kind.sum())) < MIN_TRACKS:
            return f"{count} track{'' if count == 1 else 's'} {word} it, expected {MIN_TRACKS} or more"
        if len(set(np.array(list(groups))[kind])) < 2:
            return f"all tracks {word} it are of one {grouped_by}, expected 2 or more"
    return ""


def check(tracks: Sequence[LabelledTrack]) -> None:
    """Raise `DatasetError` if no tag can be learned by the numbers of tracks, before any audio is decoded."""
    vocabulary = labels.vocabulary(tracks)
    names = [str(number) for number in range(len(tracks))]
    columns = zip(vocabulary, truth(tracks, vocabulary).T, strict=True)
    raise_if_all(vocabulary, {tag: problem for tag, column in columns if (problem := obstacle(column, names, "track"))})


def raise_if_all(vocabulary: Sequence[str], obstacles: Mapping[str, str]) -> None:
    """Raise `DatasetError` if there is an obstacle to every tag."""
    if len(obstacles) == len(vocabulary):
        listed = errors.join_some((f"{tag} ({problem})" for tag, problem in obstacles.items()), "; ")
        raise DatasetError(
            f"no tag can be learned: {listed}; label more tracks, or name a folder with others (--audio)"
        )


def _groups(tracks: Sequence[LabelledTrack]) -> tuple[tuple[str, ...], GroupedBy]:
    """The group of every track, and what the groups are."""
    files = [metadata.read(track.path) for track in tracks]
    paths = [f"track {os.fspath(track.path)}" for track in tracks]
    albums = [f"album {file.album.casefold()}" if file.album else path for file, path in zip(files, paths, strict=True)]
    artists = [track.artist or file.artist.casefold() for track, file in zip(tracks, files, strict=True)]
    artists = [f"artist {name}" if name else album for name, album in zip(artists, albums, strict=True)]
    choices: tuple[tuple[GroupedBy, list[str]], ...] = (("artist", artists), ("album", albums))
    for grouped_by, groups in choices:
        if MIN_GROUPS <= len(set(groups)) < len(groups):
            return tuple(groups), grouped_by
    return tuple(paths), "track"

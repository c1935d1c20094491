"""Tracks with the same audio, within and across the splits of a dataset, by checksum."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from moodfield import files, parallel
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import AudioError, MoodfieldError

T = TypeVar("T")


@dataclass(frozen=True)
class DuplicateGroup:
    """Tracks whose audio files are the same, byte for byte."""

    sha256: str
    """SHA-256 of the audio file"""
    members: tuple[tuple[str, Track], ...]
    """name of the split, and track, in the order of the splits"""

    @property
    def across_splits(self) -> bool:
        """Whether the tracks are in more than one split."""
        return len({split for split, _ in self.members}) > 1

    @property
    def tags_differ(self) -> bool:
        """Whether the tracks have different tags."""
        return len({frozenset(track.tags) for _, track in self.members}) > 1

    def to_dict(self) -> dict[str, object]:
        """The group as plain values, for JSON."""
        tracks = [{"split": split, "track": t.id, "path": t.path, "tags": t.tags} for split, t in self.members]
        flags = {"across_splits": self.across_splits, "tags_differ": self.tags_differ}
        return {"sha256": self.sha256, **flags, "tracks": tracks}


def find_duplicates(splits: Mapping[str, Split], checksums: Mapping[str, str]) -> list[DuplicateGroup]:
    """Find the groups of tracks that have the same audio, over all splits together.

    Args:
        splits: Name → split.
        checksums: Path → SHA-256, as of `mtg_jamendo.read_checksums` or `compute_checksums`.

    Returns:
        Groups of at least two tracks, in the order of their first tracks.

    """
    members = ((track.path, (name, track)) for name, split in splits.items() for track in split.tracks)
    return [DuplicateGroup(sha256, tuple(group)) for sha256, group in _group(members, checksums).items()]


def find_duplicate_paths(checksums: Mapping[str, str], paths: Iterable[str] | None = None) -> list[tuple[str, ...]]:
    """Find the groups of paths that have the same audio.

    Args:
        checksums: Path → SHA-256.
        paths: The paths to compare, as indexes write them; by default all of the list.

    Returns:
        Groups of at least two paths, in the order of their first paths.

    Example:
        >>> find_duplicate_paths({"a.mp3": "1", "b.mp3": "2", "c.mp3": "1"})
        [('a.mp3', 'c.mp3')]

    """
    compared = checksums if paths is None else paths
    return [tuple(group) for group in _group(((path, path) for path in compared), checksums).values()]


def find_leaks(train: Iterable[str], test: Sequence[str], checksums: Mapping[str, str]) -> list[int]:
    """Find the test tracks whose audio is also in the training split, so that evaluation can exclude them.

    Args:
        train: Paths of the training tracks, as indexes write them.
        test: Paths of the test tracks.
        checksums: Path → SHA-256; a path without a checksum is the same as itself only.

    Returns:
        Rows of `test`.

    Example:
        >>> find_leaks(["a.mp3"], ["b.mp3", "c.mp3"], {"a.mp3": "1", "b.mp3": "2", "c.mp3": "1"})
        [1]

    """
    train_keys = {mtg_jamendo.checksum_of(path, checksums) or path for path in train}
    return [row for row, path in enumerate(test) if (mtg_jamendo.checksum_of(path, checksums) or path) in train_keys]


def compute_checksums(
    tracks: Sequence[Track], folder: str | Path, *, jobs: int = 1
) -> Iterator[tuple[Track, str | MoodfieldError]]:
    """Compute the SHA-256 of the audio file of every track below `folder`; a file that fails gives its error."""
    paths = [mtg_jamendo.locate(folder, track.path) for track in tracks]
    for track, (_, result) in zip(tracks, parallel.map(_sha256, paths, jobs=jobs), strict=True):
        yield track, result


def _group(items: Iterable[tuple[str, T]], checksums: Mapping[str, str]) -> dict[str, list[T]]:
    """The values of (path, value) pairs in groups of more than one that have the same checksum."""
    groups: dict[str, list[T]] = {}
    for path, value in items:
        if (sha256 := mtg_jamendo.checksum_of(path, checksums)) is not None:
            groups.setdefault(sha256, []).append(value)
    return {sha256: group for sha256, group in groups.items() if len(group) > 1}


def _sha256(file: Path) -> str:
    try:
        return files.sha256(file)
    except (OSError, ValueError) as error:  # ValueError: an impossible file name
        reason = getattr(error, "strerror", None) or error
        raise AudioError("unreadable", f"{str(file)!r} cannot be read: {reason}; check its name") from error

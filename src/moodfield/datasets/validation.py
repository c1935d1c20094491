"""What is wrong with a dataset, and what is in it.

In: indexes, the folder of their audio, checksums. Out: faults, tracks with the same audio, counts of tracks and tags.
Knows nothing of: tables, pictures, or where a dataset comes from.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int64

from moodfield import audio, files, parallel, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import AudioError, ConfigError, DatasetError, MoodfieldError

Thing = TypeVar("Thing")

TOLERANCE = 1.0
"""seconds by which the music may be longer or shorter than the index says: codecs pad, and the index rounds"""


class FaultKind(StrEnum):
    """What can be wrong."""

    INDEX = "index"
    TAG = "tag"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    CHECKSUM = "checksum"
    DURATION = "duration"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a dataset."""

    kind: FaultKind
    """what sort of thing"""
    track: str
    """the id of the track; empty if it is a line of an index"""
    path: str
    """the path of the track in the index, or that of the index itself"""
    message: str
    """what came, and what was wanted"""

    def to_dict(self) -> dict[str, str]:
        """The fault as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Twins:
    """Tracks whose audio is the same, byte for byte."""

    sha256: str
    """of the audio"""
    members: tuple[tuple[str, Track], ...]
    """name of the split and track, in the order of the splits"""

    @property
    def across(self) -> bool:
        """Whether they are in more than one split."""
        return len({split for split, _ in self.members}) > 1

    @property
    def differ(self) -> bool:
        """Whether they have different tags."""
        return len({frozenset(track.tags) for _, track in self.members}) > 1

    def to_dict(self) -> dict[str, object]:
        """The group as plain values, for JSON."""
        members = [{"split": split, "track": t.id, "path": t.path, "tags": t.tags} for split, t in self.members]
        return {"sha256": self.sha256, "across": self.across, "differ": self.differ, "tracks": members}


@dataclass(frozen=True)
class Stats:
    """What is in a split."""

    tracks: int
    """how many"""
    seconds: float
    """of all tracks together, as the index says"""
    longest: float
    """seconds of the longest track"""
    untagged: int
    """tracks without any tag"""
    tags: Mapping[str, int]
    """tag → tracks that have it, in the order of the vocabulary"""

    @property
    def tags_per_track(self) -> float:
        """Mean over the tracks."""
        return sum(self.tags.values()) / self.tracks

    def to_dict(self) -> dict[str, object]:
        """The numbers as plain values, for JSON."""
        return asdict(self) | {"tags_per_track": self.tags_per_track, "tags": dict(self.tags)}


@dataclass(frozen=True)
class _Work:
    """What is to be looked at of one track."""

    track: Track
    file: Path
    sha256: str | None


def scan(indexes: Sequence[str | Path]) -> tuple[list[Track], list[Fault]]:
    """The tracks of some indexes, and what is wrong with their lines; a track belongs into one of them only."""
    tracks: list[Track] = []
    faults: list[Fault] = []
    paths: dict[str, str | Path] = {}
    ids: dict[str, str | Path] = {}
    for index in dict.fromkeys(indexes):
        found, wrong = mtg_jamendo.scan(index)
        faults += [Fault(FaultKind.INDEX, "", str(index), each) for each in wrong]
        for track in found:
            home, namesake = paths.get(track.path), ids.setdefault(track.id, index)
            if home is not None:
                words = f"{index} lists it {'twice' if home == index else f'as well as {home}'}"
                faults.append(Fault(FaultKind.INDEX, track.id, track.path, words))
                continue
            if namesake != index:
                words = f"{namesake} has another track of this id"
                faults.append(Fault(FaultKind.INDEX, track.id, track.path, words))
            paths[track.path] = index
            tracks.append(track)
    return tracks, faults


def splits(indexes: Sequence[str | Path], *, vocabulary: Sequence[str] | None = None) -> dict[str, Split]:
    """The splits of some indexes under short names, what their files are called after what all begin with.

    They share one vocabulary: the one that is given, or the tags of all of them, by alphabet.
    """
    found = [mtg_jamendo.read(index, vocabulary=vocabulary) for index in indexes]
    known = found[0].vocabulary if vocabulary else tuple(sorted({tag for each in found for tag in each.vocabulary}))
    stems = [Path(index).stem for index in indexes]
    pieces = zip(*(re.split("(?<=[-_])", stem) for stem in stems), strict=False)
    shared = sum(len(each[0]) for each in takewhile(lambda each: len(set(each)) == 1, pieces))
    names = [stem[shared:] or stem for stem in stems]
    if len(set(names)) < len(names):
        names = [str(index) for index in indexes]
    return {name: Split(each.tracks, known) for name, each in zip(names, found, strict=True)}


def check(
    tracks: Sequence[Track],
    folder: str | Path,
    *,
    vocabulary: Sequence[str] | None = None,
    sums: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
    decode: bool = True,
    jobs: int = 1,
) -> Iterator[tuple[Track, list[Fault]]]:
    """Every track with all that is wrong with it and its file below `folder`, in order.

    Tags are compared with a vocabulary, files with checksums, if they are given. With `decode`, every file is heard to
    its end, since only that tells how long it really is; without, it must only be there. `tolerance` is in seconds, 0
    or more. Refuses what is no folder.
    """
    if not Path(folder).is_dir():
        raise DatasetError(f"{folder} is no folder; name the one that the paths of the tracks are below")
    if not tolerance >= 0:
        raise ConfigError(f"a tolerance of {tolerance} s came; wanted 0 s or more")
    known = None if vocabulary is None else tags.vocabulary(vocabulary)
    work = (_work(track, folder, sums) for track in tracks)
    for each, result in parallel.map(partial(_examine, tolerance=tolerance, decode=decode), work, jobs=jobs):
        faults = [] if known is None else _strangers(each.track, known)
        if sums is not None and each.sha256 is None and each.file.is_file():
            faults.append(_fault(FaultKind.CHECKSUM, each.track, f"{each.file.name} is not in the list of checksums"))
        if isinstance(result, MoodfieldError):
            faults.append(_fault(FaultKind.UNREADABLE, each.track, str(result)))
        else:
            faults += result
        yield each.track, faults


def digests(
    tracks: Sequence[Track], folder: str | Path, *, jobs: int = 1
) -> Iterator[tuple[Track, str | MoodfieldError]]:
    """The SHA-256 of the file of every track below `folder`, for a dataset without a list; or why there is none."""
    found = parallel.map(_digest, [mtg_jamendo.locate(folder, track.path) for track in tracks], jobs=jobs)
    for track, (_, result) in zip(tracks, found, strict=True):
        yield track, result


def duplicates(sums: Mapping[str, str], paths: Iterable[str] | None = None) -> list[tuple[str, ...]]:
    """Groups of paths with the same audio, byte for byte, in the order of the first of each.

    `sums` is from path to SHA-256, as `jamendo.read_sums` has it; `paths`, as indexes write them, are those that count,
    all of the list without it.
    """
    counted = sums if paths is None else paths
    return [tuple(group) for group in _alike(((path, path) for path in counted), sums).values()]


def leaks(train: Iterable[str], test: Sequence[str], sums: Mapping[str, str]) -> list[int]:
    """Rows of `test` whose audio is also in `train`: what to leave out so that nothing is judged that was learned.

    Both are paths as indexes write them. A path without a checksum is the same as itself only.
    """
    learned = {mtg_jamendo.sum_of(path, sums) or path for path in train}
    return [row for row, path in enumerate(test) if (mtg_jamendo.sum_of(path, sums) or path) in learned]


def twins(splits: Mapping[str, Split], sums: Mapping[str, str]) -> list[Twins]:
    """The groups of tracks, of all splits together, that have the same audio."""
    members = ((track.path, (name, track)) for name, split in splits.items() for track in split.tracks)
    return [Twins(sha256, tuple(group)) for sha256, group in _alike(members, sums).items()]


def stats(split: Split) -> Stats:
    """What is in a split."""
    counts = split.truth.sum(axis=0).tolist()
    return Stats(
        tracks=len(split.tracks),
        seconds=sum(track.seconds for track in split.tracks),
        longest=max(track.seconds for track in split.tracks),
        untagged=sum(not track.tags for track in split.tracks),
        tags=dict(zip(split.vocabulary, counts, strict=True)),
    )


def together(*truths: Bool[np.ndarray, "_tracks tags"]) -> Int64[np.ndarray, "tags tags"]:
    """How many tracks of all of these have both of two tags; along the diagonal, how many have the tag."""
    counted = np.concatenate(truths).astype(np.int64)
    return counted.T @ counted


def _alike(things: Iterable[tuple[str, Thing]], sums: Mapping[str, str]) -> dict[str, list[Thing]]:
    """Things with their paths, in groups of more than one that have the same checksum."""
    groups: dict[str, list[Thing]] = {}
    for path, thing in things:
        if (sha256 := mtg_jamendo.sum_of(path, sums)) is not None:
            groups.setdefault(sha256, []).append(thing)
    return {sha256: group for sha256, group in groups.items() if len(group) > 1}


def _work(track: Track, folder: str | Path, sums: Mapping[str, str] | None) -> _Work:
    """The file of a track, with the checksum that is listed for that very file."""
    file = mtg_jamendo.locate(folder, track.path)
    listed = track.path if file.name == Path(track.path).name else mtg_jamendo.low(track.path)
    return _Work(track, file, (sums or {}).get(listed))


def _examine(work: _Work, *, tolerance: float, decode: bool) -> list[Fault]:
    """What is wrong with the file of a track."""
    track, faults = work.track, []
    if not os.path.isfile(work.file):  # noqa: PTH113  (Path.is_file would raise where it may not look)
        return [_fault(FaultKind.MISSING, track, f"{work.file} does not exist")]
    try:
        if work.sha256 is not None and (came := files.sha256(work.file)) != work.sha256:
            words = f"{work.file} has the SHA-256 {came[:8]}…, {work.sha256[:8]}… was wanted"
            faults.append(_fault(FaultKind.CHECKSUM, track, words))
    except OSError as error:
        return [_fault(FaultKind.UNREADABLE, track, f"{work.file} cannot be read: {error.strerror}")]
    try:
        lasts = audio.duration(work.file) if decode else track.seconds
    except AudioError as error:
        return [*faults, _fault(FaultKind.UNREADABLE, track, str(error))]
    if abs(lasts - track.seconds) > tolerance:
        words = f"{work.file} lasts {lasts:.1f} s, {track.seconds:.1f} s were wanted"
        faults.append(_fault(FaultKind.DURATION, track, words))
    return faults


def _strangers(track: Track, known: Sequence[str]) -> list[Fault]:
    """The tags of a track that are not in the vocabulary."""
    names = [tag for tag in track.tags if tag not in known]
    return [_fault(FaultKind.TAG, track, f"{', '.join(names)} not in the vocabulary")] if names else []


def _fault(kind: FaultKind, track: Track, message: str) -> Fault:
    return Fault(kind, track.id, track.path, message)


def _digest(file: Path) -> str:
    try:
        return files.sha256(file)
    except (OSError, ValueError) as error:  # the latter of a name that can be none
        why = getattr(error, "strerror", None) or error
        raise AudioError("unreadable", f"{str(file)!r} cannot be read: {why}; check its name") from error

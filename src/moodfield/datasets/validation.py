"""Validation of datasets: index lines, tags, missing and damaged files, durations, checksums."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from moodfield import audio, files, parallel, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import AudioError, ConfigError, DatasetError, MoodfieldError

TOLERANCE = 1.0
"""seconds that a duration may differ from the index: codecs pad, and the index rounds"""


class FaultKind(StrEnum):
    """The kinds of faults of a dataset."""

    INDEX = "index"
    TAG = "tag"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    CHECKSUM = "checksum"
    DURATION = "duration"


@dataclass(frozen=True)
class Fault:
    """One fault of a dataset."""

    kind: FaultKind
    """kind of fault"""
    track: str
    """identifier of the track; empty for a line of an index"""
    path: str
    """path of the track in the index, or of the index itself"""
    message: str
    """what was found, and what was expected"""


@dataclass(frozen=True)
class _AudioFile:
    """The audio file of a track, with the checksum that it should have."""

    track: Track
    file: Path
    sha256: str | None


def read_indexes(indexes: Sequence[str | Path]) -> tuple[list[Track], list[Fault]]:
    """Read the tracks of several indexes, and the faults of their lines; a track may be listed only once."""
    tracks: list[Track] = []
    faults: list[Fault] = []
    index_of_path: dict[str, str | Path] = {}
    index_of_id: dict[str, str | Path] = {}
    for index in dict.fromkeys(indexes):
        parsed, line_faults = mtg_jamendo.parse(index)
        faults += [Fault(FaultKind.INDEX, "", str(index), message) for message in line_faults]
        for track in parsed:
            earlier = index_of_path.get(track.path)
            first = index_of_id.setdefault(track.id, index)
            if earlier is not None:
                also = "twice" if earlier == index else f"as well as {earlier}"
                faults.append(_fault(FaultKind.INDEX, track, f"{index} lists it {also}"))
                continue
            if first != index:
                faults.append(_fault(FaultKind.INDEX, track, f"{first} has another track of this id"))
            index_of_path[track.path] = index
            tracks.append(track)
    return tracks, faults


def validate(
    tracks: Sequence[Track],
    folder: str | Path,
    *,
    vocabulary: Sequence[str] | None = None,
    checksums: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
    decode: bool = True,
    jobs: int = 1,
) -> Iterator[tuple[Track, list[Fault]]]:
    """Validate the tags and audio files of tracks.

    Args:
        tracks: Tracks of the dataset, as of `read_indexes`.
        folder: Folder that their paths are relative to.
        vocabulary: Tags that are allowed; by default all.
        checksums: Path → SHA-256; by default files are not hashed.
        tolerance: Allowed difference of durations in seconds, 0 or more.
        decode: Decode every file to its end, which alone finds damage and the true duration; else files must exist.
        jobs: Number of processes.

    Yields:
        Every track with its faults, in order.

    Raises:
        DatasetError: `folder` is not a folder.
        ConfigError: `tolerance` is out of range.

    """
    if not Path(folder).is_dir():
        raise DatasetError(f"{folder} is not a folder; give the one that the paths of the tracks are relative to")
    if not tolerance >= 0:
        raise ConfigError(f"tolerance is {tolerance} s; expected 0 s or more")
    allowed = None if vocabulary is None else tags.vocabulary(vocabulary)
    audio_files = (_audio_file(track, folder, checksums) for track in tracks)
    work = partial(_validate_file, tolerance=tolerance, decode=decode)
    for item, result in parallel.map(work, audio_files, jobs=jobs):
        unknown = [tag for tag in item.track.tags if allowed is not None and tag not in allowed]
        faults = [_fault(FaultKind.TAG, item.track, f"{', '.join(unknown)} not in the vocabulary")] if unknown else []
        if checksums is not None and item.sha256 is None and item.file.is_file():
            message = f"{item.file.name} is not in the list of checksums"
            faults.append(_fault(FaultKind.CHECKSUM, item.track, message))
        if isinstance(result, MoodfieldError):
            faults.append(_fault(FaultKind.UNREADABLE, item.track, str(result)))
        else:
            faults += result
        yield item.track, faults


def _audio_file(track: Track, folder: str | Path, checksums: Mapping[str, str] | None) -> _AudioFile:
    """The audio file of a track, with the checksum that is listed for its bitrate."""
    file = mtg_jamendo.locate(folder, track.path)
    listed = track.path if file.name == Path(track.path).name else mtg_jamendo.low_bitrate_path(track.path)
    return _AudioFile(track, file, (checksums or {}).get(listed))


def _validate_file(item: _AudioFile, *, tolerance: float, decode: bool) -> list[Fault]:
    """The faults of the audio file of a track."""
    track, file, faults = item.track, item.file, []
    if not os.path.isfile(file):  # noqa: PTH113  (Path.is_file would raise where permission is missing)
        return [_fault(FaultKind.MISSING, track, f"{file} does not exist")]
    try:
        if item.sha256 is not None and (sha256 := files.sha256(file)) != item.sha256:
            message = f"{file} has SHA-256 {sha256[:8]}…; expected {item.sha256[:8]}…"
            faults.append(_fault(FaultKind.CHECKSUM, track, message))
    except OSError as error:
        return [_fault(FaultKind.UNREADABLE, track, f"{file} cannot be read: {error.strerror}")]
    try:
        seconds = audio.duration(file) if decode else track.seconds
    except AudioError as error:
        return [*faults, _fault(FaultKind.UNREADABLE, track, str(error))]
    if abs(seconds - track.seconds) > tolerance:
        message = f"{file} has a duration of {seconds:.1f} s; expected {track.seconds:.1f} s"
        faults.append(_fault(FaultKind.DURATION, track, message))
    return faults


def _fault(kind: FaultKind, track: Track, message: str) -> Fault:
    return Fault(kind, track.id, track.path, message)

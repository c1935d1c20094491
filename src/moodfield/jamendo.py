"""The MTG-Jamendo index: tracks, splits, truth.

In: a TSV in the dataset's form. Out: its tracks in the order of the file, and their truth.
Knows nothing of: audio, mels, or what is done with a split.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from moodfield import tags
from moodfield.errors import BadDataset

HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


@dataclass(frozen=True)
class Track:
    """One piece of music of a dataset."""

    id: str
    """its name in the dataset, such as `track_0003524`"""
    path: str
    """its file, below the folder of the dataset's audio"""
    seconds: float
    """how long the index says it is"""
    tags: tuple[str, ...]
    """the names of its tags"""


@dataclass(frozen=True)
class Split:
    """Tracks in the order of their file, and the vocabulary their truth is written in; nothing is ever sorted."""

    tracks: tuple[Track, ...]
    """the tracks, in the order of the file"""
    vocabulary: tuple[str, ...]
    """the tags, in the order of their list"""

    @cached_property
    def truth(self) -> Bool[np.ndarray, "tracks tags"]:
        """Which track has which tag."""
        column = {tag: index for index, tag in enumerate(self.vocabulary)}
        truth = np.zeros((len(self.tracks), len(self.vocabulary)), bool)
        for row, track in enumerate(self.tracks):
            truth[row, [column[tag] for tag in track.tags]] = True
        return truth

    def take(self, rows: Sequence[int]) -> "Split":
        """The split of some of the tracks, in the order of `rows`."""
        return Split(tuple(self.tracks[row] for row in rows), self.vocabulary)


def read(path: str | Path, *, vocabulary: Sequence[str] | None = None) -> Split:
    """The split in a TSV of MTG-Jamendo's form.

    `vocabulary` gives the names and order of the tags; without it they are those of the file, by alphabet, which is the
    official order of the 56 moods and themes. Refuses with all faults of the file at once.
    """
    lines = _lines(path)
    if lines[:1] and tuple(lines[0].split("\t")[:6]) == HEADER:
        lines = lines[1:]
    else:
        raise BadDataset(f"{path} does not begin with the header {' '.join(HEADER)}, separated by tabs")
    tracks, faults, seen = [], [], set()
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) < 5:
            faults.append(f"line {number} has {len(cells)} columns, 5 and one for every tag are wanted")
            continue
        seconds = _seconds(cells[4])
        if not 0 <= seconds < math.inf:
            faults.append(f"line {number}: duration {cells[4]!r} is not a number of seconds")
        names = tuple(dict.fromkeys(tags.name(tag) for tag in cells[5:] if tag.strip()))
        if cells[0] in seen:
            faults.append(f"line {number}: track {cells[0]} comes twice")
        if "" in names:
            faults.append(f"line {number}: a tag has no name")
        if Path(cells[3]).is_absolute() or ".." in Path(cells[3]).parts:
            faults.append(f"line {number}: path {cells[3]!r} leaves the folder of the dataset")
        seen.add(cells[0])
        tracks.append(Track(cells[0], cells[3], seconds, names))
    named = {tag for track in tracks for tag in track.tags if tag}
    known = tuple(sorted(named)) if vocabulary is None else tags.vocabulary(vocabulary)
    strangers = sorted(named - set(known))
    if strangers:
        faults.append(f"tags that are not in the vocabulary: {', '.join(strangers)}")
    if not tracks:
        faults.append("it lists no tracks")
    if faults:
        more = f"; and {len(faults) - 20} more faults" if len(faults) > 20 else ""
        raise BadDataset(f"{path} cannot be used: {'; '.join(faults[:20])}{more}")
    return Split(tuple(tracks), known)


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """The names in a list of tags, one a line, in its order."""
    return tags.vocabulary(line for line in _lines(path) if line.strip())


def _seconds(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataset(f"{path} cannot be read as a text file: {error}") from error

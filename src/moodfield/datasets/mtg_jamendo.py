"""The MTG-Jamendo index: tracks, splits, truth.

In: a TSV in the dataset's form. Out: its tracks in the order of the file, their truth, their files and checksums.
Knows nothing of: audio, mels, or what is done with a split.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from jaxtyping import Bool, Float64

from moodfield import errors, tags
from moodfield.errors import DatasetError

PLACES = (".", "data/splits/split-0", "data/tags", "mtg-jamendo")
"""where the files of a dataset may be, below its folder"""
AUDIO = ("audio", "audio-low", ".")
"""where its audio may be, below its folder"""
MOODS = "autotagging_moodtheme-"
"""how the files of the moods and themes begin, in a clone that has other tags, too"""
LISTS = ("moodtheme_split.txt", "tags.txt")
"""what a list of its tags may be called"""
HELD_OUT = 5
"""one in so many training tracks is for validation where there are only two splits"""
HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
LOW = ".low"
"""what the files of the dataset's low bitrate have before their suffix, though the index does not"""
HOMES = ("", "audios")
"""where below a folder the paths of tracks begin: there itself, or as mirdata has it"""


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
    artist: str = ""
    """who made it, such as `artist_000530`; empty if unknown"""


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

    @property
    def priors(self) -> Float64[np.ndarray, "tags"]:
        """Share of the tracks that have each tag."""
        return np.asarray(self.truth.mean(axis=0))

    def take(self, rows: Sequence[int]) -> "Split":
        """The split of some of the tracks, in the order of `rows`."""
        return Split(tuple(self.tracks[row] for row in rows), self.vocabulary)


@dataclass(frozen=True)
class Dataset:
    """Three splits of one vocabulary, and the folder of their audio."""

    name: str
    """what its files are called"""
    train: Split
    """tracks to learn from"""
    validation: Split
    """tracks to choose by"""
    test: Split
    """tracks to be judged by, which nothing is chosen by"""
    audio: Path
    """the folder that the paths of tracks are below"""
    note: str = ""
    """what a reader of its scores must know, if anything"""

    @property
    def splits(self) -> dict[str, Split]:
        """The three by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def take(self, rows: Mapping[str, Sequence[int]]) -> "Dataset":
        """The dataset of some of the tracks of every split, by its name."""
        train, validation, test = (split.take(rows[part]) for part, split in self.splits.items())
        return replace(self, train=train, validation=validation, test=test)


def find(folder: str | Path, *, audio: str | Path | None = None) -> Dataset:
    """The dataset in a folder: `NAME-train.tsv`, `NAME-validation.tsv`, `NAME-test.tsv`, tags and audio.

    It takes a folder with these files, a clone of the MTG-Jamendo repository (moods and themes, split 0), or one that
    has `mtg-jamendo/` in it. The tags are those of `moodtheme_split.txt` or `tags.txt`, else of the training tracks.
    Audio is in `audio/`, in `audio-low/`, beside the files themselves, or where `audio` says. Where there is no test
    split, the validation tracks are the test, and every fifth track of the training split is for validation. Refuses a
    folder without a dataset, or without audio.
    """
    folder = Path(folder)
    places = [folder / each for each in PLACES]
    indexes = [path for place in places for path in sorted(place.glob("*-train.tsv"))]
    meant = [path for path in indexes if path.name.startswith(MOODS)] or indexes
    if len({path.resolve() for path in meant}) != 1:
        came = f"{len(meant)} are: {', '.join(path.name for path in meant)}" if meant else "none is"
        raise DatasetError(f"one file such as NAME-train.tsv is wanted in {folder}; {came}; name a folder with one")
    index = meant[0]
    name = index.name.removesuffix("-train.tsv")
    lists = [place / each for place in (index.parent, *places) for each in LISTS]
    tags_of = next((read_vocabulary(path) for path in lists if path.is_file()), None)
    train = read(index, vocabulary=tags_of)
    validation = read(index.with_name(f"{name}-validation.tsv"), vocabulary=train.vocabulary)
    own = index.with_name(f"{name}-test.tsv")
    music = [Path(audio)] if audio else [place / each for place in (folder, index.parent) for each in AUDIO]
    found = next((place for place in music if any(locate(place, track.path).is_file() for track in train.tracks)), None)
    if found is None:
        raise DatasetError(
            f"no training track is in {', '.join(map(str, dict.fromkeys(music)))}; name the audio's folder"
        )
    if own.is_file():
        return Dataset(name, train, validation, read(own, vocabulary=train.vocabulary), found)
    chosen = range(HELD_OUT // 2, len(train.tracks), HELD_OUT)
    rest = [row for row in range(len(train.tracks)) if row not in chosen]
    note = (
        f"there is no {own.name}: the validation tracks are the test, and every {HELD_OUT}th of the others validates, "
        "whoever its artist is"
    )
    return Dataset(name, train.take(rest), train.take(chosen), validation, found, note)


def read(path: str | Path, *, vocabulary: Sequence[str] | None = None) -> Split:
    """The split in a TSV of MTG-Jamendo's form.

    `vocabulary` gives the names and order of the tags; without it they are those of the file, by alphabet, which is the
    official order of the 56 moods and themes. Refuses with all faults of the file at once.
    """
    tracks, faults = scan(path)
    named = {tag for track in tracks for tag in track.tags if tag}
    known = tuple(sorted(named)) if vocabulary is None else tags.vocabulary(vocabulary)
    strangers = sorted(named - set(known))
    if strangers:
        faults.append(f"tags that are not in the vocabulary: {', '.join(strangers)}")
    if not tracks:
        faults.append("it lists no tracks")
    if faults:
        raise DatasetError(f"{path} cannot be used: {errors.join_errors(faults)}")
    return Split(tuple(tracks), known)


def scan(path: str | Path) -> tuple[list[Track], list[str]]:
    """The tracks of a TSV, whatever their tags, and what is wrong with its lines; refuses what is no such TSV."""
    lines = _lines(path)
    if lines[:1] and tuple(lines[0].split("\t")[:6]) == HEADER:
        lines = lines[1:]
    else:
        raise DatasetError(f"{path} does not begin with the header {' '.join(HEADER)}, separated by tabs")
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
        if leaves_folder(cells[3]):
            faults.append(f"line {number}: path {cells[3]!r} leaves the folder of the dataset")
        seen.add(cells[0])
        tracks.append(Track(cells[0], cells[3], seconds, names, cells[1]))
    return tracks, faults


def leaves_folder(path: str) -> bool:
    """Whether a path in an index is anything but that of a file below its folder, on this system or another.

    That is an absolute one, one with a drive (`C:`), one with `..` between slashes or backslashes, the folder itself,
    and what no file can be called.
    """
    windows = PureWindowsPath(path)
    drive = windows.drive if windows.drive[:1].isascii() and windows.drive[:1].isalpha() else ""
    outside = bool(drive or windows.root) or ".." in windows.parts or path.startswith("/")
    return outside or "\0" in path or not PurePosixPath(path).parts or path.endswith("/")


def locate(folder: str | Path, path: str) -> Path:
    """The file of a track whose path in the index is this, below a folder of audio.

    It may be there as the index names it, or in the dataset's low bitrate (`24/3524.low.mp3` for `24/3524.mp3`), and
    the folder may be a `data_home` of mirdata. If it is nowhere, the path is that of the index.
    """
    for home in HOMES:
        for form in (path, low(path)):
            # Path.is_file would raise where it may not look; reading reports that better, file by file
            if os.path.isfile(file := Path(folder, home, form)):  # noqa: PTH113
                return file
    return Path(folder, path)


def low(path: str) -> str:
    """What the dataset's low bitrate calls the file of this path: `24/3524.low.mp3` for `24/3524.mp3`."""
    stem, suffix = os.path.splitext(path)  # noqa: PTH122  (asked for every track and every home)
    return stem + LOW + suffix


def read_sums(path: str | Path) -> dict[str, str]:
    """From file to SHA-256, as a list in the dataset's form (`SHA256 PATH`, a line a file) has them, in its order.

    Refuses with all faults of the list at once.
    """
    sums: dict[str, str] = {}
    faults = []
    for number, line in enumerate(_lines(path), start=1):
        digest, _, name = line.partition(" ")
        name = name.lstrip(" *")  # as sha256sum writes it
        if not re.fullmatch("[0-9a-f]{64}", digest) or not name:
            faults.append(f"line {number} is not a SHA-256 and a path")
        elif sums.setdefault(name, digest) != digest:
            faults.append(f"line {number}: {name} comes with two checksums")
    if faults or not sums:
        raise DatasetError(f"{path} is no list of checksums: {errors.join_errors(faults) or 'it is empty'}")
    return sums


def sum_of(path: str, sums: Mapping[str, str]) -> str | None:
    """The checksum that a list has for the track of this path, in whichever of its two bitrates."""
    return sums.get(path) or sums.get(low(path))


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
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark at the beginning
    except (OSError, ValueError) as error:  # ValueError: it is no UTF-8, or no file can be called that
        raise DatasetError(f"{path} cannot be read as a text file: {error}") from error
    # not splitlines, which also parts at what may stand in a name
    return text.removesuffix("\n").split("\n") if text else []

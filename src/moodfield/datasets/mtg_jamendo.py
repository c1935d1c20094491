"""The MTG-Jamendo dataset index: tracks, splits, truth, file paths, checksums."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from jaxtyping import Bool, Float64

from moodfield import errors, files, tags
from moodfield.errors import DatasetError

INDEX_FOLDERS = (".", "data/splits/split-0", "data/tags", "mtg-jamendo")
"""folders below that of a dataset where its TSVs and tag lists are looked for"""
AUDIO_FOLDERS = ("audio", "audio-low", ".")
"""folders below that of a dataset where its audio is looked for"""
MOODTHEME = "autotagging_moodtheme-"
"""prefix of the TSVs of moods and themes; a clone of the repository has other tags, too"""
TAG_LISTS = ("moodtheme_split.txt", "tags.txt")
"""file names of tag lists"""
VALIDATION_EVERY = 5
"""every fifth training track is used for validation where a dataset has only two splits"""
HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
"""columns of a TSV; every cell from the sixth on is a tag"""
LOW = ".low"
"""what file names of the low-bitrate audio have before their suffix, unlike the index"""
MIRDATA_FOLDER = "audios"
"""folder of the audio in a `data_home` of mirdata"""


@dataclass(frozen=True)
class Track:
    """One track of a dataset: a row of its index."""

    id: str
    """identifier in the dataset, such as `track_0003524`"""
    path: str
    """path of the audio file, relative to the audio folder"""
    seconds: float
    """duration by the index, 0 or more"""
    tags: tuple[str, ...]
    """names of its tags"""
    artist: str = ""
    """identifier of the artist, such as `artist_000530`; empty if unknown"""


@dataclass(frozen=True)
class Split:
    """The tracks of a split, in the order of their file, and the vocabulary of their truth.

    Example:
        >>> split = Split((Track("a", "a.mp3", 60.0, ("sad",)), Track("b", "b.mp3", 90.0, ())), ("happy", "sad"))
        >>> split.truth
        array([[False,  True],
               [False, False]])
        >>> split.priors
        array([0. , 0.5])

    """

    tracks: tuple[Track, ...]
    """tracks in the order of the file; they are never sorted"""
    vocabulary: tuple[str, ...]
    """tag names in the order of their list"""

    @cached_property
    def truth(self) -> Bool[np.ndarray, "tracks tags"]:
        """The truth matrix: which track has which tag."""
        columns = {tag: column for column, tag in enumerate(self.vocabulary)}
        truth = np.zeros((len(self.tracks), len(self.vocabulary)), bool)
        for row, track in enumerate(self.tracks):
            truth[row, [columns[tag] for tag in track.tags]] = True
        return truth

    @property
    def priors(self) -> Float64[np.ndarray, "tags"]:
        """The share of tracks that have each tag, 0 … 1."""
        return np.asarray(self.truth.mean(axis=0))

    def take(self, rows: Sequence[int]) -> "Split":
        """The split of some of the tracks, in the order of `rows`."""
        return Split(tuple(self.tracks[row] for row in rows), self.vocabulary)


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test split of one vocabulary, and the folder of their audio."""

    name: str
    """what its TSVs are called"""
    train: Split
    """training tracks"""
    validation: Split
    """tracks that choose epochs and thresholds"""
    test: Split
    """tracks that are only evaluated on"""
    audio: Path
    """folder that the paths of the tracks are relative to"""
    note: str = ""
    """a remark for readers of its metrics, if any"""

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def take(self, rows: Mapping[str, Sequence[int]]) -> "Dataset":
        """The dataset of some of the tracks of every split; `rows` has the name of each split."""
        train, validation, test = (split.take(rows[name]) for name, split in self.splits.items())
        return replace(self, train=train, validation=validation, test=test)


def find(folder: str | Path, *, audio: str | Path | None = None) -> Dataset:
    """Load the dataset in a folder: `NAME-train.tsv`, `NAME-validation.tsv`, `NAME-test.tsv`, tags and audio.

    The folder may hold these files directly, be a clone of the MTG-Jamendo repository (moods and themes, split 0), or
    contain `mtg-jamendo/`. The vocabulary is that of `moodtheme_split.txt` or `tags.txt`, else that of the training
    tracks. Without a test split, the validation tracks become the test split and every fifth training track becomes
    a validation track.

    Args:
        folder: Folder of the dataset.
        audio: Folder of the audio; by default `audio/`, `audio-low/` or the folder of the TSVs.

    Raises:
        DatasetError: There is not exactly one dataset, a TSV is wrong, or no training track has an audio file.

    """
    folder = Path(folder)
    index_folders = [folder / name for name in INDEX_FOLDERS]
    indexes = [path for index_folder in index_folders for path in sorted(index_folder.glob("*-train.tsv"))]
    indexes = [path for path in indexes if path.name.startswith(MOODTHEME)] or indexes
    if len({path.resolve() for path in indexes}) != 1:
        names = f": {', '.join(path.name for path in indexes)}" if indexes else ""
        raise DatasetError(f"{folder} has {len(indexes)} files NAME-train.tsv{names}; give a folder with exactly one")
    index = indexes[0]
    name = index.name.removesuffix("-train.tsv")
    tag_lists = [parent / file for parent in (index.parent, *index_folders) for file in TAG_LISTS]
    vocabulary = next((read_vocabulary(path) for path in tag_lists if path.is_file()), None)
    train = read(index, vocabulary=vocabulary)
    validation = read(index.with_name(f"{name}-validation.tsv"), vocabulary=train.vocabulary)
    folders = [Path(audio)] if audio else [root / name for root in (folder, index.parent) for name in AUDIO_FOLDERS]
    with_audio = (path for path in folders if any(locate(path, track.path).is_file() for track in train.tracks))
    if (audio_folder := next(with_audio, None)) is None:
        searched = ", ".join(map(str, dict.fromkeys(folders)))
        raise DatasetError(f"no training track has an audio file in {searched}; give the folder of the audio")
    test_index = index.with_name(f"{name}-test.tsv")
    if test_index.is_file():
        return Dataset(name, train, validation, read(test_index, vocabulary=train.vocabulary), audio_folder)
    validation_rows = range(VALIDATION_EVERY // 2, len(train.tracks), VALIDATION_EVERY)
    train_rows = [row for row in range(len(train.tracks)) if row not in validation_rows]
    note = (
        f"there is no {test_index.name}: the validation tracks are the test split, and every {VALIDATION_EVERY}th "
        "training track, regardless of its artist, is a validation track"
    )
    return Dataset(name, train.take(train_rows), train.take(validation_rows), validation, audio_folder, note)


def read(path: str | Path, *, vocabulary: Sequence[str] | None = None) -> Split:
    """Read a split from a TSV of MTG-Jamendo's format.

    Args:
        path: The TSV.
        vocabulary: Tag names in their order; by default those of the file, sorted, which is the official order of the
            56 moods and themes.

    Raises:
        DatasetError: The file cannot be used; the message lists all its faults.

    """
    tracks, faults = parse(path)
    used = {tag for track in tracks for tag in track.tags if tag}
    vocabulary = tuple(sorted(used)) if vocabulary is None else tags.vocabulary(vocabulary)
    if unknown := sorted(used - set(vocabulary)):
        faults.append(f"tags not in the vocabulary: {', '.join(unknown)} (remove them there, or list them as tags)")
    if not tracks:
        faults.append("it lists no tracks")
    if faults:
        raise DatasetError(f"{path} cannot be used: {errors.join_errors(faults)}")
    return Split(tuple(tracks), vocabulary)


def read_splits(indexes: Sequence[str | Path], *, vocabulary: Sequence[str] | None = None) -> dict[str, Split]:
    """Read the splits of several indexes, under short names: those of the files without their common beginning.

    Args:
        indexes: TSVs of MTG-Jamendo's format.
        vocabulary: The vocabulary of all splits; by default the tags of all of them, sorted.

    """
    splits = [read(index, vocabulary=vocabulary) for index in indexes]
    used = sorted({tag for split in splits for tag in split.vocabulary})
    common = splits[0].vocabulary if vocabulary else tuple(used)
    stems = [Path(index).stem for index in indexes]
    columns = zip(*(re.split("(?<=[-_])", stem) for stem in stems), strict=False)
    prefix = sum(len(column[0]) for column in takewhile(lambda column: len(set(column)) == 1, columns))
    names = [stem[prefix:] or stem for stem in stems]
    if len(set(names)) < len(names):
        names = [str(index) for index in indexes]
    return {name: Split(split.tracks, common) for name, split in zip(names, splits, strict=True)}


def parse(path: str | Path) -> tuple[list[Track], list[str]]:
    """Parse a TSV: its tracks, with whatever tags, and the faults of its lines.

    Raises:
        DatasetError: It cannot be read, or has another header.

    """
    header, *lines = read_lines(path) or [""]
    if tuple(header.split("\t")[:6]) != HEADER:
        raise DatasetError(f"{path} does not begin with the header {' '.join(HEADER)}, separated by tabs")
    tracks, faults, ids = [], [], set()
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) < 5:
            faults.append(f"line {number} has {len(cells)} columns, expected 5 and one for every tag")
            continue
        seconds = parse_number(cells[4])
        if not 0 <= seconds < math.inf:
            faults.append(f"line {number}: duration {cells[4]!r} is not a number of seconds")
        names = tuple(dict.fromkeys(tags.name(tag) for tag in cells[5:] if tag.strip()))
        if cells[0] in ids:
            faults.append(f"line {number}: track {cells[0]} is listed twice")
        if "" in names:
            faults.append(f"line {number}: a tag has no name")
        if leaves_folder(cells[3]):
            faults.append(f"line {number}: path {cells[3]!r} leaves the folder of the dataset")
        ids.add(cells[0])
        tracks.append(Track(cells[0], cells[3], seconds, names, cells[1]))
    return tracks, faults


def leaves_folder(path: str) -> bool:
    r"""Whether a path of an index is unsafe: anything but the path of a file below its folder, on any system.

    Unsafe are absolute paths, drives (`C:`), `..` between slashes or backslashes, folders, and null bytes.

    Example:
        >>> [leaves_folder(path) for path in ("24/3524.mp3", "../x.mp3", "/x.mp3", "C:x.mp3", "a\\..\\x.mp3", "a/")]
        [False, True, True, True, True, True]

    """
    windows = PureWindowsPath(path)
    drive = windows.drive if windows.drive[:1].isascii() and windows.drive[:1].isalpha() else ""
    outside = bool(drive or windows.root) or ".." in windows.parts or path.startswith("/")
    return outside or "\0" in path or not PurePosixPath(path).parts or path.endswith("/")


def locate(folder: str | Path, path: str) -> Path:
    """The audio file of a track.

    The file may have its name of the index, or that of the low-bitrate audio (`24/3524.low.mp3` for `24/3524.mp3`).

    Args:
        folder: Folder of the audio, or a `data_home` of mirdata.
        path: Path of the track in the index.

    Returns:
        The existing file, else `folder/path`.

    """
    for root in ("", MIRDATA_FOLDER):
        for name in (path, low_bitrate_path(path)):
            # Path.is_file would raise where permission is missing; reading the file reports that better
            if os.path.isfile(file := Path(folder, root, name)):  # noqa: PTH113
                return file
    return Path(folder, path)


def low_bitrate_path(path: str) -> str:
    """The path of a track in the low-bitrate audio.

    Example:
        >>> low_bitrate_path("24/3524.mp3")
        '24/3524.low.mp3'

    """
    stem, suffix = os.path.splitext(path)  # noqa: PTH122  (faster than Path, and called for every track)
    return stem + LOW + suffix


def read_checksums(path: str | Path) -> dict[str, str]:
    """Read a list of checksums (`SHA256 PATH` on each line), as a mapping from path to SHA-256 in its order.

    Raises:
        DatasetError: It is not such a list; the message lists all its faults.

    """
    checksums: dict[str, str] = {}
    faults = []
    for number, line in enumerate(read_lines(path), start=1):
        digest, _, name = line.partition(" ")
        name = name.lstrip(" *")  # as sha256sum writes it
        if not re.fullmatch("[0-9a-f]{64}", digest) or not name:
            faults.append(f"line {number} is not a SHA-256 and a path")
        elif checksums.setdefault(name, digest) != digest:
            faults.append(f"line {number}: {name} has two checksums")
    if faults or not checksums:
        raise DatasetError(f"{path} is not a list of checksums: {errors.join_errors(faults) or 'it is empty'}")
    return checksums


def checksum_of(path: str, checksums: Mapping[str, str]) -> str | None:
    """The checksum of a track in a list, whose paths may be those of either bitrate."""
    return checksums.get(path) or checksums.get(low_bitrate_path(path))


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Read the tag names of a list in its order: one a line, or a JSON list such as `vocabulary.json` of a run."""
    if Path(path).suffix == ".json":
        names = files.read_json(Path(path), list, remedy="a JSON list of tag names is expected", error=DatasetError)
        return tags.vocabulary(map(str, names))
    return tags.vocabulary(line for line in read_lines(path) if line.strip())


def parse_number(text: str) -> float:
    """The number in a cell of a table, NaN if it has none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file in UTF-8; raises `DatasetError` if it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or an impossible file name
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path} cannot be read as a text file: {reason}") from error
    # not splitlines, which also splits at characters that a name may contain
    return text.removesuffix("\n").split("\n") if text else []

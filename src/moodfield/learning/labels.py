"""Labels of tracks: read from MTG-Jamendo's TSV, CSV, playlists, or folders whose names are tags."""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from moodfield import audio, errors, tags
from moodfield.datasets import mtg_jamendo
from moodfield.errors import ConfigError, DatasetError

MAX_TAGS = 1_000
"""tags that one model may learn"""
PLAYLISTS = frozenset((".m3u", ".m3u8"))
"""suffixes of playlists; the name of one is a tag"""
PATH_COLUMNS = frozenset(("path", "file", "filename", "track"))
"""names of the first column of a CSV with a header"""
SEPARATOR = ";"
"""between the tags of a track in a CSV"""
MAX_BYTES = 2**26
"""longest file of labels that is read"""
URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://")
"""how addresses in playlists begin"""

Paths = str | Path | Iterable[str | Path]
TagLists = Sequence[str | Iterable[str]] | Mapping[Any, str | Iterable[str]]
"""tags of tracks, in their order or by path; a string is one tag"""


@dataclass(frozen=True)
class LabelledTrack:
    """A track and its tags."""

    path: Path
    """audio file"""
    tags: frozenset[str]
    """its tags; without any, it is a negative of all tags"""
    artist: str = ""
    """identifier of the artist by the labels; empty if unknown"""


@dataclass  # mutable: it collects faults
class _Reader:
    """Reads sources of labels."""

    audio_dir: Path | None
    faults: list[str]

    def read(self, source: Path) -> Iterator[LabelledTrack]:
        """The tracks of one source."""
        if os.path.isdir(source):  # noqa: PTH112 (Path.is_dir would raise where it may not look)
            yield from self._folder(source)
        elif source.suffix.lower() in PLAYLISTS:
            yield from self._playlist(source)
        elif (text := _text(source)).startswith(f"{mtg_jamendo.HEADER[0]}\t"):
            for track in mtg_jamendo.read(source).tracks:
                path = mtg_jamendo.locate(self.audio_dir or source.parent, track.path)
                yield LabelledTrack(path, frozenset(track.tags), track.artist)
        else:
            yield from self._csv(source, text)

    def _folder(self, folder: Path) -> Iterator[LabelledTrack]:
        """The tracks of playlists in a folder, and of its folders, whose names are tags."""
        try:
            entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            self.faults.append(f"{folder} cannot be searched: {error.strerror}")
            return
        playlists = [path for path in entries if path.suffix.lower() in PLAYLISTS]
        folders = [path for path in entries if path.is_dir()]
        if not playlists and not folders:
            self.faults.append(f"{folder} has neither playlists nor folders, whose names would be tags")
        for playlist in playlists:
            yield from self._playlist(playlist)
        for tag_folder in folders:
            paths = audio.find(tag_folder)
            if not paths and not playlists:
                self.faults.append(f"{tag_folder} has no audio files")
            for path in paths:
                yield LabelledTrack(path, frozenset((_tag(tag_folder.name),)))

    def _playlist(self, playlist: Path) -> Iterator[LabelledTrack]:
        """The tracks of an M3U playlist, whose name is their tag."""
        lines = [line.strip() for line in _text(playlist).splitlines()]
        entries = [line for line in lines if line and not line.startswith("#")]
        if not entries:
            self.faults.append(f"{playlist} has no tracks; add some, or leave it out")
        for entry in entries:
            if URL.match(entry) and not entry.lower().startswith("file://"):
                self.faults.append(f"{playlist} lists {entry}, which is not a file")
                continue
            name = unquote(urlsplit(entry).path) if URL.match(entry) else entry
            folders = (playlist.parent, self.audio_dir) if self.audio_dir else (playlist.parent,)
            candidates = [folder / option for option in (name, name.replace("\\", "/")) for folder in folders]
            path = next(filter(_is_file, candidates), candidates[0])
            yield LabelledTrack(path, frozenset((_tag(playlist.stem),)))

    def _csv(self, source: Path, text: str) -> Iterator[LabelledTrack]:
        """The tracks of a CSV: a path and tags in each line, with or without a header."""
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in rows:
                if not any(map(str.strip, row)) or (rows.line_num == 1 and row[0].strip().casefold() in PATH_COLUMNS):
                    continue
                if len(row) < 2 or not row[0].strip():
                    line = errors.printable(",".join(row))
                    self.faults.append(f"{source}, line {rows.line_num}: {line!r:.80}; expected path,tag;tag")
                    continue
                names = (_tag(name) for cell in row[1:] for name in cell.split(SEPARATOR))
                path = (self.audio_dir or source.parent) / row[0].strip()
                yield LabelledTrack(path, frozenset(name for name in names if name))
        except csv.Error as error:
            self.faults.append(f"{source}, line {rows.line_num}: {error}; expected path,tag;tag")


def read(sources: Sequence[str | Path], *, audio_dir: str | Path | None = None) -> list[LabelledTrack]:
    """Read labels of tracks.

    Args:
        sources: One or more of: a TSV in MTG-Jamendo's form; a CSV with a path and tags separated by `;` in each line;
            playlists, whose names are tags; a folder with playlists, or with a folder of audio files for each tag.
        audio_dir: Folder that relative paths are in; by default that of the file which has them.

    Returns:
        The tracks, each path once, with all of its tags.

    Raises:
        DatasetError: A source cannot be read, audio files are missing, or labels contradict each other; the message
            lists the faults.
    """
    reader = _Reader(Path(audio_dir) if audio_dir else None, [])
    labelled = [track for source in map(Path, sources) for track in reader.read(source)]
    return _check(labelled, reader.faults, ", ".join(map(str, sources)))


def from_lists(paths: Paths, labels: TagLists) -> list[LabelledTrack]:
    """The labelled tracks of lists.

    Args:
        paths: Audio files; with a mapping also folders of them, whose other files have no tags.
        labels: The tags of every path, in their order; or a mapping from paths to tags.

    Raises:
        ConfigError: There is not one list of tags for every path.
        DatasetError: Files are missing, or no track has a tag.
    """
    if isinstance(labels, str | bytes) or not isinstance(labels, Mapping | Sequence):
        raise ConfigError(f"labels are {type(labels).__name__}; expected a list of tags for every path, or a mapping")
    if isinstance(labels, Mapping):
        by_path = {Path(path).absolute(): (Path(path), names) for path, names in labels.items()}
        unlabelled = [path for path in audio.find(paths) if path.absolute() not in by_path]
        pairs = [*by_path.values(), *((path, ()) for path in unlabelled)]
    else:
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        if len(listed) != len(labels):
            raise ConfigError(f"there are {len(listed)} paths and {len(labels)} lists of tags; give one for each path")
        pairs = [(Path(path), names) for path, names in zip(listed, labels, strict=True)]
    labelled = []
    for path, names in pairs:
        names = (names,) if isinstance(names, str) else names
        labelled.append(LabelledTrack(path, frozenset(name for name in map(_tag, names) if name)))
    return _check(labelled, [], f"{len(labelled)} tracks")


def unlabelled(labelled: Iterable[Path], paths: Paths) -> list[Path]:
    """The audio files, also those in folders, that are not labelled."""
    labelled_paths = set(map(os.path.realpath, labelled))
    return [path for path in audio.find(paths) if os.path.realpath(path) not in labelled_paths]


def vocabulary(labelled: Iterable[LabelledTrack]) -> tuple[str, ...]:
    """All tags of tracks, sorted."""
    return tuple(sorted({name for track in labelled for name in track.tags}))


def has_single_class(labelled: Sequence[LabelledTrack]) -> bool:
    """Whether a tag is on all tracks, so that nothing can be learned about it."""
    return bool(frozenset.intersection(*(track.tags for track in labelled)))


def _check(labelled: Sequence[LabelledTrack], faults: list[str], name: str) -> list[LabelledTrack]:
    """The tracks, each path once, with all of its tags; raises `DatasetError` for contradictions and missing files."""
    tracks: dict[Path, LabelledTrack] = {}
    for track in labelled:
        earlier = tracks.setdefault(track.path, track)
        if bool(earlier.tags) != bool(track.tags):
            both = ", ".join(sorted(earlier.tags | track.tags))
            faults.append(f"{track.path} is listed with tags ({both}) and without any; remove one of the two")
        tracks[track.path] = LabelledTrack(track.path, earlier.tags | track.tags, earlier.artist or track.artist)
    if missing := [str(path) for path in tracks if not _is_file(path)]:
        faults.append(
            f"{len(missing)} of {len(tracks)} audio files do not exist, is their folder named (--audio)? "
            f"{errors.join_some(missing)}"
        )
    names = vocabulary(tracks.values())
    if not names and not faults:
        faults.append("no track has a tag")
    if len(names) > MAX_TAGS:
        faults.append(
            f"there are {len(names):,} tags, such as {errors.join_some(names)}; expected {MAX_TAGS:,} or less"
        )
    if faults:
        raise DatasetError(f"the labels in {name} cannot be used: {errors.join_errors(faults)}")
    return list(tracks.values())


def _tag(name: str) -> str:
    """The name of a tag without its category and needless blanks."""
    return " ".join(tags.name(name).split())


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (False instead of an error for a name too long for a path)


def _text(path: Path) -> str:
    """The text of a file of labels; raises `DatasetError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DatasetError(f"{path} is longer than {MAX_BYTES:,} bytes; expected labels: TSV, CSV or a playlist")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if path.suffix.lower() == ".m3u":  # by the older convention these are in the encoding of Windows
            return content.decode("cp1252", "replace")
        where = f"byte {error.start + 1}"
        raise DatasetError(f"{path} is not in UTF-8 ({error.reason} at {where}); save it in UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path} cannot be read: {reason}; give labels: TSV, CSV, playlists or a folder") from error

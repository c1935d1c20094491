"""Labels of tracks, read from a TSV of MTG-Jamendo, a CSV, playlists, or folders whose names are tags."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from moodfield import audio, errors, tags
from moodfield.datasets import mtg_jamendo
from moodfield.errors import DatasetError

MAX_TAGS = 1_000
"""tags that one model may learn"""
PLAYLISTS = frozenset((".m3u", ".m3u8"))
"""suffixes of playlists; the name of one is a tag"""
PATH_COLUMNS = frozenset(("path", "file", "filename"))
"""names of the first column of a CSV with a header"""
SEPARATOR = ";"
"""between the tags of a track in a CSV"""
MAX_BYTES = 2**26
"""longest file of labels that is read"""


@dataclass(frozen=True, eq=False)
class Labels:
    """Tracks and their tags."""

    paths: tuple[Path, ...]
    """audio files, each once"""
    vocabulary: tuple[str, ...]
    """tags, sorted"""
    truth: Bool[np.ndarray, "tracks tags"]
    """which track has which tag"""


def read(sources: Sequence[str | Path], *, audio_dir: str | Path | None = None) -> Labels:
    """Read labels.

    Args:
        sources: One or more of: a TSV in MTG-Jamendo's form; a CSV with a path and tags separated by `;` in each line;
            playlists, whose names are tags; a folder with playlists, or with a folder of audio files for each tag.
        audio_dir: Folder that relative paths are in; by default that of the file which has them.

    Raises:
        DatasetError: A source cannot be read, audio files are missing, or a track has contradictory labels; the message
            lists all faults.
    """
    named: dict[Path, set[str]] = {}
    faults: list[str] = []
    for source in map(Path, sources):
        for path, names in _read(source, Path(audio_dir) if audio_dir else None, faults):
            named.setdefault(path, set()).update(names)
    faults += [f"{path} does not exist" for path in named if not path.is_file()]
    vocabulary = tuple(sorted({name for names in named.values() for name in names}))
    if not vocabulary and not faults:
        faults.append("no track has a tag")
    if len(vocabulary) > MAX_TAGS:
        faults.append(f"there are {len(vocabulary):,} tags; expected at most {MAX_TAGS:,}")
    if faults:
        listing = ", ".join(map(str, sources))
        raise DatasetError(f"the labels in {listing} cannot be used: {errors.join_errors(faults)}")
    truth = np.array([[tag in names for tag in vocabulary] for names in named.values()])
    return Labels(tuple(named), vocabulary, truth)


def _read(source: Path, audio_dir: Path | None, faults: list[str]) -> Iterator[tuple[Path, set[str]]]:
    """The tracks of one source with their tags."""
    if source.is_dir():
        yield from _read_folder(source, audio_dir, faults)
    elif source.suffix.lower() in PLAYLISTS:
        yield from _read_playlist(source, audio_dir, faults)
    elif _text(source).startswith(mtg_jamendo.HEADER[0]):
        for track in mtg_jamendo.read(source).tracks:
            yield mtg_jamendo.locate(audio_dir or source.parent, track.path), set(track.tags)
    else:
        yield from _read_csv(source, audio_dir or source.parent, faults)


def _read_folder(folder: Path, audio_dir: Path | None, faults: list[str]) -> Iterator[tuple[Path, set[str]]]:
    """Playlists in a folder, and audio files in the folders of tags."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    playlists = [path for path in entries if path.suffix.lower() in PLAYLISTS]
    folders = [path for path in entries if path.is_dir()]
    if not playlists and not folders:
        faults.append(f"{folder} has neither playlists nor folders, whose names would be tags")
    for playlist in playlists:
        yield from _read_playlist(playlist, audio_dir, faults)
    for each in folders:
        if not (found := audio.find(each)):
            faults.append(f"{each} has no audio files")
        for path in found:
            yield path, {_tag(each.name)}


def _read_playlist(playlist: Path, audio_dir: Path | None, faults: list[str]) -> Iterator[tuple[Path, set[str]]]:
    """The tracks of an M3U playlist; its name is their tag."""
    lines = [line.strip() for line in _text(playlist).splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        faults.append(f"{playlist} has no tracks")
    for entry in entries:
        path = Path(entry.replace("\\", "/") if "\\" in entry and "/" not in entry else entry)
        roots = (playlist.parent, audio_dir) if audio_dir else (playlist.parent,)
        places = [root / path for root in roots]
        yield next((place for place in places if place.is_file()), places[-1]), {_tag(playlist.stem)}


def _read_csv(source: Path, audio_dir: Path, faults: list[str]) -> Iterator[tuple[Path, set[str]]]:
    """The tracks of a CSV: a path and tags in each line, with or without a header."""
    seen: dict[Path, tuple[int, set[str]]] = {}
    rows = csv.reader(io.StringIO(_text(source), newline=""))
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and row[0].strip().casefold() in PATH_COLUMNS):
            continue
        if len(row) < 2:
            faults.append(f"{source}, line {number} has no tags: {row[0]!r}; expected path,tag;tag")
            continue
        path = audio_dir / row[0].strip()
        names = {_tag(name) for cell in row[1:] for name in cell.split(SEPARATOR) if name.strip()}
        earlier, known = seen.setdefault(path, (number, names))
        if known != names:
            faults.append(f"{source}, lines {earlier} and {number} have different tags for {row[0]}")
        yield path, names


def _tag(name: str) -> str:
    return " ".join(tags.name(name).split())


def _text(path: Path) -> str:
    """The text of a file of labels; raises `DatasetError`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{path} is longer than {MAX_BYTES:,} bytes; expected labels")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error

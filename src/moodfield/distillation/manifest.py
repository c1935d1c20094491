"""The manifest of the music for distillation: tracks, licences, and which packages are held out."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moodfield import tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import DatasetError

COLUMNS = ("split", "package", "path", "seconds", "licence")
"""columns of a manifest that are read"""


@dataclass(frozen=True)
class Music:
    """Freely licensed music without tags, split by package: no package is in both splits."""

    train: Split
    """training tracks"""
    heldout: Split
    """tracks of other packages, for evaluation"""
    licences: dict[str, str]
    """package → licences of its tracks"""
    sha256: str
    """SHA-256 of the manifest"""

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks of both splits."""
        return self.train.tracks + self.heldout.tracks

    def summary(self, tracks: Sequence[Track]) -> str:
        """Count tracks, hours and packages, with licences; tracks that are not in the manifest are not counted."""
        own = {track.id for track in self.tracks}
        tracks = [track for track in tracks if track.id in own]
        counts = Counter(track.path.partition("/")[0] for track in tracks)
        hours = sum(track.seconds for track in tracks) / 3600
        packages = "; ".join(f"{package} {count} ({self.licences[package]})" for package, count in counts.items())
        return f"{len(tracks)} tracks, {hours:.1f} h: {packages}"


def read_manifest(path: str | Path) -> Music:
    """Read the manifest of music: a TSV with at least the `COLUMNS`; the file of a track is `package/path`.

    Raises:
        DatasetError: It cannot be read, a row is invalid or its path unsafe, or a split has no tracks.
    """
    try:
        content = Path(path).read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as a manifest of music: {error}") from error
    if missing := set(COLUMNS) - set(rows[0] if rows else ()):
        raise DatasetError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    tracks: dict[str, list[Track]] = {"train": [], "heldout": []}
    licences: dict[str, dict[str, None]] = {}
    for row in rows:
        track = _track(row, path)
        if row["split"] not in tracks:
            raise DatasetError(f"{path}: split of {track.path} is {row['split']!r}; expected 'train' or 'heldout'")
        tracks[row["split"]].append(track)
        licences.setdefault(row["package"], {})[row["licence"]] = None
    if empty := [split for split, members in tracks.items() if not members]:
        raise DatasetError(f"{path} has no tracks in split {empty[0]!r}; expected training and held-out tracks")
    train, heldout = (Split(tuple(tracks[split]), tags.MOODS_AND_THEMES) for split in ("train", "heldout"))
    named = {package: ", ".join(kinds) for package, kinds in licences.items()}
    return Music(train, heldout, named, hashlib.sha256(content).hexdigest())


def _track(row: dict[str, str], path: str | Path) -> Track:
    """The track of a row; raises `DatasetError` if the row is invalid."""
    name = f"{row['package']}/{row['path']}"
    if not row["package"] or not row["path"] or any(map(mtg_jamendo.leaves_folder, (row["package"], row["path"]))):
        raise DatasetError(f"{path}: {name!r} leaves the folder of the music; give a path below it")
    try:
        seconds = float(row["seconds"])
    except (TypeError, ValueError) as error:  # TypeError: a short row has None
        raise DatasetError(f"{path}: seconds of {name} are {row['seconds']!r}; expected a number") from error
    if row["licence"] is None:
        raise DatasetError(f"{path}: the row of {name} is too short: it has no licence")
    return Track(name, name, seconds, ())

"""The manifest of the music for distillation: tracks, licences, and which packages are held out."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from moodfield import errors, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import DatasetError

COLUMNS = ("split", "package", "path", "seconds", "licence")
"""columns that a manifest has"""
OPTIONAL_COLUMNS = ("kind", "artist", "source", "sha256")
"""columns that it may have"""
KINDS = (
    "ambient", "chiptune", "electronic", "orchestral", "classical", "piano", "acoustic", "jazz", "lo-fi", "hip-hop",
    "rock", "metal", "song",
)  # fmt: skip
"""kinds of music in the project's own manifest; `acoustic` is guitar and folk, `song` is singing of any kind"""
UNKNOWN = "unknown"
"""kind of a track whose manifest has none"""


@dataclass(frozen=True)
class Piece:
    """One row of a manifest; cells of `OPTIONAL_COLUMNS` may be empty."""

    split: str
    """`train` or `heldout`"""
    package: str
    """name of a package, album or collection: the folder of the file"""
    path: str
    """place of the file in that folder"""
    seconds: float
    """duration"""
    licence: str
    """licence of the file"""
    kind: str = UNKNOWN
    """kind of music, in the project's own manifest one of `KINDS`"""
    artist: str = ""
    """who made it"""
    source: str = ""
    """where the file comes from, see `music/README.md`"""
    sha256: str = ""
    """checksum of the file, or of those from which it is made"""

    @property
    def id(self) -> str:
        """Identifier and path of the track: `package/path`."""
        return f"{self.package}/{self.path}"


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
    pieces: tuple[Piece, ...] = ()
    """all rows, in the order of the manifest"""

    @property
    def kinds(self) -> dict[str, str]:
        """Identifier of each track → its kind of music."""
        return {piece.id: piece.kind for piece in self.pieces}

    def hours(self, *columns: str) -> dict[tuple[str, ...], float]:
        """Sum the hours of music by one or more columns, as by `hours("kind", "split")`; the most hours come first.

        Raises:
            UnknownNameError: There is no such column.

        """
        table = {name: attrgetter(name) for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name != "seconds"}
        cells = [errors.get_or_suggest(table, column, what="column") for column in columns]
        seconds: dict[tuple[str, ...], float] = {}
        for piece in self.pieces:
            group = tuple(cell(piece) for cell in cells)
            seconds[group] = seconds.get(group, 0) + piece.seconds
        return {group: total / 3600 for group, total in sorted(seconds.items(), key=lambda item: -item[1])}

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
    pieces = tuple(_piece(row, path) for row in rows)
    tracks: dict[str, list[Track]] = {"train": [], "heldout": []}
    licences: dict[str, dict[str, None]] = {}
    for piece in pieces:
        if piece.split not in tracks:
            raise DatasetError(f"{path}: split of {piece.id} is {piece.split!r}; expected 'train' or 'heldout'")
        tracks[piece.split].append(Track(piece.id, piece.id, piece.seconds, ()))
        licences.setdefault(piece.package, {})[piece.licence] = None
    if empty := [split for split, members in tracks.items() if not members]:
        raise DatasetError(f"{path} has no tracks in split {empty[0]!r}; expected training and held-out tracks")
    train, heldout = (Split(tuple(tracks[split]), tags.MOODS_AND_THEMES) for split in ("train", "heldout"))
    named = {package: ", ".join(names) for package, names in licences.items()}
    return Music(train, heldout, named, hashlib.sha256(content).hexdigest(), pieces)


def _piece(row: dict[str, str], path: str | Path) -> Piece:
    """The piece of a row; raises `DatasetError` if the row is invalid."""
    name = f"{row['package']}/{row['path']}"
    if not row["package"] or not row["path"] or any(map(mtg_jamendo.leaves_folder, (row["package"], row["path"]))):
        raise DatasetError(f"{path}: {name!r} leaves the folder of the music; give a path below it")
    try:
        seconds = float(row["seconds"])
    except (TypeError, ValueError) as error:  # TypeError: a short row has None
        raise DatasetError(f"{path}: seconds of {name} are {row['seconds']!r}; expected a number") from error
    if row["licence"] is None:
        raise DatasetError(f"{path}: the row of {name} is too short: it has no licence")
    optional = {column: cell for column in OPTIONAL_COLUMNS if (cell := row.get(column))}
    return Piece(row["split"], row["package"], row["path"], seconds, row["licence"], **optional)

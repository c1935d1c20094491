"""Moods and themes of tracks by the decisions of a library, which scans them first."""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from moodfield.errors import FileTagsError, MoodfieldError
from moodfield.file_tags.plan import TrackTags
from moodfield.file_tags.writing import Written
from moodfield.library import database, decided
from moodfield.library import scan as library_scan
from moodfield.library.scan import Plan


class LibraryTags:
    """The decided tags of all tracks of a library, by path."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        model: str | None = None,
        absolute: bool = False,
        scores: bool = False,
    ) -> None:
        """Decisions of a model, by default that of most tracks; raises `LibraryError` if no track is tagged."""
        self.decided = decided.decide(connection, model=model, relative=not absolute)
        self._scores = scores
        self._rows = {track.path: row for row, track in enumerate(self.decided.tracks)}
        self._errors = {track.path: track.error for track in self.decided.untagged}

    def read(self, path: Path) -> TrackTags:
        """The tags of a track; raises `FileTagsError` if the model has not tagged it."""
        name = os.path.abspath(path)  # noqa: PTH100 (Path.absolute keeps ..)
        row = self._rows.get(name)
        if row is None:
            raise FileTagsError(
                self._errors.get(name)
                or f"{path} has no tags of {self.decided.model.name}; run: moodfield library scan --retag"
            )
        themes = frozenset(self.decided.model.themes)
        tags = self.decided.decided(row)
        moods = tuple(tag for tag in tags if tag not in themes)
        removed = tuple(sorted(self.decided.correction(row).removed))
        return TrackTags(moods, tuple(tag for tag in tags if tag in themes), self._json(row), removed)

    def _json(self, row: int) -> str:
        """The scores of a track as JSON, if they are wanted."""
        if not self._scores:
            return ""
        values = map(float, self.decided.scores[row])
        return json.dumps(
            {tag: round(score, 3) for tag, score in zip(self.decided.model.vocabulary, values, strict=True)}
        )


def plan_scan(connection: sqlite3.Connection, paths: Sequence[Path], *, jobs: int = 1) -> Plan:
    """What a library does not have of the files below paths; the caller holds its lock."""
    return library_scan.plan(connection, paths, (), jobs=jobs)


def scan(connection: sqlite3.Connection, plan: Plan, *, jobs: int = 1) -> Iterator[tuple[Path, MoodfieldError | None]]:
    """Tag the files of a plan with the bundled model; yields each of them, with the error if it cannot be tagged."""
    return library_scan.run(connection, plan, (), jobs=jobs)


def note_written(connection: sqlite3.Connection, path: Path, written: Written) -> None:
    """Note the new state of a file whose tags were written, so that it is not tagged again."""
    if written.after is not None:
        library_scan.note_rewritten(connection, path, written.before, written.after, written.digest)


def find_moved(library: Path, digest: bytes) -> Path | None:
    """Where a library has a file with this content; None if nowhere."""
    if not library.is_file():
        return None
    with database.read(library) as connection:
        row = connection.execute("SELECT path FROM tracks WHERE digest = ? AND missing IS NULL", (digest,)).fetchone()
    return Path(row[0]) if row and os.path.lexists(row[0]) else None

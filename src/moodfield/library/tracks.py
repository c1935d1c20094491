"""Tracks of a library: which of them fit a filter by metadata, and one of them by path or words."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moodfield import errors
from moodfield.errors import LibraryError
from moodfield.library import database

COLUMNS = "id, path, size, mtime, digest, missing, error, reason, duration, title, artist, album, genre, year"

Range = tuple[int | float | None, int | float | None]
"""smallest and largest value, both included; None: no limit"""


@dataclass(frozen=True)
class LibraryTrack:
    """A file that a library knows."""

    id: int
    """number in the database"""
    path: str
    """absolute path"""
    size: int
    """bytes"""
    mtime: int
    """time of its last change when it was read, in nanoseconds"""
    digest: bytes | None
    """SHA-256 of its content; None if it could not be read"""
    missing: int | None
    """when it was noticed that the file has gone, in seconds since 1970"""
    error: str | None
    """why it could not be tagged"""
    reason: str | None
    """the same as a short code"""
    duration: float | None
    """seconds"""
    title: str
    """title, or the name of the file"""
    artist: str
    """artist; empty if unknown"""
    album: str
    """album; empty if unknown"""
    genre: str
    """genre; empty if unknown"""
    year: int | None
    """year; None if unknown"""

    @property
    def group(self) -> str:
        """What stands for the artist: the artist, or the folder if that is unknown."""
        return self.artist.casefold() or os.path.dirname(self.path)  # noqa: PTH120 (there are 100,000 of them)

    @property
    def label(self) -> str:
        """Artist and title, for people."""
        return f"{self.artist} – {self.title}" if self.artist else self.title


@dataclass(frozen=True)
class Filter:
    """Which tracks are wanted; every condition must hold."""

    tags: tuple[str, ...] = ()
    """moods and themes that all are decided"""
    without: tuple[str, ...] = ()
    """moods and themes that are not decided"""
    evidence: float | None = None
    """evidence that `tags` have at least, whether they are decided or not"""
    artist: str = ""
    """part of the artist"""
    album: str = ""
    """part of the album"""
    genre: str = ""
    """part of the genre"""
    path: str = ""
    """part of the path"""
    year: Range = (None, None)
    """years"""
    duration: Range = (None, None)
    """seconds"""
    corrected: bool = False
    """only tracks with corrections"""
    failed: bool = False
    """only files that could not be tagged"""
    missing: bool = False
    """only files that have gone, which are left out otherwise"""
    ids: tuple[int, ...] = ()
    """numbers of tracks; also of missing ones"""
    also: tuple[int, ...] = ()
    """numbers of tracks that fit whatever the other conditions on metadata are"""

    @property
    def by_tags(self) -> bool:
        """Whether there is a condition on tags."""
        return bool(self.tags or self.without)


ALL = Filter()
"""all tracks that are there"""


def select(connection: sqlite3.Connection, wanted: Filter = ALL) -> list[LibraryTrack]:
    """The tracks that fit the filter's conditions on metadata, by path; those on tags are up to `decided`."""
    return [LibraryTrack(*row) for row in _select(connection, COLUMNS, wanted)]


def select_ids(connection: sqlite3.Connection, wanted: Filter = ALL) -> list[int]:
    """The numbers of the same tracks."""
    return [number for (number,) in _select(connection, "id", wanted)]


def _select(connection: sqlite3.Connection, columns: str, wanted: Filter) -> sqlite3.Cursor:
    """Columns of the tracks that fit a filter's conditions on metadata, by path."""
    conditions = ["missing IS NOT NULL" if wanted.missing else "missing IS NULL"]
    values: list[object] = []
    if wanted.ids:
        conditions = [f"id IN ({', '.join('?' * len(wanted.ids))})"]
        values += wanted.ids
    if wanted.corrected:
        conditions.append("id IN (SELECT track FROM corrections)")
    if wanted.failed:
        conditions.append("error IS NOT NULL")
    for name in ("artist", "album", "genre", "path"):
        if part := getattr(wanted, name):
            conditions.append(f"contains(CAST({name} AS BLOB), ?)")
            values.append(database.encode(part.casefold()))
    for name in ("year", "duration"):
        for limit, sign in zip(getattr(wanted, name), (">=", "<="), strict=True):
            if limit is not None:
                conditions.append(f"{name} {sign} ?")
                values.append(limit)
    condition = f"({' AND '.join(conditions)}) OR id IN ({', '.join('?' * len(wanted.also))})"
    query = f"SELECT {columns} FROM tracks WHERE {condition} ORDER BY path"
    return connection.execute(query, [*values, *wanted.also])


def read(connection: sqlite3.Connection, ids: Sequence[int]) -> list[LibraryTrack]:
    """Tracks by their numbers, in this order."""
    query = f"SELECT {COLUMNS} FROM tracks WHERE id = ?"
    return [LibraryTrack(*connection.execute(query, (number,)).fetchone()) for number in ids]


def locate(connection: sqlite3.Connection, name: str | Path) -> LibraryTrack:
    """The one track that is meant: by its path, or by words of its artist, title and path.

    Raises:
        LibraryError: No track is meant, or several.
    """
    path = os.path.abspath(name)  # noqa: PTH100 (Path.absolute keeps ..)
    query = f"SELECT {COLUMNS} FROM tracks WHERE path = CAST(? AS TEXT)"
    if row := connection.execute(query, (database.encode(path),)).fetchone():
        return LibraryTrack(*row)
    words = str(name).casefold().split()
    text = "(artist || ' ' || title || ' ' || path)"
    condition = " AND ".join(f"contains(CAST({text} AS BLOB), ?)" for _ in words) or "FALSE"
    query = f"SELECT {COLUMNS} FROM tracks WHERE {condition} ORDER BY missing IS NOT NULL, path"
    matches = [LibraryTrack(*row) for row in connection.execute(query, list(map(database.encode, words)))]
    titled = [track for track in matches if track.title.casefold() == str(name).casefold()]
    if len(matches) == 1 or len(titled) == 1:
        return titled[0] if titled else matches[0]
    if not matches:
        raise LibraryError(f"the library has no track {name}; give its path, or words of its artist, title and path")
    listed = errors.join_some((track.path for track in matches), "; ")
    raise LibraryError(f"{len(matches)} tracks have {name!r} in artist, title or path: {listed}; give the path of one")


@dataclass(frozen=True)
class Correction:
    """Tags of a track by a person."""

    added: frozenset[str] = field(default_factory=frozenset)
    """tags that it has"""
    removed: frozenset[str] = field(default_factory=frozenset)
    """tags that it has not"""


def corrections(connection: sqlite3.Connection) -> dict[int, Correction]:
    """The corrections of all corrected tracks, by number."""
    tags: dict[int, tuple[set[str], set[str]]] = {}
    for track, tag, present in connection.execute("SELECT track, tag, present FROM corrections"):
        tags.setdefault(track, (set(), set()))[not present].add(tag)
    return {track: Correction(frozenset(added), frozenset(removed)) for track, (added, removed) in tags.items()}


def correct(
    connection: sqlite3.Connection,
    track: int,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    clear: bool = False,
) -> None:
    """Correct the tags of a track; later corrections of a tag win.

    Args:
        connection: Of the library, for writing.
        track: Number of the track.
        add: Tags that it has.
        remove: Tags that it has not.
        clear: Whether earlier corrections are forgotten first.
    """
    rows = [(track, tag, present) for tags, present in ((add, 1), (remove, 0)) for tag in tags]
    with database.transaction(connection):
        if clear:
            connection.execute("DELETE FROM corrections WHERE track = ?", (track,))
        connection.executemany("REPLACE INTO corrections VALUES (?, ?, ?)", rows)


def prune(connection: sqlite3.Connection, folders: Sequence[Path] = (), *, corrected: bool = False) -> tuple[int, int]:
    """Remove tracks whose files have gone, or all of some folders, which later scans leave out.

    Args:
        connection: Of the library, for writing.
        folders: Folders to forget.
        corrected: Whether tracks with corrections are removed, too.

    Returns:
        How many tracks were removed, and how many were kept because they are corrected.

    Raises:
        LibraryError: The library has nothing of a folder.
    """
    conditions, values = ["missing IS NOT NULL"], list[bytes | int]()
    if folders:
        conditions = []
        for folder in map(os.path.abspath, folders):
            below = database.encode(folder.rstrip(os.sep) + os.sep)
            conditions.append("path = CAST(? AS TEXT) OR substr(CAST(path AS BLOB), 1, ?) = ?")
            values += [database.encode(folder), len(below), below]
    chosen = f"({' OR '.join(conditions)})"
    kept = "" if corrected else "AND id NOT IN (SELECT track FROM corrections)"
    with database.transaction(connection):
        removed = connection.execute(f"DELETE FROM tracks WHERE {chosen} {kept}", values).rowcount
        (left,) = connection.execute(f"SELECT count(*) FROM tracks WHERE {chosen}", values).fetchone()
        forgotten = connection.execute(f"DELETE FROM folders WHERE {chosen}", values).rowcount if folders else 0
        if folders and not (removed or left or forgotten):
            raise LibraryError(f"the library has nothing of {errors.join_some(map(str, folders))}")
    return removed, int(left)

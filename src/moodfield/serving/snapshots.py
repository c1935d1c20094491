"""The decided tracks of a library, kept in memory until the library changes."""

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from moodfield.errors import LibraryError
from moodfield.library import database, decided, models, projection, similarity, tracks
from moodfield.library.decided import DecidedTracks
from moodfield.library.similarity import Embeddings
from moodfield.library.tracks import Correction, Filter, LibraryTrack
from moodfield.report import regions
from moodfield.report.regions import Region
from moodfield.report.track_map import ASPECT, TrackMap
from moodfield.serving.problems import ProblemError
from moodfield.serving.schemas import Corrections

PATIENCE = 10.0
"""a snapshot of a library that changes, as during a scan, is used for this many times its computing time"""


class Snapshot:
    """The state of a library at one time; its tracks are in the order of artist, album and title."""

    def __init__(self, path: Path, decided: DecidedTracks, embeddings: Embeddings | None = None) -> None:
        self.decided = decided
        self._path, self._lock = path, threading.Lock()
        self._embeddings = embeddings
        self._map: dict[str, object] | None = None

    @cached_property
    def rows(self) -> dict[int, int]:
        """Row of each tagged track by its number."""
        return {track.id: row for row, track in enumerate(self.decided.tracks)}

    @cached_property
    def _texts(self) -> list[str]:
        """What words are searched in."""
        return [text(track) for track in self.decided.tracks]

    @property
    def embeddings(self) -> Embeddings:
        """Whitened embeddings of all tracks; raises `LibraryError` if the model has none."""
        with self._lock:
            if self._embeddings is None:
                with database.read(self._path) as connection:
                    self._embeddings = similarity.read(connection, self.decided.model)
            return self._embeddings

    @property
    def map(self) -> dict[str, object]:
        """The map of all tracks as columns; positions of new tracks are computed, and stored."""
        with self._lock:
            if self._map is None:
                with database.write(self._path) as connection:
                    self._map = to_columns(self.decided, projection.update(connection, self.decided))
            return self._map

    def choose(self, wanted: Filter, words: Sequence[str] = (), *, ids: Sequence[int] = ()) -> DecidedTracks:
        """The tagged tracks that fit a filter, have words in artist, title, album or path, and are of `ids`; by name.

        Without `ids` they may be any.
        """
        rows = sorted({self.rows[number] for number in ids if number in self.rows})
        if not ids:
            rows = list(range(len(self.decided.tracks)))
        if replace(wanted, tags=(), without=(), evidence=None) != tracks.ALL:
            with database.read(self._path) as connection:
                fitting = set(tracks.select_ids(connection, wanted))
            rows = [row for row in rows if self.decided.tracks[row].id in fitting]
        for word in map(str.casefold, words):
            rows = [row for row in rows if word in self._texts[row]]
        return decided.choose(self.decided.take(np.array(rows, np.int64)), wanted)

    def correct(self, number: int, correction: Correction) -> "Snapshot":
        """The same state with another correction of a track."""
        corrected = decided.correct(self.decided, self.rows[number], correction)
        return Snapshot(self._path, corrected, self._embeddings)

    def take(self, ids: Sequence[int]) -> DecidedTracks:
        """Tagged tracks by their numbers, in this order; raises `ProblemError` 404."""
        missing = [number for number in ids if number not in self.rows]
        if missing:
            raise ProblemError(404, f"the library has no tagged track {missing[0]}")
        return self.decided.take(np.array([self.rows[number] for number in ids], np.int64))


class Library:
    """A library that is served; snapshots of it are kept until it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._state: _FileState | None = None
        self._time, self._seconds = 0.0, 0.0
        with database.write(path):
            pass  # made, or brought to this version

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """A context with a connection that cannot write."""
        return database.read(self.path)

    def write(self) -> AbstractContextManager[sqlite3.Connection]:
        """A context with a connection that can write."""
        return database.write(self.path)

    def snapshot(self) -> Snapshot | None:
        """The decided tracks; None if the library has none."""
        with self._lock:
            state = _FileState.read(self.path)
            is_recent = time.monotonic() - self._time < PATIENCE * self._seconds
            if self._state is None or (state != self._state and not is_recent):
                start = time.monotonic()
                self._snapshot, self._state = self._decide(), state
                self._time, self._seconds = start, time.monotonic() - start
            return self._snapshot

    def tagged(self) -> Snapshot:
        """The decided tracks; raises `LibraryError` if there are none."""
        if (snapshot := self.snapshot()) is None:
            raise LibraryError("the library has no tagged tracks yet; scan a folder first")
        return snapshot

    def correct(self, number: int, body: Corrections) -> None:
        """Correct the tags of a track; the snapshot is changed, too, without all other tracks being decided anew."""
        with self._lock:
            is_current = self._state == _FileState.read(self.path)
            with self.write() as connection:
                tracks.correct(connection, number, add=body.add, remove=body.remove, clear=body.clear)
                correction = tracks.corrections(connection).get(number, Correction())
            if is_current and self._snapshot and number in self._snapshot.rows:
                self._snapshot, self._state = self._snapshot.correct(number, correction), _FileState.read(self.path)
            else:
                self._state = None

    def renew(self) -> None:
        """Decide anew at the next request, since something was changed."""
        with self._lock:
            self._state = None

    def _decide(self) -> Snapshot | None:
        with self.read() as connection:
            if not any(model.tracks for model in models.read(connection)):
                return None
            return Snapshot(self.path, decided.order(decided.decide(connection), "name"))


@dataclass(frozen=True)
class _FileState:
    """What changes when a library is written to: size and time of the database and of its log."""

    values: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, path: Path) -> "_FileState":
        parts = (path, path.with_name(f"{path.name}-wal"))
        states = [part.stat() if part.exists() else None for part in parts]
        return cls(tuple((state.st_size, state.st_mtime_ns) for state in states if state and state.st_size))


def text(track: LibraryTrack) -> str:
    """What words are searched in, in lower case."""
    return f"{track.artist} {track.title} {track.album} {track.path}".casefold()


def to_columns(decided: DecidedTracks, track_map: TrackMap) -> dict[str, object]:
    """A map as columns: numbers, positions and strongest moods of tracks; names of moods, and regions of the map.

    The strongest mood is the decided one with the largest evidence, or without any the one with the largest evidence.
    """
    columns = [decided.model.vocabulary.index(tag) for tag in track_map.tags]
    evidence, is_decided = decided.evidence[:, columns], decided.is_decided[:, columns]
    open_ = np.where(is_decided | ~is_decided.any(axis=1, keepdims=True), evidence, -np.inf)
    strongest = open_.argmax(axis=1) if len(columns) else np.zeros(len(decided.tracks), int)
    named = regions.name_regions(track_map) if len(decided.tracks) else []
    counts = _count_nearest(track_map, named)
    return {
        "ids": [track.id for track in decided.tracks],
        "x": track_map.x.round(4).tolist(),
        "y": track_map.y.round(4).tolist(),
        "tag": strongest.tolist(),
        "tags": list(track_map.tags),
        "regions": [
            {"tag": one.tag, "x": one.x, "y": one.y, "tracks": count} for one, count in zip(named, counts, strict=True)
        ],
    }


def _count_nearest(track_map: TrackMap, named: Sequence[Region]) -> list[int]:
    """The number of tracks that are nearest to each of the regions."""
    if not named:
        return []
    distances = [np.hypot((track_map.x - one.x) * ASPECT, track_map.y - one.y) for one in named]
    return np.bincount(np.argmin(distances, axis=0), minlength=len(named)).tolist()

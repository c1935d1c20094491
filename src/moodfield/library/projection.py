"""The map of a library: positions by moods, which stay where they are when tracks are added."""

import sqlite3
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from moodfield.library import database, report_tracks
from moodfield.library.decided import DecidedTracks
from moodfield.report import track_map
from moodfield.report.track_map import Axis, Features, Places, PrincipalAxes, TrackMap

GROWTH = 2.0
"""a map is fitted anew when the library has this many times the tracks that it was fitted to; *chosen by us*"""
MIN_PLACED = 0.5
"""share of the tracks that a map was fitted to below which it is fitted anew, since others are gone; *chosen by us*"""
SAMPLE = 20_000
"""tracks among which the neighbours of a new one are searched, at most"""
NEIGHBOURS = 4
"""neighbours between which a new track is placed"""
BATCH = 256
"""new tracks that are placed at once"""
CENTRE = 0.5


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the library has of its map."""

    tracks: int
    axes: PrincipalAxes
    positions: dict[int, tuple[float, float]]


def update(connection: sqlite3.Connection, decided: DecidedTracks) -> TrackMap:
    """The map of a library's tracks; positions of tracks that have none are computed, and stored.

    The first map is that of the report: principal components, spread evenly. A track that is added later is placed
    between its nearest neighbours by these components, and no other one moves. When the library has `GROWTH` times as
    many tracks, or fewer than `MIN_PLACED` of them are left, all are placed anew, mirrored so that the map resembles
    the former one.

    Args:
        connection: Of the library, for writing.
        decided: All tracks of the library.
    """
    reference = report_tracks.reference(decided)
    columns = track_map.mood_columns(reference)
    logits = track_map.finite_logits(decided.scores[:, columns])
    ids = np.array([track.id for track in decided.tracks], np.int64)
    stored = _read(connection, decided.model.id, len(columns))
    if stored is None or _is_outdated(stored, ids):
        fitted = track_map.lay_out(decided.scores, reference)
        if fitted is None:  # too few tracks
            places = np.full((len(ids), 2), CENTRE)
        else:
            places = _mirror(np.stack([fitted.x, fitted.y], axis=1), ids, stored)
            axes = PrincipalAxes.fit(logits[np.lexsort(logits.T[::-1])])
            _write(connection, decided.model.id, ids, places, fitted=axes)
    else:
        places = _place(ids, logits, stored)
        is_new = np.array([number not in stored.positions for number in ids.tolist()], bool)
        _write(connection, decided.model.id, ids[is_new], places[is_new])
    features = PrincipalAxes.fit(logits).standardize(logits) if len(logits) else logits
    names = tuple(reference.vocabulary[column] for column in columns)
    return TrackMap(places[:, 0], places[:, 1], Axis((), ()), Axis((), ()), features, names)


def _read(connection: sqlite3.Connection, model: int, tags: int) -> _Stored | None:
    """The stored map of a model, if there is one."""
    row = connection.execute("SELECT tracks, axes FROM maps WHERE model = ?", (model,)).fetchone()
    if row is None:
        return None
    mean, scale, *components = np.frombuffer(row[1], np.float64).reshape(4, tags)
    positions = connection.execute("SELECT track, x, y FROM positions WHERE model = ?", (model,))
    return _Stored(
        row[0], PrincipalAxes(mean, scale, np.array(components)), {track: (x, y) for track, x, y in positions}
    )


def _write(
    connection: sqlite3.Connection,
    model: int,
    ids: Int64[np.ndarray, "_tracks"],
    places: Float64[np.ndarray, "_tracks 2"],
    *,
    fitted: PrincipalAxes | None = None,
) -> None:
    """Store positions; with the axes of a new map, instead of all former ones."""
    if not len(ids) and fitted is None:
        return
    rows = [(track, model, x, y, track) for track, (x, y) in zip(ids.tolist(), places.tolist(), strict=True)]
    with database.transaction(connection):
        if fitted:
            axes = np.vstack([fitted.mean, fitted.scale, fitted.components]).astype(np.float64).tobytes()
            connection.execute("REPLACE INTO maps VALUES (?, ?, ?)", (model, len(ids), axes))
            connection.execute("DELETE FROM positions WHERE model = ?", (model,))
        connection.executemany(  # a track may have been removed meanwhile
            "REPLACE INTO positions SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM tracks WHERE id = ?)", rows
        )


def _is_outdated(stored: _Stored, ids: Int64[np.ndarray, "_tracks"]) -> bool:
    """Whether a map was fitted to too few of the tracks, or to too many others."""
    placed = sum(number in stored.positions for number in ids.tolist())
    return len(ids) >= GROWTH * stored.tracks or placed < MIN_PLACED * stored.tracks


def _place(ids: Int64[np.ndarray, "tracks"], logits: Features, stored: _Stored) -> Places:
    """Stored positions, and for new tracks the mean of their neighbours', weighted by the inverse squared distance."""
    principal = stored.axes.project(logits)
    is_placed = np.array([number in stored.positions for number in ids.tolist()], bool)
    places = np.array([stored.positions.get(number, (CENTRE, CENTRE)) for number in ids.tolist()]).reshape(-1, 2)
    placed, new = np.flatnonzero(is_placed), np.flatnonzero(~is_placed)
    sample = placed[:: max(1, len(placed) // SAMPLE)]
    count = min(NEIGHBOURS, len(sample))
    for start in range(0, len(new), BATCH):
        batch = new[start : start + BATCH]
        distances = ((principal[batch, None] - principal[sample]) ** 2).sum(axis=2)
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        weights = 1 / (np.take_along_axis(distances, nearest, axis=1) + 1e-9)
        places[batch] = (weights[..., None] * places[sample[nearest]]).sum(axis=1) / weights.sum(axis=1)[:, None]
    return places


def _mirror(places: Places, ids: Int64[np.ndarray, "tracks"], stored: _Stored | None) -> Places:
    """A new map, mirrored left to right and top to bottom if that is nearer to the former one."""
    rows = [row for row, number in enumerate(ids.tolist()) if stored and number in stored.positions]
    if stored is None or not rows:
        return places
    former = np.array([stored.positions[number] for number in ids[rows].tolist()]) - CENTRE
    agreement = (former * (places[rows] - CENTRE)).sum(axis=0)
    return np.where(agreement < 0, 1 - places, places)

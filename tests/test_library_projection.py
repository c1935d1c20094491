"""Tracks of a library have positions on its map, which stay when others are added."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import libraries
from libraries import StubTagger
from moodfield.library import database, decided, projection, report_tracks
from moodfield.report import track_map


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Of a library of 40 tracks."""
    libraries.make(tmp_path / "a.db", 40)
    with database.write(tmp_path / "a.db") as opened:
        yield opened


def add(connection: sqlite3.Connection, seeds: range, evidence: dict[str, float] | None = None) -> None:
    tagger = StubTagger()
    for seed in seeds:
        libraries.add(connection, libraries.tagging(seed, tagger, evidence), tagger)


def places(connection: sqlite3.Connection) -> np.ndarray:
    """Positions of the tracks, by path."""
    result = projection.update(connection, decided.decide(connection))
    return np.stack([result.x, result.y], axis=1)


def test_the_first_map_is_that_of_the_report(connection: sqlite3.Connection) -> None:
    tracks = decided.decide(connection)
    expected = track_map.lay_out(tracks.scores, report_tracks.reference(tracks))
    assert expected is not None
    np.testing.assert_allclose(places(connection), np.stack([expected.x, expected.y], axis=1))


def test_positions_stay_when_tracks_are_added(connection: sqlite3.Connection) -> None:
    before = places(connection)
    add(connection, range(40, 79))
    after = places(connection)
    np.testing.assert_array_equal(after[:40], before)
    np.testing.assert_array_equal(places(connection), after)
    assert (after >= 0).all()
    assert (after <= 1).all()


def test_a_copy_is_where_its_original_is(connection: sqlite3.Connection) -> None:
    before, tagger = places(connection), StubTagger()
    libraries.add(connection, libraries.tagging(7, tagger), tagger, path="/music/copy.ogg")
    np.testing.assert_allclose(places(connection)[-1], before[7], atol=1e-3)


def test_new_tracks_are_near_those_with_the_same_moods(connection: sqlite3.Connection) -> None:
    calm, wild = {"calm": 4.0, "energetic": -4.0}, {"calm": -4.0, "energetic": 4.0}
    add(connection, range(40, 70), calm)
    add(connection, range(70, 100), wild)
    places(connection)
    add(connection, range(100, 110), calm)
    add(connection, range(110, 120), wild)
    after = places(connection)
    centres = after[40:70].mean(axis=0), after[70:100].mean(axis=0)
    for rows, own, other in ((slice(100, 110), *centres), (slice(110, 120), *centres[::-1])):
        nearer = np.linalg.norm(after[rows] - own, axis=1) < np.linalg.norm(after[rows] - other, axis=1)
        assert nearer.all()


def test_twice_the_tracks_are_placed_anew_and_the_map_is_not_mirrored(connection: sqlite3.Connection) -> None:
    before = places(connection)
    connection.execute("UPDATE positions SET x = 1 - x")  # as if the axis had had the other sign
    add(connection, range(40, 80))
    after = places(connection)
    assert not np.array_equal(after[:40], before)
    assert np.corrcoef(after[:40, 0], 1 - before[:, 0])[0, 1] > 0.5
    assert connection.execute("SELECT tracks FROM maps").fetchone() == (80,)
    assert connection.execute("SELECT count(*) FROM positions").fetchone() == (80,)


def test_a_track_whose_content_changes_is_placed_anew(connection: sqlite3.Connection) -> None:
    places(connection)
    (track,) = connection.execute("SELECT id FROM tracks WHERE path = '/music/007.ogg'").fetchone()
    changed = libraries.tagging(300, StubTagger(), {"calm": 5.0})
    libraries.add(connection, changed, StubTagger(), path="/music/007.ogg")
    assert not connection.execute("SELECT * FROM positions WHERE track = ?", (track,)).fetchall()
    places(connection)
    assert len(connection.execute("SELECT * FROM positions WHERE track = ?", (track,)).fetchall()) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_few_tracks_are_in_the_middle_until_there_are_more(tmp_path: Path, count: int) -> None:
    libraries.make(tmp_path / "b.db", count)
    with database.write(tmp_path / "b.db") as connection:
        assert (places(connection) == projection.CENTRE).all()
        add(connection, range(count, 9))
        assert len(np.unique(places(connection), axis=0)) == 9


def test_removed_tracks_have_no_position(connection: sqlite3.Connection) -> None:
    places(connection)
    connection.execute("DELETE FROM tracks WHERE path = '/music/007.ogg'")
    assert connection.execute("SELECT count(*) FROM positions").fetchone() == (39,)
    assert len(places(connection)) == 39


@pytest.mark.parametrize("kept", [0, 5])
def test_a_library_with_other_tracks_gets_another_map(connection: sqlite3.Connection, kept: int) -> None:
    places(connection)
    connection.execute("DELETE FROM tracks WHERE id > ?", (kept,))
    add(connection, range(100, 130))
    after = places(connection)
    assert len(np.unique(after, axis=0)) == 30 + kept
    assert np.ptp(after, axis=0).min() > 0.3
    np.testing.assert_array_equal(places(connection), after)
    assert connection.execute("SELECT tracks FROM maps").fetchone() == (30 + kept,)


def test_libraries_of_the_first_schema_get_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        libraries.make(tmp_path / "old.db", 10)
    with database.write(tmp_path / "old.db") as connection:
        assert len(places(connection)) == 10
        assert connection.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)

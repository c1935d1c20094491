"""Decisions of a library, filters, orders, corrections, rows and statistics."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import libraries
import moodfield
from libraries import TAGS, StubTagger
from moodfield.decoding.metadata import Metadata
from moodfield.errors import LibraryError, UnknownNameError
from moodfield.library import database, decided, labels, models, rows, statistics, tracks
from moodfield.library.decided import DecidedTracks
from moodfield.library.tracks import Filter

COUNT = 60


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A library of 60 tracks."""
    path = tmp_path / "library.db"
    libraries.make(path, COUNT)
    return path


def decide(db: Path, wanted: Filter = tracks.ALL, **options: object) -> DecidedTracks:
    """Decisions for the tracks that fit."""
    with database.read(db) as connection:
        return decided.decide(connection, wanted, **options)


def numbers(result: DecidedTracks) -> list[int]:
    """The numbers in the names of tracks."""
    return [int(Path(track.path).stem) for track in result.tracks]


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_decisions_equal_those_of_taggings(tmp_path, relative, with_reference):
    path = tmp_path / "a.db"
    reference = libraries.REFERENCE if with_reference else None
    taggings = libraries.make(path, 40, StubTagger(reference=reference))
    result = decide(path, relative=relative)
    expected = moodfield.decide(taggings) if relative else taggings
    assert result.relative == relative
    assert any(tagging.decided for tagging in expected)
    for row, tagging in enumerate(expected):
        assert result.decided(row) == tagging.decided
        np.testing.assert_allclose(result.evidence[row], tagging.evidence, atol=1e-4)
        np.testing.assert_allclose(result.scores[row], tagging.scores, rtol=1e-5)


def test_few_tracks_without_a_reference_are_decided_absolutely(tmp_path):
    path = tmp_path / "a.db"
    taggings = libraries.make(path, 5, StubTagger(reference=None))
    result = decide(path)
    assert not result.relative
    assert [result.decided(row) for row in range(5)] == [tagging.decided for tagging in taggings]


def test_a_filter_does_not_change_what_is_usual(db):
    everything, some = decide(db), decide(db, Filter(artist="ARTIST 3"))
    assert numbers(some) == [number for number in range(COUNT) if number % 7 == 3]
    np.testing.assert_array_equal(some.evidence, everything.evidence[numbers(some)])


def test_a_growing_library_needs_no_new_scan(db):
    before = decide(db, Filter(ids=(1,))).evidence
    tagger = StubTagger()
    with database.write(db) as connection:
        for seed in range(100, 160):
            libraries.add(connection, libraries.tagging(seed, tagger, {"calm": 3.0}), tagger)
    after = decide(db, Filter(ids=(1,))).evidence
    calm = TAGS.index("calm")
    assert after[0, calm] < before[0, calm] - 0.3


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(album="bum 2"), lambda number: number % 3 == 2),
        (Filter(genre="JAZZ"), lambda _: True),
        (Filter(genre="rock"), lambda _: False),
        (Filter(path="/04"), lambda number: 40 <= number < 50),
        (Filter(year=(1992, 1993)), lambda number: number % 20 in (2, 3)),
        (Filter(year=(None, 1990)), lambda number: number % 20 == 0),
        (Filter(duration=(200.0, None)), lambda number: 180 + number >= 200),
        (Filter(artist="artist 1", year=(1991, 1991)), lambda number: number % 7 == 1 and number % 20 == 1),
    ],
)
def test_filters_by_metadata(db, wanted, expected):
    assert numbers(decide(db, wanted)) == [number for number in range(COUNT) if expected(number)]


def test_filters_by_tags(db):
    everything = decide(db)
    by_tag = {tag: {n for n in range(COUNT) if tag in everything.decided(n)} for tag in TAGS}
    assert set(numbers(decide(db, Filter(tags=("calm",))))) == by_tag["calm"]
    both = decide(db, Filter(tags=("calm", "film")))
    assert set(numbers(both)) == by_tag["calm"] & by_tag["film"]
    assert set(numbers(decide(db, Filter(tags=("calm",), without=("dark",))))) == by_tag["calm"] - by_tag["dark"]
    assert set(numbers(decide(db, Filter(without=("dark",))))) == set(range(COUNT)) - by_tag["dark"]
    strong = decide(db, Filter(tags=("calm",), evidence=0.5))
    assert set(numbers(strong)) == set(np.flatnonzero(everything.evidence[:, TAGS.index("calm")] >= 0.5))
    with pytest.raises(UnknownNameError, match="did you mean calm"):
        decide(db, Filter(tags=("clam",)))


def test_orders(db):
    result = decide(db)
    values = decided.order(result, "evidence", tags=("calm",)).evidence[:, TAGS.index("calm")]
    assert (np.diff(values) <= 0).all()
    assert (np.diff(decided.order(result, "evidence").evidence.max(axis=1)) <= 0).all()
    first, again = (numbers(decided.order(result, "random", seed=seed)) for seed in (1, 1))
    assert first == again != numbers(decided.order(result, "random", seed=2))
    names = [(track.artist, track.album, track.title) for track in decided.order(result, "name").tracks]
    assert names == sorted(names)
    assert numbers(decided.order(result, "path")) == list(range(COUNT))


def test_corrections_win_and_are_shown(db):
    result = decide(db)
    row = next(row for row in range(COUNT) if result.decided(row) and "calm" not in result.decided(row))
    removed = result.decided(row)[0]
    with database.write(db) as connection:
        tracks.correct(connection, result.tracks[row].id, add=["calm"], remove=[removed])
    after = decide(db)
    assert "calm" in after.decided(row)
    assert removed not in after.decided(row)
    assert row in numbers(decide(db, Filter(tags=("calm",))))
    assert numbers(decided.order(decide(db, Filter(tags=("calm",))), "evidence", tags=("calm",)))[0] == row
    values = list(rows.rows(after))[row]
    assert (values["added"], values["removed"]) == (["calm"], [removed])
    with database.write(db) as connection:
        tracks.correct(connection, result.tracks[row].id, clear=True)
    assert decide(db).decided(row) == result.decided(row)


def test_corrections_are_labels(db):
    result = decide(db)
    with database.read(db) as connection, pytest.raises(LibraryError, match="correct"):
        labels.corrected(connection)
    with database.write(db) as connection:
        for row in range(6):
            tracks.correct(connection, result.tracks[row].id, **{"add" if row % 2 else "remove": ["calm"]})
    with database.read(db) as connection:
        labelled = labels.corrected(connection)
    assert [track.tags for track in labelled] == [frozenset(["calm"] if row % 2 else []) for row in range(6)]
    assert labelled[1].artist == "artist 1"


def test_rows_have_the_documented_fields(db):
    with database.write(db) as connection:
        connection.execute("UPDATE tracks SET error = 'broken', reason = 'empty' WHERE path = '/music/000.ogg'")
        connection.execute("DELETE FROM taggings WHERE track = 1")
    values = list(rows.rows(decide(db)))
    assert len(values) == COUNT
    assert list(values[0]) == list(rows.FIELDS)
    assert values[-1]["error"] == {"reason": "empty", "message": "broken"}
    assert values[-1]["model"] is None
    assert list(values[-1]) == list(rows.FIELDS)[: len(values[-1])]
    page = (Path(__file__).parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
    assert all(f"`{field}`" in page for field in rows.FIELDS)


def test_rows_are_rounded_plain_values(db):
    row = next(rows.rows(decide(db)))
    assert json.loads(json.dumps(row)) == row
    assert row["path"] == "/music/000.ogg"
    assert row["modified"] == "1970-01-01T00:00:00Z"
    assert set(row["moods"]) | set(row["themes"]) == set(row["decided"])


def test_statistics(db):
    with database.read(db) as connection:
        result = decided.decide(connection)
        counts = statistics.count(result, models.read(connection), 1_000)
    assert (counts.tracks, counts.artists, counts.albums) == (COUNT, 7, 3)
    assert counts.models == [{"name": "stub", "tracks": COUNT}]
    assert list(counts.tags.values()) == sorted(counts.tags.values(), reverse=True)
    assert all(number == result.is_decided[:, TAGS.index(tag)].sum() for tag, number in counts.tags.items())
    assert sum(counts.tags.values()) == result.is_decided.sum()


def test_a_track_is_located_by_path_or_words(db, monkeypatch):
    with database.write(db) as connection:
        tagger = StubTagger()
        names = Metadata("Björk", "", "Jóga")
        libraries.add(connection, libraries.tagging(99, tagger), tagger, path="/music/b.ogg", names=names)
    with database.read(db) as connection:
        assert tracks.locate(connection, "/music/007.ogg").title == "title 7"
        monkeypatch.chdir(os.sep)
        assert tracks.locate(connection, "music/007.ogg").title == "title 7"
        assert tracks.locate(connection, "BJÖRK jóga").path == "/music/b.ogg"
        assert tracks.locate(connection, "title 5").title == "title 5", "titles that are equal come before others"
        with pytest.raises(LibraryError, match="no track"):
            tracks.locate(connection, "nothing of it")
        with pytest.raises(LibraryError, match="give the path"):
            tracks.locate(connection, "artist 3")
        with pytest.raises(LibraryError, match="no track"):
            tracks.locate(connection, " ")


def test_a_library_without_tags_is_an_error(tmp_path):
    path = tmp_path / "a.db"
    with database.write(path):
        pass
    with pytest.raises(LibraryError, match="library scan"):
        decide(path)


def test_a_damaged_array_is_an_error(db):
    with database.write(db) as connection:
        connection.execute("UPDATE taggings SET logits = x'00' WHERE track = 5")
    with pytest.raises(LibraryError, match="library check"):
        decide(db)

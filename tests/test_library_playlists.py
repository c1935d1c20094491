"""Similarity and playlists of a library, and their files."""

import json
import os
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

import libraries
from libraries import StubTagger
from moodfield.decoding.metadata import Metadata
from moodfield.errors import LibraryError, OutputError, UsageError
from moodfield.library import database, decided, playlist_files, playlists, similarity, tracks
from moodfield.library.decided import DecidedTracks
from moodfield.library.playlists import Playlist, Request
from moodfield.library.similarity import Embeddings

COUNT = 300


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of 300 tracks; not to be changed."""
    path = tmp_path_factory.mktemp("library") / "library.db"
    libraries.make(path, COUNT)
    return path


@pytest.fixture(scope="module")
def loaded(db: Path) -> tuple[DecidedTracks, Embeddings]:
    """Its decisions and embeddings."""
    with database.read(db) as connection:
        result = decided.decide(connection)
        return result, similarity.read(connection, result.model)


def create(loaded: tuple[DecidedTracks, Embeddings], minutes: int = 60, **options: object) -> Playlist:
    """A playlist."""
    return playlists.create(*loaded, Request(60.0 * minutes, **options))


# ---------------------------------------------------------------- similarity


def test_whitening_makes_components_equal_and_uncorrelated():
    drawn = np.random.default_rng(0).normal(size=(5_000, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    white = similarity.whiten(drawn)
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1, atol=1e-5)
    ratios = np.linalg.eigvalsh(np.cov(white.T))
    before = np.linalg.eigvalsh(np.cov(drawn.T))
    assert ratios.max() / ratios.min() < 0.1 * before.max() / before.min()


def test_search_is_exact(loaded):
    _, embeddings = loaded
    for track in embeddings.ids[:5]:
        row = int(np.flatnonzero(embeddings.ids == track)[0])
        values = embeddings.values @ embeddings.values[row]
        expected = sorted(zip(values.tolist(), embeddings.ids.tolist(), strict=True), reverse=True)[1:]
        nearest = similarity.nearest(embeddings, int(track), limit=7)
        assert [number for number, _ in nearest] == [number for _, number in expected[:7]]
        assert len(similarity.nearest(embeddings, int(track))) == COUNT - 1
    assert similarity.nearest(embeddings, int(embeddings.ids[0]), limit=10_000)


def test_a_copy_is_the_most_similar_track(tmp_path):
    path, tagger = tmp_path / "a.db", StubTagger()
    libraries.make(path, 30)
    with database.write(path) as connection:
        libraries.add(connection, libraries.tagging(4, tagger), tagger, path="/music/copy.ogg")
    with database.read(path) as connection:
        result = decided.decide(connection)
        embeddings = similarity.read(connection, result.model)
        number, value = similarity.nearest(embeddings, tracks.locate(connection, "/music/004.ogg").id, limit=1)[0]
        assert tracks.read(connection, [number])[0].path == "/music/copy.ogg"
    assert value == pytest.approx(1, abs=1e-5)


def test_one_track_has_no_neighbours(tmp_path):
    path = tmp_path / "a.db"
    libraries.make(path, 1)
    with database.read(path) as connection:
        result = decided.decide(connection)
        assert similarity.nearest(similarity.read(connection, result.model), result.tracks[0].id, limit=3) == []


# ---------------------------------------------------------------- playlists


def test_tracks_have_the_moods_and_not_the_others(loaded):
    result, _ = loaded
    playlist = create(loaded, tags=("calm",), without=("dark",))
    calm, dark = result.columns(["calm", "dark"])
    rows = [result.tracks.index(track) for track in playlist.tracks]
    assert len(rows) > 10
    assert (result.evidence[rows, calm] > 1).all()
    assert (result.evidence[rows, dark] <= 1).all()
    assert result.evidence[rows, calm].mean() > 1.2
    assert abs(playlist.seconds - 3_600) < 150
    assert len(set(rows)) == len(rows)


def test_no_artist_comes_twice_in_a_row(loaded):
    for options in ({"tags": ("calm",)}, {"tags": ("calm",), "energy": "peak"}, {"like": (3,)}, {"journey": (1, 2)}):
        artists = [track.artist for track in create(loaded, **options).tracks]
        assert len(artists) > 5
        assert all(first != second for first, second in pairwise(artists)), options


def test_no_recording_comes_twice(tmp_path):
    path, tagger = tmp_path / "a.db", StubTagger()
    libraries.make(path, 100)
    with database.write(path) as connection:
        for seed in range(100):
            libraries.add(connection, libraries.tagging(seed, tagger), tagger, path=f"/copies/{99 - seed}.ogg")
    with database.read(path) as connection:
        result = decided.decide(connection)
        pair = result, similarity.read(connection, result.model)
    for options in ({"tags": ("calm",)}, {"journey": (1, 2)}, {"like": (5,)}):
        titles = [track.title for track in create(pair, 45, **options).tracks]
        assert len(titles) == len(set(titles)) > 5


def test_one_artist_alone_may_come_twice(loaded):
    result, embeddings = loaded
    rows = np.array([row for row, track in enumerate(result.tracks) if track.artist == "artist 2"])
    playlist = playlists.create(result.take(rows), embeddings, Request(1_800.0, tags=("calm",)))
    assert len(playlist.tracks) > 1


def test_diversity_prefers_tracks_that_are_unlike(loaded):
    result, embeddings = loaded

    def likeness(playlist: Playlist) -> float:
        vectors = embeddings.values[embeddings.rows([track.id for track in playlist.tracks])]
        return float(np.mean((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]))

    plain = decided.order(result, "evidence", tags=("calm",))
    chosen = create(loaded, 30, tags=("calm",))
    best = Playlist(tuple(plain.tracks[: len(chosen.tracks)]), (), 0, 0.0)
    assert likeness(chosen) < likeness(best)


def test_seeds_give_other_playlists_and_the_same_again(loaded):
    first, again, other, best = (create(loaded, tags=("calm",), seed=seed).tracks for seed in (1, 1, 2, None))
    assert first == again
    assert len({first, other, best}) == 3


def test_like_a_track(loaded):
    _, embeddings = loaded
    track = int(embeddings.ids[17])
    playlist = create(loaded, 30, like=(track,))
    similarities = embeddings.similar(int(embeddings.rows([track])[0]))
    chosen = similarities[embeddings.rows([item.id for item in playlist.tracks])]
    assert track not in [item.id for item in playlist.tracks]
    assert chosen.mean() > np.quantile(similarities, 0.9)


def test_a_journey_leads_from_one_track_to_the_other(loaded):
    _, embeddings = loaded
    first, last = int(embeddings.ids[5]), int(embeddings.ids[40])
    playlist = create(loaded, 45, journey=(first, last))
    ids = [track.id for track in playlist.tracks]
    assert (ids[0], ids[-1]) == (first, last)
    assert len(set(ids)) == len(ids) > 8
    assert abs(playlist.seconds - 45 * 60) < 400
    rows = embeddings.rows(ids)
    nearer = embeddings.values[rows] @ (embeddings.values[rows[-1]] - embeddings.values[rows[0]])
    assert np.corrcoef(np.arange(len(rows)), nearer)[0, 1] > 0.8


def test_a_journey_has_no_artist_twice_in_a_row_and_is_near_the_line(loaded):
    result, embeddings = loaded
    for first, last in ((5, 40), (1, 8), (2, 100), (3, 290)):  # 1 and 8 are of one artist
        for minutes in (10, 20, 60):
            playlist = create(loaded, minutes, journey=(int(embeddings.ids[first]), int(embeddings.ids[last])))
            groups = [track.group for track in playlist.tracks]
            assert len(groups) > 2
            assert all(one != other for one, other in pairwise(groups))
    few = result.take(np.array([5, 40, *(row for row in range(300) if row % 7 == 40 % 7 and row != 40)][:9]))
    tracks_ = playlists.create(few, embeddings, Request(9_000.0, journey=(few.tracks[0].id, few.tracks[1].id))).tracks
    assert [track.id for track in (tracks_[0], tracks_[-1])] == [few.tracks[0].id, few.tracks[1].id]


def test_candidates_of_a_journey_are_near_the_line(loaded, monkeypatch):
    _, embeddings = loaded
    journey = (int(embeddings.ids[5]), int(embeddings.ids[40]))
    everything = create(loaded, 30, journey=journey)
    monkeypatch.setattr(playlists, "POOL", 60)
    near = create(loaded, 30, journey=journey)
    same = {track.id for track in everything.tracks} & {track.id for track in near.tracks}
    assert len(same) > 0.6 * len(near.tracks)


@pytest.mark.parametrize(("curve", "sign"), [("rising", 1), ("falling", -1)])
def test_energy_rises_and_falls(loaded, curve, sign):
    result, _ = loaded
    energy = playlists.energy(result)
    playlist = create(loaded, tags=("film",), energy=curve)
    values = [energy[result.tracks.index(track)] for track in playlist.tracks]
    assert sign * np.corrcoef(np.arange(len(values)), values)[0, 1] > 0.85
    assert {track.id for track in playlist.tracks} == {track.id for track in create(loaded, tags=("film",)).tracks}


@pytest.mark.parametrize("curve", ["rising", "falling", "peak"])
def test_energy_keeps_artists_apart(loaded, curve):
    result, embeddings = loaded
    energy = playlists.energy(result)
    order = np.argsort(energy)
    two = [np.array([row for row in order if result.tracks[row].artist == f"artist {n}"]) for n in (1, 2)]
    some = result.take(np.concatenate([two[0][:8], two[1][-8:]]))  # one artist has little energy, the other much
    tracks_ = playlists.create(some, embeddings, Request(10_000.0, like=(int(embeddings.ids[0]),), energy=curve)).tracks
    artists = [track.artist for track in tracks_]
    assert len(artists) > 10
    assert all(first != second for first, second in pairwise(artists))


def test_energy_has_its_peak_in_the_middle(loaded):
    result, _ = loaded
    energy = playlists.energy(result)
    values = np.array([energy[result.tracks.index(t)] for t in create(loaded, tags=("film",), energy="peak").tracks])
    third = len(values) // 3
    assert values[third:-third].mean() > max(values[:third].mean(), values[-third:].mean())


def test_what_cannot_be_filled_is_shorter(loaded):
    playlist = create(loaded, 100_000, tags=("calm",))
    assert 0 < playlist.seconds < 6_000_000
    assert len(playlist.tracks) <= playlist.candidates < COUNT
    with pytest.raises(LibraryError, match="none of 300"):
        create(loaded, tags=("calm", "dark", "film", "happy", "slow", "dream"), without=("party", "energetic"))


# ---------------------------------------------------------------- files


def make_track(path: str, title: str = "T", artist: str = "A & B") -> tracks.LibraryTrack:
    return tracks.LibraryTrack(1, path, 1, 1, None, None, None, None, 61.4, title, artist, "L", "", None)


NAMES = ["/music/a.ogg", "/music/#1 <b>.ogg", "/music/ü ä.ogg", os.fsdecode(b"/music/caf\xe9.ogg")]


@pytest.mark.parametrize("absolute", [True, False])
def test_m3u8(tmp_path, absolute):
    path = tmp_path / "lists" / "evening.m3u8"
    path.parent.mkdir()
    playlist_files.write(path, [make_track(name) for name in NAMES], absolute=absolute)
    lines = path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    assert lines[:3] == ["#EXTM3U", "# by moodfield", "#EXTINF:61,A & B – T"]
    places = [line for line in lines if not line.startswith("#")]
    resolved = [name if absolute else os.path.normpath(path.parent / name) for name in places]
    assert resolved == NAMES
    assert all(Path(name).is_absolute() == absolute for name in places)


def test_m3u8_in_the_folder_of_the_music(tmp_path):
    path = tmp_path / "a.m3u8"
    playlist_files.write(path, [make_track(str(tmp_path / "#1.ogg"), title="two\nlines")])
    lines = path.read_text().splitlines()
    assert lines == ["#EXTM3U", "# by moodfield", "#EXTINF:61,A & B – two lines", "./#1.ogg"]


@pytest.mark.parametrize("absolute", [True, False])
def test_xspf(tmp_path, absolute):
    path = tmp_path / "evening.xspf"
    playlist_files.write(path, [make_track(name, title="<1>\x01\u00a0\u3000") for name in NAMES], absolute=absolute)
    space = {"x": "http://xspf.org/ns/0/"}
    root = ElementTree.parse(path).getroot()
    locations = [element.text for element in root.findall(".//x:location", space)]
    decoded = [unquote(urlsplit(place).path, errors="surrogateescape") for place in locations]
    assert [name if absolute else os.path.normpath(tmp_path / name) for name in decoded] == NAMES
    assert all(place.startswith("file:///") == absolute for place in locations)
    assert root.findtext(".//x:duration", namespaces=space) == "61400"
    assert root.findtext(".//x:track/x:title", namespaces=space) == "<1>�\u00a0\u3000"


def test_smart_playlists_have_rules_for_moods(tmp_path):
    path = tmp_path / "evening.nsp"
    playlist_files.write_rules(path, Request(3_600.0, ("calm", "film"), ("dark",)), ("film",))
    rules = json.loads(path.read_text())
    assert rules["all"] == [{"is": {"mood": "calm"}}, {"is": {"theme": "film"}}, {"isNot": {"mood": "dark"}}]
    assert (rules["name"], rules["limit"]) == ("evening", 15)


def test_playlists_replace_playlists_and_nothing_else(tmp_path):
    for suffix in (".m3u8", ".xspf", ".nsp"):
        path = tmp_path / f"a{suffix}"
        others = (
            "#EXTM3U\n/music/mine.mp3",
            '<?xml version="1.0" encoding="UTF-8"?>\n<playlist/>',
            '{\n  "name": "mine"',
        )
        for text in ("something else", *others):
            path.write_text(text)
            with pytest.raises(OutputError):
                playlist_files.check(path)
        path.unlink()
        for _ in range(2):
            playlist_files.check(path)
            if suffix == ".nsp":
                playlist_files.write_rules(path, Request(60.0, ("calm",)), ())
            else:
                playlist_files.write(path, [make_track("/music/a.ogg")])
    with pytest.raises(UsageError, match="suffix"):
        playlist_files.check(tmp_path / "a.pls")


def test_a_folder_stands_for_an_unknown_artist():
    assert make_track("/music/one/a.ogg", artist="").group == "/music/one"
    assert make_track("/music/one/a.ogg", artist="ABC").group == "abc"
    assert Metadata().artist == ""


@pytest.mark.parametrize("count", [1, 2])
def test_copies_of_one_track_are_in_a_playlist_once(tmp_path, count):
    path, tagger = tmp_path / "a.db", StubTagger()
    libraries.make(path, 1)
    with database.write(path) as connection:
        for number in range(1, count):
            libraries.add(connection, libraries.tagging(0, tagger), tagger, path=f"/copies/{number}.ogg")
    with database.read(path) as connection:
        result = decided.decide(connection)
        embeddings = similarity.read(connection, result.model)
    assert len(result.tracks) == count
    assert len(playlists.create(result, embeddings, Request(1_800.0)).tracks) <= count

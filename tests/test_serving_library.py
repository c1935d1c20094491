"""The API shows a library as the commands do."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import libraries
import services
from moodfield.library import database, decided, rows, tracks
from moodfield.library.tracks import Filter
from moodfield.serving import server
from moodfield.serving.configs import ServiceConfig
from services import Running

COUNT = 60


@contextmanager
def serve(path: Path) -> Iterator[Running]:
    with services.running(ServiceConfig(path), tags=False) as started:
        yield started


def add_files(path: Path, folder: Path) -> None:
    """Add the files of a folder to a library, as if they were tagged."""
    tagger = libraries.StubTagger()
    with database.write(path) as connection:
        for seed, file in enumerate(sorted(folder.iterdir())):
            libraries.add(connection, libraries.tagging(seed, tagger), tagger, path=str(file))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("db") / "library.db"
    libraries.make(path, COUNT)
    with database.write(path) as connection:
        tracks.correct(connection, 3, add=("calm", "dark"), remove=("party",), clear=False)
    return path


@pytest.fixture(scope="module")
def running(library: Path) -> Iterator[Running]:
    """A service of a library of tracks without files."""
    with serve(library) as started:
        yield started


def get(running: Running, path: str, /, **parameters: object) -> dict[str, object]:
    answer = running.client.get(f"/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    values: dict[str, object] = answer.json()
    return values


def test_rows_are_those_of_exports(running: Running, library: Path) -> None:
    with database.read(library) as connection:
        expected = {row["path"]: row for row in rows.rows(decided.decide(connection))}
    page = get(running, "tracks", limit=500)
    assert page["total"] == COUNT
    assert page["next"] is None
    for row in page["tracks"]:
        number = row.pop("id")
        assert get(running, f"tracks/{number}")["path"] == row["path"]
        assert row == json.loads(json.dumps(expected[row["path"]]))


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"mood": "calm"}, Filter(tags=("calm",))),
        ({"mood": ["calm", "dark"]}, Filter(tags=("calm", "dark"))),
        ({"theme": "film", "not": "dark"}, Filter(tags=("film",), without=("dark",))),
        ({"artist": "ARTIST 3"}, Filter(artist="artist 3")),
        ({"album": "1", "genre": "jazz"}, Filter(album="1", genre="jazz")),
        ({"year": "1990-1995"}, Filter(year=(1990, 1995))),
        ({"duration": "3:10-"}, Filter(duration=(190.0, None))),
        ({"path": "/music/00"}, Filter(path="/music/00")),
        ({"corrected": True}, Filter(corrected=True)),
    ],
)
def test_conditions_are_those_of_the_commands(
    running: Running, library: Path, parameters: dict[str, object], wanted: Filter
) -> None:
    with database.read(library) as connection:
        expected = decided.decide(connection, wanted)
    page = get(running, "tracks", limit=500, **parameters)
    assert 0 < len(expected.tracks) < COUNT
    assert {row["path"] for row in page["tracks"]} == {track.path for track in expected.tracks}
    assert page["total"] == len(expected.tracks)


def test_words_are_in_artist_title_album_or_path(running: Running) -> None:
    titles = {row["title"] for row in get(running, "tracks", q="TITLE artist 1 /music/01", limit=500)["tracks"]}
    assert titles == {f"title {seed}" for seed in range(10, 20)}
    assert get(running, "tracks", q="album nothing")["total"] == 0


@pytest.mark.parametrize("order", ["evidence", "name", "path", "random"])
def test_pages_join_to_the_whole(running: Running, order: str) -> None:
    whole = [row["id"] for row in get(running, "tracks", limit=500, order=order, seed=3)["tracks"]]
    joined, cursor = [], ""
    while cursor is not None:
        page = get(running, "tracks", limit=17, order=order, seed=3, cursor=cursor)
        joined += [row["id"] for row in page["tracks"]]
        cursor = page["next"]
    assert joined == whole
    by_path = [row["path"] for row in get(running, "tracks", limit=500, order=order, seed=3)["tracks"]]
    assert (sorted(by_path) == by_path) == (order == "path")
    assert get(running, "tracks", cursor=str(COUNT + 5))["tracks"] == []


def test_tracks_are_listed_by_their_numbers_in_this_order(running: Running) -> None:
    numbers = [7, 3, 999, 12, 3]
    page = get(running, "tracks", id=numbers)
    assert ([row["id"] for row in page["tracks"]], page["total"]) == ([7, 3, 12], 3)
    assert page["tracks"][0] == next(row for row in get(running, "tracks", limit=500)["tracks"] if row["id"] == 7)
    by_path = [row["path"] for row in get(running, "tracks", id=numbers, order="path")["tracks"]]
    assert by_path == sorted(by_path)
    assert [row["id"] for row in get(running, "tracks", id=numbers, corrected=True)["tracks"]] == [3]
    assert [row["id"] for row in get(running, "tracks", id=numbers, q="music/002")["tracks"]] == [3]
    assert get(running, "tracks", id=numbers, limit=1, cursor=1)["tracks"][0]["id"] == 3
    assert get(running, "tracks", id=[999])["tracks"] == []
    for wrong in (["x"], [0], list(range(1, 502))):
        assert running.client.get("/v1/tracks", params={"id": wrong}).status_code == 422


def test_tracks_with_moods_come_by_evidence(running: Running) -> None:
    evidence = [row["evidence"]["calm"] for row in get(running, "tracks", mood="calm")["tracks"]]
    assert evidence == sorted(evidence, reverse=True)
    assert len(evidence) > 1


def test_details_explain_decisions(running: Running) -> None:
    track = get(running, "tracks/7")
    for kind in ("absolute", "relative"):
        decisions = track[kind]
        assert decisions["relative"] == (kind == "relative")
        assert [tag["tag"] for tag in decisions["tags"] if tag["decided"]] == decisions["decided"]
        assert all(tag["why"] for tag in decisions["tags"])
        assert {tag["tag"] for tag in decisions["tags"]} == set(libraries.TAGS)
    assert track["relative"]["decided"] == track["decided"]
    assert {len(values) for values in track["curves"]["scores"].values()} == {32}
    assert track["curves"]["seconds"][0] == pytest.approx(track["duration"] / 64, abs=0.01)


def test_similar_tracks_come_with_their_similarity(running: Running) -> None:
    similar = get(running, "tracks/7/similar", limit=5)["tracks"]
    values = [row["similarity"] for row in similar]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)
    assert 7 not in [row["id"] for row in similar]


def test_corrections_win_at_once_and_can_be_cleared(tmp_path: Path) -> None:
    libraries.make(tmp_path / "a.db", 30)
    with serve(tmp_path / "a.db") as running:
        before = get(running, "tracks/3")
        tag = next(tag for tag in libraries.TAGS if tag not in before["decided"])
        wrong = before["decided"][0] if before["decided"] else "film"
        after = running.client.patch("/v1/tracks/3", json={"add": [tag], "remove": [wrong]}).json()
        assert tag in after["decided"]
        assert wrong not in after["decided"]
        assert get(running, "tracks", mood=tag, corrected=True)["total"] == 1
        cleared = running.client.patch("/v1/tracks/3", json={"clear": True}).json()
        assert cleared["decided"] == before["decided"]
        for body in ({"add": ["nonsense"]}, {"add": ["calm"], "remove": ["calm"]}, {"other": 1}, {"add": "calm"}):
            assert running.client.patch("/v1/tracks/3", json=body).status_code == 422
        assert running.client.patch("/v1/tracks/999", json={"add": ["calm"]}).status_code == 404


def test_the_map_is_of_all_tracks_with_names_of_regions(running: Running) -> None:
    columns = get(running, "map")
    assert len(columns["ids"]) == len(columns["x"]) == len(columns["y"]) == len(columns["tag"]) == COUNT
    assert all(0 <= value <= 1 for value in (*columns["x"], *columns["y"]))
    assert set(columns["tags"]) == set(libraries.TAGS) - set(libraries.THEMES)
    assert sum(region["tracks"] for region in columns["regions"]) == COUNT
    moods = {row["id"]: row["moods"] for row in get(running, "tracks", limit=500)["tracks"]}
    for number, tag in zip(columns["ids"], columns["tag"], strict=True):
        assert not moods[number] or columns["tags"][tag] == moods[number][0]


def test_tracks_keep_their_place_on_the_map(tmp_path: Path) -> None:
    path, tagger = tmp_path / "a.db", libraries.StubTagger()
    libraries.make(path, 40)
    with serve(path) as running:
        before = get(running, "map")
        with database.write(path) as connection:
            for seed in range(40, 60):
                libraries.add(connection, libraries.tagging(seed, tagger), tagger)
        running.service.library.renew()
        after = get(running, "map")
    assert len(after["ids"]) == 60
    places = dict(zip(after["ids"], zip(after["x"], after["y"], strict=True), strict=True))
    for number, x, y in zip(before["ids"], before["x"], before["y"], strict=True):
        assert places[number] == (x, y)


def test_playlists_are_chosen_or_exported(running: Running) -> None:
    chosen = running.client.post("/v1/playlists", json={"tags": ["calm"], "not": ["dark"], "minutes": 10}).json()
    assert chosen["tracks"]
    assert all(row["reason"].startswith("calm +") for row in chosen["tracks"])
    journey = running.client.post("/v1/playlists", json={"from": 1, "to": 9, "minutes": 20}).json()
    assert (journey["tracks"][0]["id"], journey["tracks"][-1]["id"]) == (1, 9)
    short = running.client.post("/v1/playlists", json={"tags": ["calm"], "minutes": 5_000}).json()
    assert "5000 min" in short["message"]
    exported = running.client.post("/v1/playlists", json={"tracks": [9, 1], "format": "m3u8"})
    assert exported.headers["content-type"] == "audio/x-mpegurl"
    lines = exported.text.splitlines()
    assert lines[0] == "#EXTM3U"
    assert [line for line in lines if line[0] == "/"] == [get(running, f"tracks/{number}")["path"] for number in (9, 1)]


def test_exports_leave_out_tracks_that_have_gone(running: Running) -> None:
    listed = running.client.post("/v1/playlists", json={"tracks": [9, 999, 1]}).json()
    assert [row["id"] for row in listed["tracks"]] == [9, 1]
    assert "1 of 3" in listed["message"]
    exported = running.client.post("/v1/playlists", json={"tracks": [9, 999, 1], "format": "m3u8"}).text
    assert exported.splitlines()[-1].startswith("# 1 of 3")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"from": 1}, 422),
        ({"from": 1, "to": 2, "energy": "rising"}, 422),
        ({"tags": ["nonsense"]}, 422),
        ({"tags": ["calm"], "minutes": 0}, 422),
        ({"tags": ["calm"], "format": "exe"}, 422),
        ({"like": 999}, 404),
        ({"tracks": [999]}, 404),
        ({"tags": list(libraries.TAGS)}, 409),
    ],
)
def test_playlists_that_cannot_be_made_are_problems(running: Running, body: dict[str, object], status: int) -> None:
    answer = running.client.post("/v1/playlists", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_statistics_count_the_library(running: Running) -> None:
    counts = get(running, "stats")
    assert (counts["tracks"], counts["models"]) == (COUNT, [{"name": "stub", "tracks": COUNT}])


def test_an_empty_library_is_made_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "new" / "library.db"
    with serve(path) as running:
        assert path.is_file()
        assert get(running, "tracks") == {"tracks": [], "total": 0, "next": None}
        assert get(running, "tracks", failed=True)["total"] == 0
        assert get(running, "map")["ids"] == []
        assert get(running, "stats")["tracks"] == 0
        assert running.client.get("/v1/tracks/1").status_code == 404
        assert running.client.get("/v1/tracks/1/similar").status_code == 409
        assert running.client.post("/v1/playlists", json={"tags": ["calm"]}).status_code == 409
        assert running.client.post("/v1/scans").status_code == 202


def test_scans_are_followed_and_their_tracks_played(tmp_path: Path) -> None:
    music = services.write_music(tmp_path / "music", 3)
    (music / "broken.mp3").write_bytes(b"no audio")
    (music / "damaged.mp3").write_bytes(b"no music")
    odd = music / os.fsdecode(b"caf\xe9.wav")
    odd.write_bytes(services.wav(seed=9))
    with serve(tmp_path / "library.db") as running:
        begun = running.client.post("/v1/scans", json={"path": str(music)})
        assert begun.status_code == 202
        second = running.client.post("/v1/scans", json={"path": str(music)})
        assert (second.status_code, second.json()["id"]) == (409, begun.json()["id"])
        scan = services.wait_for_scan(running.client, begun.json()["id"])
        assert (scan["state"], scan["done"], scan["total"], scan["failed"]) == ("done", 6, 6, 2)
        assert scan["errors"][0]["reason"] == "not-audio"
        assert get(running, "scans")["scans"] == [scan]
        assert get(running, "tracks")["total"] == 4
        assert get(running, "stats")["folders"] == [str(music)]
        failed, other = get(running, "tracks", failed=True)["tracks"]
        assert get(running, "tracks", failed=True, id=failed["id"])["total"] == 1
        assert get(running, "tracks", failed=True, id=10**6)["total"] == 0
        numbers = [other["id"], failed["id"]]
        ordered = get(running, "tracks", failed=True, id=[numbers[0], 10**6, *numbers])["tracks"]
        assert [row["id"] for row in ordered] == numbers
        assert failed["error"]["reason"] == "not-audio"
        assert running.client.get(f"/v1/tracks/{failed['id']}/audio").status_code == 404
        assert get(running, f"tracks/{failed['id']}")["model"] is None
        for row in get(running, "tracks")["tracks"]:
            content = Path(row["path"]).read_bytes()
            audio = running.client.get(f"/v1/tracks/{row['id']}/audio")
            assert (audio.content, audio.headers["content-type"]) == (content, "audio/wav")
            part = running.client.get(f"/v1/tracks/{row['id']}/audio", headers={"range": "bytes=100-199"})
            assert (part.status_code, part.content) == (206, content[100:200])
            head = running.client.head(f"/v1/tracks/{row['id']}/audio", headers={"range": "bytes=100-199"})
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(content))
            beyond = running.client.get(f"/v1/tracks/{row['id']}/audio", headers={"range": "bytes=99999999-"})
            assert (beyond.status_code, beyond.json()["status"]) == (416, 416)
        again = running.client.post("/v1/scans").json()
        assert services.wait_for_scan(running.client, again["id"])["unchanged"] == 6
        odd.unlink()
        missing = next(row for row in get(running, "tracks")["tracks"] if row["path"] == str(odd))
        assert running.client.get(f"/v1/tracks/{missing['id']}/audio").status_code == 404


def test_only_the_file_that_was_tagged_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    music = services.write_music(tmp_path / "music", 2)
    add_files(tmp_path / "library.db", music)
    with serve(tmp_path / "library.db") as running:
        first, second = get(running, "tracks", order="path")["tracks"]
        (music / "0.wav").unlink()
        (music / "0.wav").symlink_to("/etc/passwd")
        replaced = running.client.get(f"/v1/tracks/{first['id']}/audio")
        assert (replaced.status_code, "changed" in replaced.json()["detail"]) == (404, True)
        assert running.client.get(f"/v1/tracks/{second['id']}/audio").status_code == 200
        monkeypatch.setattr(os, "access", lambda *_: False)  # as root may read all
        assert running.client.get(f"/v1/tracks/{second['id']}/audio").status_code == 404


def test_cancelled_scans_keep_what_they_have_tagged(tmp_path: Path) -> None:
    music = services.write_music(tmp_path / "music", 60)
    with serve(tmp_path / "library.db") as running:
        number = running.client.post("/v1/scans", json={"path": str(music)}).json()["id"]
        while not (scan := get(running, f"scans/{number}"))["done"]:
            assert scan["state"] == "running"
        assert running.client.delete(f"/v1/scans/{number}").json()["state"] == "cancelled"
        done = get(running, f"scans/{number}")["done"]
        assert 0 < done < 60
        assert done <= get(running, "tracks")["total"] < 60
        running.service.library._seconds = 1e6  # as if the snapshot had taken long, and were used for long
        again = running.client.post("/v1/scans").json()
        assert services.wait_for_scan(running.client, again["id"])["state"] == "done"
        assert get(running, "tracks")["total"] == 60


@pytest.mark.parametrize("path", ["", "music", "../music", "/nowhere/at/all", "/etc/passwd", "/a\0b", "~nosuchuser"])
def test_only_folders_are_scanned(running: Running, path: str) -> None:
    assert running.client.post("/v1/scans", json={"path": path}).status_code == 422
    assert running.client.get("/v1/scans/77").status_code == 404


def test_a_locked_library_is_a_failed_scan(tmp_path: Path) -> None:
    music = services.write_music(tmp_path / "music", 1)
    with serve(tmp_path / "library.db") as running, database.lock(tmp_path / "library.db"):
        number = running.client.post("/v1/scans", json={"path": str(music)}).json()["id"]
        scan = services.wait_for_scan(running.client, number)
        assert scan["state"] == "failed"
        assert "in use" in scan["error"]


def test_answers_are_compressed_for_clients_that_accept_it(running: Running) -> None:
    plain = running.client.get("/v1/map", headers={"accept-encoding": "identity"})
    packed = running.client.get("/v1/map", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])


def test_snapshots_follow_changes_by_others(tmp_path: Path) -> None:
    path, tagger = tmp_path / "a.db", libraries.StubTagger()
    libraries.make(path, 5)
    with serve(path) as running:
        first = running.service.library.snapshot()
        assert running.service.library.snapshot() is first
        with database.write(path) as connection:
            libraries.add(connection, libraries.tagging(99, tagger), tagger)
        running.service.library._seconds = 0.0
        assert len(running.service.library.tagged().decided.tracks) == 6
        assert np.isfinite(running.service.library.tagged().decided.evidence).all()


def test_clients_that_do_not_read_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.5)
    music = services.write_music(tmp_path / "music", 0)
    (music / "long.wav").write_bytes(bytes(2**24))
    add_files(tmp_path / "library.db", music)
    with serve(tmp_path / "library.db") as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
            connection.sendall(b"GET /v1/tracks/1/audio HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in connection.recv(1_000)
            time.sleep(1)
            received = 0
            try:
                while part := connection.recv(2**20):
                    received += len(part)
            except ConnectionResetError:
                pass
        assert received < len((music / "long.wav").read_bytes()) - 10_000

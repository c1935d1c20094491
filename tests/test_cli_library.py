"""The commands `library` and `playlist`, and learning from corrections."""

import json
import shutil
import time
from pathlib import Path

import pytest

import libraries
import models
import reports
from commands import Result, invoke, json_lines, start
from moodfield.library import database, tracks

COUNT = 80


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of 80 tracks, which is the default one."""
    path = tmp_path / "library.db"
    libraries.make(path, COUNT)
    monkeypatch.setenv("MOODFIELD_DB", str(path))
    return path


def run(*words: object, code: int = 0) -> Result:
    """Run a command that ends with a code."""
    result = invoke(*words)
    assert result.code == code, result
    assert "Traceback" not in result.err
    return result


def test_list_prints_all_tracks_and_json_lines(db):
    head, *table = run("library", "list").out.splitlines()
    values = json_lines(run("library", "list", "--json").out)
    assert head.split() == ["track", "length", "moods", "·", "themes"]
    assert len(table) == len(values) == COUNT
    assert [row["path"] for row in values] == sorted(row["path"] for row in values)
    for line, row in zip(table, values, strict=True):
        assert f"{row['artist']} – {row['title']}" in line
        assert all(tag in line for tag in row["decided"])
    assert len(run("library", "list", "--limit", 7, "--json").out.splitlines()) == 7


def test_filters_are_options(db):
    values = json_lines(run("library", "list", "--artist", "artist 2", "--year", "1990-1999", "--json").out)
    assert values
    assert all(row["artist"] == "artist 2" and row["year"] < 2000 for row in values)
    values = json_lines(run("library", "list", "--duration", "3:30-", "--mood", "calm", "--not", "dark", "--json").out)
    assert values
    assert all(row["duration"] >= 210 and "calm" in row["decided"] and "dark" not in row["decided"] for row in values)
    assert run("library", "list", "--genre", "rock").out == ""


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--year", "20"),
        ("list", "--duration", "3:00"),
        ("list", "--duration", "a-b"),
        ("list", "--order", "size"),
        ("list", "--mood", "clam"),
        ("list", "--evidence", "1"),
        ("list", "--model", "other"),
        ("correct", "title 1"),
        ("correct", "/music/001.ogg", "--add", "calm", "--remove", "calm"),
        ("correct", "/music/001.ogg", "--add", "clam"),
        ("export", "-o", "x.xml"),
    ],
)
def test_wrong_options_are_usage_errors(db, words):
    assert len(run("library", *words, code=2).err.splitlines()) == 1


def test_find_orders_by_evidence(db):
    values = json_lines(run("library", "find", "calm", "--json").out)
    evidence = [row["evidence"]["calm"] for row in values]
    assert len(values) > 5
    assert evidence == sorted(evidence, reverse=True)
    head, first, *_ = run("library", "find", "calm").out.splitlines()
    assert head.index("calm") < head.index("moods")
    assert f"{evidence[0]:+.1f}" in first
    assert run("library", "find", "--mood", "calm").out == run("library", "find", "calm").out
    assert "give a TAG" in run("library", "find", code=2).err
    assert "calm cannot be wanted and unwanted" in run("library", "find", "calm", "--not", "calm", code=2).err


def test_absolute_decisions(db):
    relative, absolute = (json_lines(run("library", "list", "--json", *w).out) for w in ((), ("--absolute",)))
    assert (relative[0]["relative"], absolute[0]["relative"]) == (True, False)
    assert [row["scores"] for row in relative] == [row["scores"] for row in absolute]
    assert [row["evidence"] for row in relative] != [row["evidence"] for row in absolute]


def test_show_explains_decisions(db):
    run("library", "correct", "/music/003.ogg", "--add", "calm")
    out = run("library", "show", "title 3").out
    assert "a person has decided" in out
    assert all(word in out for word in ("title 3", "artist 3", "relative", "not above 1"))
    row = json.loads(run("library", "show", "/music/003.ogg", "--json").out)
    assert row["added"] == ["calm"]
    assert "give the path" in run("library", "show", "artist 3", code=1).err


def test_correct_and_clear(db):
    before = json.loads(run("library", "show", "/music/004.ogg", "--json").out)
    tag = before["decided"][0]
    assert tag not in run("library", "correct", "/music/004.ogg", "--remove", tag).out.partition("  ")[2]
    after = json.loads(run("library", "show", "/music/004.ogg", "--json").out)
    assert (after["removed"], tag in after["decided"]) == ([tag], False)
    assert [row["path"] for row in json_lines(run("library", "list", "--corrected", "--json").out)] == [after["path"]]
    run("library", "correct", "/music/004.ogg", "--clear")
    assert json.loads(run("library", "show", "/music/004.ogg", "--json").out)["decided"] == before["decided"]


def test_similar(db):
    values = json_lines(run("library", "similar", "/music/004.ogg", "--limit", 5, "--json").out)
    numbers = [row["similarity"] for row in values]
    assert len(values) == 5
    assert numbers == sorted(numbers, reverse=True)
    assert all(row["path"] != "/music/004.ogg" for row in values)
    head, *lines = run("library", "similar", "/music/004.ogg").out.splitlines()
    assert head.split() == ["track", "length", "similarity", "path"]
    assert len(lines) == 20


def test_stats(db):
    counts = json.loads(run("library", "stats", "--json").out)
    assert (counts["tracks"], counts["artists"]) == (COUNT, 7)
    assert "80 tagged" in run("library", "stats").out


def test_report(db, tmp_path):
    path = tmp_path / "library.html"
    result = run("library", "report", "-o", path)
    assert f"{COUNT} tracks" in result.err
    names = [name for name, *_ in reports.read_data(path.read_text())["tracks"]]
    values = json_lines(run("library", "list", "--json").out)
    assert names == [f"{row['artist']} – {row['title']}" for row in values]
    assert "relative to the library" in path.read_text()
    few = run("library", "report", "-o", path, "--artist", "artist 2", "--absolute")
    assert f"{COUNT} tracks" not in few.err
    path.write_text("not a page")
    assert "replace" in run("library", "report", "-o", path, code=2).err
    assert run("library", "report", "-o", tmp_path / "none.html", "--genre", "rock").code == 0


def test_export(db, tmp_path):
    path = tmp_path / "x.jsonl"
    run("library", "export", "-o", path, "--mood", "calm")
    values = json_lines(path.read_text())
    assert values
    assert all("calm" in row["decided"] for row in values)


def test_check_and_prune(db):
    assert run("library", "check", "--quick").out == ""
    assert "gone: /music/000.ogg" in run("library", "check", code=3).out
    with database.write(db) as connection:
        connection.execute("UPDATE tracks SET missing = 1 WHERE id <= 10")
        tracks.correct(connection, 1, add=["calm"])
    assert "1 with corrections are kept" in run("library", "prune").err
    assert len(run("library", "list").out.splitlines()) == 1 + COUNT - 10
    assert len(run("library", "list", "--missing").out.splitlines()) == 1 + 1


def test_folders_are_forgotten(db):
    with database.write(db) as connection:
        connection.execute("INSERT INTO folders VALUES ('/music/old')")
        connection.execute("UPDATE tracks SET path = '/music/old/' || id WHERE id <= 10")
        tracks.correct(connection, 1, add=["calm"])
    assert "the library has nothing of /musi" in run("library", "prune", "/musi", code=1).err
    result = run("library", "prune", "/music/old")
    assert "9 tracks removed; 1 with corrections are kept" in result.err
    assert "1 track removed" in run("library", "prune", "/music/old", "--corrected").err
    with database.read(db) as connection:
        assert connection.execute("SELECT * FROM folders").fetchall() == []
        assert connection.execute("SELECT count(*) FROM tracks").fetchone() == (COUNT - 10,)


def test_no_library(tmp_path):
    for words in (("list",), ("stats",), ("prune",), ("check",), ("show", "x"), ("correct", "x", "--add", "calm")):
        result = run("library", *words, "--db", tmp_path / "none.db", code=1)
        assert "library scan" in result.err
    assert "library scan" in run("playlist", "--mood", "calm", "--db", tmp_path / "none.db", code=1).err
    assert list(tmp_path.iterdir()) == []


def test_playlists_are_written(db, tmp_path):
    path = tmp_path / "evening.m3u8"
    result = run("playlist", "--mood", "calm", "--minutes", 20, "-o", path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(result.out.splitlines()) - 1
    with database.read(db) as connection:
        seconds = sum(tracks.locate(connection, f"/music/{Path(line).name}").duration or 0 for line in lines)
    assert f"{len(lines)} tracks, {seconds / 60:.0f} min" in result.err
    run("playlist", "--mood", "calm", "--minutes", 20, "-o", path, "--absolute-paths")
    assert all(Path(line).is_absolute() for line in path.read_text().splitlines() if not line.startswith("#"))
    run("playlist", "--mood", "calm", "--theme", "film", "--not", "dark", "-o", tmp_path / "evening.nsp")
    rules = json.loads((tmp_path / "evening.nsp").read_text())["all"]
    assert rules == [{"is": {"mood": "calm"}}, {"is": {"theme": "film"}}, {"isNot": {"mood": "dark"}}]
    _, *journey = run(
        "playlist", "--from", "/music/001.ogg", "--to", "/music/002.ogg", "--minutes", 30
    ).out.splitlines()
    assert ("title 1" in journey[0], "title 2" in journey[-1]) == (True, True)
    assert run("playlist", "--like", "/music/001.ogg", "--artist", "artist 3").out


def test_filters_do_not_apply_to_the_ends_of_a_journey(db):
    ends = ("--from", "/music/001.ogg", "--to", "/music/002.ogg")
    _, *lines = run("playlist", *ends, "--artist", "artist 5", "--minutes", 30).out.splitlines()
    artists = [line.split(" – ")[0] for line in lines]
    assert (artists[0], artists[-1]) == ("artist 1", "artist 2")
    assert set(artists[1:-1]) == {"artist 5"}
    with database.write(db) as connection:
        connection.execute("UPDATE tracks SET missing = 1 WHERE path = '/music/002.ogg'")
    assert "/music/002.ogg has gone" in run("playlist", *ends, code=1).err


def test_paths_with_line_breaks_are_left_out_of_an_m3u(db, tmp_path):
    with database.write(db) as connection:
        connection.execute("UPDATE tracks SET path = '/music/a' || char(10) || id || '.ogg'")
    result = run("playlist", "--mood", "calm", "--minutes", 10, "-o", tmp_path / "a.m3u8")
    assert "left out" in result.err
    assert all(line.startswith("#") for line in (tmp_path / "a.m3u8").read_text().splitlines())
    run("playlist", "--mood", "calm", "--minutes", 10, "-o", tmp_path / "a.xspf")
    assert "/music/a%0A" in (tmp_path / "a.xspf").read_text()


def test_a_playlist_that_cannot_be_filled_reports_it(db):
    result = run("playlist", "--mood", "calm", "--minutes", 10_000)
    assert "of 10000 min" in result.err
    assert "none of" in run("playlist", *(f"--mood={tag}" for tag in libraries.TAGS), code=1).err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--from", "/music/001.ogg"),
        ("--mood", "calm", "--energy", "up"),
        ("--mood", "calm", "-o", "x.pls"),
        ("--mood", "calm", "--artist", "x", "-o", "x.nsp"),
        ("--mood", "calm", "--like", "/music/001.ogg", "-o", "x.nsp"),
        ("--mood", "clam"),
        ("--mood", "clam", "-o", "x.nsp"),
        ("--mood", "calm", "--duration", "2.5-6"),
    ],
)
def test_wrong_playlists_are_usage_errors(db, words):
    assert len(run("playlist", *words, code=2).err.splitlines()) == 1


# ---------------------------------------------------------------- scans by the command


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A folder of three short files."""
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(3):
        models.save(folder / f"{number}.flac", models.music(2.0, seed=number))
    return folder


def test_scan_prints_what_was_done(tmp_path, music, cp_model):
    db = tmp_path / "a.db"
    (music / "bad.mp3").write_bytes(b"bad")
    result = run("library", "scan", music, "--db", db, "--jobs", 1, code=3)
    assert "3 tagged, 0 unchanged, 1 failed" in result.err
    result = run("library", "scan", "--db", db)
    assert "0 tagged, 4 unchanged" in result.err
    assert "1 unchanged files failed before" in result.err
    result = run("library", "scan", "--db", db, "--model", cp_model.folder)
    assert "--retag computes" in result.err
    (music / "0.flac").rename(music / "moved.flac")
    assert "1 moved" in run("library", "scan", "--db", db).err
    assert "failed: not-audio" in run("library", "list", "--failed", "--db", db).out


def test_a_scan_that_finds_nothing_names_the_formats(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no audio file (.aac" in run("library", "scan", tmp_path / "empty", "--db", tmp_path / "a.db").err


def test_corrections_are_learned(tmp_path, monkeypatch):
    folder, db = tmp_path / "music", tmp_path / "a.db"
    folder.mkdir()
    for number in range(8):
        models.save(folder / f"{number}.flac", models.music(2.0, seed=number))
    run("library", "scan", folder, "--db", db, "--jobs", 1)
    for number in range(8):
        run("library", "correct", folder / f"{number}.flac", "--add" if number % 2 else "--remove", "calm", "--db", db)
    monkeypatch.chdir(tmp_path)
    result = run("learn", "--library", "--db", db, "-o", tmp_path / "mine", "--jobs", 1)
    assert "calm" in result.out
    assert "8 tracks" in result.out
    run("library", "scan", "--db", db, "--model", tmp_path / "mine", "--retag", "--jobs", 1)
    run("library", "list", "--db", db, "--model", "mine", "--mood", "calm")
    assert "either" in run("learn", "--library", "labels.csv", "-o", tmp_path / "x", code=2).err


def test_watch_scans_what_changes(tmp_path, music):
    pytest.importorskip("watchfiles")
    db = tmp_path / "a.db"
    process = start("library", "scan", music, "--watch", "--db", db, "--jobs", "1")
    try:
        wait_for(db, "missing IS NULL", 3)
        shutil.copyfile(music / "0.flac", tmp_path / "new.flac")
        (tmp_path / "new.flac").rename(music / "new.flac")
        wait_for(db, "missing IS NULL", 4)
        (music / "0.flac").unlink()
        wait_for(db, "missing IS NOT NULL", 1)
        assert invoke("library", "correct", music / "1.flac", "--add", "calm", "--db", db).code == 0
    finally:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "Traceback" not in err


def wait_for(db: Path, where: str, count: int) -> None:
    """Wait until a number of tagged tracks fulfil a condition."""
    deadline = time.monotonic() + 60
    query = f"SELECT count(*) FROM taggings JOIN tracks ON tracks.id = track WHERE {where}"
    while time.monotonic() < deadline:
        if db.exists() and db.stat().st_size:
            with database.read(db) as connection:
                if connection.execute(query).fetchone()[0] == count:
                    return
        time.sleep(0.1)
    pytest.fail(f"there are not {count} tracks where {where}")

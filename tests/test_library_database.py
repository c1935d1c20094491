"""The database of a library: versions, other files, full disks, readers and writers side by side."""

import os
import sqlite3
from pathlib import Path

import pytest

import libraries
from moodfield.errors import LibraryError, LockedError
from moodfield.library import database


def count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM tracks").fetchone()[0]


def test_a_new_database_has_the_schema_and_write_ahead_log(tmp_path):
    path = tmp_path / "new" / "a library?.db"
    with database.write(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)
    with database.read(path) as connection:
        assert count(connection) == 0
        assert database.faults(connection) == []


def test_the_default_is_named_by_the_environment_or_in_the_data_folder(monkeypatch):
    monkeypatch.setenv("MOODFIELD_DB", "/x/y.db")
    assert database.default_path() == Path("/x/y.db")
    monkeypatch.delenv("MOODFIELD_DB")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert database.default_path().name == "library.db"


def test_a_missing_library_is_not_made_by_reading(tmp_path):
    with pytest.raises(LibraryError, match="library scan"), database.read(tmp_path / "a.db"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_kept(tmp_path):
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    text.write_text("no database at all, but long enough to be one" * 40)
    for path in (other, text):
        before = path.read_bytes()
        for opener in (database.read, database.write):
            with pytest.raises(LibraryError, match="--db"), opener(path):
                pass
        assert path.read_bytes() == before


def test_a_library_of_a_newer_version_is_kept(tmp_path):
    path = tmp_path / "a.db"
    libraries.make(path, 3)
    with database.write(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    for opener in (database.read, database.write):
        with pytest.raises(LibraryError, match="newer version"), opener(path):
            pass


@pytest.mark.parametrize("opener", [database.read, database.write])
def test_an_older_library_is_migrated_with_all_of_its_tracks(tmp_path, monkeypatch, opener):
    path = tmp_path / "a.db"
    libraries.make(path, 3)
    later = (*database.MIGRATIONS, "CREATE TABLE more (a);\nINSERT INTO more VALUES (7);\n")
    monkeypatch.setattr(database, "MIGRATIONS", later)
    with opener(path) as connection:
        assert connection.execute("SELECT a FROM more").fetchall() == [(7,)]
        assert count(connection) == 3
        assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_number_of_a_removed_track_is_not_given_to_another(tmp_path, monkeypatch, version):
    path = tmp_path / "library.db"
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:version])
        libraries.make(path, 5)
    tagger = libraries.StubTagger()
    with database.write(path) as connection:
        assert [row[0] for row in connection.execute("SELECT id FROM tracks ORDER BY path")] == [1, 2, 3, 4, 5]
        assert database.faults(connection) == []
        connection.execute("DELETE FROM tracks WHERE id = 5")
        assert connection.execute("SELECT count(*) FROM taggings").fetchone() == (4,), "removed with its track"
        libraries.add(connection, libraries.tagging(9, tagger), tagger)
        assert connection.execute("SELECT max(id) FROM tracks").fetchone() == (6,)
        assert database.faults(connection) == []


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    libraries.make(path, 3)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, "CREATE TABLE more (a);\nNONSENSE;\n"))
    with pytest.raises(LibraryError, match="NONSENSE"), database.write(path):
        pass
    monkeypatch.undo()
    with database.read(path) as connection:
        assert count(connection) == 3
        assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'more'").fetchall()


def test_readers_are_not_blocked_and_see_one_state(tmp_path):
    path = tmp_path / "a.db"
    libraries.make(path, 3)
    tagger = libraries.StubTagger()
    with database.write(path) as writer, database.read(path) as reader:
        assert count(reader) == 3
        libraries.add(writer, libraries.tagging(9, tagger), tagger)
        writer.execute("BEGIN IMMEDIATE")
        assert (count(reader), count(writer)) == (3, 4)
        with database.read(path) as later:
            assert count(later) == 4
        writer.execute("ROLLBACK")


def test_a_reader_cannot_write(tmp_path):
    path = tmp_path / "a.db"
    libraries.make(path, 1)
    with pytest.raises(LibraryError, match="write-protected"), database.read(path) as connection:
        connection.execute("DELETE FROM tracks")
    with database.read(path) as connection:
        assert count(connection) == 1


def test_a_library_in_a_write_protected_folder_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    libraries.make(path, 4)
    access = os.access
    monkeypatch.setattr(os, "access", lambda name, mode: name != tmp_path and access(name, mode))
    with database.read(path) as connection:
        assert count(connection) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


def test_a_full_disk_is_one_error_and_loses_nothing(tmp_path):
    path, tagger = tmp_path / "a.db", libraries.StubTagger()
    stored: list[int] = []

    def fill() -> None:
        with database.write(path) as connection:
            connection.execute("PRAGMA max_page_count = 40")
            for seed in range(1_000):
                libraries.add(connection, libraries.tagging(seed, tagger), tagger)
                stored.append(seed)

    with pytest.raises(LibraryError, match="free space"):
        fill()
    with database.read(path) as connection:
        assert count(connection) == len(stored) > 5
        assert connection.execute("SELECT count(*) FROM taggings").fetchone()[0] == len(stored)
        assert database.faults(connection) == []


def test_one_process_scans_at_a_time(tmp_path):
    path = tmp_path / "a.db"
    with database.lock(path), pytest.raises(LockedError, match="in use"), database.lock(path):
        pass


def test_damage_is_found(tmp_path):
    path = tmp_path / "a.db"
    libraries.make(path, 60)
    content = bytearray(path.read_bytes())
    content[8_192:20_480] = os.urandom(12_288)
    path.write_bytes(content)
    try:
        with database.read(path) as connection:
            faults = database.faults(connection)
    except LibraryError as error:
        faults = [str(error)]
    assert faults


def test_paths_that_are_no_utf8_are_kept(tmp_path):
    path, tagger = tmp_path / "a.db", libraries.StubTagger()
    name = os.fsdecode(b"/music/caf\xe9.ogg")
    with database.write(path) as connection:
        libraries.add(connection, libraries.tagging(1, tagger), tagger, path=name)
        assert connection.execute("SELECT path FROM tracks").fetchone() == (name,)
        assert connection.execute("SELECT typeof(path) FROM tracks").fetchone() == ("text",)


def test_the_schema_is_documented(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    with database.write(tmp_path / "a.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables.remove("sqlite_sequence")  # SQLite's own
        assert len(tables) >= 6
        for table in tables:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            assert columns == {column for column in columns if f"`{column}`" in lines[table]}, table

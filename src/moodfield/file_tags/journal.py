"""The journal of written tags: what restores each file exactly, in one database."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moodfield.errors import FileTagsError
from moodfield.file_tags.plan import Change

APPLICATION_ID = 0x6D6F6A72
"""of SQLite's header: the file is such a journal"""
TIMEOUT = 30.0
"""seconds that a process waits for the transaction of another one"""
SCHEMA = """
CREATE TABLE IF NOT EXISTS writes (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,    -- number of the command that wrote it
    time INTEGER NOT NULL,   -- seconds since 1970
    path BLOB NOT NULL,      -- absolute, as bytes
    before BLOB NOT NULL,    -- SHA-256 of the file before
    after BLOB NOT NULL,     -- SHA-256 of the file after
    delta BLOB NOT NULL,     -- restores the former from the latter
    changes TEXT NOT NULL    -- JSON: field, old and new texts
);
CREATE INDEX IF NOT EXISTS writes_by_path ON writes (path)
"""


@dataclass(frozen=True)
class Entry:
    """One written file."""

    path: Path
    """absolute path"""
    before: bytes
    """SHA-256 of its content before"""
    after: bytes
    """SHA-256 of its content after"""
    delta: bytes
    """see `delta`"""
    changes: tuple[Change, ...]
    """fields that were changed"""
    id: int = 0
    """number in the journal"""


def default_path(library: Path) -> Path:
    """The journal that belongs to a library, beside its database."""
    return library.with_name(f"{library.stem}.file-tags.db")


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A context with a connection; makes the journal if there is none. Raises `FileTagsError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None)
        try:
            _prepare(connection, path)
            yield connection
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise FileTagsError(f"the journal {path}: {error}; nothing is written without it, name another --db") from error


def add(connection: sqlite3.Connection, run: int, entry: Entry) -> None:
    """Add an entry, synced to the disk; the file is replaced afterwards."""
    changes = json.dumps([[change.field, change.old, change.new] for change in entry.changes])
    values = (run, int(time.time()), os.fsencode(entry.path), entry.before, entry.after, entry.delta, changes)
    connection.execute(
        "INSERT INTO writes (run, time, path, before, after, delta, changes) VALUES (?, ?, ?, ?, ?, ?, ?)", values
    )


def next_run(connection: sqlite3.Connection) -> int:
    """A number for a command that writes."""
    (last,) = connection.execute("SELECT coalesce(max(run), 0) FROM writes").fetchone()
    return int(last) + 1


def last_run(connection: sqlite3.Connection, paths: Sequence[Path]) -> list[int]:
    """The numbers of the entries of the last command that wrote files which are, or are below, one of the paths."""
    below = [os.fsencode(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (Path.absolute keeps ..)
    ids: list[int] = []
    latest = None
    for number, run, path in connection.execute("SELECT id, run, path FROM writes ORDER BY run DESC, id"):
        if latest is not None and run != latest:
            break
        if any(path == top or path.startswith(top.rstrip(b"/") + b"/") for top in below):
            latest = run
            ids.append(number)
    return ids


def read(connection: sqlite3.Connection, number: int) -> Entry:
    """An entry by its number."""
    path, before, after, delta, changes = connection.execute(
        "SELECT path, before, after, delta, changes FROM writes WHERE id = ?", (number,)
    ).fetchone()
    restored = tuple(Change(field, tuple(old), tuple(new)) for field, old, new in json.loads(changes))
    return Entry(Path(os.fsdecode(path)), before, after, delta, restored, number)


def remove(connection: sqlite3.Connection, number: int) -> None:
    """Remove an entry that is undone."""
    connection.execute("DELETE FROM writes WHERE id = ?", (number,))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the schema of a new journal; raise `FileTagsError` for another database."""
    connection.execute("PRAGMA synchronous = FULL")
    (identity,) = connection.execute("PRAGMA application_id").fetchone()
    if identity == APPLICATION_ID:
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise FileTagsError(f"{path} is a database of another program; name another library with --db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")

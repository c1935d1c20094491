"""The journal of written tags: what restores each file exactly, in one database."""

import atexit
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
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
    changes TEXT NOT NULL,   -- JSON: field, old and new texts
    failed INTEGER NOT NULL DEFAULT 0  -- 1: it could not be undone when that was tried
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
    return library.with_name(f"{library.name}.file-tags.db")


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A context with a connection; makes the journal if there is none. Raises `FileTagsError`."""
    with _errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None)
        try:
            _prepare(connection, path)
            yield connection
        finally:
            connection.close()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Raise the errors of the database as `FileTagsError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise FileTagsError(f"the journal {path}: {error}; nothing is written without it, name another --db") from error


@lru_cache(maxsize=1)
def _shared(path: Path, _process: int) -> sqlite3.Connection:
    """A connection that stays open until the process ends, for many entries; SQLite forbids one of a parent process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(connect(path))


def add(path: Path, run: int, entry: Entry) -> None:
    """Add an entry to a journal, synced to the disk; the file is replaced afterwards. Raises `FileTagsError`."""
    changes = json.dumps([[change.field, change.old, change.new] for change in entry.changes])
    values = (run, int(time.time()), os.fsencode(entry.path), entry.before, entry.after, entry.delta, changes)
    with _errors(path):
        _shared(path, os.getpid()).execute(
            "INSERT INTO writes (run, time, path, before, after, delta, changes) VALUES (?, ?, ?, ?, ?, ?, ?)", values
        )


def next_run(connection: sqlite3.Connection) -> int:
    """A number for a command that writes."""
    (last,) = connection.execute("SELECT coalesce(max(run), 0) FROM writes").fetchone()
    return int(last) + 1


@dataclass(frozen=True)
class Run:
    """What a command has written below some paths."""

    time: int
    """when, in seconds since 1970"""
    numbers: tuple[int, ...]
    """numbers of its entries, the last one first"""
    earlier: int
    """number of commands before it that can be undone, too"""


def last_run(connection: sqlite3.Connection, paths: Sequence[Path]) -> Run | None:
    """The last command that wrote files which are, or are below, one of the paths; None if there is none.

    Entries that could not be undone are left out, as long as there are others.
    """
    below = {os.fsencode(name) for path in paths for name in (os.path.abspath(path), os.path.realpath(path))}  # noqa: PTH100

    def is_below(name: bytes) -> bool:
        return any(path == name or name.startswith(path.rstrip(b"/") + b"/") for path in below)

    rows = [
        row
        for row in connection.execute(
            "SELECT failed, run, id, time, path FROM writes ORDER BY failed, run DESC, id DESC"
        )
        if is_below(row[4]) or is_below(os.path.realpath(row[4]))
    ]
    if not rows:
        return None
    failed, run, _, written, _ = rows[0]
    numbers = tuple(row[2] for row in rows if row[:2] == (failed, run))
    return Run(written, numbers, len({row[1] for row in rows if row[0] == failed}) - 1)


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


def note_failed(connection: sqlite3.Connection, number: int) -> None:
    """Note that an entry could not be undone, so that the next undo goes on with others."""
    connection.execute("UPDATE writes SET failed = 1 WHERE id = ?", (number,))


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

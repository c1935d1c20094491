"""The database of a library: its schema, migrations, and connections."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from moodfield import files
from moodfield.errors import LibraryError

ENVIRONMENT = "MOODFIELD_DB"
"""environment variable with the path of the database"""
APPLICATION_ID = 0x6D6F6F64
"""of SQLite's header: the file is a library of moodfield"""
TIMEOUT = 30.0
"""seconds that a writer waits for another one's transaction; transactions take milliseconds"""

MIGRATIONS = (
    """
    CREATE TABLE folders (           -- what is scanned if no path is given
        path TEXT PRIMARY KEY
    ) WITHOUT ROWID;
    CREATE TABLE tracks (            -- one row for each file, also for those that cannot be read
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL UNIQUE,   -- absolute; bytes that are no UTF-8 are kept as they are
        size INTEGER NOT NULL,       -- bytes
        mtime INTEGER NOT NULL,      -- of the file when it was read, in nanoseconds
        digest BLOB,                 -- SHA-256 of its content; NULL if it could not be read
        missing INTEGER,             -- when it was noticed that the file has gone, in s since 1970; NULL if it is there
        error TEXT,                  -- why it could not be tagged; NULL if it was
        reason TEXT,                 -- the same as a short code
        duration REAL,               -- seconds
        title TEXT NOT NULL DEFAULT '',
        artist TEXT NOT NULL DEFAULT '',
        album TEXT NOT NULL DEFAULT '',
        genre TEXT NOT NULL DEFAULT '',
        year INTEGER                 -- NULL if unknown
    );
    CREATE INDEX tracks_by_digest ON tracks (digest);
    CREATE TABLE models (            -- models by which tracks were tagged
        id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE, -- SHA-256 of the cards
        name TEXT NOT NULL,
        vocabulary TEXT NOT NULL,    -- JSON: tags, in the order of logits
        themes TEXT NOT NULL,        -- JSON: the tags that are themes
        rule TEXT NOT NULL,          -- JSON: thresholds, priors, reference statistics
        speed REAL                   -- seconds of audio that the last scan tagged in a second
    );
    CREATE TABLE taggings (          -- what a model computed for a track
        track INTEGER NOT NULL REFERENCES tracks ON DELETE CASCADE,
        model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        logits BLOB NOT NULL,        -- float32, after the calibration
        embedding BLOB,              -- float16; NULL if the model has none
        PRIMARY KEY (model, track)
    ) WITHOUT ROWID;
    CREATE INDEX taggings_by_track ON taggings (track);
    CREATE TABLE curves (            -- over the time of a track, for pictures
        track INTEGER NOT NULL REFERENCES tracks ON DELETE CASCADE,
        model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        logits BLOB NOT NULL,        -- int8, tags × 32: logits × 12
        envelope BLOB NOT NULL,      -- uint8, up to 160: peaks × 255; empty if unknown
        PRIMARY KEY (track, model)
    );
    CREATE TABLE corrections (       -- tags by a person, which win over those of a model
        track INTEGER NOT NULL REFERENCES tracks ON DELETE CASCADE,
        tag TEXT NOT NULL,
        present INTEGER NOT NULL,    -- 1: the track has the tag, 0: it has not
        PRIMARY KEY (track, tag)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE maps (              -- how positions of tracks follow from their logits
        model INTEGER PRIMARY KEY REFERENCES models ON DELETE CASCADE,
        tracks INTEGER NOT NULL,     -- number of tracks that it was fitted to
        axes BLOB NOT NULL           -- float64: mean and scale of the logits of moods, two principal components
    );
    CREATE TABLE positions (         -- of tracks on the map
        track INTEGER NOT NULL REFERENCES tracks ON DELETE CASCADE,
        model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        x REAL NOT NULL,             -- from left to right, 0 to 1
        y REAL NOT NULL,             -- from top to bottom, 0 to 1
        PRIMARY KEY (model, track)
    ) WITHOUT ROWID;
    CREATE INDEX positions_by_track ON positions (track);
    CREATE TRIGGER positions_of_changed AFTER DELETE ON taggings BEGIN
        DELETE FROM positions WHERE track = OLD.track AND model = OLD.model; END;
    """,
    """
    CREATE TABLE numbered (          -- tracks as before, but the number of a removed one is not given to another
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        mtime INTEGER NOT NULL,
        digest BLOB,
        missing INTEGER,
        error TEXT,
        reason TEXT,
        duration REAL,
        title TEXT NOT NULL DEFAULT '',
        artist TEXT NOT NULL DEFAULT '',
        album TEXT NOT NULL DEFAULT '',
        genre TEXT NOT NULL DEFAULT '',
        year INTEGER
    );
    INSERT INTO numbered SELECT
        id, path, size, mtime, digest, missing, error, reason, duration, title, artist, album, genre, year FROM tracks;
    DROP TABLE tracks;
    ALTER TABLE numbered RENAME TO tracks;
    CREATE INDEX tracks_by_digest ON tracks (digest);
    """,
)
"""scripts that lead from one version of the schema to the next; every statement ends with a line"""


def default_path() -> Path:
    """The database that `MOODFIELD_DB` names, or the one in the user's data folder."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    import platformdirs

    return platformdirs.user_data_path("moodfield", appauthor=False) / "library.db"


@contextmanager
def read(path: Path) -> Iterator[sqlite3.Connection]:
    """A context with a connection that cannot write; it reads one state of the library, also while another one writes.

    Raises:
        LibraryError: There is no library, it is damaged, or a newer version of moodfield has made it.
    """
    if not path.is_file():
        raise LibraryError(f"there is no library {path}; make one: moodfield library scan FOLDER")
    with _errors(path):
        with _open(path, "ro") as connection:
            outdated = _version(connection, path) < len(MIGRATIONS)
        if outdated:
            with write(path):
                pass
        with _open(path, "ro") as connection:
            connection.execute("BEGIN")
            yield connection


@contextmanager
def write(path: Path) -> Iterator[sqlite3.Connection]:
    """A context with a connection that can write; makes the database, and brings an older one to this version.

    Raises:
        LibraryError: The file is no library, cannot be written, or a newer version of moodfield has made it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(
            f"the folder of the library {path} cannot be made: {error.strerror}; name another file with --db"
        ) from error
    with _errors(path), _open(path, "rwc") as connection:
        version = _version(connection, path)
        if version < len(MIGRATIONS):
            _migrate(connection, path)
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A context whose changes are made at once at its end, or not at all after an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def lock(path: Path) -> AbstractContextManager[None]:
    """A context that only one process at a time can be in: scans and what removes tracks.

    Raises:
        LockedError: Another process is in it; the message names it.
    """
    return files.lock(path.with_name(f"{path.name}.lock"), what=f"the library {path}")


def encode(text: str) -> bytes:
    """Text for `CAST(? AS TEXT)`: also paths with bytes that are no UTF-8, which SQLite keeps as they are."""
    return text.encode("utf-8", "surrogateescape")


def size(path: Path) -> int:
    """Bytes of the database, with what was not yet moved into its main file."""
    parts = (path, path.with_name(f"{path.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def faults(connection: sqlite3.Connection) -> list[str]:
    """What is damaged in the database, by SQLite's own checks; empty if nothing is."""
    damaged = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    orphans = [f"a row of {row[0]} belongs to no {row[2]}" for row in connection.execute("PRAGMA foreign_key_check")]
    return [*(line for line in damaged if line != "ok"), *orphans]


@contextmanager
def _open(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode; of a database in a folder that is write-protected, too."""
    wal = path.with_name(f"{path.name}-wal")
    if mode == "ro" and not os.access(path.parent, os.W_OK) and not wal.exists():
        mode = "ro&immutable=1"  # no other process can write there, and SQLite cannot make its shared memory
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=TIMEOUT, isolation_level=None)
    try:
        connection.text_factory = _decode
        connection.create_function("contains", 2, _contains, deterministic=True)
        if mode == "rwc":
            connection.execute("PRAGMA synchronous = NORMAL")  # safe in WAL: only a power cut can lose the last rows
        yield connection
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the schema; 0 for a new file. Raises `LibraryError` for other databases and newer versions."""
    (version,), (identity,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id")
    )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if identity != APPLICATION_ID and (tables or version):
        raise LibraryError(f"{path} is a database of another program; name another file with --db")
    if version > len(MIGRATIONS):
        raise LibraryError(
            f"a newer version of moodfield has made {path} (schema {version}, expected {len(MIGRATIONS)} or less); "
            "update moodfield, or name another file with --db"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema to this version, step by step, each of them at once or not at all."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = OFF")  # so that a table can be made anew without what refers to it
    while True:
        with transaction(connection):
            version = _version(connection, path)  # another process may have done it meanwhile
            if version == len(MIGRATIONS):
                return
            for statement in MIGRATIONS[version].split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version + 1}")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Raise the errors of SQLite as `LibraryError` with what to do."""
    try:
        yield
    except sqlite3.Error as error:
        advice = {
            sqlite3.SQLITE_FULL: "free space on the disk",
            sqlite3.SQLITE_READONLY: "it or its folder is write-protected",
            sqlite3.SQLITE_CANTOPEN: "check its folder and permissions",
            sqlite3.SQLITE_BUSY: "another process writes; try again",
            sqlite3.SQLITE_NOTADB: "name another file with --db",
            sqlite3.SQLITE_CORRUPT: "take a backup, or scan into a new file",
        }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "run: moodfield library check")
        raise LibraryError(f"the library {path}: {error}; {advice}") from error


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _contains(text: bytes | None, part: bytes) -> bool:
    """The SQL function `contains`: whether text contains a part in lower case; BLOBs, since paths may be no UTF-8."""
    return _decode(part) in _decode(text or b"").casefold()


def strings(text: str) -> tuple[str, ...]:
    """The strings in a JSON array."""
    return tuple(json.loads(text))

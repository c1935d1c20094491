"""Scan music into a library: only new and changed files are decoded, moved ones are recognised."""

import os
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from moodfield import audio, parallel
from moodfield.errors import AudioError, LibraryError, MoodfieldError
from moodfield.library import analysis, database, models, moves
from moodfield.library.analysis import Analysis

FAST_SPEED = 200.0
"""seconds of audio that are tagged in a second, assumed if no scan has measured it"""


@dataclass(frozen=True)
class FileState:
    """A file as the file system describes it."""

    path: Path
    """absolute path"""
    size: int
    """bytes"""
    mtime: int
    """time of the last change, in nanoseconds"""
    uri: str = ""
    """URI of a file that is on no local disk, as the library names it then; else empty"""

    @property
    def name(self) -> str:
        """Its name in the library: the path, or the URI."""
        return self.uri or str(self.path)


@dataclass(frozen=True)
class _StoredFile:
    """What the library knows of a file."""

    id: int
    size: int
    mtime: int
    digest: bytes | None
    is_missing: bool
    has_error: bool
    is_tagged: bool
    duration: float


@dataclass  # mutable: it is filled step by step
class Plan:
    """What a scan has to do, and what it has recognised already."""

    model: int
    """number of the model in the database"""
    files: list[FileState] = field(default_factory=list)
    """files that have to be tagged"""
    unchanged: int = 0
    """number of files that are as they were"""
    moved: list[tuple[str, Path]] = field(default_factory=list)
    """files that have another path now: before, after"""
    missing: int = 0
    """number of files that have gone since the last scan"""
    unsearched: dict[str, str] = field(default_factory=dict)
    """folders and files that could not be searched → the reason; nothing in them counts as missing"""
    untagged: int = 0
    """number of unchanged files that the model has not tagged, and that `retag` would tag"""
    untagged_seconds: float = 0.0
    """their duration"""
    failed: int = 0
    """number of unchanged files that failed before, and that `retag` would try again"""
    speed: float = FAST_SPEED
    """seconds of audio that are tagged in a second, as the last scan has measured"""


def plan(
    connection: sqlite3.Connection,
    paths: Sequence[Path],
    model_names: Sequence[str],
    *,
    retag: bool = False,
    jobs: int = 1,
) -> Plan:
    """Compare the files below paths with the library, and store what needs no decoding: moved and missing files.

    Args:
        connection: Of the library, for writing.
        paths: Files and folders; those of earlier scans if there are none.
        model_names: Of the tagger, as for `moodfield.load`.
        retag: Whether unchanged files that this model has not tagged are tagged, too.
        jobs: Processes that compute digests.

    Raises:
        LibraryError: No path is given, and none was ever scanned; or none of them exists.
        ModelError: A model cannot be loaded.
    """
    model = models.store(connection, analysis.load(tuple(model_names)))
    result = Plan(model)
    roots = _roots(connection, paths, result)
    stored = _read_stored(connection, model)
    present = _find(roots, stored, result)
    changed: list[FileState] = []
    for name, state in present.items():
        track = stored.get(name)
        if track is None or (track.size, track.mtime) != (state.size, state.mtime):
            changed.append(state)
            continue
        result.unchanged += 1
        _choose_untagged(result, track, state, retag=retag)
    absent = {name: track for name, track in stored.items() if name not in present}
    vanished = {
        name: track
        for name, track in absent.items()
        if _is_below(name, roots) and not _is_below(name, tuple(result.unsearched))
    }
    sizes = {state.size for state in changed}
    elsewhere = {
        name: track for name, track in absent.items() if track.size in sizes and name not in vanished and _is_gone(name)
    }
    own = {name: stored[name] for state in changed if (name := str(state.path)) in stored}
    contents = {name: (track.size, track.digest) for name, track in (vanished | elsewhere | own).items()}
    same = moves.recognise({state.path: state.size for state in changed}, contents, jobs)
    result.files += [state for state in changed if state.path not in same]
    for state in changed:
        if state.path in same:
            result.unchanged += 1
            _choose_untagged(result, stored[same[state.path]], state, retag=retag)
    result.moved = [(before, path) for path, before in same.items() if before != str(path)]
    moved_from = {before for before, _ in result.moved}
    lost = [track.id for name, track in vanished.items() if name not in moved_from and not track.is_missing]
    result.missing = len(lost)
    returned = [stored[name].id for name in present if name in stored and stored[name].is_missing]
    measured = sorted(models.read(connection), key=lambda one: one.id != model)
    result.speed = next((one.speed for one in measured if one.speed), FAST_SPEED)
    with database.transaction(connection):
        ids = {name: track.id for name, track in stored.items()}
        _move(connection, [state for state in changed if state.path in same], same, ids)
        connection.executemany("UPDATE tracks SET missing = NULL WHERE id = ?", [(track,) for track in returned])
        now = int(time.time())
        connection.executemany("UPDATE tracks SET missing = ? WHERE id = ?", [(now, track) for track in lost])
    return result


def run(
    connection: sqlite3.Connection, plan: Plan, model_names: Sequence[str], *, jobs: int = 1
) -> Iterator[tuple[Path, MoodfieldError | None]]:
    """Tag the files of a plan, and store each of them as soon as it is tagged.

    Yields:
        Every path, with the error if the file cannot be tagged; files that have gone meanwhile have the error of a
        missing file, and keep what the library knows of them.
    """
    states = {state.path: state for state in plan.files}
    start, seconds = time.monotonic(), 0.0
    function = partial(analysis.analyse, tuple(model_names))
    for path, result in parallel.map(function, list(states), jobs=jobs):
        state = states[path]
        error: MoodfieldError | None = None
        with database.transaction(connection):
            if isinstance(result, Analysis):
                seconds += result.duration
                store(connection, state, plan.model, result)
            elif _is_gone(path):
                error = AudioError("missing", f"{path} has gone during the scan")
                connection.execute(
                    "UPDATE tracks SET missing = ? WHERE path = CAST(? AS TEXT)",
                    (int(time.time()), database.encode(str(path))),
                )
            else:
                error = result
                store_error(connection, state, result)
        yield path, error
    if seconds:
        speed = seconds / (time.monotonic() - start)
        connection.execute("UPDATE models SET speed = ? WHERE id = ?", (speed, plan.model))


def store(connection: sqlite3.Connection, state: FileState, model: int, result: Analysis) -> None:
    """Store a tagged file. Taggings of other models are removed if its content has changed."""
    values = (
        result.digest, result.duration, *map(database.encode, _names(state, result)), result.metadata.year,
    )  # fmt: skip
    track, digest = _upsert(connection, state)
    if digest not in (None, result.digest):
        connection.execute("DELETE FROM taggings WHERE track = ?", (track,))
        connection.execute("DELETE FROM curves WHERE track = ?", (track,))
    connection.execute(
        "UPDATE tracks SET digest = ?, duration = ?, title = CAST(? AS TEXT), artist = CAST(? AS TEXT), "
        "album = CAST(? AS TEXT), genre = CAST(? AS TEXT), year = ?, error = NULL, reason = NULL WHERE id = ?",
        (*values, track),
    )
    embedding = None if result.embedding is None else result.embedding.tobytes()
    connection.execute(
        "REPLACE INTO taggings (track, model, logits, embedding) VALUES (?, ?, ?, ?)",
        (track, model, result.logits.tobytes(), embedding),
    )
    connection.execute(
        "REPLACE INTO curves (track, model, logits, envelope) VALUES (?, ?, ?, ?)",
        (track, model, result.curves.tobytes(), result.envelope.tobytes()),
    )


def note_rewritten(
    connection: sqlite3.Connection, path: Path, before: os.stat_result, after: os.stat_result, digest: bytes
) -> None:
    """Store the state of a file whose tags were changed, but not its audio, so that it is not tagged again.

    Args:
        connection: Of the library, for writing.
        path: The file, by any of the names that the library may know it by.
        before: Its state before, which the library must have.
        after: Its state now.
        digest: SHA-256 of its content.
    """
    names = [database.encode(name) for name in (os.path.abspath(path), os.path.realpath(path))]  # noqa: PTH100
    with database.transaction(connection):
        rows = connection.execute(
            "SELECT id, path FROM tracks WHERE size = ? AND mtime = ? AND digest IN (SELECT digest FROM tracks "
            "WHERE path IN (CAST(? AS TEXT), CAST(? AS TEXT)))",
            (before.st_size, before.st_mtime_ns, *names),
        ).fetchall()
        for number, name in rows:
            if _is_same(name, after):
                values = after.st_size, after.st_mtime_ns, digest, number
                connection.execute("UPDATE tracks SET size = ?, mtime = ?, digest = ? WHERE id = ?", values)


def _roots(connection: sqlite3.Connection, paths: Sequence[Path], result: Plan) -> list[str]:
    """The folders and files to scan, absolute; folders are kept for later scans."""
    stored = [row[0] for row in connection.execute("SELECT path FROM folders ORDER BY path")]
    if not paths and not stored:
        raise LibraryError("the library has no folders yet; name one: moodfield library scan FOLDER")
    roots = [os.path.abspath(path) for path in paths] or stored  # noqa: PTH100 (Path.absolute keeps ..)
    present = [root for root in dict.fromkeys(roots) if os.path.exists(root)]  # noqa: PTH110
    absent = [root for root in roots if root not in present and not _is_below(root, present)]
    result.unsearched |= dict.fromkeys(absent, "it does not exist; moodfield library prune FOLDER forgets it")
    if not present:
        raise LibraryError(f"{', '.join(roots)} cannot be scanned: no such file or folder; the library is as it was")
    folders = [root for root in present if os.path.isdir(root)]  # noqa: PTH112
    top = [root for root in folders if not _is_below(root, [name for name in (*stored, *folders) if name != root])]
    with database.transaction(connection):
        connection.executemany(
            "INSERT INTO folders VALUES (CAST(? AS TEXT)) ON CONFLICT DO NOTHING",
            [(database.encode(root),) for root in top],
        )
    return present


def _find(roots: Sequence[str], stored: Collection[str], result: Plan) -> dict[str, FileState]:
    """The audio files below paths; folders that cannot be searched are noted in the plan.

    A file without the suffix of an audio file, which was named in an earlier scan, stays in the library.
    """
    present: dict[str, FileState] = {}
    named = [name for name in stored if Path(name).suffix.lower() not in audio.SUFFIXES and _is_below(name, roots)]
    for path in audio.find([*roots, *(name for name in named if os.path.isfile(name))]):  # noqa: PTH113
        try:
            status = path.stat()
        except OSError as error:
            result.unsearched[str(path)] = error.strerror or str(error)
            continue
        if stat.S_ISDIR(status.st_mode):
            result.unsearched[str(path)] = "it cannot be searched"
        else:
            present[str(path)] = FileState(path, status.st_size, status.st_mtime_ns)
    return present


def _read_stored(connection: sqlite3.Connection, model: int) -> dict[str, _StoredFile]:
    """What the library knows of all files, by path."""
    rows = connection.execute(
        "SELECT path, id, size, mtime, digest, missing IS NOT NULL, error IS NOT NULL, taggings.track IS NOT NULL, "
        "coalesce(duration, 0.0) FROM tracks LEFT JOIN taggings ON taggings.track = id AND taggings.model = ?",
        (model,),
    )
    return {
        path: _StoredFile(number, size, mtime, digest, bool(missing), bool(error), bool(tagged), duration)
        for path, number, size, mtime, digest, missing, error, tagged, duration in rows
    }


def _choose_untagged(result: Plan, track: _StoredFile, state: FileState, *, retag: bool) -> None:
    """Count an unchanged file that has no tags of the model, or add it to what is tagged."""
    if track.is_tagged and not track.has_error:
        return
    if retag:
        result.files.append(state)
        result.unchanged -= 1
    elif track.has_error:
        result.failed += 1
    else:
        result.untagged += 1
        result.untagged_seconds += track.duration


def _move(
    connection: sqlite3.Connection, states: Sequence[FileState], before: dict[Path, str], ids: dict[str, int]
) -> None:
    """Give the rows of moved and touched files their present path, size and time.

    A row at such a path whose content is nowhere else is removed: its file was replaced. Paths are set in two steps, as
    files may have changed places.
    """
    rows = [(state, ids[before[state.path]]) for state in states]
    connection.executemany("UPDATE tracks SET path = 'moving ' || id WHERE id = ?", [(row,) for _, row in rows])
    for state, row in rows:
        path = database.encode(str(state.path))
        connection.execute("DELETE FROM tracks WHERE path = CAST(? AS TEXT)", (path,))
        connection.execute(
            "UPDATE tracks SET path = CAST(? AS TEXT), size = ?, mtime = ?, missing = NULL WHERE id = ?",
            (path, state.size, state.mtime, row),
        )


def _names(state: FileState, result: Analysis) -> tuple[str, str, str, str]:
    """Title, artist, album and genre; without a title the name of the file."""
    names = result.metadata
    return names.title or state.path.stem, names.artist, names.album, names.genre


def store_error(connection: sqlite3.Connection, state: FileState, error: MoodfieldError) -> None:
    """Store why a file cannot be tagged; what an earlier content had is removed, not what other models gave."""
    reason = error.reason if isinstance(error, AudioError) else type(error).__name__
    path = database.encode(state.name)
    row = connection.execute("SELECT size, mtime, digest FROM tracks WHERE path = CAST(? AS TEXT)", (path,)).fetchone()
    if row and row[:2] == (state.size, state.mtime) and row[2] is not None:
        connection.execute(
            "UPDATE tracks SET error = CAST(? AS TEXT), reason = ? WHERE path = CAST(? AS TEXT)",
            (database.encode(str(error)), reason, path),
        )
        return
    track, _ = _upsert(connection, state)
    connection.execute("DELETE FROM taggings WHERE track = ?", (track,))
    connection.execute("DELETE FROM curves WHERE track = ?", (track,))
    connection.execute(
        "UPDATE tracks SET digest = NULL, duration = NULL, title = CAST(? AS TEXT), error = CAST(? AS TEXT), "
        "reason = ? WHERE id = ?",
        (database.encode(state.path.stem), database.encode(str(error)), reason, track),
    )


def _upsert(connection: sqlite3.Connection, state: FileState) -> tuple[int, bytes | None]:
    """The row of a file, with its present size and time: its number, and the digest that it had."""
    return connection.execute(
        "INSERT INTO tracks (path, size, mtime) VALUES (CAST(? AS TEXT), ?, ?) ON CONFLICT (path) DO UPDATE "
        "SET size = excluded.size, mtime = excluded.mtime, missing = NULL RETURNING id, digest",
        (database.encode(state.name), state.size, state.mtime),
    ).fetchone()


def _is_below(name: str, roots: Sequence[str]) -> bool:
    """Whether a path is one of the roots, or in one of them."""
    return any(name == root or name.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _is_same(name: str, status: os.stat_result) -> bool:
    """Whether a path leads to the file with this status."""
    try:
        return os.path.samestat(os.stat(name), status)  # noqa: PTH116 (names may be no UTF-8)
    except OSError:
        return False


def _is_gone(path: str | Path) -> bool:
    return not os.path.lexists(path)

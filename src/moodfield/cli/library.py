"""The commands about a library: scan, list, find, show, similar, stats, export, correct, check, prune."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from moodfield.cli import console, filters, library_tables, progress
from moodfield.errors import LibraryError, LockedError, UsageError
from moodfield.report import text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from moodfield.library.decided import DecidedTracks, Order
    from moodfield.library.scan import Plan
    from moodfield.library.tracks import LibraryTrack

ORDERS = ("evidence", "name", "path", "random")
Orders = Annotated[str, typer.Option(help=f"{', '.join(ORDERS[:-1])} or {ORDERS[-1]}")]


def scan(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="folders of music; by default those of earlier scans"),
    ] = None,
    *,
    model: console.Models = None,
    retag: Annotated[
        bool, typer.Option("--retag", help="also tag unchanged files that failed, or that this model has not tagged")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="go on, and scan whatever changes, until stopped")] = False,
    db: filters.Database = None,
    jobs: console.Jobs = 0,
) -> None:
    """Find and tag music, and keep the results in a database; unchanged files are not read again.

    For example:
        moodfield library scan ~/Music
        moodfield library scan
        moodfield library scan ~/Music --watch
        moodfield library scan --model mine --retag
    """
    from moodfield.library import database

    path, names = filters.database_path(db), tuple(model or ())
    if not watch:
        if _scan(path, paths or [], names, retag=retag, jobs=jobs):
            raise typer.Exit(console.SOME_FAILED)
        return
    from moodfield.library import watch as watching

    folders = [folder.absolute() for folder in paths or []]
    if not folders:
        with database.read(path) as connection:
            folders = [Path(row[0]) for row in connection.execute("SELECT path FROM folders")]
    for changed in watching.changes(folders, path):
        try:
            _scan(path, changed, names, retag=retag, jobs=jobs)
        except (LockedError, LibraryError) as error:
            console.message(str(error))
        console.message("watching for changes; stop it with Ctrl-C")


def _scan(path: Path, paths: list[Path], names: tuple[str, ...], *, retag: bool, jobs: int) -> int:
    """Scan once, and print what was done; the number of files that failed."""
    from moodfield import audio
    from moodfield.library import database
    from moodfield.library import scan as scanning

    failed = 0
    with database.lock(path), database.write(path) as connection:
        plan = scanning.plan(connection, paths, names, retag=retag, jobs=console.choose_jobs(jobs, 100))
        _print_plan(plan)
        jobs = console.choose_jobs(jobs, len(plan.files))
        with progress.FileProgress("tracks", len(plan.files)) as bar:
            for _, error in scanning.run(connection, plan, names, jobs=jobs):
                bar.advance()
                if error:
                    failed += 1
                    console.message(str(error))
        (count,) = connection.execute("SELECT count(*) FROM tracks WHERE missing IS NULL").fetchone()
    tagged = len(plan.files) - failed
    if not count and not failed:
        console.message(
            f"no audio file ({', '.join(sorted(audio.SUFFIXES))}) was found; check the folder that you named"
        )
    parts = [f"{tagged:,} tagged", f"{plan.unchanged:,} unchanged"]
    parts += [f"{number:,} {word}" for number, word in
              ((failed, "failed"), (len(plan.moved), "moved"), (plan.missing, "gone")) if number]  # fmt: skip
    console.message(f"{path}: {count:,} tracks; {', '.join(parts)}")
    if plan.missing:
        console.message("moodfield library list --missing lists files that have gone, and prune removes them")
    if tagged and tagged == count:
        console.message("moodfield library stats counts their tags, and report -o library.html draws them")
    return failed


def _print_plan(plan: "Plan") -> None:
    """Print what a scan cannot search, and what re-tagging would cost."""
    for folder, reason in plan.unsearched.items():
        console.message(f"{folder}: {reason}; what the library knows of it is kept")
    if plan.untagged:
        hours, minutes = plan.untagged_seconds / 3600, plan.untagged_seconds / plan.speed / 60
        console.message(
            f"{plan.untagged:,} unchanged tracks ({hours:,.1f} h of music) have no tags of this model; --retag "
            f"computes them, in about {max(1, round(minutes)):,} min at {plan.speed:,.0f} times real time"
        )
    if plan.failed:
        console.message(f"{plan.failed:,} unchanged files failed before; --retag tries them again")


@filters.filtered
def list_tracks(
    *,
    query: "filters.Query",
    order: Orders = "path",
    seed: console.Seed = 0,
    limit: filters.Limit = None,
    as_json: console.AsJson = False,
) -> None:
    """List tracks.

    For example:
        moodfield library list --artist bach --order name
        moodfield library list --mood calm --not dark --duration 3:00-6:00
        moodfield library list --json > library.jsonl
    """
    _print_tracks(query, order, seed=seed, limit=limit, as_json=as_json)


@filters.filtered(has_tags=True)
def find_tracks(
    *,
    query: "filters.Query",
    order: Orders = "evidence",
    seed: console.Seed = 0,
    limit: filters.Limit = None,
    as_json: console.AsJson = False,
) -> None:
    """Find tracks with moods and themes, the clearest first.

    For example:
        moodfield library find calm dream --not dark
        moodfield library find happy --limit 20 --json
    """
    if not query.wanted.tags:
        raise UsageError("nothing to find: give a TAG, --mood or --theme; moodfield library list has all tracks")
    _print_tracks(query, order, seed=seed, limit=limit, as_json=as_json)


def show(
    track: filters.TrackName,
    *,
    model: filters.LibraryModel = None,
    db: filters.Database = None,
    as_json: console.AsJson = False,
) -> None:
    """Show a track: its tags, absolute and relative to the library, and why they are decided.

    For example:
        moodfield library show ~/Music/song.mp3
        moodfield library show words of artist and title
    """
    from moodfield.library import rows, tracks

    with _reading(db) as connection:
        meant = tracks.locate(connection, " ".join(track))
        if as_json:
            console.result_json(next(rows.rows(_of_track(connection, meant, model, relative=True))))
            return
        library_tables.print_track(meant, *(_of_track(connection, meant, model, relative=r) for r in (False, True)))


def similar(
    track: filters.TrackName,
    *,
    limit: Annotated[int, typer.Option(min=1, help="number of tracks")] = 20,
    model: filters.LibraryModel = None,
    db: filters.Database = None,
    as_json: console.AsJson = False,
) -> None:
    """Find the tracks that are most similar to one.

    For example:
        moodfield library similar ~/Music/song.mp3 --limit 10
    """
    from moodfield.library import models, similarity, tracks

    with _reading(db) as connection:
        meant = tracks.locate(connection, " ".join(track))
        nearest = similarity.nearest(
            similarity.read(connection, models.choose(connection, model)), meant.id, limit=limit
        )
        if not as_json:
            console.result(filters.format_head("similarity  path"))
        for other, (_, value) in zip(tracks.read(connection, [number for number, _ in nearest]), nearest, strict=True):
            if as_json:
                names = {"path": other.path, "artist": other.artist, "title": other.title}
                console.result_json(names | {"similarity": round(value, 4)})
            else:
                console.result(filters.format_line(other.label, other.duration, f"{value:10.2f}  {other.path}"))


@filters.filtered
def stats(
    *,
    query: "filters.Query",
    as_json: console.AsJson = False,
) -> None:
    """Count tracks, hours and tags.

    For example:
        moodfield library stats
        moodfield library stats --genre jazz
    """
    from moodfield.library import database, models, statistics

    with query.decided() as (connection, decided):
        counts = statistics.count(decided, models.read(connection), database.size(query.path))
    if as_json:
        console.result_json(counts.to_dict())
    else:
        library_tables.print_statistics(counts)


@filters.filtered
def export(
    *,
    query: "filters.Query",
    output: Annotated[Path, typer.Option("--output", "-o", help="x.jsonl, x.csv, x.parquet, or a folder x.jams")],
    order: Orders = "path",
) -> None:
    """Write tracks with all that is known of them to a file.

    For example:
        moodfield library export -o library.parquet
        moodfield library export -o calm.csv --mood calm
    """
    from moodfield.library import decided as deciding
    from moodfield.library import exports

    exports.check(output)
    with query.decided() as (connection, decided):
        exports.write(output, deciding.order(decided, _check_order(order)), connection)
        count = len(decided.tracks) + (0 if output.suffix.lower() == ".jams" else len(decided.untagged))
    console.message(f"wrote {output}: {count:,} tracks")


def correct(
    track: filters.TrackName,
    *,
    add: Annotated[list[str] | None, typer.Option(help="a mood or theme that the track has")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="a mood or theme that it has not")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="forget earlier corrections of the track")] = False,
    db: filters.Database = None,
) -> None:
    """Correct the tags of a track; corrections win, and later scans keep them.

    For example:
        moodfield library correct ~/Music/song.mp3 --add calm --remove love
        moodfield learn --library -o mine
    """
    from moodfield import errors
    from moodfield.library import database, models, tracks

    added, removed = tuple(add or ()), tuple(remove or ())
    if not (added or removed or clear):
        raise UsageError("nothing to correct: give --add TAG, --remove TAG, or --clear")
    if both := set(added).intersection(removed):
        raise UsageError(f"{', '.join(sorted(both))} cannot be added and removed at once")
    path = filters.database_path(db)
    with _reading(db) as connection:
        meant = tracks.locate(connection, " ".join(track))
        names = {tag: tag for stored in models.read(connection) for tag in stored.vocabulary}
        for tag in (*added, *removed):
            errors.get_or_suggest(names, tag, what="tag")
    with database.write(path) as connection:
        tracks.correct(connection, meant.id, add=added, remove=removed, clear=clear)
    with _reading(db) as connection:
        row = _of_track(connection, meant, None, relative=True)
    console.result(filters.format_line(meant.label, meant.duration, ", ".join(row.decided(0)) if row.tracks else "–"))


def check(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="do not look for missing files")] = False,
    db: filters.Database = None,
) -> None:
    """Check the database, and which files have gone since the last scan.

    For example:
        moodfield library check
    """
    from moodfield.library import database, tracks

    with _reading(db) as connection:
        faults = database.faults(connection)
        stored = tracks.select(connection)
        gone = [] if quick else [track.path for track in stored if not Path(track.path).exists()]
        (noted,) = connection.execute("SELECT count(*) FROM tracks WHERE missing IS NOT NULL").fetchone()
    for fault in faults:
        console.result(f"damaged: {fault}")
    for name in gone:
        console.result(f"gone: {name}")
    console.message(
        f"{len(stored):,} tracks, {len(faults):,} faults of the database, {len(gone):,} files gone since the last "
        f"scan, {noted:,} before it" + ("; moodfield library prune removes those" if noted else "")
    )
    if faults or gone:
        raise typer.Exit(console.SOME_FAILED)


def prune(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="folders to forget, with all of their tracks", show_default=False),
    ] = None,
    *,
    corrected: Annotated[bool, typer.Option("--corrected", help="also tracks with corrections")] = False,
    db: filters.Database = None,
) -> None:
    """Remove from the library tracks whose files had gone at the last scan, or those of folders; no file is touched.

    For example:
        moodfield library prune
        moodfield library prune /media/old-disk
    """
    from moodfield.library import database, tracks

    path = filters.database_path(db)
    with _reading(db):
        pass  # a library that is not there is not made
    with database.lock(path), database.write(path) as connection:
        removed, kept = tracks.prune(connection, folders or (), corrected=corrected)
        connection.execute("VACUUM")
    note = f"; {kept:,} with corrections are kept, --corrected removes them" if kept else ""
    console.message(f"{text.count(removed, 'track')} removed{note}")


@contextmanager
def _reading(db: Path | None) -> "Iterator[sqlite3.Connection]":
    from moodfield.library import database

    with database.read(filters.database_path(db)) as connection:
        yield connection


def _of_track(
    connection: "sqlite3.Connection", track: "LibraryTrack", model: str | None, *, relative: bool
) -> "DecidedTracks":
    """The decisions for one track."""
    from moodfield.library import decided
    from moodfield.library.tracks import Filter

    return decided.decide(connection, Filter(ids=(track.id,)), model=model, relative=relative)


def _print_tracks(query: "filters.Query", order: str, *, seed: int, limit: int | None, as_json: bool) -> None:
    """Print tracks as JSON lines or as a table."""
    from moodfield.library import decided as deciding
    from moodfield.library import rows

    tags, by = query.wanted.tags, _check_order(order)
    with query.decided() as (_, decided):
        ordered = deciding.order(decided, by, tags=tags, seed=seed)
        ordered = ordered.first(limit) if limit else ordered
        if as_json:
            for row in rows.rows(ordered):
                console.result_json(row)
        else:
            library_tables.print_tracks(ordered, tags)


def _check_order(order: str) -> "Order":
    """The order, if there is such a one; raises `UsageError`."""
    if order not in ORDERS:
        raise UsageError(f"--order {order}: expected {', '.join(ORDERS[:-1])} or {ORDERS[-1]}")
    return cast("Order", order)

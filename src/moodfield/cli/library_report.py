"""The command that writes an HTML report about a library."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, filters

if TYPE_CHECKING:
    from moodfield.library.tracks import Filter


@filters.filtered
def report(
    *,
    wanted: "Filter",
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write")],
    absolute: filters.Absolute = False,
    model: filters.LibraryModel = None,
    db: filters.Database = None,
) -> None:
    """Write an HTML page with a map of the library, and all tracks with their tags over time.

    For example:
        moodfield library report -o library.html
        moodfield library report -o jazz.html --genre jazz
    """
    from moodfield import files
    from moodfield.library import database, decided, report_tracks
    from moodfield.report import page

    files.check_output(output, kind=files.HTML)
    with database.read(filters.database_path(db)) as connection:
        result = decided.decide(connection, wanted, model=model, relative=not absolute)
        failed = {track.path: track.error for track in result.untagged if track.error}
        tracks = report_tracks.tracks(result, connection)
        page.write(output, tracks, report_tracks.reference(result) if result.tracks else None, failed=failed)
    console.message(f"wrote {output}: {len(result.tracks):,} tracks")

"""The command that writes an HTML report about a library."""

from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console, filters


@filters.filtered
def report(
    *,
    query: "filters.Query",
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write")],
) -> None:
    """Write an HTML page with a map of the library, and all tracks with their tags over time.

    For example:
        moodfield library report -o library.html
        moodfield library report -o jazz.html --genre jazz
    """
    from moodfield import files
    from moodfield.library import report_tracks
    from moodfield.report import page

    files.check_output(output, kind=files.HTML)
    with query.decided() as (connection, result):
        failed = {track.path: track.error for track in result.untagged if track.error}
        tracks = report_tracks.tracks(result, connection)
        page.write(output, tracks, report_tracks.reference(result) if result.tracks else None, failed=failed)
    console.message(f"wrote {output}: {len(result.tracks):,} tracks")

"""The decided tags of a library, after a scan of the files that it does not have, with progress."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moodfield.cli import console, progress

if TYPE_CHECKING:
    from moodfield.file_tags.track_tags import LibraryTags


def decide(
    library: Path, paths: Sequence[Path], *, model: str | None, absolute: bool, scores: bool = False, jobs: int = 0
) -> "LibraryTags":
    """The tags of a library, after a scan of what it does not have.

    Args:
        library: Its database.
        paths: Files and folders that are scanned.
        model: Name of the model; by default the one with the most tracks.
        absolute: Whether decisions are not relative to the library.
        scores: Whether scores are wanted, too.
        jobs: Processes; 0 chooses by cores and files.
    """
    from moodfield.file_tags import track_tags
    from moodfield.library import database

    with database.lock(library), database.write(library) as connection:
        plan = track_tags.plan_scan(connection, paths, jobs=console.choose_jobs(jobs, 100))
        if plan.files:
            console.message(f"{len(plan.files):,} tracks are not in the library, and are scanned first")
        with progress.FileProgress("tracks", len(plan.files)) as bar:
            for _ in track_tags.scan(connection, plan, jobs=console.choose_jobs(jobs, len(plan.files))):
                bar.advance()  # errors are printed with the files that have no tags
    with database.read(library) as connection:
        stored = track_tags.LibraryTags(connection, model=model, absolute=absolute, scores=scores)
    if not (absolute or stored.decided.relative):
        console.message("decisions are absolute: this model needs 20 different tracks for relative ones")
    return stored

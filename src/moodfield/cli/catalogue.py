"""The commands about catalogues of many tracks on many machines, and the import of one into a library."""

from collections import Counter
from typing import Annotated

import typer

from moodfield.cli import console, filters, progress
from moodfield.parallel import Backend

Folder = Annotated[str, typer.Argument(metavar="DST", help="folder or URI of a catalogue", show_default=False)]


def tag(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="folders, globs, files, manifests; paths or URIs", show_default=False),
    ],
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="DST", help="folder or URI of the Parquet files")],
    on: Annotated[Backend, typer.Option(help="where to tag: on this machine, or on a Ray cluster")] = Backend.LOCAL,
    model: console.Models = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="tag only the i-th of n shares, i from 1 to n")] = "1/1",
    limit: Annotated[int | None, typer.Option(min=1, help="only the first files, for a trial")] = None,
    jobs: console.Jobs = 0,
) -> None:
    """Tag a catalogue of any size into Parquet files; finished parts are skipped when it is run again.

    For example:
        moodfield catalogue tag /mnt/music -o /mnt/moods
        moodfield catalogue tag s3://bucket/music -o s3://bucket/moods --on ray
        moodfield catalogue tag 's3://bucket/*/*.flac' -o moods --limit 100
        moodfield catalogue tag tracks.parquet -o s3://bucket/moods --shard 1/8
    """
    from moodfield.catalogue import dataset, parts
    from moodfield.catalogue import tag as tagging
    from moodfield.catalogue.workers import WorkerConfig
    from moodfield.library import analysis, models

    if on is Backend.RAY:
        console.check_unused({"--jobs": jobs}, why="Ray uses all cores of the cluster")
    numbers, names = parts.parse_shard(shard), tuple(model or ())
    catalogue = dataset.open_or_create(output, sources, models.describe(analysis.load(names)), limit)
    plan = parts.plan(catalogue, numbers)
    if plan.done:
        failed = f"; {plan.failed:,} of them could not be tagged" if plan.failed else ""
        console.message(f"{plan.done:,} of {plan.rows:,} files were done before{failed}")
    reasons: Counter[str] = Counter()
    tagged = 0
    count = plan.rows - plan.done
    with progress.FileProgress("tracks", count) as bar:
        for record in tagging.run(catalogue, plan, WorkerConfig(names), on=on, jobs=console.choose_jobs(jobs, count)):
            bar.advance()
            if record["reason"]:
                reasons[record["reason"]] += 1
                console.message(record["error"])
            else:
                tagged += 1
    failed = ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())
    parts_of = f" in shard {shard}" if numbers[1] > 1 else ""
    console.message(f"{output}: {plan.rows:,} rows{parts_of}; {tagged:,} tagged now")
    if reasons:
        console.message(f"{reasons.total():,} files could not be tagged: {failed}")
    if reasons or plan.failed:
        raise typer.Exit(console.SOME_FAILED)


def decide(
    folder: Folder,
) -> None:
    """Decide the tags of a catalogue relative to all of its tracks, into further Parquet files beside the rows.

    For example:
        moodfield catalogue decide s3://bucket/moods
    """
    from moodfield.catalogue import dataset, relative

    catalogue = dataset.read(folder)
    with progress.FileProgress("parts", 2 * len(catalogue.committed())) as bar:
        tracks = relative.decide(catalogue, bar.advance)
    console.message(f"{folder}: decided relative to {tracks:,} different tracks")


def import_catalogue(folder: Folder, *, db: filters.Database = None) -> None:
    """Add the tracks of a catalogue to the library; files that the library has are replaced.

    For example:
        moodfield library import /mnt/moods
        moodfield library import s3://bucket/moods --db company.db
    """
    from moodfield.catalogue import dataset, imports

    catalogue = dataset.read(folder)
    path = filters.database_path(db)
    with progress.FileProgress("parts", len(catalogue.committed())) as bar:
        tagged, failed, left_out = imports.run(catalogue, path, bar.advance)
    console.message(f"{path}: {tagged:,} tracks and {failed:,} failed files imported")
    if left_out:
        console.message(f"{left_out:,} files are left out, which are to be tagged again: moodfield catalogue tag")

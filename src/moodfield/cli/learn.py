"""The command that learns tags from labelled tracks."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, filters, progress
from moodfield.errors import UsageError

if TYPE_CHECKING:
    from moodfield.learning.labels import LabelledTrack
    from moodfield.learning.learn import Learned


def learn(
    labels: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[LABELS]...", help="TSV, CSV, playlists, or a folder", show_default=False),
    ] = None,
    *,
    library: Annotated[bool, typer.Option("--library", help="learn from the corrections in your library")] = False,
    db: filters.Database = None,
    audio: Annotated[Path | None, typer.Option(help="folder of the music, if not that of the labels")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="model folder to write; an old model is replaced")],
    base: Annotated[
        str, typer.Option(help="name, folder or run of a model to start from", autocompletion=console.complete_model)
    ] = "default",
    keep_tags: Annotated[bool, typer.Option("--keep-tags", help="keep the tags of the base beside yours")] = False,
    name: Annotated[str, typer.Option(help="name of the model; by default that of its folder")] = "",
    cache_dir: Annotated[Path, typer.Option(help="folder where embeddings are kept")] = console.CACHE_DIR,
    jobs: console.Jobs = 0,
) -> None:
    """Learn tags of your own from labelled tracks.

    LABELS: a CSV with lines path,tag;tag; a TSV in the form of MTG-Jamendo; playlists, whose names are tags; or a
    folder of playlists, or of folders whose names are tags. If a tag is on all labelled tracks, the tracks in --audio
    without labels count as tracks without it.

    For example:
        moodfield learn labels.csv --audio ~/Music -o mine
        moodfield learn calm.m3u8 party.m3u8 --audio ~/Music -o mine
        moodfield learn labels.csv --audio ~/Music -o mine --keep-tags
        moodfield learn --library -o mine
        moodfield tag song.mp3 --model mine
    """
    from moodfield.learning import examples, export
    from moodfield.learning import labels as label_files
    from moodfield.learning import learn as learning

    if audio:
        console.check_audio(audio)
    export.check_target(output)
    if library == bool(labels):
        raise UsageError("give either LABELS, or --library for the corrections in your library")
    if not library:
        console.check_unused({"--db": db}, why="labels come from files")
    labelled = _corrected(db) if library else label_files.read(labels or [], audio_dir=audio)
    completed = examples.add_unlabelled(labelled, audio)
    tracks = completed.tracks
    if completed.n_unlabelled:
        share = f"{completed.n_unlabelled:,} of {completed.n_available:,}"
        console.message(f"{share} tracks in {audio} without labels count as tracks without the tags")
    jobs = console.choose_jobs(jobs, len(tracks))
    with progress.TrackProgress("embeddings", len(tracks)) as bar:
        learned = learning.write_model(
            tracks, output, base=base, keep_tags=keep_tags, cache_dir=cache_dir, jobs=jobs, name=name,
            progress=bar.track,
        )  # fmt: skip
    _print_results(learned)
    n_tags = sum(not result.obstacle for result in learned.results)
    console.message(f"{output}: {n_tags} tag{'' if n_tags == 1 else 's'}; moodfield tag FILE --model {output} uses it")
    if learned.unread:
        console.message(f"{len(learned.unread):,} of {len(tracks):,} tracks could not be read, and were left out")
        raise typer.Exit(console.SOME_FAILED)


def _corrected(db: Path | None) -> "list[LabelledTrack]":
    """The corrected tracks of a library."""
    from moodfield.library import database
    from moodfield.library import labels as corrections

    with database.read(filters.database_path(db)) as connection:
        return corrections.corrected(connection)


def _print_results(learned: "Learned") -> None:
    """Print how well every tag is predicted, as a table, and in words which cannot be learned."""
    table = console.table("tag", "positives", "PR-AUC", "95 %", "chance", "ROC-AUC", "95 %", words=1)
    for result in learned.results:
        pr_auc, roc_auc = _format(result.pr_auc), _format(result.roc_auc)
        intervals = _format(*result.pr_auc_interval), _format(*result.roc_auc_interval)
        tag, positives = console.escape(result.tag), f"{result.positives:,}"
        table.add_row(tag, positives, pr_auc, intervals[0], _format(result.chance), roc_auc, intervals[1])
    tracks = f"{learned.results[0].tracks:,} tracks"
    terminal = console.terminal()
    terminal.print(table)
    terminal.print(f"\n{tracks}, by cross-validation divided by {learned.grouped_by}; chance of ROC-AUC is 0.5")
    for result in learned.results:
        if result.problem:
            terminal.print(console.escape(result.problem))


def _format(*values: float) -> str:
    """A metric, or the ends of an interval, with three digits, since few tracks give no more; a dash for NaN."""
    return "–" if math.isnan(values[0]) else " … ".join(f"{value:.3f}" for value in values)

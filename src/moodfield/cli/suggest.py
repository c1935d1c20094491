"""The command that suggests which tracks to label next."""

from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console, progress

LIMIT = 20
"""suggestions, if no other number is requested"""


def suggest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="music files and folders", show_default=False)],
    *,
    model: Annotated[
        str,
        typer.Option(
            help="name, folder or run of a model: the one learned so far", autocompletion=console.complete_model
        ),
    ] = "default",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="number of tracks at most")] = LIMIT,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="labels, as for learn, of tracks that are not suggested; may be repeated"),
    ] = None,
    audio: Annotated[Path | None, typer.Option(help="folder of the labelled music, if not that of the labels")] = None,
    as_json: console.AsJson = False,
    cache_dir: Annotated[Path, typer.Option(help="folder where embeddings are kept")] = console.CACHE_DIR,
    jobs: console.Jobs = 0,
) -> None:
    """List the tracks to label next, the first one first.

    They are tracks of which the model is uncertain, that are like many others, and unlike each other and the labelled
    ones. Before there are any labels, use the model to learn from. The list, of absolute paths, is a playlist in M3U.

    For example:
        moodfield suggest ~/Music > next.m3u8
        moodfield suggest ~/Music --model mine --labels labels.csv --audio ~/Music -n 10
    """
    from moodfield.learning import labels as label_files
    from moodfield.learning import suggest as suggesting

    if audio:
        console.check_audio(audio)
        console.check_unused({"--audio": not labels}, why="there are no --labels")
    labelled = [track.path for track in label_files.read(labels, audio_dir=audio)] if labels else []
    candidates = suggesting.unlabelled(paths, labelled)
    files = len(candidates) + len(labelled)
    jobs = console.choose_jobs(jobs, files)
    with progress.TrackProgress("embeddings", files) as bar:
        chosen = suggesting.choose(
            candidates, labelled, model, limit=limit, cache_dir=cache_dir, jobs=jobs, progress=bar.track
        )
    for track in chosen.tracks:
        if as_json:
            console.result_json({"source": str(track.path), "least_certain": track.least_certain})
        else:
            console.result(str(track.path.absolute()))
    if chosen.unread:
        console.message(f"{len(chosen.unread):,} of {files:,} files could not be read, and were left out")
        raise typer.Exit(console.SOME_FAILED)

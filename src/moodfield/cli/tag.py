"""The command that tags music."""

from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console, progress
from moodfield.cli.taggings import Form, Taggings
from moodfield.errors import AudioError, ModelError, UsageError


def tag(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="music files and folders", show_default=False)],
    *,
    model: console.Models = None,
    relative: Annotated[bool, typer.Option("--relative", help="decide relative to these files; 20 or more")] = False,
    long: Annotated[
        bool, typer.Option("--long", help="a line for every decided tag, with how much more likely than usual it is")
    ] = False,
    as_json: console.AsJson = False,
    over_time: Annotated[bool, typer.Option("--over-time", help="with --json: scores over time, too")] = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="with --json: the model's embedding, too")] = False,
    report: Annotated[Path | None, typer.Option(help="also write an HTML report, such as report.html")] = None,
    jobs: console.Jobs = 0,
) -> None:
    """Tag music files, and those in folders, with moods and themes.

    For example:
        moodfield tag song.mp3 ~/Music
        moodfield tag ~/Music --relative --long
        moodfield tag ~/Music --json > tags.jsonl
        moodfield tag ~/Music --report report.html
        moodfield tag song.mp3 --model runs/first --model runs/second
    """
    from moodfield import audio, tagger

    if over_time and not as_json:
        raise UsageError("--over-time needs --json, because the table has no scores over time; --report draws them")
    if embedding and not as_json:
        raise UsageError("--embedding needs --json, because the table is too narrow for its numbers")
    if as_json:
        console.check_unused({"--long": long}, why="--json has times_usual of every tag")
    songs = audio.find(paths)
    _check_report(report, [*songs, *paths])
    if not songs:
        raise AudioError("missing", f"no music was found in {', '.join(map(str, paths))}; name audio files or folders")
    if relative:
        _check_count(len(songs))
    if embedding:
        _check_embedding(model or ["default"])
    form = Form(as_json=as_json, long=long, over_time=over_time, embedding=embedding, relative=relative, report=report)
    with progress.FileProgress("files", len(songs)) as bar:
        taggings = Taggings(form, bar, files=songs)
        try:
            for path, tagging in tagger.tag_files(songs, *(model or ()), jobs=console.choose_jobs(jobs, len(songs))):
                taggings.add(path, tagging)
        finally:
            taggings.finish()
    taggings.warn_common()
    if taggings.failed:
        console.message(f"{len(taggings.failed)} of {len(songs)} files could not be tagged")
        raise typer.Exit(console.SOME_FAILED)


def _check_report(report: Path | None, inputs: list[Path]) -> None:
    """Raise `OutputError` or `UsageError` for a name that is not one of a report."""
    from moodfield import audio, files

    if report:
        files.check_output(report, kind=files.HTML, inputs=inputs)
        if report.suffix.lower() in audio.SUFFIXES:
            raise UsageError(f"--report {report} has the suffix of an audio file; name it like report.html")


def _check_count(files: int) -> None:
    """Raise `UsageError` for too few files to decide relative to them."""
    from moodfield import decisions

    if files < decisions.MIN_TRACKS:
        raise UsageError(
            f"--relative needs at least {decisions.MIN_TRACKS} files, to find what is usual among them, and {files} "
            f"{'was' if files == 1 else 'were'} found; name more, or leave it out"
        )


def _check_embedding(models: list[str]) -> None:
    """Raise `ModelError` if a model has no embedding."""
    from moodfield import card, tagger

    for model in models:
        if card.EMBEDDING not in card.Card.read(tagger.model_folder(model)).outputs:
            raise ModelError(f"the model {model} has no embedding; leave --embedding out, or choose another model")

"""The command that tags music."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield import errors
from moodfield.cli import console, progress
from moodfield.errors import AudioError, MoodfieldError, UsageError

if TYPE_CHECKING:
    from moodfield.tagging import Tagging


def tag(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="music files and folders", show_default=False)],
    *,
    model: console.Models = None,
    as_json: console.AsJson = False,
    over_time: Annotated[bool, typer.Option("--over-time", help="with --json: scores over time, too")] = False,
    report: Annotated[Path | None, typer.Option(help="also write an HTML report, such as report.html")] = None,
    jobs: console.Jobs = 0,
) -> None:
    """Tag music files, and those in folders, with moods and themes.

    For example:
        moodfield tag song.mp3 ~/Music
        moodfield tag ~/Music --json > tags.jsonl
        moodfield tag ~/Music --report report.html
        moodfield tag song.mp3 --model runs/first --model runs/second
    """
    from moodfield import audio, files, tagger

    if over_time and not as_json:
        raise UsageError("--over-time needs --json, because the table has no scores over time; --report draws them")
    songs = audio.find(paths)
    if report:
        files.check_output(report, kind=files.HTML, inputs=[*songs, *paths])
        if report.suffix.lower() in audio.SUFFIXES:
            raise UsageError(f"--report {report} has the suffix of an audio file; name it like report.html")
    if not songs:
        raise AudioError("missing", f"no music was found in {', '.join(map(str, paths))}; name audio files or folders")
    taggings: list[Tagging] = []
    failed: dict[str, str] = {}
    with progress.FileProgress("files", len(songs)) as bar:
        try:
            rows = tagger.tag_files(songs, *(model or ()), jobs=console.choose_jobs(jobs, len(songs)))
            for number, (path, tagging) in enumerate(rows):
                if not (as_json or number):
                    bar.print_result(f"[bold]{'track':<38}  {'time':>6}  moods · [dim]themes[/dim][/bold]")
                if isinstance(tagging, MoodfieldError):
                    failed[str(path)] = str(tagging)
                elif report:
                    taggings.append(tagging)
                if as_json:
                    console.result_json(_to_dict(path, tagging, over_time=over_time))
                else:
                    bar.print_result(_format_row(path, tagging))
                    if isinstance(tagging, MoodfieldError):
                        console.message(str(tagging))
                bar.advance()
        finally:  # a stopped command writes a report of the finished files
            if report and (taggings or failed):
                _write_report(report, taggings, failed, files=len(songs))
    if failed:
        console.message(f"{len(failed)} of {len(songs)} files could not be tagged")
        raise typer.Exit(console.SOME_FAILED)


def _write_report(path: Path, taggings: "list[Tagging]", failed: dict[str, str], *, files: int) -> None:
    """Write the report; `files` is the number of all files, of which some are missing if the command was stopped."""
    from moodfield.report import page

    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()  # the report may go there, too
    done = len(taggings) + len(failed)
    page.write(path, taggings, failed=failed, untagged=files - done)
    console.message(f"wrote {path}" + (f": {done:,} of {files:,} files, since it was stopped" if done < files else ""))


def _format_row(path: Path, tagging: "Tagging | MoodfieldError") -> str:
    """One line of the table, as markup."""
    if isinstance(tagging, MoodfieldError):
        return f"{_shorten(path)}  {'–':>6}  [red]failed[/red]"
    moods = console.escape(", ".join(tagging.moods)) or ("" if tagging.themes else "[dim]–[/dim]")
    themes = f" · [dim]{console.escape(', '.join(tagging.themes))}[/dim]" if tagging.themes else ""
    minutes, seconds = divmod(round(tagging.duration), 60)
    return f"{_shorten(path)}  {minutes:>3}:{seconds:02}  {moods}{themes}"


def _shorten(path: Path, width: int = 38) -> str:
    """A file name of exactly this width, cut in the middle if it is long."""
    from rich.cells import set_cell_size

    name = path.name if len(path.name) <= width else f"{path.name[: width // 2 - 1]}…{path.name[-width // 2 :]}"
    return console.escape(set_cell_size(errors.printable(name), width))


def _to_dict(path: Path, tagging: "Tagging | MoodfieldError", *, over_time: bool) -> dict[str, object]:
    """The JSON object of one file."""
    if not isinstance(tagging, MoodfieldError):
        return tagging.to_dict(over_time=over_time)
    reason = tagging.reason if isinstance(tagging, AudioError) else type(tagging).__name__
    return {"source": str(path), "error": {"reason": reason, "message": str(tagging)}}

"""The command that tags music.

In: files and folders. Out: a table or JSON lines, and a report.
Knows nothing of: how music is tagged.
"""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import AudioError, MoodfieldError, UsageError

if TYPE_CHECKING:
    from moodfield.tagging import Tagging

Sources = Annotated[list[Path], typer.Argument(help="music files, and folders of them", show_default=False)]


def tag(
    sources: Sources,
    *,
    model: console.Models = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line instead of a table")] = False,
    over_time: Annotated[bool, typer.Option("--over-time", help="with --json: scores over time too")] = False,
    report: Annotated[Path | None, typer.Option(help="also write an HTML report: report.html")] = None,
    jobs: console.Jobs = 0,
) -> None:
    """Tag files, and the files in folders, with moods and themes."""
    from moodfield import audio, files, parallel, tagger

    if over_time and not as_json:
        raise UsageError("a table has no room for scores over time; add --json, or --report for curves")
    songs = audio.find(sources)
    if report:
        files.check_output(report, kind=files.HTML, inputs=[*songs, *sources])
        if report.suffix.lower() in audio.SUFFIXES:
            raise UsageError(f"--report {report} has the suffix of music; a report is a page: name it report.html")
    if not songs:
        raise AudioError(
            "missing", f"no music was found in {', '.join(map(str, sources))}; name files or folders of music"
        )
    jobs = jobs or parallel.default_jobs(len(songs))
    taggings: list[Tagging] = []
    failed: dict[str, str] = {}
    terminal = console.terminal(stderr=as_json)
    if not as_json:
        terminal.print(f"[bold]{'track':<38}  {'time':>6}  moods · [dim]themes[/dim][/bold]")
    try:
        for path, result in tagger.tag_files(songs, *(model or ()), jobs=jobs):
            if isinstance(result, MoodfieldError):
                failed[str(path)] = str(result)
            elif report:
                taggings.append(result)
            if as_json:
                console.result_json(_plain(path, result, over_time=over_time))
                continue
            terminal.print(_row(path, result), highlight=False)
            if isinstance(result, MoodfieldError):
                console.say(str(result))
    finally:  # even if stopped: the work of hours is not lost
        if report and (taggings or failed):
            _write_report(report, taggings, failed, files=len(songs))
    if failed:
        console.say(f"{len(failed)} of {len(songs)} files could not be tagged")
        raise typer.Exit(console.SOME_FAILED)


def _write_report(path: Path, taggings: "list[Tagging]", failed: dict[str, str], *, files: int) -> None:
    """Write the report of so many files, of which some are left if the command was stopped."""
    from moodfield.report import html_page

    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()  # to which the report may go
    done = len(taggings) + len(failed)
    html_page.write(path, taggings, failed=failed, untagged=files - done)
    console.say(f"the report is {path}" + (f": {done:,} of {files:,} files; it was stopped" if done < files else ""))


def _row(path: Path, tagging: "Tagging | MoodfieldError") -> str:
    """One line of the table."""
    if isinstance(tagging, MoodfieldError):
        return f"{_short(path)}  {'–':>6}  [red]failed[/red]"
    themes = tagging.themes
    words = console.plain(", ".join(tagging.moods)) or ("" if themes else "[dim]nothing clear[/dim]")
    minutes, seconds = divmod(round(tagging.duration), 60)
    aside = f" · [dim]{console.plain(', '.join(themes))}[/dim]" if themes else ""
    return f"{_short(path)}  {minutes:>3}:{seconds:02}  {words}{aside}"


def _short(path: Path, width: int = 38) -> str:
    """A file's name for the table, cut in the middle when it is long."""
    from rich.cells import set_cell_size

    name = path.name if len(path.name) <= width else f"{path.name[: width // 2 - 1]}…{path.name[-width // 2 :]}"
    return console.plain(set_cell_size(errors.printable(name), width))


def _plain(path: Path, tagging: "Tagging | MoodfieldError", *, over_time: bool) -> dict[str, object]:
    """What a program reads of one file."""
    if not isinstance(tagging, MoodfieldError):
        return tagging.to_dict(over_time=over_time)
    reason = tagging.reason if isinstance(tagging, AudioError) else type(tagging).__name__
    return {"source": str(path), "error": {"reason": reason, "message": str(tagging)}}

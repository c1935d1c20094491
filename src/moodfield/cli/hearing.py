"""The command that hears music.

In: files and folders. Out: a table or JSON lines, and a page.
Knows nothing of: how music is heard.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import desk
from moodfield.errors import BadAudio, BadConfig, MoodfieldError

if TYPE_CHECKING:
    from moodfield.tagging import Tagging

Sources = Annotated[list[Path], typer.Argument(help="music files, and folders of them", show_default=False)]


def tag(
    sources: Sources,
    *,
    model: desk.Models = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line instead of a table")] = False,
    over_time: Annotated[bool, typer.Option("--over-time", help="with --json: scores over time too")] = False,
    report: Annotated[Path | None, typer.Option(help="also write a page to look at: report.html")] = None,
    jobs: desk.Jobs = 0,
) -> None:
    """Hear files and folders, and say what they feel like."""
    from moodfield import audio, fleet, tagger

    if over_time and not as_json:
        raise BadConfig("a table has no room for scores over time; add --json, or --report for curves")
    if report:
        _check(report)
    files = audio.find(sources)
    if not files:
        raise BadAudio(
            "missing", f"no music was found in {', '.join(map(str, sources))}; name files or folders of music"
        )
    jobs = jobs or min(fleet.cores(), max(1, len(files) // 4))
    heard: list[Tagging] = []
    failed: dict[str, str] = {}
    console = desk.console(stderr=as_json)
    if not as_json:
        console.print(f"[bold]{'track':<38}  {'time':>6}  moods · [dim]themes[/dim][/bold]")
    try:
        for path, result in tagger.tag_files(files, *(model or ()), jobs=jobs):
            if isinstance(result, MoodfieldError):
                failed[str(path)] = str(result)
            elif report:
                heard.append(result)
            if as_json:
                typer.echo(json.dumps(_plain(path, result, over_time=over_time)))
                continue
            console.print(_row(path, result), highlight=False)
            if isinstance(result, MoodfieldError):
                desk.say(str(result))
    finally:  # even if stopped: what took hours to hear is not lost
        if report and (heard or failed):
            from moodfield.outputs import report as page

            page.write(report, heard, failed=failed)
            desk.say(f"the page is {report}")
    if failed:
        desk.say(f"{len(failed)} of {len(files)} files could not be heard")
        raise typer.Exit(3)


def _check(report: Path) -> None:
    """Refuse a place where no page can be, before anything is heard."""
    if report.is_dir():
        raise BadConfig(f"the page {report} is a folder; name a file in it, like {report / 'report.html'}")
    if not report.absolute().parent.is_dir():
        raise BadConfig(f"the page {report} has no folder to be in; make {report.absolute().parent} first")


def _row(path: Path, tagging: "Tagging | MoodfieldError") -> str:
    """One line of the table."""
    if isinstance(tagging, MoodfieldError):
        return f"{_short(path)}  {'–':>6}  [red]not heard[/red]"
    themes = tagging.themes
    words = desk.plain(", ".join(tagging.moods)) or ("" if themes else "[dim]nothing clear[/dim]")
    minutes, seconds = divmod(round(tagging.duration), 60)
    aside = f" · [dim]{desk.plain(', '.join(themes))}[/dim]" if themes else ""
    return f"{_short(path)}  {minutes:>3}:{seconds:02}  {words}{aside}"


def _short(path: Path, width: int = 38) -> str:
    """A file's name for the table, cut in the middle when it is long."""
    from rich.cells import set_cell_size

    name = path.name if len(path.name) <= width else f"{path.name[: width // 2 - 1]}…{path.name[-width // 2 :]}"
    return desk.plain(set_cell_size(desk.printable(name), width))


def _plain(path: Path, tagging: "Tagging | MoodfieldError", *, over_time: bool) -> dict[str, object]:
    """What a program reads of one file."""
    if not isinstance(tagging, MoodfieldError):
        return tagging.to_dict(over_time=over_time)
    reason = tagging.reason if isinstance(tagging, BadAudio) else type(tagging).__name__
    return {"source": str(path), "error": {"reason": reason, "message": str(tagging)}}

"""Options that choose tracks of a library, which several commands share."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from moodfield.errors import UsageError

FILTER = "Filter"
"""panel of the help"""
LABEL_WIDTH = 46
"""columns of the name of a track in tables"""

Database = Annotated[Path | None, typer.Option("--db", help="database; by default $MOODFIELD_DB, or your data folder")]
LibraryModel = Annotated[
    str | None, typer.Option("--model", help="model of the library; by default that of most tracks")
]
Absolute = Annotated[bool, typer.Option("--absolute", help="decide against music in general, not your library")]
Limit = Annotated[int | None, typer.Option(min=1, help="number of tracks at most; by default all")]
TrackName = Annotated[
    list[str], typer.Argument(metavar="TRACK...", help="path, or words of artist and title", show_default=False)
]

OPTIONS: dict[str, Any] = {
    "tags": Annotated[
        list[str] | None,
        typer.Option("--mood", "--theme", help="with this mood or theme; several: with all", rich_help_panel=FILTER),
    ],
    "without": Annotated[
        list[str] | None, typer.Option("--not", help="without this mood or theme", rich_help_panel=FILTER)
    ],
    "evidence": Annotated[
        float | None,
        typer.Option(help="with this evidence for them at least, decided or not", rich_help_panel=FILTER),
    ],
    "artist": Annotated[str, typer.Option(help="part of the artist", rich_help_panel=FILTER)],
    "album": Annotated[str, typer.Option(help="part of the album", rich_help_panel=FILTER)],
    "genre": Annotated[str, typer.Option(help="part of the genre", rich_help_panel=FILTER)],
    "path": Annotated[str, typer.Option(help="part of the path", rich_help_panel=FILTER)],
    "year": Annotated[str, typer.Option(help="1994, 1990-1999, 2000- or -1960", rich_help_panel=FILTER)],
    "duration": Annotated[str, typer.Option(help="2:30-6:00, 10:00- or -90", rich_help_panel=FILTER)],
    "failed": Annotated[bool, typer.Option("--failed", help="only files that failed", rich_help_panel=FILTER)],
    "missing": Annotated[bool, typer.Option("--missing", help="only files that have gone", rich_help_panel=FILTER)],
}  # fmt: skip
"""the options, by the fields of `Filter`"""
DEFAULTS: dict[str, object] = {"tags": None, "without": None, "evidence": None, "failed": False, "missing": False}
"""their default values, if not an empty string"""


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the `OPTIONS` to a command, which gets them as one `Filter` named `wanted`."""
    signature = inspect.signature(command)

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        from moodfield.library import ranges
        from moodfield.library.tracks import Filter

        fields = {name: values.pop(name) for name in OPTIONS}
        for name in ("tags", "without"):
            fields[name] = tuple(fields[name] or ())
        fields["year"] = ranges.parse_years(fields["year"], option="--year")
        fields["duration"] = ranges.parse_durations(fields["duration"], option="--duration")
        if fields["evidence"] is not None and not fields["tags"] and "names" not in values:
            raise UsageError("--evidence needs --mood or --theme: evidence for what?")
        command(**values, wanted=Filter(**fields))

    own = [parameter for name, parameter in signature.parameters.items() if name != "wanted"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name, ""), annotation=option)
        for name, option in OPTIONS.items()
    ]
    wrapper.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {
        name: hint for name, hint in command.__annotations__.items() if name != "wanted"
    } | OPTIONS
    return wrapper


def database_path(named: Path | None) -> Path:
    """The database that is named, or the default one."""
    from moodfield.library import database

    return named or database.default_path()


def format_line(label: str, seconds: float | None, rest: str) -> str:
    """A line of a table of tracks: its label in a fixed width, its duration, and the rest."""
    from rich.cells import cell_len, set_cell_size

    from moodfield import errors

    name = errors.printable(label)
    if cell_len(name) > LABEL_WIDTH:
        name = f"{set_cell_size(name, LABEL_WIDTH - 1)}…"
    minutes, second = divmod(round(seconds or 0), 60)
    clock = "–" if seconds is None else f"{minutes}:{second:02}"
    return f"{set_cell_size(name, LABEL_WIDTH)} {clock:>7}  {rest}".rstrip()

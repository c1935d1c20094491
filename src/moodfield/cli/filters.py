"""Options that choose tracks of a library, which several commands share."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodfield.cli import console
from moodfield.errors import UsageError

if TYPE_CHECKING:
    import sqlite3

    from moodfield.library.decided import DecidedTracks
    from moodfield.library.tracks import Filter

FILTER = "Filter"
"""panel of the help"""
LABEL_WIDTH = 46
"""columns of the name of a track in tables"""

Database = Annotated[Path | None, typer.Option("--db", help="database; by default $MOODFIELD_DB, or your data folder")]
LibraryModel = Annotated[
    str | None, typer.Option("--model", help="model of the library; by default that of most tracks")
]
Limit = Annotated[int | None, typer.Option(min=1, help="number of tracks at most; by default all")]
TrackName = Annotated[
    list[str], typer.Argument(metavar="TRACK...", help="path, or words of artist and title", show_default=False)
]
TAGS = Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="moods and themes", show_default=False)]

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
    "corrected": Annotated[bool, typer.Option("--corrected", help="only corrected ones", rich_help_panel=FILTER)],
    "failed": Annotated[bool, typer.Option("--failed", help="only files that failed", rich_help_panel=FILTER)],
    "missing": Annotated[bool, typer.Option("--missing", help="only files that have gone", rich_help_panel=FILTER)],
}  # fmt: skip
"""options of conditions, by the fields of `Filter`"""
SHARED: dict[str, Any] = {
    "absolute": Annotated[
        bool,
        typer.Option("--absolute", help="decide against music in general, not your library", rich_help_panel=FILTER),
    ],
    "model": LibraryModel,
    "db": Database,
}
"""options of all commands that read decided tracks"""
DEFAULTS: dict[str, object] = {
    "tags": None, "without": None, "evidence": None, "corrected": False, "failed": False, "missing": False,
    "absolute": False, "model": None, "db": None,
}  # fmt: skip
"""their default values, if not an empty string"""


@dataclass(frozen=True)
class Query:
    """Tracks of a library that a command is about."""

    wanted: "Filter"
    """which tracks"""
    path: Path
    """the database"""
    model: str | None
    """name of the model; None: that of most tracks"""
    absolute: bool
    """whether decisions are absolute"""

    @contextmanager
    def decided(self, wanted: "Filter | None" = None) -> "Iterator[tuple[sqlite3.Connection, DecidedTracks]]":
        """A context with the library and the tracks that fit, or those that fit another filter."""
        from moodfield.library import database, decided

        with database.read(self.path) as connection:
            result = decided.decide(connection, wanted or self.wanted, model=self.model, relative=not self.absolute)
            if not (self.absolute or result.relative):
                console.message("decisions are absolute: this model needs 20 different tracks for relative ones")
            yield connection, result


def filtered(command: Callable[..., None] | None = None, *, has_tags: bool = False) -> Callable[..., Any]:
    """Add the options of filters and databases to a command, which gets them as one `Query` named `query`.

    Args:
        command: The command.
        has_tags: Whether it also has the tags of `--mood` as arguments.
    """
    if command is None:
        return functools.partial(filtered, has_tags=has_tags)
    signature = inspect.signature(command)
    options = OPTIONS | SHARED

    @functools.wraps(command)
    def wrapper(names: list[str] | None = None, **values: Any) -> None:
        fields = {name: values.pop(name) for name in OPTIONS}
        shared = {name: values.pop(name) for name in SHARED}
        fields["tags"] = (*(names or ()), *(fields["tags"] or ()))
        query = Query(_filter(fields), database_path(shared["db"]), shared["model"], shared["absolute"])
        command(**values, query=query)

    tags = [inspect.Parameter("names", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=TAGS)]
    own = [parameter for name, parameter in signature.parameters.items() if name != "query"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name, ""), annotation=option)
        for name, option in options.items()
    ]
    parameters = [*(tags if has_tags else ()), *own, *added]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _filter(fields: dict[str, Any]) -> "Filter":
    """The filter of the options; raises `UsageError` for options that contradict each other."""
    from moodfield.library import ranges
    from moodfield.library.tracks import Filter

    fields["tags"], fields["without"] = (tuple(dict.fromkeys(fields[name] or ())) for name in ("tags", "without"))
    fields["year"] = ranges.parse_years(fields["year"], option="--year")
    fields["duration"] = ranges.parse_durations(fields["duration"], option="--duration")
    if both := set(fields["tags"]).intersection(fields["without"]):
        raise UsageError(f"{', '.join(sorted(both))} cannot be wanted and unwanted at once; leave one of them out")
    if fields["evidence"] is not None and not fields["tags"]:
        raise UsageError("--evidence needs --mood or --theme: evidence for what?")
    return Filter(**fields)


def database_path(named: Path | None) -> Path:
    """The database that is named, or the default one."""
    from moodfield.library import database

    return named or database.default_path()


def format_head(*columns: str) -> str:
    """The first line of a table of tracks: over the duration and the rest."""
    return f"{'track':<{LABEL_WIDTH}} {'length':>7}  {'  '.join(columns)}"


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

"""What all commands share: options, completion, messages, tables and JSON."""

import contextlib
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from moodfield import errors
from moodfield.errors import MoodfieldError, OutputError, UsageError
from moodfield.parallel import Backend

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

DONE, FAILED, USAGE, SOME_FAILED = 0, 1, 2, 3
"""exit codes; a command that a signal stops ends with 128 plus the number of the signal"""


MAX_WIDTH = 10_000
"""columns of a table at most, where no terminal limits them"""
CACHE_DIR = Path(".cache/moodfield")
"""where mels are kept if no other folder is named"""


def complete(module: str, names: str) -> Callable[[str], list[str]]:
    """A shell completion of the keys of a mapping, or of a function that returns one, in a module of moodfield."""

    def _complete(incomplete: str) -> list[str]:
        table = getattr(importlib.import_module(f"moodfield.{module}"), names)
        return [name for name in (table() if callable(table) else table) if name.startswith(incomplete)]

    return _complete


complete_model = complete("tagger", "pretrained_models")
complete_recipe = complete("cli.recipes", "named")
complete_net = complete("nets", "NETS")

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="name, folder or run of a model; several are averaged", autocompletion=complete_model),
]
SubmissionPath = Annotated[str, typer.Argument(help="folder of a submission, or predictions.npy", show_default=False)]
Tracks = Annotated[Path, typer.Argument(metavar="TSV", help="tracks, in the form of MTG-Jamendo", show_default=False)]
RunFolder = Annotated[Path, typer.Option("--output", "-o", help="folder of the run; an unfinished one continues")]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="name of a recipe, or a recipe.json; by default fa_resnet, and with --init fine_tuning",
        autocompletion=complete_recipe,
    ),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="change a setting, such as net.rho_freq=7")]
Jobs = Annotated[int, typer.Option(min=0, help="processes; 0 chooses by cores and files")]
On = Annotated[Backend, typer.Option(help="where mels are computed: in local processes, or on a Ray cluster")]
CacheDir = Annotated[Path, typer.Option(help="folder where mels are kept between runs")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, one object a line")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random numbers")]
Audio = Annotated[Path, typer.Option(help="folder that the paths in the TSV are relative to")]
Tags = Annotated[Path | None, typer.Option(help="file with the tags in their order, one a line")]


def check_audio(audio: Path) -> None:
    """Raise `UsageError` for a missing folder, once and not for every track."""
    if not os.path.isdir(audio):  # noqa: PTH112 (Path.is_dir would raise where it may not look)
        raise UsageError(f"--audio {audio} is not a folder; name the one that the paths in the TSV are relative to")


def terminal(*, stderr: bool = False) -> "Console":
    """A terminal that prints markup and never breaks a line, on standard output or standard error."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, emoji=False, highlight=False)


def table(*heads: str, words: int) -> "Table":
    """A plain table; the first `words` columns hold text, the others numbers."""
    from rich.table import Table

    class WideTable(Table):
        """A table that is as wide as its words if it is not printed on a terminal, whose width would break them."""

        def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
            if options.no_wrap and not console.is_terminal:
                natural = self.__rich_measure__(console, options.update(max_width=MAX_WIDTH)).maximum
                options = options.update(max_width=max(natural, options.max_width))
            yield from super().__rich_console__(console, options)

    table = WideTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < words else "right", overflow="fold")
    return table


def message(line: str) -> None:
    """Print one line on standard error, above the progress bars if there are any."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it; the exit code counts
        print(f"moodfield: {errors.printable(' '.join(line.split()))}", file=sys.stderr, flush=True)


def result(line: str) -> None:
    """Print one line of results, above the progress bars if both are on one terminal."""
    print(errors.printable(line), flush=True)  # typer.echo would write through the bars


def result_json(*values: object, indent: int | None = None) -> None:
    """Print values as JSON, one a line unless indented; in ASCII if the stream cannot show all of their characters."""
    for value in values:
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        printable = all(line.isprintable() for line in text.split("\n"))
        if not printable or replace_unencodable(text, sys.stdout) != text:
            text = json.dumps(value, indent=indent)
        print(text, flush=True)


def check_unused(options: Mapping[str, object], *, why: str) -> None:
    """Raise `UsageError` if options, by name, were given that the command would ignore."""
    if names := [name for name, value in options.items() if value]:
        pronoun = "it" if len(names) == 1 else "them"
        raise UsageError(f"{', '.join(names)} would be ignored: {why}; leave {pronoun} out")


def check_output(path: Path, read: Callable[[Path], object], *, inputs: Sequence[Path | None] = ()) -> None:
    """Raise `OutputError` unless a text file is new, empty, or one that `read` accepts, and no input."""
    from moodfield import files

    files.check_output(path, kind=(b"",), inputs=[name for name in inputs if name])
    try:
        if path.is_file() and path.stat().st_size:
            read(path)
    except MoodfieldError as error:
        raise OutputError(f"{path} is not replaced, it holds something else: {error}; choose another name") from error


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file, atomically."""
    from moodfield import files

    with files.atomic_path(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_tags(tags: Path | None) -> tuple[str, ...] | None:
    """The vocabulary in a file, if there is one."""
    from moodfield.datasets import mtg_jamendo

    return mtg_jamendo.read_vocabulary(tags) if tags else None


def choose_jobs(jobs: int, files: int, *, files_per_job: int = 4) -> int:
    """The number of processes: as given, or by cores and files, since a process takes a second to start."""
    from moodfield import parallel

    return jobs or parallel.default_jobs(files, per_job=files_per_job)


def escape(name: str) -> str:
    """Text for a table: it is printed as it is, and none of it is markup."""
    from rich.markup import escape

    return escape(errors.printable(name))


def number(value: float | None) -> str:
    """A metric with four digits, or a dash if it is not defined."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def replace_unencodable(words: str, stream: TextIO) -> str:
    """Replace characters that the stream cannot encode."""
    encoding = stream.encoding or "ascii"
    return words.encode(encoding, "replace").decode(encoding)

"""How the front desk speaks and refuses.

In: what commands have to say. Out: lines on a terminal, and exit codes.
Knows nothing of: what any command does.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from moodfield.errors import MoodfieldError, MoodfieldWarning
from moodfield.fleet import Where

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

EXTRAS = {"ray": "cluster", "tensorboard": "watch", "httpx": "data"}
"""guests → the smallest extra that brings them, if it is not `train`"""

Models = Annotated[list[str] | None, typer.Option("--model", help="a model's name, folder or run; several: mean")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="change one setting of the recipe: net.rho_freq=7")]
Jobs = Annotated[int, typer.Option(min=0, help="processes; 0 chooses by cores and files")]
On = Annotated[Where, typer.Option("--on", help="where mels are made: processes here, or a Ray cluster")]
StoreFolder = Annotated[Path, typer.Option("--store", help="where mels are kept between runs")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line, instead of words")]


class Desk(TyperGroup):
    """What every command may end with: a refusal, or Ctrl-C, becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _said  # type: ignore[assignment]
                return super().invoke(ctx)
        except MoodfieldError as error:
            say(str(error))
            raise typer.Exit(1) from error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get(str(error.name).partition(".")[0], "train")
            say(f'this needs {error.name}, which is not installed: pip install "moodfield[{extra}]"')
            raise typer.Exit(1) from error
        except BrokenPipeError:
            raise  # whoever read has gone; typer ends quietly
        except OSError as error:
            say(f"{error.filename or 'a file'}: {error.strerror or error}; nothing else was lost")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            say("stopped; what was finished stays; training, downloads and submissions go on from there")
            raise typer.Exit(130) from error


class Listing(TyperGroup):
    """Commands about many things; without a command, `list` is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What was asked for; without a command, the list."""
        bare = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if bare else args)


def console(*, stderr: bool) -> "Console":
    """A terminal that may have colours and never breaks a line, on standard output or beside it."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, emoji=False)


def table(*heads: str, words: int) -> "Table":
    """A plain table whose first columns are words, and the others numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < words else "right", overflow="fold")
    return table


def say(message: str) -> None:
    """One line to whoever watches, never among the results."""
    typer.echo(f"moodfield: {printable(' '.join(message.split()))}", err=True)


def result(line: str) -> None:
    """One line of results; above the bars, if a terminal shows both."""
    print(line, flush=True)  # not typer.echo, which would write through the bars


def _said(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Our own warnings are words for whoever watches; where in the code they arose is of no use to them."""
    ours = issubclass(category, MoodfieldWarning)
    say(str(message) if ours else warnings.formatwarning(message, category, filename, lineno))


def plain(text: str) -> str:
    """A stranger's words for the table: whatever is in them is printed, and nothing in them is obeyed."""
    from rich.markup import escape

    return escape(printable(text))


def printable(text: str) -> str:
    """Text without what would move the cursor, or could not be printed at all."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)

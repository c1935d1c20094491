"""What all commands share: options, messages, results, and how a command ends.

In: what commands print, raise, log and warn. Out: lines on a terminal, and exit codes.
Knows nothing of: what any command does.
"""

import contextlib
import json
import logging
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from moodfield import errors
from moodfield.errors import MoodfieldError, MoodfieldWarning, UsageError
from moodfield.parallel import Backend

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

EXTRAS = MappingProxyType(
    {
        **dict.fromkeys(("torch", "lightning_fabric", "matplotlib", "safetensors", "onnx", "onnxscript"), "train"),
        "httpx": "data",
        "av": "codecs",
        "tensorboard": "watch",
        "ray": "cluster",
    }
)
"""optional packages → the smallest extra that brings them"""
DONE, FAILED, USAGE, SOME_FAILED = 0, 1, 2, 3
"""exit codes; a command that a signal stops ends with 128 and the number of the signal"""
PATIENCE = 0.5
"""seconds that the threads of a stopped command have to end by themselves"""
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""signals that stop a command; a system may lack the last"""
REPEATED = 2.0
"""seconds after one of them in which others are taken for the same: a terminal that is closed sends several"""
EMPTY = re.compile("--[a-z-]+=")
"""an option with an empty value"""
USAGE_ERRORS: tuple[Any, ...] = typer.BadParameter.__bases__
"""what typer raises for command lines that it cannot read"""

Models = Annotated[list[str] | None, typer.Option("--model", help="a model's name, folder or run; several: mean")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="change one setting of the recipe: net.rho_freq=7")]
Jobs = Annotated[int, typer.Option(min=0, help="processes; 0 chooses by cores and files")]
On = Annotated[Backend, typer.Option("--on", help="where mels are made: processes here, or a Ray cluster")]
StoreFolder = Annotated[Path, typer.Option("--store", help="where mels are kept between runs")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line, instead of words")]


class Stopped(KeyboardInterrupt):
    """A signal that ends a command as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        """of the signal"""


class Desk(TyperGroup):
    """The group of all commands: errors and signals become a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; one that a signal was to stop ends so, even if a library swallowed what was raised."""
        with _signals_raise() as came:
            try:
                result = self._invoke(ctx)
            except typer.Exit as end:
                if came and end.exit_code < 128:
                    _stop(came[0])
                raise
            except Exception:
                if came:
                    _stop(came[0])
                raise
            if came:
                _stop(came[0])
            return result

    def _invoke(self, ctx: Any) -> Any:
        try:
            with _messages_are_lines(), _safe_usage_errors(), _generators_end():
                return super().invoke(ctx)
        except MoodfieldError as error:
            say(str(error))
            raise typer.Exit(USAGE if isinstance(error, UsageError) else FAILED) from error
        except ModuleNotFoundError as error:
            say(_of_module(str(error.name)))
            raise typer.Exit(FAILED) from error
        except BrokenPipeError:
            raise  # whoever read has gone; typer ends quietly
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            say(reason if error.filename is None else f"{error.filename}: {reason}")
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            _stop(getattr(error, "number", signal.SIGINT), error)


def _stop(number: int, error: BaseException | None = None) -> NoReturn:
    """End as a signal wants it."""
    say("stopped; what was finished stays; training, downloads and submissions go on from there")
    raise typer.Exit(128 + number) from error


class Listing(TyperGroup):
    """Commands about many things; without a command, `list` is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments; without a command, those of `list`."""
        bare = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if bare else args)


class Command(TyperCommand):
    """One command; an empty argument, which would mean this folder as a path and nothing else, is a usage error."""

    def get_help(self, ctx: Any) -> str:
        """The text of --help, in the characters that the terminal has."""
        return _encodable(super().get_help(ctx), sys.stdout)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, none of which is empty."""
        before = args[: args.index("--")] if "--" in args else args
        for number, given in enumerate(args):
            if not given or (number < len(before) and EMPTY.fullmatch(given)):
                option = given.rstrip("=") or (args[number - 1] if number and args[number - 1][:2] == "--" else "")
                what = f"what follows {option}" if option.strip("-") else f"argument {number + 1}"
                raise typer.BadParameter(f"{what} is empty; name something, or leave it out", ctx)
        return super().parse_args(ctx, args)


def register(group: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Make a function a command; that one of its files cannot be read is for it to report, and no usage error."""
    for hint in get_type_hints(function, include_extras=True).values():
        for parameter in getattr(hint, "__metadata__", ()):
            parameter.readable = False
    group.command(name, cls=Command)(function)


def run(app: Callable[[], object]) -> None:
    """The command, in a process of its own; threads that wait for the network do not hold up a stopped one."""
    with streams():
        try:
            app()
        except SystemExit as error:
            if isinstance(error.code, int) and error.code > 128 and not _threads_end():
                sys.stdout.flush()
                os._exit(error.code)
            raise
        except OSError as error:  # of the help, which is printed before any command runs
            say(error.strerror or type(error).__name__)
            raise SystemExit(FAILED) from error


def _threads_end() -> bool:
    """Whether the threads that Python would wait for end within a moment."""
    until = time.monotonic() + PATIENCE
    others = [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in others)


@contextmanager
def streams() -> Iterator[None]:
    """What cannot be encoded for the terminal is replaced, and a terminal that is gone changes no exit code."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream:
                    stream.flush()
            except (OSError, ValueError):
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def terminal(*, stderr: bool) -> "Console":
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
    """One line of messages, on standard error; above the bars, if there are any."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it; what matters is the exit code
        print(f"moodfield: {errors.printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


def result(line: str) -> None:
    """One line of results; above the bars, if a terminal shows both."""
    print(errors.printable(line), flush=True)  # not typer.echo, which would write through the bars


def result_json(value: object) -> None:
    """One line of results as JSON; in ASCII if it holds what cannot be printed as it is."""
    line = json.dumps(value, ensure_ascii=False)
    print(line if line.isprintable() and _encodable(line, sys.stdout) == line else json.dumps(value), flush=True)


def result_document(document: str) -> None:
    """A JSON document of many lines; in ASCII if it holds what cannot be printed as it is."""
    same = all(line.isprintable() for line in document.split("\n")) and _encodable(document, sys.stdout) == document
    print((document if same else json.dumps(json.loads(document), indent=2)).removesuffix("\n"), flush=True)


def refuse_unused(options: Mapping[str, object], *, why: str) -> None:
    """Refuse options, by name, that were given and that a command would ignore."""
    if given := [name for name, value in options.items() if value]:
        raise UsageError(f"{', '.join(given)} would be ignored: {why}; leave {'it' if len(given) == 1 else 'them'} out")


def plain(name: str) -> str:
    """Text from elsewhere for a table: whatever is in it is printed, and nothing in it is markup."""
    from rich.markup import escape

    return escape(errors.printable(name))


def _encodable(words: str, stream: TextIO) -> str:
    """Text in which characters that a stream cannot encode are replaced."""
    encoding = stream.encoding or "ascii"
    return words.encode(encoding, "replace").decode(encoding)


class _Lines(logging.Handler):
    """Log records become messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        say(record.getMessage())


@contextmanager
def _messages_are_lines() -> Iterator[None]:
    """Log records and warnings of ours are messages meanwhile."""
    handler = _Lines()
    logging.getLogger("moodfield").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warned  # type: ignore[assignment]
            yield
    finally:
        logging.getLogger("moodfield").removeHandler(handler)


def _warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Where in the code a warning of ours arose is of no use to users; of another one it is."""
    ours = issubclass(category, MoodfieldWarning)
    say(str(message) if ours else warnings.formatwarning(message, category, filename, lineno))


@contextmanager
def _signals_raise() -> Iterator[list[int]]:
    """The signals that stop a command raise `Stopped` meanwhile, unless they are ignored, as below `nohup`.

    Yields the numbers of those that came. Others that follow at once are not raised: they would stop a report that is
    being written.
    """
    before: dict[int, Any] = {}
    came: list[int] = []
    last = -math.inf
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
        before = {number: how for number in numbers if (how := signal.getsignal(number)) is not signal.SIG_IGN}

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        came.append(number)
        since, last = time.monotonic() - last, time.monotonic()
        if since > REPEATED or number == signal.SIGINT:
            raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, how in before.items():
            signal.signal(number, signal.SIG_IGN if came and number != signal.SIGINT else how)


@contextmanager
def _generators_end() -> Iterator[None]:
    """Generators that an exception left half done are closed at once, and the processes that they run are ended."""
    try:
        yield
    except BaseException as error:
        cause: BaseException | None = error
        while cause:
            traceback.clear_frames(cause.__traceback__)  # which hold them
            cause = cause.__context__
        raise


@contextmanager
def _safe_usage_errors() -> Iterator[None]:
    """A usage error names arguments as they came; terminals get them without control characters."""
    try:
        yield
    except USAGE_ERRORS as error:
        error.message = _encodable("\n".join(map(errors.printable, error.message.split("\n"))), sys.stderr)
        raise


def _of_module(name: str) -> str:
    """What to do about a module that is missing."""
    package = name.partition(".")[0]
    if package in EXTRAS:
        return f'this needs {package}, which is not installed: pip install "moodfield[{EXTRAS[package]}]"'
    return f"the module {name} is missing: this installation is incomplete"

"""The application: groups and commands, signals, errors as messages, and exit codes."""

import contextlib
import inspect
import logging
import math
import os
import re
import signal
import sys
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, MappingProxyType
from typing import Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from moodfield import errors
from moodfield.cli import console
from moodfield.errors import MoodfieldError, MoodfieldWarning, UnknownNameError, UsageError

EXTRAS = MappingProxyType(
    {
        **dict.fromkeys(("torch", "lightning_fabric", "matplotlib", "onnxscript"), "train"),
        **dict.fromkeys(("sklearn", "safetensors"), "learn"),
        "onnx": "export",
        **dict.fromkeys(("watchfiles", "pyarrow"), "library"),
        **dict.fromkeys(("fastapi", "uvicorn", "starlette", "h11", "python_multipart", "prometheus_client"), "serve"),
        "httpx": "data",
        "mutagen": "tags",
        "av": "codecs",
        "tensorboard": "watch",
        **dict.fromkeys(("ray", "fsspec"), "cluster"),
    }
)
"""optional packages → the smallest extra that installs them"""


THREAD_TIMEOUT = 0.5
"""seconds that the threads of a stopped command have to end by themselves"""


STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""signals that stop a command; a system may lack the last"""


REPEAT_SECONDS = 2.0
"""seconds after a signal in which others count as the same one: closing a terminal sends several"""


EMPTY_OPTION = re.compile("--[a-z-]+=")
"""an option with an empty value"""


USAGE_ERRORS: tuple[Any, ...] = typer.BadParameter.__bases__
"""exceptions of typer for command lines that it cannot parse"""


class StopSignal(KeyboardInterrupt):
    """A signal that stops a command as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        """of the signal"""


class CommandGroup(TyperGroup):
    """The group of all commands: errors and signals become a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a signal decides the exit code even if a library swallowed its exception."""
        with _raise_on_signals() as received:
            try:
                result = self._invoke(ctx)
            except Exception as error:
                if received and getattr(error, "exit_code", 0) < 128:
                    _exit_stopped(received[0])
                raise
            if received:
                _exit_stopped(received[0])
            return result

    def _invoke(self, ctx: Any) -> Any:
        try:
            with _print_log_records(), _printable_usage_errors(), _close_generators():
                return super().invoke(ctx)
        except MoodfieldError as error:
            console.message(str(error))
            is_usage = isinstance(error, UsageError | UnknownNameError)
            raise typer.Exit(console.USAGE if is_usage else console.FAILED) from error
        except ModuleNotFoundError as error:
            console.message(_missing_module(str(error.name)))
            raise typer.Exit(console.FAILED) from error
        except MemoryError as error:
            console.message(
                f"there is too little memory ({str(error) or 'an allocation failed'}); close other programs"
            )
            raise typer.Exit(console.FAILED) from error
        except BrokenPipeError:
            raise  # the reader of a pipe is gone; typer ends quietly
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            console.message(reason if error.filename is None else f"{error.filename}: {reason}")
            raise typer.Exit(console.FAILED) from error
        except KeyboardInterrupt as error:
            _exit_stopped(getattr(error, "number", signal.SIGINT), error)


def _exit_stopped(number: int, error: BaseException | None = None) -> NoReturn:
    console.message(
        "stopped; finished work is kept: scans, training, predictions and downloads continue when run again"
    )
    raise typer.Exit(128 + number) from error


class Command(TyperCommand):
    """One command; an empty argument is a usage error, since an empty path would mean the current folder."""

    def get_help(self, ctx: Any) -> str:
        """The text of --help, in characters that the terminal can encode."""
        return console.replace_unencodable(super().get_help(ctx), sys.stdout)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options, the latter by their help panels; typer shows panels only in its boxed layout."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        for panel in sorted(panels, key=("Arguments", "Options").__contains__, reverse=True):
            with formatter.section(panel):
                formatter.write_dl(panels[panel])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, none of them empty."""
        options = args[: args.index("--")] if "--" in args else args
        for number, argument in enumerate(args):
            if not argument or (number < len(options) and EMPTY_OPTION.fullmatch(argument)):
                option = argument.rstrip("=") or (args[number - 1] if number and args[number - 1][:1] == "-" else "")
                name = f"the value of {option}" if option.strip("-") else f"argument {number + 1}"
                raise typer.BadParameter(f"{name} is empty; give a value, or leave it out", ctx)
        return super().parse_args(ctx, args)


def register(group: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Make a function a command; what its docstring has below `For example:` ends the help.

    An unreadable file is an error that the command reports, and no usage error.
    """
    for hint in get_type_hints(function, include_extras=True).values():
        for parameter in getattr(hint, "__metadata__", ()):
            parameter.readable = False
    words, _, examples = (inspect.getdoc(function) or "").partition("\n\nFor example:\n")
    epilog = f"\b\nExamples:\n{textwrap.indent(textwrap.dedent(examples), '  ')}" if examples else None
    group.command(name, cls=Command, help=words, epilog=epilog)(function)


def run(app: Callable[[], object]) -> None:
    """Run the application; threads that wait for the network do not hold up a stopped command."""
    with streams():
        try:
            app()
        except SystemExit as error:
            if isinstance(error.code, int) and error.code > 128 and not _join_threads():
                sys.stdout.flush()
                os._exit(error.code)
            raise
        except OSError as error:  # of the help, which is printed before any command runs
            console.message(error.strerror or type(error).__name__)
            raise SystemExit(console.FAILED) from error


def _join_threads() -> bool:
    """Whether the threads that Python would wait for end within `THREAD_TIMEOUT`."""
    end = time.monotonic() + THREAD_TIMEOUT
    main = threading.main_thread()
    threads = [thread for thread in threading.enumerate() if thread is not main and not thread.daemon]
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


@contextmanager
def streams() -> Iterator[None]:
    """Replace characters that a terminal cannot encode; a terminal that is gone changes no exit code."""
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


class _MessageHandler(logging.Handler):
    """Prints log records as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        console.message(record.getMessage())


@contextmanager
def _print_log_records() -> Iterator[None]:
    """Print log records of moodfield, and warnings, as messages."""
    handler = _MessageHandler()
    logging.getLogger("moodfield").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            yield
    finally:
        logging.getLogger("moodfield").removeHandler(handler)


def _show_warning(warning: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Print a warning; with its place in the code only if it is not one of moodfield."""
    ours = issubclass(category, MoodfieldWarning)
    console.message(str(warning) if ours else warnings.formatwarning(warning, category, filename, lineno))


@contextmanager
def _raise_on_signals() -> Iterator[list[int]]:
    """Raise `StopSignal` for the signals that stop a command, unless they are ignored, as below `nohup`.

    Yields the numbers of the received signals. Others that follow at once raise nothing: they would stop a report that
    is being written.
    """
    handlers: dict[int, Any] = {}
    received: list[int] = []
    last = -math.inf
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
        handlers = {n: handler for n in numbers if (handler := signal.getsignal(n)) is not signal.SIG_IGN}

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        received.append(number)
        elapsed, last = time.monotonic() - last, time.monotonic()
        if elapsed > REPEAT_SECONDS or number == signal.SIGINT:
            raise StopSignal(number)

    for number in handlers:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_IGN if received and number != signal.SIGINT else handler)


@contextmanager
def _close_generators() -> Iterator[None]:
    """Close generators that an exception interrupted at once, so that the processes they started end."""
    try:
        yield
    except BaseException as error:
        cause: BaseException | None = error
        while cause:
            traceback.clear_frames(cause.__traceback__)  # they hold the generators
            cause = cause.__context__
        raise


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Remove control characters from usage errors, which quote arguments."""
    try:
        yield
    except USAGE_ERRORS as error:
        printable = "\n".join(map(errors.printable, error.message.split("\n")))
        error.message = console.replace_unencodable(printable, sys.stderr)
        raise


def _missing_module(name: str) -> str:
    package = name.partition(".")[0]
    if package in EXTRAS:
        return f'this needs {package}, which is not installed: pip install "moodfield[{EXTRAS[package]}]"'
    return f"the module {name} is missing: this installation is incomplete"

"""What all commands share: options, messages, results, signals and exit codes."""

import contextlib
import importlib
import inspect
import json
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from moodfield import errors
from moodfield.errors import MoodfieldError, MoodfieldWarning, OutputError, UnknownNameError, UsageError
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
"""optional packages → the smallest extra that installs them"""
DONE, FAILED, USAGE, SOME_FAILED = 0, 1, 2, 3
"""exit codes; a command that a signal stops ends with 128 plus the number of the signal"""
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


CACHE_DIR = Path(".cache/moodfield")
"""where mels are kept if no other folder is named"""


def complete(module: str, names: str) -> Callable[[str], list[str]]:
    """A shell completion of the keys of a mapping, or of a function that returns one, in a module of moodfield."""

    def _complete(incomplete: str) -> list[str]:
        table = getattr(importlib.import_module(f"moodfield.{module}"), names)
        return [name for name in (table() if callable(table) else table) if name.startswith(incomplete)]

    return _complete


complete_model = complete("tagger", "pretrained_models")
complete_recipe = complete("paper.recipes", "RECIPES")

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="name, folder or run of a model; several are averaged", autocompletion=complete_model),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="change a setting, such as net.rho_freq=7")]
Jobs = Annotated[int, typer.Option(min=0, help="processes; 0 chooses by cores and files")]
On = Annotated[Backend, typer.Option(help="where mels are computed: in local processes, or on a Ray cluster")]
CacheDir = Annotated[Path, typer.Option(help="folder where mels are kept between runs")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, one object a line")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random numbers")]
Audio = Annotated[Path, typer.Option(help="folder that the paths in the TSV are relative to")]
Tags = Annotated[Path | None, typer.Option(help="file with the tags in their order, one a line")]


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
            except typer.Exit as error:
                if received and error.exit_code < 128:
                    _exit_stopped(received[0])
                raise
            except Exception:
                if received:
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
            message(str(error))
            raise typer.Exit(USAGE if isinstance(error, UsageError | UnknownNameError) else FAILED) from error
        except ModuleNotFoundError as error:
            message(_missing_module(str(error.name)))
            raise typer.Exit(FAILED) from error
        except BrokenPipeError:
            raise  # the reader of a pipe is gone; typer ends quietly
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            message(reason if error.filename is None else f"{error.filename}: {reason}")
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            _exit_stopped(getattr(error, "number", signal.SIGINT), error)


def _exit_stopped(number: int, error: BaseException | None = None) -> NoReturn:
    message(
        "stopped; finished work is kept; training, predictions and downloads continue when the command is run again"
    )
    raise typer.Exit(128 + number) from error


class Command(TyperCommand):
    """One command; an empty argument is a usage error, since an empty path would mean the current folder."""

    def get_help(self, ctx: Any) -> str:
        """The text of --help, in characters that the terminal can encode."""
        return _replace_unencodable(super().get_help(ctx), sys.stdout)

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


def check_audio(audio: Path) -> None:
    """Raise `UsageError` for a missing folder, once and not for every track."""
    if not os.path.isdir(audio):  # noqa: PTH112 (Path.is_dir would raise where it may not look)
        raise UsageError(f"--audio {audio} is not a folder; name the one that the paths in the TSV are relative to")


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
            message(error.strerror or type(error).__name__)
            raise SystemExit(FAILED) from error


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


def terminal(*, stderr: bool = False) -> "Console":
    """A terminal that may have colours and never breaks a line, on standard output or standard error."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, emoji=False)


def table(*heads: str, words: int) -> "Table":
    """A plain table; the first `words` columns hold text, the others numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
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
        if not printable or _replace_unencodable(text, sys.stdout) != text:
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


def _replace_unencodable(words: str, stream: TextIO) -> str:
    encoding = stream.encoding or "ascii"
    return words.encode(encoding, "replace").decode(encoding)


class _MessageHandler(logging.Handler):
    """Prints log records as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        message(record.getMessage())


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
    message(str(warning) if ours else warnings.formatwarning(warning, category, filename, lineno))


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
        handlers = {number: signal.getsignal(number) for number in numbers}
        handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

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
        error.message = _replace_unencodable("\n".join(map(errors.printable, error.message.split("\n"))), sys.stderr)
        raise


def _missing_module(name: str) -> str:
    package = name.partition(".")[0]
    if package in EXTRAS:
        return f'this needs {package}, which is not installed: pip install "moodfield[{EXTRAS[package]}]"'
    return f"the module {name} is missing: this installation is incomplete"

"""The front desk: every command, none of the work.

In: a command line. Out: tables, JSON lines, exit codes: 0 done, 1 refused, 2 usage, 3 some files failed.
Knows nothing of: how anything is done.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from moodfield.errors import BadAudio, BadConfig, MoodfieldError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from moodfield.jamendo import Track
    from moodfield.nets.survey import Candidate, Survey
    from moodfield.tagger import Tagging
    from moodfield.training.loop import Epoch


class _Desk(TyperGroup):
    """What every command may end with: a refusal, or Ctrl-C, becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MoodfieldError as error:
            _say(str(error))
            raise typer.Exit(1) from error
        except ModuleNotFoundError as error:
            _say(f'this needs {error.name}, which is not installed: pip install "moodfield[train]"')
            raise typer.Exit(1) from error
        except BrokenPipeError:
            raise  # whoever read has gone; typer ends quietly
        except OSError as error:
            _say(f"{error.filename or 'a file'}: {error.strerror or error}; nothing else was lost")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _say("stopped; what was finished stays, and train and distill go on from there")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Desk, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="moodfield hears what a piece of music feels like.",
)  # fmt: skip


class _Listing(TyperGroup):
    """Commands about many things; without a command, `list` is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        bare = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if bare else args)


zoo = typer.Typer(cls=_Listing, rich_markup_mode=None, help="The networks: what they cost, what they see; or a list.")
app.add_typer(zoo, name="nets")

Sources = Annotated[list[Path], typer.Argument(help="music files, and folders of them", show_default=False)]
Models = Annotated[list[str] | None, typer.Option("--model", help="a model's name, folder or run; several: mean")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="change one setting of the recipe: net.rho_freq=7")]
Jobs = Annotated[int, typer.Option(min=0, help="processes; 0 chooses by cores and files")]
StoreFolder = Annotated[Path, typer.Option("--store", help="where mels are kept between runs")]


def main() -> None:
    """The command `moodfield`."""
    app()


@app.callback(invoke_without_command=True)
def front(*, version: Annotated[bool, typer.Option("--version", help="say which version this is")] = False) -> None:
    """Moods and themes of music files."""
    if version:
        import moodfield

        typer.echo(f"moodfield {moodfield.__version__}")
        raise typer.Exit


@app.command()
def tag(
    sources: Sources,
    *,
    model: Models = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line instead of a table")] = False,
    over_time: Annotated[bool, typer.Option("--over-time", help="with --json: scores over time too")] = False,
    report: Annotated[Path | None, typer.Option(help="also write a page to look at: report.html")] = None,
    jobs: Jobs = 0,
) -> None:
    """Hear files and folders, and say what they feel like."""
    from moodfield import audio, fleet, tagger

    files = audio.find(sources)
    if not files:
        raise BadAudio(
            "missing", f"no music was found in {', '.join(map(str, sources))}; name files or folders of music"
        )
    if report and not report.absolute().parent.is_dir():
        raise BadConfig(f"the page {report} has no folder to be in; make {report.absolute().parent} first")
    jobs = jobs or min(fleet.cores(), max(1, len(files) // 4))
    heard: list[Tagging] = []
    failed: dict[str, str] = {}
    console = _console(stderr=as_json)
    if not as_json:
        console.print(f"[bold]{'track':<38}  {'time':>6}  moods · [dim]themes[/dim][/bold]")
    for path, result in tagger.tag_files(files, *(model or ()), jobs=jobs):
        if isinstance(result, MoodfieldError):
            failed[str(path)] = str(result)
            if as_json:
                typer.echo(json.dumps(_failure(path, result)))
            else:
                console.print(f"{_short(path)}  {'–':>6}  [red]not heard[/red]", highlight=False)
                _say(str(result))
            continue
        if as_json:
            typer.echo(json.dumps(result.to_dict(over_time=over_time)))
        else:
            console.print(_row(path, result), highlight=False)
        if report:
            heard.append(result)
    if report:
        from moodfield.outputs import report as page

        page.write(report, heard, failed=failed)
        _say(f"the page is {report}")
    if failed:
        _say(f"{len(failed)} of {len(files)} files could not be heard")
        raise typer.Exit(3)


@app.command()
def train(
    index: Annotated[Path, typer.Argument(help="training tracks: a TSV in the form of MTG-Jamendo")],
    *,
    validation: Annotated[Path, typer.Option(help="validation tracks, in the same form")],
    audio: Annotated[Path, typer.Option(help="the folder that the paths in the TSVs are below")],
    to: Annotated[Path, typer.Option(help="the folder of the run; an unfinished run goes on")],
    tags: Annotated[Path | None, typer.Option(help="tags in their order; else those of the training TSV")] = None,
    soft: Annotated[Path | None, typer.Option(help="soft truth for training: tracks × tags, .npy")] = None,
    settings: Settings = None,
    store: StoreFolder = Path(".cache/store"),
    name: Annotated[str, typer.Option(help="what the model is to be called")] = "mine",
    jobs: Jobs = 0,
) -> None:
    """Train a network on a dataset, and leave it as a model folder in the run."""
    from moodfield import fleet, jamendo
    from moodfield.training import loop, recipe, runs

    vocabulary = jamendo.read_vocabulary(tags) if tags else None
    plan = recipe.change(recipe.Recipe(), *(settings or ()))
    learn = jamendo.read(index, vocabulary=vocabulary)
    judge = jamendo.read(validation, vocabulary=vocabulary or learn.vocabulary)
    truth = runs.read_soft(soft) if soft else None
    place = runs.Place(audio, store, to, jobs or fleet.cores())
    loop.keep_freed_memory(plan)
    with _Progress(len(learn.tracks) + len(judge.tracks), plan.schedule.epochs) as progress:
        card = runs.train(
            plan, learn, judge, place, name=name, soft=truth, heard=progress.heard, report=progress.trained
        )
    _figures(to, card.figures)


@app.command()
def distill(
    manifest: Annotated[Path, typer.Argument(help="which music, and which packages are held out: a TSV")],
    *,
    teacher: Annotated[Path, typer.Option(help="the organisers' published checkpoint, best_model.pth")],
    music: Annotated[Path, typer.Option(help="the folder of the music")],
    to: Annotated[Path, typer.Option(help="the folder of the run; an unfinished run goes on")],
    settings: Settings = None,
    store: StoreFolder = Path(".cache/store"),
    jobs: Jobs = 0,
) -> None:
    """Teach a small network the 56 moods and themes of a published one, on freely licensed music."""
    from moodfield import fleet
    from moodfield.training import distill as room
    from moodfield.training import loop, recipe, runs

    plan = recipe.change(room.STUDENT, *(settings or ()))
    place = runs.Place(music, store, to, jobs or fleet.cores())
    found = room.read_manifest(manifest)
    tracks = 2 * (len(found.train.tracks) + len(found.heldout.tracks))
    loop.keep_freed_memory(plan)
    with _Progress(tracks, plan.schedule.epochs) as progress:
        card = room.distill(plan, found, teacher, place, heard=progress.heard, report=progress.trained)
    _figures(to, card.figures)


@zoo.command("list")
def networks(
    *, as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line instead of a table")] = False
) -> None:
    """List the networks: what they cost, and how much of the music one cell of their map sees."""
    from moodfield import nets
    from moodfield.nets import survey

    surveys = {name: survey.registered(name) for name in nets.NETS}
    if as_json:
        for name, each in surveys.items():
            typer.echo(json.dumps({"name": name, **each.to_dict()}))
        return
    console = _console(stderr=False)
    console.print(_table(surveys))
    console.print(
        "\n[dim]GMAC: for 10 s of music; a cell of the map sees bands × frames; more: moodfield nets show NAME[/dim]"
    )


@zoo.command()
def show(
    name: Annotated[str | None, typer.Argument(help="a network of the list; not needed with --model")] = None,
    *,
    rho_freq: Annotated[int | None, typer.Option(help="ρ along frequency, 0 … 22")] = None,
    rho_time: Annotated[int | None, typer.Option(help="ρ along time, 0 … 22")] = None,
    width: Annotated[int | None, typer.Option(help="channels of the first stage")] = None,
    model: Annotated[str | None, typer.Option(help="a model's name, folder or run: with what it has learned")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw what the network sees: field.png")] = None,
    music: Annotated[Path | None, typer.Option(help="with --plot: over the middle of this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object instead of words")] = False,
) -> None:
    """Say what one network costs and sees, and draw it: its field in theory and in effect, over music."""
    given = {"rho_freq": rho_freq, "rho_time": rho_time, "width": width}
    if music and not plot:
        raise BadConfig(f"{music} is to be drawn over, but no picture is named; add --plot field.png")
    if plot:
        from moodfield.outputs import field

        field.check(plot)
    found = _candidate(name, model, {key: value for key, value in given.items() if value is not None})
    if as_json:
        typer.echo(json.dumps({"name": found.name, **found.survey.to_dict()}))
    else:
        console = _console(stderr=False)
        console.print(f"[bold]{_plain(found.name)}[/bold]", highlight=False)
        for what, words in found.survey.to_words().items():
            console.print(f"{what:<14} {_plain(words)}", highlight=False)
    if plot:
        field.draw(plot, found, music=music)
        _say(f"the picture is {plot}")


def _candidate(name: str | None, model: str | None, changes: dict[str, int]) -> "Candidate":
    """The network that is meant: one of the list, or a model's."""
    from moodfield import card, tagger
    from moodfield.nets import survey

    if model is None:
        if name is None:
            raise typer.BadParameter("name a network of `moodfield nets`, or a model with --model")
        return survey.fresh(name, changes)
    if changes:
        came = ", ".join(f"--{key.replace('_', '-')}" for key in changes)
        raise BadConfig(f"{came} came, but {model} is trained as it is; leave out the one or the other")
    folder = tagger.folder(model)
    known = card.read(folder)
    return survey.trained(
        known.name, known.net, folder / card.WEIGHTS, known.mel, tags=len(known.vocabulary), kind=name
    )


def _table(surveys: "dict[str, Survey]") -> "Table":
    """A row for every network."""
    from rich.table import Table

    from moodfield.nets import survey

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for head in ("network", "parameters", "GMAC", "cell sees", "around 1 kHz", "seconds", "length"):
        words = head in ("network", "around 1 kHz", "length")
        table.add_column(head, justify="left" if words else "right", no_wrap=True)
    for name, each in surveys.items():
        low, high = each.hertz
        table.add_row(
            name, f"{each.parameters / 1e6:.2f} M", f"{each.gmac:.1f}", f"{each.freq.size} × {each.time.size}",
            f"{survey.hertz(low)} – {survey.hertz(high)}", f"{each.seconds:.2f}", each.lengths.kind,
        )  # fmt: skip
    return table


class _Progress:
    """Two bars on a terminal, plain lines elsewhere: tracks heard, epochs trained."""

    def __init__(self, tracks: int, epochs: int) -> None:
        from rich import progress

        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
        self._console = _console(stderr=True)
        self._bars = progress.Progress(*columns, progress.TimeRemainingColumn(), console=self._console)
        self._tracks = self._bars.add_task("mels", total=tracks)
        self._epochs = self._bars.add_task("epochs", total=epochs)

    def __enter__(self) -> "_Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def heard(self, track: "Track", error: MoodfieldError | None) -> None:
        """A track was heard, or why not."""
        if error:
            self._console.print(f"left out: {error}", highlight=False, markup=False)
        self._bars.advance(self._tracks)

    def trained(self, epoch: "Epoch") -> None:
        """An epoch is over."""
        judged = "" if epoch.score is None else f", validation {epoch.score:.4f}, best {epoch.best:.4f}"
        mean = "" if epoch.averaged is None else f", averaged {epoch.averaged:.4f}"
        line = f"epoch {epoch.epoch}: rate {epoch.rate:.3g}, loss {epoch.loss:.4f}{judged}{mean}"
        self._console.print(line, highlight=False)
        self._bars.update(self._epochs, completed=epoch.epoch)


def _figures(run: Path, figures: Any) -> None:
    """What was measured, at the end of a run."""
    for name, value in figures.items():
        typer.echo(f"{name:<34} {value:.4f}")
    typer.echo(f"the model is in {run}; try: moodfield tag --model {run} FILE")


def _row(path: Path, tagging: "Tagging") -> str:
    """One line of the table."""
    themes = [tag for tag in tagging.decided if tag in tagging.themes]
    words = _plain(", ".join(tagging.moods)) or ("" if themes else "[dim]nothing clear[/dim]")
    minutes, seconds = divmod(round(tagging.duration), 60)
    aside = f" · [dim]{_plain(', '.join(themes))}[/dim]" if themes else ""
    return f"{_short(path)}  {minutes:>3}:{seconds:02}  {words}{aside}"


def _short(path: Path, width: int = 38) -> str:
    """A file's name for the table, cut in the middle when it is long."""
    from rich.cells import set_cell_size

    name = path.name if len(path.name) <= width else f"{path.name[: width // 2 - 1]}…{path.name[-width // 2 :]}"
    return _plain(set_cell_size(_printable(name), width))


def _plain(text: str) -> str:
    """A stranger's words for the table: whatever is in them is printed, and nothing in them is obeyed."""
    from rich.markup import escape

    return escape(_printable(text))


def _printable(text: str) -> str:
    """Text without what would move the cursor, or could not be printed at all."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _failure(path: Path, error: MoodfieldError) -> dict[str, object]:
    """What a program reads of a file that could not be heard."""
    reason = error.reason if isinstance(error, BadAudio) else type(error).__name__
    return {"source": str(path), "error": {"reason": reason, "message": str(error)}}


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, emoji=False)


def _say(message: str) -> None:
    """One line to whoever watches, never among the results."""
    typer.echo(f"moodfield: {_printable(' '.join(message.split()))}", err=True)

"""The commands about networks: list, show.

In: names and settings. Out: tables, pictures.
Knows nothing of: how a network is measured or drawn.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console
from moodfield.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from moodfield.nets.summary import NetworkSummary, NetworkToPlot


def networks(
    *, as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line instead of a table")] = False
) -> None:
    """List the networks: parameters, operations, receptive field."""
    from moodfield import nets
    from moodfield.nets import summary

    surveys = {name: summary.registered(name) for name in nets.NETS}
    if as_json:
        for name, each in surveys.items():
            console.result_json({"name": name, **each.to_dict()})
        return
    terminal = console.terminal(stderr=False)
    terminal.print(_table(surveys))
    terminal.print(
        "\n[dim]GMAC: for 10 s of music; a cell of the map sees bands × frames; more: moodfield nets show NAME[/dim]"
    )


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
    """Show the size and receptive field of one network; draw the field, theoretical and effective."""
    given = {"rho_freq": rho_freq, "rho_time": rho_time, "width": width}
    if music and not plot:
        raise UsageError(f"--music {music} is for a picture, and none is named; add --plot field.png")
    if plot:
        from moodfield.plots import figures, receptive_field

        figures.check(plot, inputs=[music] if music else [])
    found = _candidate(name, model, {key: value for key, value in given.items() if value is not None})
    if as_json:
        console.result_json({"name": found.name, **found.survey.to_dict()})
    else:
        terminal = console.terminal(stderr=False)
        terminal.print(f"[bold]{console.plain(found.name)}[/bold]", highlight=False)
        for what, words in found.survey.to_words().items():
            terminal.print(f"{what:<14} {console.plain(words)}", highlight=False)
    if plot:
        receptive_field.draw(plot, found, music=music)
        console.say(f"the picture is {plot}")


def _candidate(name: str | None, model: str | None, changes: dict[str, int]) -> "NetworkToPlot":
    """The network that is meant: one of the list, or a model's."""
    from moodfield import tagger
    from moodfield.card import WEIGHTS, Card
    from moodfield.nets import summary

    if model is None:
        if name is None:
            raise UsageError("name a network of `moodfield nets`, or a model with --model")
        return summary.fresh(name, changes)
    if changes:
        came = ", ".join(f"--{key.replace('_', '-')}" for key in changes)
        raise UsageError(f"{came} cannot change {model}, which is trained; leave out the one or the other")
    folder = tagger.model_folder(model)
    known = Card.read(folder)
    return summary.trained(known.name, known.net, folder / WEIGHTS, known.mel, n_tags=len(known.vocabulary), kind=name)


def _table(surveys: "dict[str, NetworkSummary]") -> "Table":
    """A row for every network."""
    from rich.table import Table

    from moodfield.nets import summary

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)
    for head in ("network", "parameters", "GMAC", "cell sees", "around 1 kHz", "seconds", "length"):
        words = head in ("network", "around 1 kHz", "length")
        table.add_column(head, justify="left" if words else "right", no_wrap=True)
    for name, each in surveys.items():
        low, high = each.hertz
        table.add_row(
            name, f"{each.parameters / 1e6:.2f} M", f"{each.gmac:.1f}", f"{each.freq.size} × {each.time.size}",
            f"{summary.hertz(low)} – {summary.hertz(high)}", f"{each.seconds:.2f}", each.lengths.kind,
        )  # fmt: skip
    return table

"""The commands about networks: list, show.

In: names and settings. Out: tables, pictures.
Knows nothing of: how a network is measured or drawn.
"""

from dataclasses import asdict
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
        console.result_json({"name": found.name, **found.summary.to_dict()})
    else:
        terminal = console.terminal(stderr=False)
        terminal.print(f"[bold]{console.plain(found.name)}[/bold]", highlight=False)
        for what, words in _describe(found.summary).items():
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
        return summary.untrained(name, changes)
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
            f"{summary.format_hertz(low)} – {summary.format_hertz(high)}",
            f"{each.seconds:.2f}", each.lengths.kind,
        )  # fmt: skip
    return table


def _describe(network: "NetworkSummary") -> dict[str, str]:
    """Names and values of a network, as text."""
    from moodfield import receptive_field
    from moodfield.clips import FixedLength, WholeTrack
    from moodfield.nets import summary

    mel, lengths = network.mel, network.lengths
    low, high = map(summary.format_hertz, network.hertz)
    reference = summary.format_hertz(summary.REFERENCE_HZ)
    settings = {name: value for name, value in asdict(network.config).items() if name != "family"}
    bands = f"{network.freq.size} bands" + (f" (the mel has {mel.n_mels})" if network.freq.size > mel.n_mels else "")
    frames = f"{network.time.size} frames"
    if isinstance(lengths, FixedLength) and network.time.size > lengths.frames:
        frames += f" (a clip has {lengths.frames})"
    elif isinstance(lengths, WholeTrack):
        frames += ", before the layers that process the whole track"
    stride = f"stride {network.stride_seconds:.2f} s"
    if receptive_field.output_size(network.config.layers("freq"), mel.n_mels) > 1:
        stride = f"stride {summary.format_hertz(network.stride_hertz)} and {network.stride_seconds:.2f} s"
    return {
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()),
        "mel": f"{mel.kind}, {mel.n_mels} bands, {mel.sample_rate} Hz, n_fft {mel.n_fft}, hop_length {mel.hop_length}",
        "parameters": f"{network.parameters:,}",
        "work": f"{network.gmac:.2f} GMAC for {summary.SECONDS} s of music",
        "length": _describe_lengths(network),
        "receptive field": f"{bands} × {frames}",
        "extent": f"{low} – {high} around {reference}, {network.seconds:.2f} s; {stride}",
    }


def _describe_lengths(network: "NetworkSummary") -> str:
    """The lengths of mel that a network takes."""
    from moodfield import receptive_field
    from moodfield.clips import FixedLength, WholeTrack

    lengths, mel = network.lengths, network.mel
    frames = lengths.frames if isinstance(lengths, FixedLength) else lengths.min_frames
    seconds = receptive_field.seconds(
        frames, sample_rate=mel.sample_rate, n_fft=mel.n_fft, hop_length=mel.hop_length
    )
    size = f"{frames} frames ({seconds:.2f} s)"
    if isinstance(lengths, FixedLength):
        return f"clips of {size}"
    return f"{'whole tracks' if isinstance(lengths, WholeTrack) else 'any'}, at least {size}"

"""The command that lists networks, and shows size and receptive field of one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodfield.cli import console
from moodfield.errors import UsageError

if TYPE_CHECKING:
    from moodfield.nets.summary import NetworkSummary, NetworkToPlot


def nets(
    name: Annotated[str | None, typer.Argument(help="name of a network", autocompletion=console.complete_net)] = None,
    *,
    settings: Annotated[list[str] | None, typer.Option("--set", help="change one setting, such as rho_freq=7")] = None,
    model: Annotated[str | None, typer.Option(help="network of a model", autocompletion=console.complete_model)] = None,
    plot: Annotated[Path | None, typer.Option(help="draw the receptive field: field.png")] = None,
    audio: Annotated[Path | None, typer.Option(help="with --plot: draw it over the middle of this audio file")] = None,
    as_json: console.AsJson = False,
) -> None:
    """List the networks, or show size and receptive field of one.

    For example:
        moodfield nets
        moodfield nets fa_resnet --set rho_freq=5 --set rho_time=9
        moodfield nets fa_resnet --plot field.png --audio song.ogg
        moodfield nets --model runs/first --plot field.png
    """
    if name is None and model is None:
        console.check_unused({"--set": settings, "--plot": plot, "--audio": audio}, why="no network is named")
        _list(as_json=as_json)
        return
    if name and model:
        raise UsageError(f"{name} and --model {model} both name a network; leave one of them out")
    if audio and not plot:
        raise UsageError(f"--audio {audio} is drawn by --plot only; add --plot field.png")
    if plot:
        from moodfield.plots import figures, receptive_field

        figures.check(plot, inputs=[audio] if audio else [])
    network = _read(name, model, _parse(settings or ()))
    if as_json:
        console.result_json({"name": network.name, **network.summary.to_dict()})
    else:
        terminal = console.terminal()
        terminal.print(f"[bold]{console.escape(network.name)}[/bold]")
        for head, words in _describe(network.summary).items():
            terminal.print(f"{head:<15} {console.escape(words)}")
    if plot:
        receptive_field.draw(plot, network, music=audio)
        console.message(f"wrote {plot}")


def _parse(settings: Sequence[str]) -> dict[str, Any]:
    """Changes of a config; values are numbers, `true` and `false`, or else words."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting} has no value; write it as name=value, such as rho_freq=7")
        try:
            changes[key] = json.loads(value)
        except ValueError:
            changes[key] = value
    return changes


def _read(name: str | None, model: str | None, changes: Mapping[str, Any]) -> "NetworkToPlot":
    """A network of the registry, or that of a model."""
    from moodfield import tagger
    from moodfield.card import WEIGHTS, Card
    from moodfield.nets import summary

    if model is None:
        return summary.untrained(str(name), changes)
    if changes:
        raise UsageError(f"--set {', '.join(changes)} cannot change {model}, which is trained; leave one of them out")
    folder = tagger.model_folder(model)
    card = Card.read(folder)
    return summary.trained(card.name, card.net, folder / WEIGHTS, card.mel, n_tags=len(card.vocabulary))


def _list(*, as_json: bool) -> None:
    from moodfield import nets
    from moodfield.nets import summary

    networks = {name: summary.registered(name) for name in nets.NETS}
    if as_json:
        console.result_json({name: network.to_dict() for name, network in networks.items()})
        return
    table = console.table("network", "params", "GMAC", "field", "around 1 kHz", "seconds", "length", words=1)
    for name, network in networks.items():
        low, high = network.hertz
        table.add_row(
            name, f"{network.parameters / 1e6:.2f} M", f"{network.gmac:.1f}",
            f"{network.freq.size} × {network.time.size}", f"{summary.format_hertz(low)} – {summary.format_hertz(high)}",

            f"{network.seconds:.2f}", network.lengths.kind,
        )  # fmt: skip
    terminal = console.terminal()
    terminal.print(table)
    terminal.print("\n[dim]GMAC: for 10 s of music; field: bands × frames; more: moodfield nets NAME[/dim]")


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

    lengths = network.lengths
    frames = lengths.frames if isinstance(lengths, FixedLength) else lengths.min_frames
    size = f"{frames} frames ({receptive_field.seconds(frames, network.mel):.2f} s)"
    if isinstance(lengths, FixedLength):
        return f"clips of {size}"
    return f"{'whole tracks' if isinstance(lengths, WholeTrack) else 'any'}, at least {size}"

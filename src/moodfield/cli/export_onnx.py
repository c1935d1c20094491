"""The command that exports a model as one ONNX file from waveform to scores."""

from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console


def export_onnx(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="the file, such as moodfield.onnx", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="name, folder or run of a model", autocompletion=console.complete_model)
    ] = "default",
) -> None:
    """Export a model as one ONNX file that takes waveforms, for programs without moodfield.

    For example:
        moodfield export-onnx -o moodfield.onnx
        moodfield export-onnx --model runs/first -o first.onnx
    """
    from moodfield.onnx_export import export

    card = export.export(model, output)
    heads = f", and of the heads {', '.join(head.name for head in card.heads)}" if card.heads else ""
    console.message(
        f"{output} has {card.name}: mono float32 samples at {card.mel.sample_rate} Hz in, "
        f"scores of {len(card.vocabulary)} tags{heads} out"
    )

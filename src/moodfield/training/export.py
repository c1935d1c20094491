"""A run becomes a model folder.

In: a trained network, its recipe and what is known about it. Out: weights, one ONNX file, a card and a README.
Knows nothing of: how the network was trained.
"""

import hashlib
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from moodfield import card, clips, tags
from moodfield.card import Card
from moodfield.engine import INPUT, OUTPUT, OnnxEngine, TorchEngine
from moodfield.errors import BadModel
from moodfield.nets import Net
from moodfield.training.recipe import Recipe

AGREE = 1e-4
"""largest difference in logits between torch and ONNX Runtime that is let pass"""


def describe(
    plan: Recipe,
    net: Net,
    vocabulary: Sequence[str],
    *,
    name: str = "unnamed",
    summary: str = "",
    licence: str = "",
    thresholds: Sequence[float] | None = None,
    origin: Mapping[str, str] | None = None,
    figures: Mapping[str, float] | None = None,
) -> Card:
    """The card of a network; without thresholds a tag is decided above one half."""
    return Card(
        name=name,
        summary=summary,
        licence=licence,
        vocabulary=tuple(vocabulary),
        themes=tuple(tag for tag in vocabulary if tag in tags.THEMES),
        mel=plan.mel,
        lengths=net.lengths,
        net=asdict(plan.net),
        thresholds=tuple(thresholds) if thresholds is not None else (0.5,) * len(vocabulary),
        origin=origin or {},
        figures=figures or {},
    )


def export(net: Net, described: Card, folder: str | Path) -> Card:
    """Write a model folder: weights, network, README, and last the card, which makes it count.

    The ONNX file is run on several lengths and compared with torch before it is believed. The card comes back with the
    checksums of the files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    net = net.eval().cpu()
    weights = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    save_file(weights, folder / card.WEIGHTS)
    _export_onnx(net, described, folder / card.NETWORK)
    _compare(net, described, folder / card.NETWORK)
    return label(described, folder)


def label(described: Card, folder: str | Path) -> Card:
    """Write README and card of a folder that has weights and network already; the card, with checksums, comes back."""
    folder = Path(folder)
    (folder / card.README).write_text(page(described), encoding="utf-8")
    files = (card.WEIGHTS, card.NETWORK)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    checked = replace(described, sha256=sums)
    card.write(checked, folder)
    return checked


def page(described: Card) -> str:
    """The README of a model folder, from its card."""
    moods = ", ".join(tag for tag in described.vocabulary if tag not in described.themes)
    lines = [f"# {described.name}", "", described.summary, "", f"**Licence.** {described.licence}", ""]
    lines += [f"**Moods.** {moods}", ""]
    if described.themes:
        lines += [f"**Themes.** {', '.join(described.themes)}", ""]
    if described.origin:
        lines += ["## Where it comes from", ""]
        lines += [f"- **{what}**: {where}" for what, where in described.origin.items()] + [""]
    if described.figures:
        lines += ["## Measured", "", "| figure | value |", "|---|---|"]
        lines += [f"| {what} | {value:.4g} |" for what, value in described.figures.items()] + [""]
    return "\n".join(lines)


class _OverTime(nn.Module):
    """A network's map over time as the forward pass that the exporter follows."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, mels: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch tags time"]:
        return self.net.over_time(mels)


def _export_onnx(net: Net, described: Card, path: Path) -> None:
    """One file, any number of clips, any length that the network takes."""
    frames = _examples(described)[0]
    example = torch.zeros(2, described.mel.bands, frames)
    dims: dict[int, object] = {0: torch.export.Dim.DYNAMIC}
    if isinstance(described.lengths, clips.AnyLength):
        dims[2] = torch.export.Dim.DYNAMIC
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its insides
        program = torch.onnx.export(
            _OverTime(net), (example,), dynamo=True, dynamic_shapes={"mels": dims}, input_names=[INPUT],
            output_names=[OUTPUT], verbose=False,
        )  # fmt: skip
    if program is None:
        raise BadModel("torch exported nothing; its dynamo exporter is wanted, which torch 2.6 and later have")
    half = path.with_name(f"{path.name}.part")
    program.save(half, external_data=False)
    half.replace(path)


def _compare(net: Net, described: Card, path: Path) -> None:
    """Refuse a file that does not say what torch says."""
    generator = np.random.default_rng(0)
    mean, spread = net.standardize.mean.numpy(), net.standardize.spread.numpy()
    for frames in _examples(described):
        drawn = generator.standard_normal((2, frames, described.mel.bands), np.float32) * spread + mean
        mels = np.ascontiguousarray(drawn.transpose(0, 2, 1), np.float32)
        came, wanted = OnnxEngine(path).over_time(mels), TorchEngine(net).over_time(mels)
        apart = float(np.abs(came - wanted).max()) if came.shape == wanted.shape else math.inf
        if not apart <= AGREE * max(1.0, float(np.abs(wanted).max())):
            raise BadModel(
                f"{path} is {apart:.2g} away from torch for clips of {frames} frames; it was not exported well"
            )


def _examples(described: Card) -> list[int]:
    """Lengths to try a network at."""
    if isinstance(described.lengths, clips.FixedLength):
        return [described.lengths.frames]
    return [300, described.lengths.least, 101, 862]

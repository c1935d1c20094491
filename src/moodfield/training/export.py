"""A run becomes a model folder.

In: a trained network, its recipe and what is known about it. Out: weights, one ONNX file, a card and a README.
Knows nothing of: how the network was trained.
"""

import logging
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from moodfield import card, clips, files, tags, verify
from moodfield.card import Card
from moodfield.engine import FEATURES, INPUT, OUTPUT, OnnxEngine, TorchEngine
from moodfield.errors import ModelError, OutputError
from moodfield.nets import Net, blocks
from moodfield.tagger import Member
from moodfield.training.recipe import Recipe

AGREE = 1e-4
"""largest difference in logits between torch and ONNX Runtime that is let pass"""


def describe(
    recipe: Recipe,
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
        mel=recipe.mel,
        lengths=net.lengths,
        net=asdict(recipe.net),
        thresholds=tuple(thresholds) if thresholds is not None else (0.5,) * len(vocabulary),
        origin=origin or {},
        figures=figures or {},
    )


def export(net: Net, described: Card, folder: str | Path) -> Card:
    """Write a model folder: weights, network, README, and last the card, which makes it count.

    The ONNX file is run on several lengths and compared with torch before it is believed. The card comes back with the
    checksums of the files, and with what the network says of the made-up piece by which it can be checked elsewhere.
    """
    folder = Path(folder)
    _check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_partial_files(folder)
    net = net.eval().cpu()
    weights = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    files.write(folder / card.WEIGHTS, save(weights))
    _export_onnx(net, described, folder)
    _compare(net, described, folder)
    return label(_remember(described, folder), folder)


def check_folder(folder: Path) -> None:
    """Refuse with `OutputError` a model folder that cannot be replaced as a whole: it holds files of somebody else."""
    _check_ours(folder)
    ours = {card.CARD, card.README, card.WEIGHTS, card.NETWORK, card.SUMMARY, ".DS_Store"}
    strange = [
        path.name
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if path.is_dir() or not (path.name in ours or files.PARTIAL.fullmatch(path.name))
    ]
    if strange:
        raise OutputError(
            f"{folder} would be replaced, but holds {strange[0]!r}, which is of no model; move that first"
        )


def _check_ours(folder: Path) -> None:
    """Refuse with `OutputError` what is neither missing, nor empty, nor a model folder, finished or begun."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file, where a model folder is to be; move it, or give another folder")
    names = {re.sub(r"\.[0-9a-f]{16}\.part$", "", path.name) for path in folder.iterdir()}
    if names - {".DS_Store"} and not names & {card.CARD, card.WEIGHTS}:
        raise OutputError(f"{folder} is not empty, and no model folder: it holds {min(names)!r}; give another folder")


def label(described: Card, folder: str | Path) -> Card:
    """Write README and card of a folder that has weights and network already; the card, with checksums, comes back."""
    folder = Path(folder)
    files.write(folder / card.README, page(described).encode())
    names = (card.WEIGHTS, *card.networks(described))
    sums = {name: files.sha256(folder / name) for name in names}
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
    if described.calibration:
        share = "of the music it was calibrated with, the share of tracks with this score that have the tag"
        lines += [
            f"**Scores** are calibrated: a score is, {share}. *Calibration*, below, says how far to trust it.",
            "",
        ]
    if described.priors:
        rare, common = (choose(described.priors) for choose in (min, max))
        share = f"of the tracks that it, or its teacher, learned from, {rare:.2%} have the rarest tag"
        lines += [f"**Priors** are known: {share}, {common:.2%} the commonest.", ""]
    if described.limits:
        lines += ["## What it is not for", ""] + [f"- {each}" for each in described.limits] + [""]
    if described.origin:
        lines += ["## Where it comes from", ""]
        lines += [f"- **{what}**: {where}" for what, where in described.origin.items()] + [""]
    if described.figures:
        lines += ["## Measured", "", "| figure | value |", "|---|---|"]
        lines += [f"| {what} | {value:.4g} |" for what, value in described.figures.items()] + [""]
    half = (len(described.examples) + 1) // 2
    for title, examples in (("best", described.examples[:half]), ("worst", described.examples[half:])):
        if examples:
            lines += [f"## Where it decides {title}", "", "Themes are in italics.", ""]
            lines += ["| music | the model | its teacher |", "|---|---|---|"]
            for each in examples:
                cells = (_cell(tags, described.themes) for tags in (each.decided, each.wanted))
                lines += [f"| {each.music.replace('|', '¦')} | {' | '.join(cells)} |"]
            lines += [""]
    return "\n".join(lines) + (f"\n{_below(described.appendix.strip())}\n" if described.appendix else "")


def _cell(tags: Sequence[str], themes: Sequence[str]) -> str:
    """Tags in a table, themes in italics; a dash where there are none."""
    return ", ".join(f"*{tag}*" if tag in themes else tag for tag in tags) or "–"


def _below(markdown: str) -> str:
    """The same with every heading one level deeper, so that it can be part of a page."""
    parts = f"\n{markdown}".split("\n```")  # every other one is code
    parts[::2] = [re.sub(r"^(?=#{1,5} )", "#", part, flags=re.MULTILINE) for part in parts[::2]]
    return "\n```".join(parts)[1:]


class _Part(nn.Module):
    """One part of a network as the forward pass that the exporter follows."""

    def __init__(self, net: Net, part: str) -> None:
        super().__init__()
        self.net = net
        self.part = part

    def forward(self, array: Float[Tensor, "batch _bands frames"]) -> Float[Tensor, "batch _tags _time"]:
        found: Tensor = getattr(self.net, self.part)(array)
        return found


def _export_onnx(net: Net, described: Card, folder: Path) -> None:
    """What hears, and what summarises if there is such a part; batch norms become part of the convolutions."""
    net = blocks.folded(net)
    example = torch.zeros(2, described.mel.n_mels, _examples(described)[0])
    if isinstance(described.lengths, clips.WholeTrack):
        heard = net.forward_features(example).detach()
        _export_part(_Part(net, "forward_features"), example, (INPUT, FEATURES), folder / card.NETWORK)
        _export_part(_Part(net, "forward_head"), heard, (FEATURES, OUTPUT), folder / card.SUMMARY)
    else:
        long = isinstance(described.lengths, clips.AnyLength)
        _export_part(_Part(net, "forward_features"), example, (INPUT, OUTPUT), folder / card.NETWORK, any_length=long)


def _export_part(part: _Part, example: Tensor, names: tuple[str, str], path: Path, *, any_length: bool = True) -> None:
    """One file, for any number of clips, and of any length if so wanted."""
    dims = {0: torch.export.Dim.DYNAMIC} | ({2: torch.export.Dim.DYNAMIC} if any_length else {})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its insides
        program = torch.onnx.export(
            part, (example,), dynamo=True, dynamic_shapes={"array": dims}, input_names=[names[0]],
            output_names=[names[1]], verbose=False,
        )  # fmt: skip
    if program is None:
        raise ModelError("torch exported nothing; its dynamo exporter is wanted, which torch 2.6 and later have")
    with files.atomic_path(path) as half:
        program.save(half, external_data=False)


def _compare(net: Net, described: Card, folder: Path) -> None:
    """Refuse files that do not say what torch says."""
    onnx, own = OnnxEngine(*(folder / name for name in card.networks(described))), TorchEngine(net)
    generator = np.random.default_rng(0)
    mean, spread = net.standardize.mean.numpy(), net.standardize.std.numpy()
    for frames in _examples(described):
        drawn = generator.standard_normal((2, frames, described.mel.n_mels), np.float32) * spread + mean
        mels = np.ascontiguousarray(drawn.transpose(0, 2, 1), np.float32)
        came, wanted = (engine.forward_head(engine.forward_features(mels)) for engine in (onnx, own))
        apart = float(np.abs(came - wanted).max()) if came.shape == wanted.shape else math.inf
        if not apart <= AGREE * max(1.0, float(np.abs(wanted).max())):
            raise ModelError(
                f"{folder / card.NETWORK} is {apart:.2g} away from torch for clips of {frames} frames; "
                "it was not exported well"
            )


def _remember(described: Card, folder: Path) -> Card:
    """The card with the network's answer to `proof.music`."""
    engine = OnnxEngine(*(folder / name for name in card.networks(described)), threads=1)
    logits = verify.reference_logits(Member(described, engine))
    return replace(described, proof=tuple(float(f"{logit:.7g}") for logit in logits))


def _examples(described: Card) -> list[int]:
    """Lengths to try a network at."""
    if isinstance(described.lengths, clips.FixedLength):
        return [described.lengths.frames]
    return [300, described.lengths.least, 101, 862]

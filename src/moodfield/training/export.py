"""Export a network as a model folder: weights, ONNX file, provenance, README and card."""

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from moodfield import clips, files, tags, verify
from moodfield.card import EMBEDDING, HEAD, LOGITS, NETWORK, WEIGHTS, Card, Provenance
from moodfield.engine import FEATURES, INPUT, Features, OnnxEngine, TorchEngine
from moodfield.errors import ModelError
from moodfield.nets import Net, blocks
from moodfield.predictor import LoadedModel
from moodfield.training import model_folder
from moodfield.training.recipe import Recipe

TOLERANCE = 1e-4
"""largest accepted difference in logits between torch and ONNX Runtime"""
UNKNOWN = Provenance()
"""of a model that nothing is recorded about"""


def describe(
    recipe: Recipe, net: Net, vocabulary: Sequence[str], *, name: str = "unnamed", summary: str = "", licence: str = ""
) -> Card:
    """The card of a network that was trained by a recipe; all thresholds are 0.5."""
    return Card(
        name=name,
        summary=summary,
        licence=licence,
        vocabulary=tuple(vocabulary),
        themes=tuple(tag for tag in vocabulary if tag in tags.THEMES),
        mel=recipe.mel,
        lengths=net.lengths,
        net=asdict(recipe.net),
        thresholds=(0.5,) * len(vocabulary),
        outputs={LOGITS: len(vocabulary)} | ({EMBEDDING: net.embedding_size} if net.embedding_size else {}),
    )


def export(net: Net, card: Card, folder: str | Path, provenance: Provenance = UNKNOWN) -> Card:
    """Write a model folder. The card comes last: a folder without it is not a model.

    The ONNX file is run at several lengths and compared with torch.

    Returns:
        The card with the checksums of the files and the logits for the reference signal of `moodfield.verify`.

    Raises:
        OutputError: `folder` is a file, or holds files that are not of a model.
        ModelError: torch cannot export the network, or ONNX Runtime gives other logits than torch.
    """
    folder = Path(folder)
    model_folder.check_replaceable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_partial_files(folder)
    net = net.eval().cpu()
    weights = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    files.write(folder / WEIGHTS, save(weights))
    return model_folder.write_card(_export_network(net, card, folder), provenance, folder)


class _Part(nn.Module):
    """A network whose forward pass is one of its methods, as the exporter expects."""

    def __init__(self, net: Net, method: str) -> None:
        super().__init__()
        self.net = net
        self.method = method

    def forward(self, array: Float[Tensor, "batch _bands frames"]) -> Float[Tensor, "batch _tags _time"]:
        output: Tensor = getattr(self.net, self.method)(array)
        return output


class _Embedding(nn.Module):
    """A network whose outputs are its logits and its embedding over time."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, array: Float[Tensor, "batch bands frames"]
    ) -> tuple[Float[Tensor, "batch tags time"], Float[Tensor, "batch channels time"]]:
        features = self.net.forward_features(array)
        return self.net.forward_head(features), features


def _export_network(net: Net, card: Card, folder: Path) -> Card:
    """Write the ONNX files and compare them with torch; returns the card with the reference logits."""
    _export_onnx(net, card, folder)
    _compare(net, card, folder)
    logits = verify.reference_logits(LoadedModel(card, _onnx_engine(card, folder, threads=1)))
    return replace(card, reference_logits=tuple(float(f"{logit:.7g}") for logit in logits))


def _export_onnx(net: Net, card: Card, folder: Path) -> None:
    """Write the network, in two files if it pools whole tracks, with batch norms folded into the convolutions."""
    net = blocks.fold_batch_norms(net)
    example = torch.zeros(2, card.mel.n_mels, _example_lengths(card)[0])
    if isinstance(card.lengths, clips.WholeTrack):
        features = net.forward_features(example).detach()
        _export_part(_Part(net, "forward_features"), example, (INPUT, FEATURES), folder / NETWORK)
        _export_part(_Part(net, "forward_head"), features, (FEATURES, LOGITS), folder / HEAD)
    else:
        any_length, names = isinstance(card.lengths, clips.AnyLength), (INPUT, *card.outputs)
        part = _Embedding(net) if EMBEDDING in card.outputs else _Part(net, "frame_logits")
        _export_part(part, example, names, folder / NETWORK, any_length=any_length)


def _export_part(
    part: nn.Module, example: Tensor, names: tuple[str, ...], path: Path, *, any_length: bool = True
) -> None:
    """Write one ONNX file with a dynamic number of clips, and with a dynamic length if `any_length`."""
    dims = {0: torch.export.Dim.DYNAMIC} | ({2: torch.export.Dim.DYNAMIC} if any_length else {})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            part, (example,), dynamo=True, dynamic_shapes={"array": dims}, input_names=[names[0]],
            output_names=list(names[1:]), verbose=False,
        )  # fmt: skip
    if program is None:
        raise ModelError("torch exported nothing; install torch 2.6 or later, whose dynamo exporter is needed")
    with files.atomic_path(path) as partial:
        program.save(partial, external_data=False)
        _remove_metadata(partial)


def _remove_metadata(path: Path) -> None:
    """Remove the exporter's metadata from an ONNX file: the stack traces name folders of this machine."""
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph, model):
        part.ClearField("metadata_props")
    onnx.save(model, path)


def _compare(net: Net, card: Card, folder: Path) -> None:
    """Raise `ModelError` unless ONNX Runtime and torch agree at several lengths."""
    onnx, reference = _onnx_engine(card, folder), TorchEngine(net)
    generator = np.random.default_rng(0)
    mean, std = net.standardize.mean.numpy(), net.standardize.std.numpy()
    for frames in _example_lengths(card):
        noise = generator.standard_normal((2, frames, card.mel.n_mels), np.float32) * std + mean
        mels = np.ascontiguousarray(noise.transpose(0, 2, 1), np.float32)
        outputs, expected = (engine.forward_head(engine.forward_features(mels)) for engine in (onnx, reference))
        pairs = {LOGITS: (outputs.logits, expected.logits), EMBEDDING: (outputs.embedding, expected.embedding)}
        for name, (ours, theirs) in pairs.items():
            if not (difference := _difference(ours, theirs)) <= TOLERANCE:
                raise ModelError(
                    f"{folder / NETWORK}: {name} for clips of {frames} frames differ by {difference:.2g} from torch's "
                    f"(tolerance {TOLERANCE:g}); the export is wrong"
                )


def _difference(ours: Features | None, theirs: Features | None) -> float:
    """Largest difference of an output, relative to `theirs` if they are large; infinite if the shapes differ."""
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return 0.0 if ours is theirs else math.inf
    return float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(theirs).max()))


def _onnx_engine(card: Card, folder: Path, *, threads: int = 0) -> OnnxEngine:
    return OnnxEngine(*(folder / name for name in card.network_files), threads=threads)


def _example_lengths(card: Card) -> list[int]:
    """Lengths in frames at which the exported network is tried."""
    if isinstance(card.lengths, clips.FixedLength):
        return [card.lengths.frames]
    return [300, card.lengths.min_frames, 101, 862]

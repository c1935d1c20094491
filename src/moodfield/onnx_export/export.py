"""Export a model as one ONNX file from waveform to scores, with metadata."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

import moodfield
from moodfield import audio, decisions, files, tagger
from moodfield.card import Card, Head
from moodfield.clips import FixedLength
from moodfield.errors import ModelError
from moodfield.onnx_export import track_graph

METADATA = "moodfield"
"""key of the metadata of the file, a JSON object"""
PRODUCER = b"moodfield"
ONNX = tuple(bytes([0x08, version, 0x12, len(PRODUCER)]) + PRODUCER for version in range(8, 32))
"""how exported files begin: with the version of the format and the producer; no others are replaced"""
FORMAT = 1
"""version of the metadata: it rises when what programs read gets another meaning"""
RULE = (
    "A tag may be decided if its score is above its threshold. If `usual` is null, all of these are decided. Else "
    "those are decided that are among the `max_tags` of them with the most evidence, and whose evidence is at "
    "most `margin` below the largest of theirs. Evidence is (logit − mean) / std of `usual`, or the least of the "
    "same with any of its `kinds` plus `kind_slack`, if that is less; the logit is calibrated and clipped to ± "
    "`max_logit`; for a std of `min_std` or less, evidence is 0. If `usual` is null, evidence is the logit minus "
    "that of the prior, or of the threshold if `priors` is null (of 0.5 if the threshold is null, or not between "
    "0 and 1)."
)
"""how tags are decided, in words, for the metadata; `decisions` has it as code"""
MIN_OPSET = 18
"""first version of the operators that has those of the graph"""


def export(model: str | Path, path: str | Path) -> Card:
    """Write a model as one ONNX file.

    Args:
        model: Name of a pretrained model, model folder, or training run (its best model).
        path: The file; it is written atomically.

    Returns:
        The card of the model.

    Raises:
        ModelError: The model is damaged, or was exported by too old a version.
        OutputError: The file cannot be written, or is of another kind.
    """
    folder, path = tagger.model_folder(model), Path(path)
    card = Card.read(folder)
    files.check_output(path, kind=ONNX, inputs=[folder / name for name in card.network_files])
    files.write_output(path, build(card, folder).SerializeToString(), kind=ONNX)
    return card


def build(card: Card, folder: Path) -> onnx.ModelProto:
    """The ONNX model of a model folder."""
    networks = {name: onnx.load(folder / name) for name in card.network_files}
    opsets = {opset.version for network in networks.values() for opset in network.opset_import if not opset.domain}
    if len(opsets) != 1 or min(opsets) < MIN_OPSET:
        raise ModelError(
            f"{folder} has operators of version {sorted(opsets)}, expected {MIN_OPSET} or later; export it again"
        )
    version = max(network.ir_version for network in networks.values())
    model = helper.make_model(
        track_graph.build(card, networks),
        opset_imports=[helper.make_opsetid("", opsets.pop())],
        ir_version=version,
        producer_name="moodfield",
    )
    helper.set_model_props(model, {METADATA: json.dumps(metadata(card), ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    return model


def metadata(card: Card) -> dict[str, Any]:
    """What a program needs beside the graph: vocabulary, sample rate, and what decisions need."""
    return {
        "format": FORMAT,
        "moodfield": moodfield.__version__,
        "name": card.name,
        "networks": {name: card.sha256.get(name) for name in card.network_files},
        "summary": card.summary,
        "licence": card.licence,
        "sample_rate": card.mel.sample_rate,
        "min_samples": _min_samples(card),
        "mel": asdict(card.mel),
        "lengths": asdict(card.lengths),
        **_head(card),
        "themes": card.themes,
        "heads": {head.name: _head(head) for head in card.heads},
        "decisions": {
            "margin": decisions.MARGIN, "max_tags": decisions.MAX_TAGS, "kind_slack": decisions.KIND_SLACK,
            "max_logit": decisions.MAX_LOGIT, "min_std": decisions.MIN_STD, "rule": RULE,
        },
    }  # fmt: skip


def _min_samples(card: Card) -> int:
    """Samples of the shortest track that the tagger accepts."""
    config, half = card.mel, card.mel.n_fft // 2
    frames = 1 if isinstance(card.lengths, FixedLength) else card.lengths.min_frames
    centre = (frames - 1) * config.hop_length
    enough = centre if config.kind == "perceptual" else centre - half + 1
    return max(enough, half + 1, math.ceil(audio.MIN_SECONDS * config.sample_rate))


def _head(head: Card | Head) -> dict[str, Any]:
    """Vocabulary, thresholds and what is usual; a threshold of None is never exceeded."""
    usual = head.usual if isinstance(head, Card) else None
    return {
        "vocabulary": head.vocabulary,
        "thresholds": [threshold if np.isfinite(threshold) else None for threshold in head.thresholds],
        "priors": head.priors,
        "calibration": None if head.calibration is None else asdict(head.calibration),
        "usual": None if usual is None else _usual(usual),
    }


def _usual(usual: decisions.Usual) -> dict[str, Any]:
    """Mean and standard deviation of calibrated logits, the scores that follow, and the same for kinds of music."""
    return {
        "tracks": usual.tracks,
        "mean": usual.mean.tolist(),
        "std": usual.std.tolist(),
        "scores": usual.scores.tolist(),
        "kinds": {name: _usual(kind) for name, kind in usual.kinds.items()},
    }

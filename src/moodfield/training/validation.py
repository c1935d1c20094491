"""Validation of a network: scores of tracks by the code that tags songs, their metric and loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from moodfield.engine import Features, Mels, Output, Precision, TorchEngine
from moodfield.errors import RunError
from moodfield.evaluation import metrics
from moodfield.nets import Net, regularized
from moodfield.predictor import LoadedModel
from moodfield.tagger import Tagger
from moodfield.training import export, mel_cache
from moodfield.training.batches import ClipDataset
from moodfield.training.distributed import ProcessGroup
from moodfield.training.recipe import Recipe

EPS = 1e-7
"""validation scores are clamped this far from 0 and 1 for the loss"""


class DivergedError(RunError):
    """Training diverged: a loss, a weight or an output is not finite."""


@dataclass(frozen=True)
class ValidationResult:
    """Metric and loss of a network on the validation tracks."""

    score: float
    """macro PR-AUC, or mean Spearman correlation with a teacher's logits"""
    loss: float
    """mean over the tracks"""


@dataclass(frozen=True)
class Validator:
    """Validates the networks of a run."""

    recipe: Recipe
    """which part of a track is scored, and how"""
    tracks: ClipDataset
    """the validation tracks and their targets"""
    vocabulary: tuple[str, ...]
    """names of the tags, the first outputs of the networks"""
    loss: Callable[[Tensor, Tensor], Tensor]
    """of logits and targets"""
    group: ProcessGroup | None = None
    """processes that share the tracks, if any"""

    def __call__(self, net: Net) -> ValidationResult:
        """Score the tracks and compare the scores with the targets."""
        targets = self.tracks.targets.per_track()
        scores = predict(
            self.recipe, net, self.tracks, self.vocabulary, stride=self.recipe.validate_stride, group=self.group,
            precision=engine_precision(self.recipe),
        )  # fmt: skip
        logits = torch.logit(torch.from_numpy(scores).double(), eps=EPS)
        loss = float(self.loss(logits, torch.from_numpy(targets).double()))
        if self.recipe.loss.kind == "logits":
            return ValidationResult(float(np.nanmean(metrics.spearman(targets, scores))), loss)
        return ValidationResult(metrics.evaluate(targets >= 0.5, scores).macro["PR-AUC"], loss)


def engine_precision(recipe: Recipe) -> Precision:
    """The number format of validation: that of training."""
    return "bfloat16" if recipe.precision == "bf16-mixed" else "float32"


def predict(
    recipe: Recipe,
    net: Net,
    tracks: ClipDataset,
    vocabulary: Sequence[str],
    *,
    stride: float | None = None,
    group: ProcessGroup | None = None,
    precision: Precision = "float32",
) -> Float32[np.ndarray, "tracks tags"]:
    """Scores of tracks.

    Args:
        recipe: the recipe of the network.
        net: the network.
        tracks: their mels.
        vocabulary: names of the tags.
        stride: seconds from one scored clip to the next; None scores whole tracks.
        group: processes that share the tracks; every one gets all scores.
        precision: bfloat16 is faster, and as imprecise as a training step in it.

    Raises:
        DivergedError: an output of the network is not finite.
    """
    net = regularized.without_auxiliary(net, len(vocabulary))
    engine = _FiniteEngine(TorchEngine(net, precision=precision))
    tagger = Tagger([LoadedModel(export.describe(recipe, net, vocabulary), engine)])
    scores = np.zeros((len(tracks.mels), len(vocabulary)), np.float32)
    for row in group.shard_indices(len(scores)) if group else range(len(scores)):
        mel = tracks.mels[row]
        if stride is None:
            scores[row] = tagger.predict([mel_cache.blocks(mel)])
        else:
            step = max(1, round(stride * recipe.mel.frames_per_second))
            scores[row] = tagger.predict_excerpts(mel_cache.excerpts(mel, recipe.clip_frames, step))
    return group.all_reduce_sum(scores) if group else scores


class _FiniteEngine:
    """An engine that raises `DivergedError` for outputs that are not finite."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine

    def forward_features(self, mels: Mels) -> Features:
        return _check_finite(self._engine.forward_features(mels))

    def forward_head(self, features: Features) -> Output:
        output = self._engine.forward_head(features)
        _check_finite(output.logits)
        return output


def _check_finite(array: Features) -> Features:
    if not np.isfinite(array).all():
        raise DivergedError("the network's outputs on the validation tracks are not finite")
    return array

"""What a network in training is worth.

In: a recipe, a network, and tracks with their truth. Out: scores of the tracks, and marks for them.
Knows nothing of: epochs, or what is done about it.

Tracks are scored by the code that tags songs, whole or in clips far apart; several processes share them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from moodfield.engine import Features, Logits, Mels, Precision, TorchEngine
from moodfield.errors import RunError
from moodfield.evaluation import metrics
from moodfield.nets import Net
from moodfield.tagger import LoadedModel, Tagger
from moodfield.training import export, mel_cache
from moodfield.training.batches import ClipDataset
from moodfield.training.distributed import ProcessGroup
from moodfield.training.recipe import Recipe


class DivergedError(RunError):
    """Numbers of training that are not finite: it diverged."""


@dataclass(frozen=True)
class ValidationResult:
    """What a network came to."""

    score: float
    """macro PR-AUC, or mean Spearman with a teacher's logits"""
    loss: float
    """mean over the tracks"""


@dataclass(frozen=True)
class Validator:
    """What every network of a run is asked."""

    recipe: Recipe
    """which part of a track it hears, and what counts"""
    tracks: ClipDataset
    """the tracks and their truth"""
    vocabulary: tuple[str, ...]
    """the tags"""
    loss: Callable[[Tensor, Tensor], Tensor]
    """of logits and truth"""
    team: ProcessGroup | None = None
    """processes that share the tracks, if any"""

    def __call__(self, net: Net) -> ValidationResult:
        """Ask a network."""
        truth = self.tracks.targets.per_track()
        found = predict(
            self.recipe, net, self.tracks, self.vocabulary, stride=self.recipe.validate_stride, group=self.team,
            precision=engine_precision(self.recipe),
        )  # fmt: skip
        logits = torch.logit(torch.from_numpy(found).double(), eps=1e-7)
        loss = float(self.loss(logits, torch.from_numpy(truth).double()))
        if self.recipe.loss.kind == "logits":
            return ValidationResult(float(np.nanmean(metrics.spearman(truth, found))), loss)
        return ValidationResult(metrics.evaluate(truth >= 0.5, found).macro["PR-AUC"], loss)


def engine_precision(recipe: Recipe) -> Precision:
    """The numbers that networks of a recipe are judged with: those that they are trained with."""
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
    """Scores of tracks; a team shares them, and all of it has all scores.

    With a `stride` one training clip in so many seconds is scored instead of the whole track. In bfloat16 it is
    quicker, and less precise by as much as a training step is. Refuses with `DivergedError` a network that diverged.
    """
    engine = _FiniteEngine(TorchEngine(net, precision=precision))
    tagger = Tagger([LoadedModel(export.describe(recipe, net, vocabulary), engine)])
    found = np.zeros((len(tracks.mels), len(vocabulary)), np.float32)
    for track in group.shard_indices(len(found)) if group else range(len(found)):
        mel = tracks.mels[track]
        if stride is None:
            found[track] = tagger.predict([mel_cache.blocks(mel)])
        else:
            step = max(1, round(stride * recipe.mel.frames_per_second))
            found[track] = tagger.predict_excerpts(mel_cache.excerpts(mel, recipe.clip_frames, step))
    return group.all_reduce_sum(found) if group else found


class _FiniteEngine:
    """An engine whose network is still being trained: numbers that are not finite mean that training diverged."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine

    def forward_features(self, mels: Mels) -> Features:
        return _finite(self._engine.forward_features(mels))

    def forward_head(self, heard: Features) -> Logits:
        return _finite(self._engine.forward_head(heard))


def _finite(array: Features) -> Features:
    """The same array, if all of its numbers are finite."""
    if not np.isfinite(array).all():
        raise DivergedError("the network's outputs on the validation tracks are not finite")
    return array


def predict_with_tagger(tagger: Tagger, tracks: ClipDataset) -> Float32[np.ndarray, "tracks tags"]:
    """What a tagger of one model says of whole tracks."""
    return np.stack([tagger.predict([mel_cache.blocks(mel)]) for mel in tracks.mels])

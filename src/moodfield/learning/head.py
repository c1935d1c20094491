"""Fit a linear head: logistic regressions on standardized embeddings, with cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from sklearn.linear_model import LogisticRegression

from moodfield import calibration
from moodfield.calibration import Calibration
from moodfield.evaluation import calibration_fit, metrics
from moodfield.evaluation.calibration_fit import Regularization

FOLDS = 5
"""parts of the cross-validation; fewer with fewer groups"""
SPLITS = 100
"""divisions into parts that are drawn; the one with the most even numbers of positives is used"""
STRENGTHS = tuple(float(value) for value in np.logspace(-5, 0, 11))
"""candidates for C, the inverse strength of the L2 penalty"""
MAX_STEPS = 5_000
"""iterations of the solver"""
REGULARIZATION = Regularization(3.0, 1.0)
"""how calibrations of tags are pulled towards their mean; *chosen by us*"""

Embeddings = Float32[np.ndarray, "tracks channels"]
Truth = Bool[np.ndarray, "tracks tags"]
Logits = Float64[np.ndarray, "tracks tags"]
Folds = Int64[np.ndarray, "tracks"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear map from embeddings to logits."""

    weight: Float64[np.ndarray, "tags channels"]
    """factor of every channel"""
    bias: Float64[np.ndarray, "tags"]
    """constant of every tag"""

    def logits(self, embeddings: Float32[np.ndarray, "_tracks channels"]) -> Float64[np.ndarray, "_tracks tags"]:
        """The logits of tracks, or of other embeddings such as those over time."""
        return embeddings @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted head, and what heads predict for tracks that they were not fitted on."""

    head: LinearHead
    """fitted on all tracks"""
    strength: float
    """the C that was chosen"""
    logits: Logits
    """out-of-fold logits: each from a head that was fitted on the other parts"""
    calibration: Calibration
    """from logits to scores, fitted on the out-of-fold logits"""
    thresholds: Float64[np.ndarray, "tags"]
    """scores with the best F-score out of fold, none below the share of tracks with the tag"""


def fit(
    embeddings: Embeddings,
    truth: Truth,
    groups: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Fit:
    """Fit a logistic regression for every tag, with one C for all of them, and calibrate the logits.

    C has the least log loss in a cross-validation, positives and negatives weighted alike as in the fits.

    Args:
        embeddings: Embeddings of tracks.
        truth: Which of them has which tag; every tag has positives and negatives in two groups or more.
        groups: Artist, album or another group of every track; two or more different ones. A group is not divided.
        strengths: Candidates for C.
        seed: Seed of the division into parts.
    """
    folds = split(truth, groups, seed=seed)
    by_strength = [out_of_fold(embeddings, truth, folds, strength) for strength in strengths]
    best = int(np.argmin([_balanced_loss(truth, logits) for logits in by_strength]))
    logits = by_strength[best]
    scale = calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=REGULARIZATION)
    thresholds = metrics.best_thresholds(truth, scale.scores(logits))
    return Fit(
        head=fit_head(embeddings, truth, strengths[best]),
        strength=strengths[best],
        logits=logits,
        calibration=scale,
        thresholds=np.maximum(thresholds, truth.mean(axis=0)),
    )


def split(truth: Truth, groups: Sequence[str], *, seed: int = 0) -> Folds:
    """Split tracks into parts with similar numbers of positives of every tag; a group is in one part.

    Example:
        >>> truth = np.arange(10)[:, None] < 5
        >>> folds = split(truth, [str(number) for number in range(10)])
        >>> [int(truth[folds == fold].sum()) for fold in range(5)]
        [1, 1, 1, 1, 1]
    """
    generator = np.random.default_rng(seed)
    n_parts = min(FOLDS, len(set(groups)))
    draws = (calibration_fit.group_split(groups, n_parts, generator=generator) for _ in range(SPLITS))
    return min(draws, key=partial(_unevenness, truth))


def out_of_fold(embeddings: Embeddings, truth: Truth, folds: Folds, strength: float) -> Logits:
    """Logits of every track by a head that was fitted on the other parts."""
    logits = np.zeros(truth.shape)
    for fold in np.unique(folds):
        held = folds == fold
        logits[held] = fit_head(embeddings[~held], truth[~held], strength).logits(embeddings[held])
    return logits


def fit_head(embeddings: Embeddings, truth: Truth, strength: float) -> LinearHead:
    """Fit a logistic regression for every tag; a tag without positives or without negatives has logits of 0."""
    mean, std = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)
    standard = (embeddings - mean) / std
    weight, bias = np.zeros((truth.shape[1], len(mean))), np.zeros(truth.shape[1])
    for row, tag in enumerate(truth.T):
        if tag.any() and not tag.all():
            model = LogisticRegression(C=strength, max_iter=MAX_STEPS, class_weight="balanced").fit(standard, tag)
            weight[row] = model.coef_[0] / std
            bias[row] = float(model.intercept_[0]) - float(weight[row] @ mean)
    return LinearHead(weight, bias)


def _balanced_loss(truth: Truth, logits: Logits) -> float:
    """Log loss, mean over positives and negatives of every tag alike."""
    losses = np.logaddexp(0, np.where(truth, -logits, logits))
    positives, negatives = ((losses * kind).sum(axis=0) / kind.sum(axis=0) for kind in (truth, ~truth))
    return float((positives + negatives).mean())


def _unevenness(truth: Truth, folds: Folds) -> float:
    """How much the shares of positives differ between parts, over all tags."""
    counts = np.array([truth[folds == fold].sum(axis=0) for fold in np.unique(folds)])
    return float((np.square(counts / truth.sum(axis=0)).sum(axis=0)).mean())

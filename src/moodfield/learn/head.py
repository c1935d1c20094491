"""Fit a linear head: logistic regression on standardized embeddings, chosen and calibrated by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from moodfield import calibration
from moodfield.calibration import Calibration
from moodfield.evaluation import calibration_fit, metrics
from moodfield.evaluation.calibration_fit import Regularization

FOLDS = 5
"""parts of the cross-validation"""
STRENGTHS = tuple(float(value) for value in np.logspace(-5, 0, 11))
"""candidates for C, the inverse strength of the L2 penalty"""
MIN_POSITIVES = 3
"""labelled tracks, with a tag and without, that it takes to learn the tag"""
MAX_STEPS = 5_000
"""iterations of the solver"""

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

    def logits(self, embeddings: Embeddings) -> Logits:
        """The logits of tracks."""
        return embeddings @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted head, and what it predicts for tracks that it was not fitted on."""

    head: LinearHead
    """fitted on all tracks"""
    strength: float
    """the C that was chosen"""
    folds: Folds
    """part of every track in the cross-validation"""
    logits: Logits
    """out-of-fold logits: each from a head that was fitted on the other parts"""
    calibration: Calibration
    """from logits to scores, fitted on the out-of-fold logits"""
    thresholds: Float64[np.ndarray, "tags"]
    """scores with the best F-score out of fold"""

    @property
    def scores(self) -> Float64[np.ndarray, "tracks tags"]:
        """Out-of-fold scores, calibrated."""
        return self.calibration.scores(self.logits)


def fit(embeddings: Embeddings, truth: Truth, groups: Sequence[str], *, seed: int = 0) -> Fit:
    """Fit a head for every tag, with one C for all of them.

    Args:
        embeddings: Of the labelled tracks.
        truth: Which of them has which tag; every tag has positives and negatives.
        groups: Artist, album or folder of every track; a group is not split between parts.
        seed: Of the division into parts.
    """
    generator = np.random.default_rng(seed)
    folds = calibration_fit.group_split(groups, min(FOLDS, len(set(groups))), generator=generator)
    by_strength = [out_of_fold(embeddings, truth, folds, strength) for strength in STRENGTHS]
    losses = [float(calibration_fit.log_loss(truth, calibration.sigmoid(logits)).mean()) for logits in by_strength]
    best = int(np.argmin(losses))
    logits = by_strength[best]
    scale = calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=Regularization(1.0, 1.0))
    return Fit(
        head=fit_head(embeddings, truth, STRENGTHS[best]),
        strength=STRENGTHS[best],
        folds=folds,
        logits=logits,
        calibration=scale,
        thresholds=metrics.best_thresholds(truth, scale.scores(logits)),
    )


def out_of_fold(embeddings: Embeddings, truth: Truth, folds: Folds, strength: float) -> Logits:
    """Logits of every track by a head that was fitted on the other parts."""
    logits = np.zeros(truth.shape)
    for fold in np.unique(folds):
        held = folds == fold
        logits[held] = fit_head(embeddings[~held], truth[~held], strength).logits(embeddings[held])
    return logits


def fit_head(embeddings: Embeddings, truth: Truth, strength: float) -> LinearHead:
    """Fit a logistic regression for every tag; a tag without positives or without negatives gets its prior alone."""
    from sklearn.linear_model import LogisticRegression

    mean, std = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
    std = np.where(std > 0, std, 1.0)
    standard = (embeddings - mean) / std
    weights, biases = [], []
    for tag in truth.T:
        if tag.any() and not tag.all():
            model = LogisticRegression(C=strength, max_iter=MAX_STEPS, class_weight="balanced").fit(standard, tag)
            weights.append(model.coef_[0] / std)
            biases.append(float(model.intercept_[0]) - float(weights[-1] @ mean))
        else:
            weights.append(np.zeros(len(mean)))
            biases.append(float(calibration.logit(np.array((tag.sum() + 0.5) / (len(tag) + 1)))))
    return LinearHead(np.array(weights), np.array(biases))

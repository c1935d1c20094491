"""Fit and measure a calibration: Brier score, log loss, calibration curve, ECE.

A calibrated score is the probability that a track has the tag. The fit is Platt scaling per tag with an L2 penalty that
pulls all tags towards common values; its strength is chosen by cross-validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from moodfield import calibration
from moodfield.calibration import Calibration
from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.metrics import AnyArray, PerTag, Scores, Truth

MAX_LOGIT = 20.0
"""absolute logit to which fits and log loss clip, a probability of 1 − 2e-9"""
N_BINS = 10
"""bins of a calibration curve"""
N_FOLDS = 5
"""folds of the cross-validation that chooses the regularization"""
SHARED = 1e6
"""strength from which on all tags share one value to six digits"""
MEAN_STRENGTH = 1.0
"""strength with which the mean over tags is pulled to the identity: less than one track in a hundred"""
MAX_STEPS, TOLERANCE = 200, 1e-10
"""Newton steps of a fit at most; decrease of the objective below which it has converged"""

Folds = Int64[np.ndarray, "tracks"]


class Regularization(NamedTuple):
    """L2 strength that pulls tags towards their mean: the inverse of the expected variance between tags."""

    slopes: float
    """of the logarithms of slopes, above 0; 100: slopes differ by a tenth"""
    offsets: float
    """of the offsets at the tag's mean logit, above 0; 1: odds differ by a factor of e"""


REGULARIZATIONS = tuple(
    Regularization(slopes, offsets)
    for slopes in (3.0, 10.0, 30.0, 100.0, 300.0, SHARED)
    for offsets in (0.1, 1.0, 3.0, 10.0, 30.0, SHARED)
)
"""candidates of the cross-validation, from weak to strong"""


@dataclass(frozen=True, eq=False)
class HalfFit:
    """A calibration that was fitted on one half of the tracks, so that it can be measured on the other half."""

    calibration: Calibration
    """the fitted calibration"""
    regularization: Regularization
    """its regularization, chosen within the half"""
    fitted_on: Bool[np.ndarray, "tracks"]
    """tracks it was fitted on"""


def fit_half(
    truth: AnyArray, scores: AnyArray, groups: Sequence[str] | AnyArray, *, generator: np.random.Generator
) -> HalfFit:
    """Fit a calibration on one half of the tracks, with the regularization that is best within this half.

    Args:
        truth: tracks × tags, boolean or 0/1.
        scores: tracks × tags, in 0 … 1.
        groups: the artist of every track, or another group of similar tracks; a group is in one half and one fold.
        generator: draws the halves and folds.
    """
    (truth, scores), groups = _check(truth, scores), np.asarray(groups)
    half = group_split(groups, 2, generator=generator) == 0
    folds = group_split(groups[half], N_FOLDS, generator=generator)
    regularization = select_regularization(truth[half], scores[half], folds)
    return HalfFit(fit(truth[half], scores[half], regularization=regularization), regularization, half)


def fit(truth: AnyArray, scores: AnyArray, *, regularization: Regularization) -> Calibration:
    """Fit a slope above 0 and an offset per tag by penalized maximum likelihood (Platt scaling), with Newton's method.

    A tag with little evidence (no positives, all positives, constant scores) gets about the values of the others,
    according to the regularization.

    Args:
        truth: tracks × tags, boolean or 0/1.
        scores: tracks × tags, in 0 … 1.
        regularization: strengths above 0; `SHARED` for the same value for all tags.

    Raises:
        ScoresError: if shapes differ, or values are not as described.
        ConfigError: if a strength is not above 0.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> logits = generator.normal(0, 1, (2000, 1))
        >>> truth = generator.random(logits.shape) < calibration.sigmoid(logits)
        >>> fitted = fit(truth, calibration.sigmoid(2 * logits), regularization=Regularization(1.0, 1.0))
        >>> [round(slope, 1) for slope in fitted.slopes]  # the logits were doubled
        [0.5]
    """
    truth, logits = _check_logits(truth, scores)
    if not min(regularization) > 0:
        raise ConfigError(f"{regularization}: both must be above 0; {SHARED:g} gives all tags the same value")
    mean = logits.mean(axis=0)
    centred = logits - mean
    parameters = np.zeros((2, logits.shape[1]))  # logarithms of slopes, and offsets at the mean logit
    best = _objective(parameters, truth, centred, mean, regularization)
    for _ in range(MAX_STEPS):
        gradient, curvature = _derivatives(parameters, truth, centred, mean, regularization)
        step = np.linalg.solve(curvature, gradient)
        decrease, size = float(gradient @ step), 1.0  # as predicted by the quadratic model; the size of the step
        if decrease < TOLERANCE:
            break
        candidate = parameters - step.reshape(parameters.shape)
        # `not <=` rather than `>`: a step that is far too long gives NaN
        while not (value := _objective(candidate, truth, centred, mean, regularization)) <= best - size * decrease / 4:
            size /= 2
            if size < TOLERANCE:  # the possible decrease is less than rounding
                break
            candidate = parameters - size * step.reshape(parameters.shape)
        parameters, best = candidate, value
    slopes = np.exp(parameters[0])
    return Calibration(tuple(slopes.tolist()), tuple((parameters[1] + mean * (1 - slopes)).tolist()))


def select_regularization(
    truth: AnyArray, scores: AnyArray, folds: Folds, *, candidates: Sequence[Regularization] = REGULARIZATIONS
) -> Regularization:
    """Choose a regularization by cross-validated log loss, with the one-standard-error rule.

    Args:
        truth: tracks × tags, boolean or 0/1.
        scores: tracks × tags, in 0 … 1.
        folds: the fold of every track, from `group_split`.
        candidates: from weak to strong.

    Returns:
        The last candidate that is not worse than the best by more than a standard error over the folds.
    """
    truth, scores = np.asarray(truth), np.asarray(scores)
    names = np.unique(folds)
    losses = np.zeros((len(candidates), len(names)))
    for row, regularization in enumerate(candidates):
        for column, fold in enumerate(names):
            held = folds == fold
            fitted = fit(truth[~held], scores[~held], regularization=regularization)
            losses[row, column] = log_loss(truth[held], fitted.scores(calibration.logit(scores[held]))).mean()
    excess = losses - losses[np.argmin(losses.mean(axis=1))]
    acceptable = excess.mean(axis=1) <= excess.std(axis=1, ddof=1) / np.sqrt(len(names))
    return candidates[int(np.flatnonzero(acceptable)[-1])]


def group_split(groups: Sequence[str] | AnyArray, n_parts: int, *, generator: np.random.Generator) -> Folds:
    """Split tracks into parts of about equal size; all tracks of a group, such as an artist, are in the same part.

    Like scikit-learn's `GroupKFold`, in random order. Returns the part of every track, from 0. Raises `ConfigError`
    for fewer than 2 parts or fewer groups than parts.

    Example:
        >>> parts = group_split(["a", "a", "b", "c"], 2, generator=np.random.default_rng(0))
        >>> bool(parts[0] == parts[1]), sorted(set(parts.tolist()))
        (True, [0, 1])
    """
    names, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if not 2 <= n_parts <= len(names):
        raise ConfigError(f"{len(names)} groups cannot be split into {n_parts} parts; use 2 … {len(names)} parts")
    part, filled = np.zeros(len(names), np.int64), np.zeros(n_parts, np.int64)
    for group in generator.permutation(len(names)):
        part[group] = np.argmin(filled)
        filled[part[group]] += sizes[group]
    return part[member]


def brier_score(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Brier score per tag, in 0 … 1: mean squared difference of probability and truth; less is better.

    Truth is boolean or 0/1, scores are in 0 … 1, both tracks × tags; raises `ScoresError` otherwise.

    Example:
        >>> brier_score(np.array([[1], [0]]), np.array([[0.5], [0.0]])).tolist()
        [0.125]
    """
    truth, probabilities = _check(truth, scores)
    return np.asarray(np.square(probabilities - truth).mean(axis=0))


def log_loss(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Log loss (cross-entropy) per tag, in nats; takes what `brier_score` takes and clips logits to ±`MAX_LOGIT`.

    Example:
        >>> log_loss(np.array([[1], [0]]), np.array([[0.5], [0.5]])).round(3).tolist()
        [0.693]
    """
    truth, logits = _check_logits(truth, scores)
    return np.asarray((np.logaddexp(0, logits) - truth * logits).mean(axis=0))


class CalibrationCurve(NamedTuple):
    """A reliability diagram: bins of tracks with similar scores, from the lowest scores on."""

    mean_score: Float64[np.ndarray, "_"]
    """mean score of each bin"""
    positive_rate: Float64[np.ndarray, "_"]
    """share of each bin's tracks that have the tag"""
    n_tracks: Int64[np.ndarray, "_"]
    """number of tracks in each bin"""


def calibration_curves(truth: AnyArray, scores: AnyArray, *, n_bins: int = N_BINS) -> list[CalibrationCurve]:
    """The calibration curve of every tag, with bins of equally many tracks (quantiles).

    Bins of equal width would put nearly all tracks of a rare tag into the first one. Tracks with equal scores are in
    the same bin, so there may be fewer than `n_bins`. Takes what `brier_score` takes; raises `ConfigError` for no bins.

    Example:
        >>> [curve] = calibration_curves(np.array([[0], [1]]), np.array([[0.25], [0.75]]), n_bins=2)
        >>> curve.mean_score.tolist(), curve.positive_rate.tolist()
        ([0.25, 0.75], [0.0, 1.0])
    """
    if n_bins < 1:
        raise ConfigError(f"n_bins={n_bins}; use at least 1, such as {N_BINS}")
    truth, probabilities = _check(truth, scores)
    return [_calibration_curve(*columns, n_bins) for columns in zip(truth.T, probabilities.T, strict=True)]


def expected_calibration_error(truth: AnyArray, scores: AnyArray, *, n_bins: int = N_BINS) -> PerTag:
    """Expected calibration error (ECE) per tag, in 0 … 1: mean |mean score − positive rate| over the bins.

    Bins are those of `calibration_curves`, weighted by their number of tracks. The error of single tracks may be
    larger. With few tracks it is above 0 even for perfect probabilities, since positive rates vary by chance.

    Example:
        >>> expected_calibration_error(np.array([[0], [1]]), np.array([[0.25], [0.75]]), n_bins=2).tolist()
        [0.25]
    """
    curves = calibration_curves(truth, scores, n_bins=n_bins)
    return np.array([np.average(np.abs(score - rate), weights=n_tracks) for score, rate, n_tracks in curves])


def _calibration_curve(truth: AnyArray, probabilities: AnyArray, n_bins: int) -> CalibrationCurve:
    ordered = np.sort(probabilities)
    lowest = ordered[np.arange(n_bins) * len(ordered) // n_bins]  # of every bin
    bins = np.searchsorted(np.unique(lowest), probabilities, side="right") - 1
    counts = np.bincount(bins)
    mean_score, positive_rate = (np.bincount(bins, weights=values) / counts for values in (probabilities, truth))
    return CalibrationCurve(mean_score, positive_rate, counts)


def _objective(
    parameters: AnyArray, truth: Truth, centred: Scores, mean: PerTag, regularization: Regularization
) -> float:
    """The function that `fit` minimizes: log loss plus penalty; NaN or infinite after a step that is far too long."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = np.exp(parameters[0]) * centred + mean + parameters[1]
        loss = (np.logaddexp(0, logits) - truth * logits).sum()
    tag_mean = parameters.mean(axis=1, keepdims=True)
    penalty = np.square(parameters - tag_mean).sum(axis=1) @ np.array(regularization)
    return float(loss + (penalty + MEAN_STRENGTH * np.square(tag_mean).sum()) / 2)


def _derivatives(
    parameters: AnyArray, truth: Truth, centred: Scores, mean: PerTag, regularization: Regularization
) -> tuple[AnyArray, AnyArray]:
    """Gradient of the objective, and its expected Hessian (Fisher information), which is positive definite."""
    scaled = np.exp(parameters[0]) * centred
    scores = calibration.sigmoid(scaled + mean + parameters[1])
    residual, weight = scores - truth, scores * (1 - scores)
    n_tags = len(mean)
    curvature = np.zeros((2, n_tags, 2, n_tags))
    tag = np.arange(n_tags)
    curvature[0, tag, 0, tag] = (weight * scaled**2).sum(axis=0)
    curvature[1, tag, 1, tag] = weight.sum(axis=0)
    curvature[0, tag, 1, tag] = curvature[1, tag, 0, tag] = (weight * scaled).sum(axis=0)
    gradient = np.stack([(residual * scaled).sum(axis=0), residual.sum(axis=0)])
    average = np.full((n_tags, n_tags), 1 / n_tags)
    for index, strength in enumerate(regularization):
        penalty = strength * (np.eye(n_tags) - average) + MEAN_STRENGTH * average / n_tags
        curvature[index, :, index, :] += penalty
        gradient[index] += penalty @ parameters[index]
    return gradient.ravel(), curvature.reshape(2 * n_tags, 2 * n_tags)


def _check(truth: AnyArray, scores: AnyArray) -> tuple[Truth, Scores]:
    truth = metrics.check_binary(truth, "truth")
    scores = metrics.check_scores(scores, "scores", like=truth)
    if (outside := (scores < 0) | (scores > 1)).any():
        raise ScoresError(f"{outside.sum()} scores are outside 0 … 1, so no probabilities; apply the sigmoid to logits")
    return truth, scores


def _check_logits(truth: AnyArray, scores: AnyArray) -> tuple[Truth, Scores]:
    truth, probabilities = _check(truth, scores)
    return truth, np.clip(calibration.logit(probabilities), -MAX_LOGIT, MAX_LOGIT)

"""Fit a calibration and measure it: Brier score, log loss, reliability, expected calibration error.

A calibrated score is the probability that a track has the tag. The fit is Platt scaling per tag with an L2 prior that
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
"""logit beyond which a fit and its loss take nothing for surer: odds of half a milliard"""
N_BINS = 10
"""groups of equally many tracks in which probability and share are compared"""
N_FOLDS = 5
"""parts by which strengths are chosen"""
SHARED = 1e6
"""strength from which on all tags are the same, but for the sixth digit"""
MEAN_STRENGTH = 1.0
"""strength with which the mean of the tags is pulled to scores as they are: less than one track in a hundred"""
MAX_STEPS, TOLERANCE = 200, 1e-10
"""steps of a fit at most; what the last one still promised to gain"""

Folds = Int64[np.ndarray, "tracks"]


class Regularization(NamedTuple):
    """How strongly tags are held together: the inverse of the variance among them that is to be expected."""

    slopes: float
    """of the logarithms of slopes, above 0; 100: slopes differ by a tenth"""
    offsets: float
    """of the offsets at the tag's mean logit, above 0; 1: odds differ by a factor of e"""


REGULARIZATIONS = tuple(
    Regularization(slopes, offsets)
    for slopes in (3.0, 10.0, 30.0, 100.0, 300.0, SHARED)
    for offsets in (0.1, 1.0, 3.0, 10.0, 30.0, SHARED)
)
"""those that are tried"""


@dataclass(frozen=True, eq=False)
class HalfFit:
    """A calibration that was fitted on one half of the tracks, so that the other half can measure it."""

    calibration: Calibration
    """what was fitted"""
    regularization: Regularization
    """how strongly tags were held together, chosen inside the half"""
    fitted_on: Bool[np.ndarray, "tracks"]
    """the tracks it was fitted on"""


def fit_half(
    truth: AnyArray, scores: AnyArray, groups: Sequence[str] | AnyArray, *, generator: np.random.Generator
) -> HalfFit:
    """The calibration by one half of the tracks, with the strength that does best inside this half.

    Truth and scores, in 0 … 1, are tracks × tags. `groups` has the artist of every track, or whatever makes tracks
    alike: no group is in both halves, nor in two of the parts by which the strength is chosen.
    """
    (truth, scores), groups = _probable(truth, scores), np.asarray(groups)
    learned = group_split(groups, 2, generator=generator) == 0
    parts = group_split(groups[learned], N_FOLDS, generator=generator)
    strength = select_regularization(truth[learned], scores[learned], parts)
    return HalfFit(fit(truth[learned], scores[learned], regularization=strength), strength, learned)


def fit(truth: AnyArray, scores: AnyArray, *, regularization: Regularization) -> Calibration:
    """The calibration under which truth is likeliest, where tags that say little are held to the mean of all tags.

    Truth and scores, in 0 … 1, are tracks × tags. A tag of whose probability little is known (no positives, all
    positives, constant scores) gets what the others have, as far as `strength` says. Slopes are above 0.
    """
    truth, logits = _checked(truth, scores)
    if not min(regularization) > 0:
        raise ConfigError(f"{regularization}: both are to be above 0, and {SHARED:g} makes all tags alike")
    middle = logits.mean(axis=0)
    spread = logits - middle
    place = np.zeros((2, logits.shape[1]))  # logarithms of slopes, and offsets at the mean logit
    best = _objective(place, truth, spread, middle, regularization)
    for _ in range(MAX_STEPS):
        gradient, curvature = _slope_of(place, truth, spread, middle, regularization)
        step = np.linalg.solve(curvature, gradient)
        promised, share = float(gradient @ step), 1.0
        if promised < TOLERANCE:
            break
        further = place - step.reshape(place.shape)
        # not below, rather than above: far out there is no number
        while not (now := _objective(further, truth, spread, middle, regularization)) <= best - share * promised / 4:
            share /= 2
            if share < TOLERANCE:  # what is left to gain is less than rounding
                break
            further = place - share * step.reshape(place.shape)
        place, best = further, now
    slopes = np.exp(place[0])
    return Calibration(tuple(slopes.tolist()), tuple((place[1] + middle * (1 - slopes)).tolist()))


def select_regularization(
    truth: AnyArray,
    scores: AnyArray,
    folds: Folds,
    *,
    candidates: Sequence[Regularization] = REGULARIZATIONS,
) -> Regularization:
    """The strength that does best on each part of the tracks in turn, fitted on the others, by log loss.

    `strengths` go from the freest to the most alike, and it is the last that is not worse than the best by more than a
    standard error over the parts: what tags have of their own must show. `parts` are made by `group_split`.
    """
    truth, scores = np.asarray(truth), np.asarray(scores)
    names = np.unique(folds)
    losses = np.zeros((len(candidates), len(names)))
    for row, strength in enumerate(candidates):
        for column, part in enumerate(names):
            held = folds == part
            known = fit(truth[~held], scores[~held], regularization=strength)
            losses[row, column] = log_loss(truth[held], known.scores(calibration.logit(scores[held]))).mean()
    worse = losses - losses[np.argmin(losses.mean(axis=1))]
    near = worse.mean(axis=1) <= worse.std(axis=1, ddof=1) / np.sqrt(len(names))
    return candidates[int(np.flatnonzero(near)[-1])]


def group_split(groups: Sequence[str] | AnyArray, n_parts: int, *, generator: np.random.Generator) -> Folds:
    """In which of `count` parts every track is: about equally many in each, and a group, such as an artist, in one."""
    names, member, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if not 2 <= n_parts <= len(names):
        raise ConfigError(
            f"{len(names)} groups cannot be in {n_parts} parts; 2 parts or more, and a group for each, are wanted"
        )
    part, filled = np.zeros(len(names), np.int64), np.zeros(n_parts, np.int64)
    for group in generator.permutation(len(names)):
        part[group] = np.argmin(filled)
        filled[part[group]] += sizes[group]
    return part[member]


def brier_score(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Mean square per tag of what probabilities are off the truth, in 0 … 1; less is better.

    Takes tracks × tags: boolean or 0/1 truth, scores in 0 … 1; refuses anything else.
    """
    truth, probabilities = _probable(truth, scores)
    return np.asarray(np.square(probabilities - truth).mean(axis=0))


def log_loss(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Mean surprise per tag at the truth, in nats; logits are clipped to ±`MAX_LOGIT`."""
    truth, logits = _checked(truth, scores)
    return np.asarray((np.logaddexp(0, logits) - truth * logits).mean(axis=0))


class CalibrationCurve(NamedTuple):
    """Groups of tracks of similar scores, and how many of them have the tag; from the lowest scores on."""

    mean_score: Float64[np.ndarray, "_"]
    """mean score of a group"""
    positive_rate: Float64[np.ndarray, "_"]
    """share of it that has the tag"""
    n_tracks: Int64[np.ndarray, "_"]
    """how many it holds"""


def calibration_curves(truth: AnyArray, scores: AnyArray, *, n_bins: int = N_BINS) -> list[CalibrationCurve]:
    """What scores say and what is found, for every tag, in groups of as many tracks each.

    Groups of equal width would hold nearly all tracks of a rare tag in the first one and say nothing about the rest.
    Tracks with equal scores are in the same group, so there may be fewer than `bins`. Takes what `brier_score` takes.
    """
    if n_bins < 1:
        raise ConfigError(f"bins={n_bins}; at least one is needed, and {N_BINS} are usual")
    truth, probabilities = _probable(truth, scores)
    return [_table(*columns, n_bins) for columns in zip(truth.T, probabilities.T, strict=True)]


def expected_calibration_error(truth: AnyArray, scores: AnyArray, *, n_bins: int = N_BINS) -> PerTag:
    """Expected calibration error (ECE) per tag, in 0 … 1: mean |mean score − positive rate| over the bins.

    Within a group only means are compared, so the error of single tracks may be larger. With few tracks it is above 0
    even for perfect probabilities, since what is found varies by chance.
    """
    tables = calibration_curves(truth, scores, n_bins=n_bins)
    return np.array(
        [np.average(np.abs(each.mean_score - each.positive_rate), weights=each.n_tracks) for each in tables]
    )


def _table(truth: AnyArray, probabilities: AnyArray, bins: int) -> CalibrationCurve:
    ordered = np.sort(probabilities)
    first = ordered[np.arange(bins) * len(ordered) // bins]  # the lowest score of every group
    group = np.searchsorted(np.unique(first), probabilities, side="right") - 1
    tracks = np.bincount(group)
    said, found = (np.bincount(group, weights=each) / tracks for each in (probabilities, truth))
    return CalibrationCurve(said, found, tracks)


def _objective(place: AnyArray, truth: Truth, spread: Scores, middle: PerTag, strength: Regularization) -> float:
    """What is to be least: the surprise at the truth, and how far tags are from each other; no number far out."""
    with np.errstate(over="ignore", invalid="ignore"):  # a step too long, which is not taken
        logits = np.exp(place[0]) * spread + middle + place[1]
        lost = (np.logaddexp(0, logits) - truth * logits).sum()
    mean = place.mean(axis=1, keepdims=True)
    apart = np.square(place - mean).sum(axis=1) @ np.array(strength)
    return float(lost + (apart + MEAN_STRENGTH * np.square(mean).sum()) / 2)


def _slope_of(
    place: AnyArray, truth: Truth, spread: Scores, middle: PerTag, strength: Regularization
) -> tuple[AnyArray, AnyArray]:
    """Gradient of the objective, and its expected curvature, which is never negative."""
    stretched = np.exp(place[0]) * spread
    scores = calibration.sigmoid(stretched + middle + place[1])
    wrong, weight = scores - truth, scores * (1 - scores)
    tags = len(middle)
    curvature = np.zeros((2, tags, 2, tags))
    each = np.arange(tags)
    curvature[0, each, 0, each] = (weight * stretched**2).sum(axis=0)
    curvature[1, each, 1, each] = weight.sum(axis=0)
    curvature[0, each, 1, each] = curvature[1, each, 0, each] = (weight * stretched).sum(axis=0)
    gradient = np.stack([(wrong * stretched).sum(axis=0), wrong.sum(axis=0)])
    mean = np.full((tags, tags), 1 / tags)
    for kind, strong in enumerate(strength):
        pull = strong * (np.eye(tags) - mean) + MEAN_STRENGTH * mean / tags
        curvature[kind, :, kind, :] += pull
        gradient[kind] += pull @ place[kind]
    return gradient.ravel(), curvature.reshape(2 * tags, 2 * tags)


def _probable(truth: AnyArray, scores: AnyArray) -> tuple[Truth, Scores]:
    truth = metrics.check_binary(truth, "truth")
    scores = metrics.check_scores(scores, "scores", like=truth)
    if (outside := (scores < 0) | (scores > 1)).any():
        raise ScoresError(
            f"{outside.sum()} scores are outside 0 … 1, where probabilities are; apply the sigmoid to logits"
        )
    return truth, scores


def _checked(truth: AnyArray, scores: AnyArray) -> tuple[Truth, Scores]:
    truth, probabilities = _probable(truth, scores)
    return truth, np.clip(calibration.logit(probabilities), -MAX_LOGIT, MAX_LOGIT)

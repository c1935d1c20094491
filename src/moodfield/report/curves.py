"""Scores over time and levels of a waveform in equal steps, and heights of curves for drawing."""

import numpy as np
from jaxtyping import Float, Float64

from moodfield import calibration
from moodfield.tagging import Tagging

EDGE = 1e-6
"""scores and thresholds are clipped this far from 0 and 1"""

STEEPNESS = 2
"""height of curves by the threshold / that of the sigmoid of logits: most scores are near their threshold"""

Scores = Float[np.ndarray, "tags time"]


def span(tagging: Tagging) -> float:
    """Length of the time axis in seconds."""
    return max(tagging.duration, *tagging.over_time.seconds[-1:].tolist(), 1e-3)


def steps(tagging: Tagging, count: int) -> Float64[np.ndarray, "tags time"]:
    """Mean scores of all tags in each of `count` equal steps of a track; NaN counts as 0."""
    seconds, end = tagging.over_time.seconds.astype(np.float64), span(tagging)
    bounds = np.concatenate([[0.0], (seconds[1:] + seconds[:-1]) / 2, [end]])
    return _means(np.nan_to_num(tagging.over_time.scores.astype(np.float64)), bounds, np.linspace(0, end, count + 1))


def levels(tagging: Tagging, count: int) -> Float64[np.ndarray, "time"] | None:
    """Mean peak of the waveform in each of `count` equal steps, scaled to a maximum of 1; None without an envelope."""
    if tagging.envelope is None or not len(tagging.envelope.peaks):
        return None
    peaks, end = np.nan_to_num(tagging.envelope.peaks.astype(np.float64)), span(tagging)
    bounds = np.minimum(np.arange(len(peaks) + 1) * tagging.envelope.seconds, end)
    means = _means(peaks[None], bounds, np.linspace(0, end, count + 1))[0]
    return means / max(float(means.max()), 1e-12)


def smooth(scores: Scores, width: int) -> Float64[np.ndarray, "tags time"]:
    """Moving average over a centred window of `width` steps, an odd number; shorter at both ends."""
    at, count = np.arange(scores.shape[1]), scores.shape[1]
    first, last = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, count)
    sums = np.pad(np.cumsum(scores, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    return (sums[:, last] - sums[:, first]) / (last - first)


def relative(scores: Scores, thresholds: Float[np.ndarray, "tags"]) -> Float64[np.ndarray, "tags time"]:
    """Scores relative to the threshold, 0 … 1: the sigmoid of `STEEPNESS` × the difference of logits; 0.5 is equal.

    Tags with low and with high thresholds get comparable curves. The curve of a tag that is never decided has the
    maximum 0.5.
    """
    half = np.where(np.nan_to_num(thresholds, nan=np.inf) < 1, thresholds, scores.max(axis=1))[:, None]
    return np.asarray(calibration.sigmoid(STEEPNESS * (logit(scores) - logit(half))))


def logit(scores: np.ndarray) -> Float64[np.ndarray, "..."]:
    """Logits of scores or thresholds, clipped by `EDGE`."""
    return calibration.logit(np.clip(scores.astype(np.float64), EDGE, 1 - EDGE))


def _means(
    values: Float64[np.ndarray, "tags time"], bounds: Float64[np.ndarray, "_time"], edges: Float64[np.ndarray, "_time"]
) -> Float64[np.ndarray, "tags _time"]:
    """Means of a step function, which has one value between two bounds, between consecutive edges."""
    sums = np.pad(np.cumsum(values * np.diff(bounds), axis=1), ((0, 0), (1, 0)))
    inside = np.minimum(edges, bounds[-1])
    last = np.clip(np.searchsorted(bounds, inside, side="right") - 1, 0, values.shape[1] - 1)
    integrals = sums[:, last] + values[:, last] * (inside - bounds[last])
    return np.diff(integrals, axis=1) / np.diff(edges)

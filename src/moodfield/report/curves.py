"""Scores over time as curves and segments for drawing, and the waveform envelope."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from moodfield import calibration
from moodfield.tagging import MIN_USUAL, Tagging

EDGE = 1e-6
"""scores and thresholds are clipped this far from 0 and 1"""

STEEPNESS = 2
"""height of curves by the threshold / that of the sigmoid of logits: most scores are near their threshold"""

Curves = Float64[np.ndarray, "tags time"]


@dataclass(frozen=True)
class Segment:
    """Consecutive steps of a track with the same strongest tag."""

    tag: int
    """index of the tag"""
    first: int
    """index of the first step"""
    above: tuple[bool, ...]
    """for every step, whether the tag is above its threshold"""

    @property
    def end(self) -> int:
        """Index after the last step."""
        return self.first + len(self.above)


def strongest(tagging: Tagging, count: int) -> list[int]:
    """Indices of the decided tags, then of the others, both by decreasing evidence."""
    tags = [*tagging.decided, *(tag for tag, _ in tagging.top(len(tagging.scores)))]
    return [tagging.vocabulary.index(tag) for tag in dict.fromkeys(tags)][:count]


def score(tagging: Tagging, tag: int) -> float:
    """Score of a tag, 0 … 1."""
    return float(np.clip(np.nan_to_num(tagging.scores[tag]), 0, 1))


def threshold(tagging: Tagging, tag: int) -> float | None:
    """Threshold of a tag, 0 … 1; None if no score exceeds it."""
    value = float(tagging.thresholds[tag])
    return value if value < 1 else None


def usual(tagging: Tagging, tag: int) -> float | None:
    """The usual score of a tag, above 0; None if it is unknown."""
    return None if tagging.usual is None else max(float(np.nan_to_num(tagging.usual[tag])), MIN_USUAL)


def span(tagging: Tagging) -> float:
    """Length of the time axis in seconds."""
    return max(tagging.duration, float(tagging.over_time.seconds[-1]), 1e-3)


def averaged(tagging: Tagging, tags: Sequence[int], at: Float64[np.ndarray, "time"], *, window: float) -> Curves:
    """Moving average of scores over time.

    Args:
        tagging: A tagging.
        tags: Indices of tags.
        at: Centres of the windows, in seconds from the start.
        window: Length of the window in seconds. A window as long as a time step interpolates linearly.
    """
    seconds, end = tagging.over_time.seconds.astype(np.float64), span(tagging)
    bounds = np.concatenate([[0.0], (seconds[1:] + seconds[:-1]) / 2, [end]])
    scores = np.nan_to_num(tagging.over_time.scores[list(tags)].astype(np.float64))
    sums = np.pad(np.cumsum(scores * np.diff(bounds), axis=1), ((0, 0), (1, 0)))
    first, last = np.clip(at - window / 2, 0, end), np.clip(at + window / 2, 0, end)
    return np.array([np.interp(last, bounds, row) - np.interp(first, bounds, row) for row in sums]) / (last - first)


def relative(tagging: Tagging, tags: Sequence[int], scores: Curves) -> Curves:
    """Scores relative to the threshold, 0 … 1: the sigmoid of `STEEPNESS` × the difference of logits; 0.5 is equal.

    Tags with low and with high thresholds get comparable curves. The curve of a tag that is never decided has the
    maximum 0.5.
    """
    marks = [threshold(tagging, tag) for tag in tags]
    halves = [float(row.max()) if mark is None else mark for row, mark in zip(scores, marks, strict=True)]
    half = np.array(halves)[:, None]
    return np.asarray(calibration.sigmoid(STEEPNESS * (logit(scores) - logit(half))))


def steps(tagging: Tagging, tags: Sequence[int], count: int, *, width: int = 1) -> tuple[list[float], Curves]:
    """Edges of `count` equal steps of a track in seconds, and mean scores over windows of `width` steps."""
    edges = np.linspace(0, span(tagging), count + 1)
    scores = averaged(tagging, tags, (edges[1:] + edges[:-1]) / 2, window=width * float(edges[1]))
    return edges.tolist(), scores


def segments(tagging: Tagging, tags: Sequence[int], count: int, *, width: int) -> list[Segment]:
    """The strongest of some tags in each of `count` equal steps, from means over `width` steps, as segments.

    Tags above their threshold come before others, then evidence counts. Tags that are never decided are used only if
    there are no others.
    """
    candidates = [tag for tag in tags if threshold(tagging, tag) is not None] or list(tags)
    if not candidates:
        return []
    scores = steps(tagging, candidates, count, width=width)[1]
    heights = relative(tagging, candidates, scores)
    above = heights > 0.5
    evidence = _evidence(tagging, candidates, scores)
    rows = np.where(above | ~above.any(axis=0), heights if evidence is None else evidence, -np.inf).argmax(axis=0)
    result, first = [], 0
    for row, run in itertools.groupby(rows.tolist()):
        marks = tuple(above[row, first : first + len(list(run))].tolist())
        result.append(Segment(candidates[row], first, marks))
        first += len(marks)
    return result


def waveform(tagging: Tagging, count: int) -> Float64[np.ndarray, "time"] | None:
    """Mean peak of the waveform in each of `count` equal steps, scaled to a maximum of 1; None without an envelope."""
    if tagging.envelope is None or not len(tagging.envelope.peaks):
        return None
    peaks = np.nan_to_num(tagging.envelope.peaks.astype(np.float64))
    bounds = np.minimum(np.arange(len(peaks) + 1) * tagging.envelope.seconds, span(tagging))
    sums = np.pad(np.cumsum(peaks * np.diff(bounds)), (1, 0))
    levels = np.diff(np.interp(np.linspace(0, span(tagging), count + 1), bounds, sums))
    return levels / max(float(levels.max()), 1e-12)


def logit(scores: np.ndarray) -> Float64[np.ndarray, "..."]:
    """Logits of scores or thresholds, clipped by `EDGE`."""
    return calibration.logit(np.clip(scores.astype(np.float64), EDGE, 1 - EDGE))


def _evidence(tagging: Tagging, tags: Sequence[int], scores: Curves) -> Curves | None:
    """Evidence of scores over time (see `Tagging.evidence`); None if it is unknown what is usual."""
    if tagging.statistics:
        return tagging.statistics.take(tags).evidence(logit(scores).T).T
    return None if tagging.priors is None else logit(scores) - logit(tagging.priors[list(tags)])[:, None]

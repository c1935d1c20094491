"""The mood over time becomes curves that can be laid side by side.

In: a tagging. Out: its clearest tags, their scores at any moments, as such or as heights around the threshold, the
stretches in which each is the clearest, and the outline of the waveform.
Knows nothing of: pages, colours, or how a curve is drawn.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from moodfield import calibration
from moodfield.tagging import Tagging

EDGE = 1e-6
"""scores and thresholds are drawn as if they kept this far from 0 and 1"""

Curves = Float64[np.ndarray, "tags time"]


@dataclass(frozen=True)
class Stretch:
    """Some spans of a track, one after the other, in which one tag is the clearest."""

    tag: int
    """which one"""
    first: int
    """the span where it begins, counted from 0"""
    clear: tuple[bool, ...]
    """for each span whether the tag is above its threshold"""

    @property
    def end(self) -> int:
        """The span where it is over."""
        return self.first + len(self.clear)


def top(heard: Tagging, count: int) -> list[int]:
    """The tags of most evidence."""
    return [heard.vocabulary.index(tag) for tag, _ in heard.top(count)]


def clearest(heard: Tagging, count: int) -> list[int]:
    """The tags worth following: the decided ones, then the others, the clearest first."""
    decided = [heard.vocabulary.index(tag) for tag in heard.decided]
    return [*decided, *(tag for tag in top(heard, len(heard.scores)) if tag not in decided)][:count]


def score(heard: Tagging, tag: int) -> float:
    """A tag's score in 0 … 1."""
    return float(np.clip(np.nan_to_num(heard.scores[tag]), 0, 1))


def threshold(heard: Tagging, tag: int) -> float | None:
    """What a tag's score must exceed, in 0 … 1; nothing if no score can."""
    value = float(heard.thresholds[tag])
    return value if value < 1 else None


def span(heard: Tagging) -> float:
    """Seconds from one end of the time axis to the other."""
    return max(heard.duration, float(heard.over_time.seconds[-1]), 1e-3)


def averaged(heard: Tagging, tags: Sequence[int], at: Float64[np.ndarray, "time"], *, window: float) -> Curves:
    """Mean scores in a window of so many seconds around each moment (in seconds from the start, within the span).

    Every step of the map lasts until halfway to its neighbours. A window as long as a step joins coarse steps by
    straight lines; a longer one averages fine steps.
    """
    seconds, end = heard.over_time.seconds.astype(np.float64), span(heard)
    bounds = np.concatenate([[0.0], (seconds[1:] + seconds[:-1]) / 2, [end]])
    scores = np.nan_to_num(heard.over_time.scores[list(tags)].astype(np.float64))
    sums = np.pad(np.cumsum(scores * np.diff(bounds), axis=1), ((0, 0), (1, 0)))
    first, last = np.clip(at - window / 2, 0, end), np.clip(at + window / 2, 0, end)
    return np.array([np.interp(last, bounds, row) - np.interp(first, bounds, row) for row in sums]) / (last - first)


def relative(heard: Tagging, tags: Sequence[int], scores: Curves) -> Curves:
    """Scores as heights in 0 … 1, by their distance in logits from the threshold: one half is the threshold.

    So a rare tag with a low threshold is as visible as a common one. A tag that is never decided reaches one half at
    its best moment, and no more.
    """
    marks = [threshold(heard, tag) for tag in tags]
    halves = [float(row.max()) if mark is None else mark for row, mark in zip(scores, marks, strict=True)]
    half = np.clip(np.array(halves)[:, None], EDGE, 1 - EDGE)
    score = np.clip(scores, EDGE, 1 - EDGE)
    return score * (1 - half) / (score * (1 - half) + half * (1 - score))


def spans(heard: Tagging, tags: Sequence[int], count: int, *, width: int = 1) -> tuple[list[float], Curves]:
    """The ends of so many equal spans of a track, in seconds, and the mean scores around the middle of each.

    The mean is over `width` spans, so that a width above 1 makes what follows smoother.
    """
    edges = np.linspace(0, span(heard), count + 1)
    scores = averaged(heard, tags, (edges[1:] + edges[:-1]) / 2, window=width * float(edges[1]))
    return edges.tolist(), scores


def stretches(heard: Tagging, tags: Sequence[int], count: int, *, width: int) -> list[Stretch]:
    """Which of some tags is the clearest in each of so many equal spans, on the mean of `width` spans around it.

    As with the tags of a track, those above their thresholds come first, and of them that of most evidence. Tags that
    are never decided are heard only where there are no others.
    """
    followed = [tag for tag in tags if threshold(heard, tag) is not None] or list(tags)
    if not followed:
        return []
    scores = spans(heard, followed, count, width=width)[1]
    heights = relative(heard, followed, scores)
    clear = heights > 0.5
    evidence = heights if heard.priors is None else logit(scores) - logit(heard.priors[followed])[:, None]
    rows = np.where(clear | ~clear.any(axis=0), evidence, -np.inf).argmax(axis=0)
    found, first = [], 0
    for row, run in itertools.groupby(rows.tolist()):
        marks = tuple(clear[row, first : first + len(list(run))].tolist())
        found.append(Stretch(followed[row], first, marks))
        first += len(marks)
    return found


def outline(heard: Tagging, count: int) -> Float64[np.ndarray, "time"] | None:
    """How far the waveform swings in each of so many equal spans, the mean of its peaks, as a share of the most."""
    if heard.envelope is None or not len(heard.envelope.peaks):
        return None
    peaks = np.nan_to_num(heard.envelope.peaks.astype(np.float64))
    bounds = np.minimum(np.arange(len(peaks) + 1) * heard.envelope.seconds, span(heard))
    sums = np.interp(np.linspace(0, span(heard), count + 1), bounds, np.pad(np.cumsum(peaks * np.diff(bounds)), (1, 0)))
    swings = np.diff(sums)
    return swings / max(float(swings.max()), 1e-12)


def logit(scores: np.ndarray) -> Float64[np.ndarray, "..."]:
    """Logits of scores or thresholds, as if they kept an `EDGE` from 0 and 1."""
    return calibration.logit(np.clip(scores.astype(np.float64), EDGE, 1 - EDGE))

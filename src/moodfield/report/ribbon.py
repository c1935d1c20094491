"""The strongest tag at each time of a track, as the runs of a ribbon."""

import itertools
from dataclasses import dataclass

import numpy as np

from moodfield.report import curves
from moodfield.report.curves import Scores
from moodfield.report.track import Reference

WINDOWS = 20
"""a ribbon shows scores averaged over the duration / this number"""


@dataclass(frozen=True)
class Run:
    """Consecutive time steps with the same strongest tag, all above its threshold or all not."""

    tag: int
    """index of the tag"""
    steps: int
    """number of time steps"""
    above: bool
    """whether the tag is above its threshold"""


def ribbons(scores: Scores, reference: Reference) -> tuple[list[Run], list[Run]]:
    """The strongest mood and the strongest theme at each time, from moving averages, as runs that cover the track.

    Tags above their threshold come before others, then evidence counts. Tags that are never decided are used only if
    there are no others. There are no runs of moods, or themes, if the vocabulary has none.
    """
    width = 2 * round(scores.shape[1] / WINDOWS / 2) + 1
    averages = curves.smooth(np.nan_to_num(scores), width)
    heights = curves.relative(averages, reference.thresholds)
    evidence = reference.evidence(averages)
    ranks = heights if evidence is None else evidence
    moods, themes = (
        _runs(heights, ranks, _candidates(reference, tags)) for tags in (reference.moods, reference.themes)
    )
    return moods, themes


def _candidates(reference: Reference, tags: list[int]) -> list[int]:
    """The tags that may be decided, or all if there are none."""
    return [tag for tag in tags if reference.thresholds[tag] < 1] or tags


def _runs(heights: Scores, ranks: Scores, tags: list[int]) -> list[Run]:
    """Runs of the tags with the highest rank, of those above their threshold if there are any."""
    if not tags:
        return []
    is_above = heights[tags] > 0.5
    rows = np.where(is_above | ~is_above.any(axis=0), ranks[tags], -np.inf).argmax(axis=0)
    above = is_above[rows, np.arange(len(rows))]
    changes = (rows[1:] != rows[:-1]) | (above[1:] != above[:-1])
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(rows)]
    return [Run(tags[rows[first]], end - first, bool(above[first])) for first, end in itertools.pairwise(bounds)]

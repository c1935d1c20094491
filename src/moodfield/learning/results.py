"""How well learned tags are predicted for tracks that were left out of the fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from moodfield.evaluation import bootstrap
from moodfield.evaluation.bootstrap import Interval, System
from moodfield.learning.examples import Examples
from moodfield.learning.head import Fit

METRICS = "PR-AUC", "ROC-AUC"
CHANCE = 0.5
"""ROC-AUC of random scores"""
UNDEFINED = Interval(np.nan, np.nan)


@dataclass(frozen=True)
class TagResult:
    """How well a tag is predicted for tracks that were left out of the fit."""

    tag: str
    """name of the tag"""
    positives: int
    """tracks with the tag"""
    tracks: int
    """all tracks"""
    obstacle: str = ""
    """why the tag cannot be learned; empty if it was"""
    pr_auc: float = np.nan
    """area under the precision-recall curve, out of fold; NaN if it was not learned"""
    pr_auc_interval: Interval = UNDEFINED
    """95 % interval over tracks; NaN for few tracks"""
    roc_auc: float = np.nan
    """area under the ROC curve, out of fold; chance is 0.5"""
    roc_auc_interval: Interval = UNDEFINED
    """95 % interval over tracks; NaN for few tracks"""

    @property
    def chance(self) -> float:
        """PR-AUC of random scores: the share of tracks with the tag."""
        return self.positives / self.tracks

    @property
    def problem(self) -> str:
        """What stands against using the tag, in words; empty if its interval is above chance."""
        if self.obstacle:
            return f"{self.tag} cannot be learned: {self.obstacle}"
        if self.roc_auc <= CHANCE:
            return f"{self.tag} cannot be learned from these tracks: it is predicted no better than by chance"
        if self.roc_auc_interval.low <= CHANCE:
            return f"{self.tag} is not clearly better than chance: its interval includes {CHANCE}; label more tracks"
        return ""


def evaluate(data: Examples, fit: Fit, obstacles: Mapping[str, str], *, seed: int = 0) -> tuple[TagResult, ...]:
    """Evaluate the out-of-fold scores of a fit tag by tag, with bootstrap intervals.

    Args:
        data: The tracks.
        fit: The fit of the tags without obstacles.
        obstacles: Why the other tags were not learned; they are listed without metrics.
        seed: Seed of the resamples.
    """
    learned = [column for column, tag in enumerate(data.vocabulary) if tag not in obstacles]
    names = [data.vocabulary[column] for column in learned]
    system = System(data.truth[:, learned], fit.calibration.scores(fit.logits), tags=names)
    [resampled] = bootstrap.bootstrap([system], generator=np.random.default_rng(seed))
    intervals, values = bootstrap.tag_intervals(resampled), resampled.report.per_tag
    results = []
    for tag, positives in zip(data.vocabulary, data.truth.sum(axis=0).tolist(), strict=True):
        result = TagResult(tag, positives, len(data.truth), obstacles.get(tag, ""))
        if not result.obstacle:
            column = names.index(tag)
            result = replace(
                result,
                pr_auc=float(values["PR-AUC"][column]),
                pr_auc_interval=intervals["PR-AUC"][column],
                roc_auc=float(values["ROC-AUC"][column]),
                roc_auc_interval=intervals["ROC-AUC"][column],
            )
        results.append(result)
    return tuple(results)

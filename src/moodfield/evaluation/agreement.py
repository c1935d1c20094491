"""Agreement of two systems' scores and decisions, without truth; statistics of decisions."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from moodfield.evaluation import bootstrap, metrics
from moodfield.evaluation.metrics import PerTag

CLEAREST = 5
"""tags of a track with the largest evidence that are compared"""
MIN_STD = 1e-9
"""standard deviation of logits below which a tag is constant"""

Decisions = Bool[np.ndarray, "tracks tags"]
Logits = Float[np.ndarray, "tracks tags"]
Evidence = Float64[np.ndarray, "tracks tags"]


def agreement_statistics(teacher: Evidence, student: Evidence, teacher_decided: Decisions) -> dict[str, float]:
    """How well a student's evidence agrees with its teacher's and with its decisions on held-out tracks, by name."""
    correlations = metrics.spearman(teacher, student)
    teacher_top, student_top = (_clearest(values) for values in (teacher, student))
    commonest = teacher_top[:, np.argsort(-teacher_top.sum(axis=0), kind="stable")[:CLEAREST]]
    statistics = {
        "held-out tracks": len(student),
        "Spearman with the teacher, median tag": np.median(correlations),
        "Spearman with the teacher, mean over tags": correlations.mean(),
        "Spearman with the teacher, worst tag": correlations.min(),
        "shared by the five tags with the largest evidence of teacher and student": (teacher_top & student_top)
        .sum(axis=1)
        .mean(),
        "the same if the student had the same five for every track": commonest.sum(axis=1).mean(),
    }
    if (defined := np.isfinite(areas := decision_average_precision(teacher_decided, student))).any():
        statistics |= {
            f"tags that the teacher decides for {bootstrap.MIN_POSITIVES} tracks or more": defined.sum(),
            "PR-AUC against the teacher's decisions, mean over these tags": areas[defined].mean(),
            "PR-AUC against the teacher's decisions, worst of these tags": areas[defined].min(),
        }
    return {name: float(value) for name, value in statistics.items()}


def decision_average_precision(decided: Decisions, scores: Evidence) -> PerTag:
    """PR-AUC of scores against decisions, per tag; NaN for tags decided for fewer than `bootstrap.MIN_POSITIVES`."""
    values = metrics.average_precision(decided, scores)
    return np.where(decided.sum(axis=0) >= bootstrap.MIN_POSITIVES, values, np.nan)


def decision_statistics(decided: Decisions) -> dict[str, float]:
    """How many tags tracks get, how many tags are used, and how common the commonest is, by name.

    >>> decision_statistics(np.array([[True, False], [False, False]]))["share of tracks with no tag"]
    0.5
    """
    counts = decided.sum(axis=1)
    return {
        "share of tracks with one to five tags": float(((counts >= 1) & (counts <= 5)).mean()),
        "share of tracks with no tag": float((counts == 0).mean()),
        "different tags used": float(decided.any(axis=0).sum()),
        "share of tracks with the commonest tag": float(decided.mean(axis=0).max()),
    }


def rank_by_agreement(
    teacher: Logits, student: Logits, teacher_decided: Decisions, student_decided: Decisions
) -> Int64[np.ndarray, "tracks"]:
    """Rows of tracks, from those whose decisions agree best (`jaccard`) to those that agree least.

    Ties are broken by the Spearman correlation of the track's logits, standardized per tag so that common tags do not
    dominate every track.
    """
    correlations = metrics.spearman(*(_standardize(logits).T for logits in (teacher, student)))
    return np.lexsort((-correlations, -jaccard(teacher_decided, student_decided)))


def jaccard(a: Decisions, b: Decisions) -> Float64[np.ndarray, "tracks"]:
    """Jaccard index of two systems' decisions for every track; 1 where neither decides any tag.

    >>> jaccard(np.array([[True, True], [False, False]]), np.array([[True, False], [False, False]])).tolist()
    [0.5, 1.0]
    """
    both, either = (a & b).sum(axis=1), (a | b).sum(axis=1)
    return np.asarray(np.where(either > 0, both / np.maximum(either, 1), 1.0))


def _clearest(evidence: Evidence) -> Decisions:
    """The `CLEAREST` tags of every track."""
    return np.asarray(np.argsort(np.argsort(-evidence, axis=1, kind="stable"), axis=1) < CLEAREST)


def _standardize(logits: Logits) -> Float64[np.ndarray, "tracks tags"]:
    """Standard deviations from the mean over tracks; 0 for a constant tag."""
    logits = logits.astype(np.float64)
    std = logits.std(axis=0)
    return np.asarray((logits - logits.mean(axis=0)) / np.where(std > MIN_STD, std, 1))

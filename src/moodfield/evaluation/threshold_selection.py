"""Threshold selection by scores alone, without truth; statistics of decisions and agreement.

The constants of the search were chosen by us.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped

from moodfield import calibration
from moodfield.evaluation import bootstrap, metrics
from moodfield.evaluation.metrics import PerTag, Scores

MIN_SHARE, MAX_SHARE = 0.003, 0.29
"""share of tracks that a tag is decided for: at least of all tracks, at most of each group; *chosen by us*, so that
every tag is used and none is decided for a whole kind of music"""
NO_TAG_COST = 20.0
"""cost of a track without any tag; *chosen by us*: far above the other costs, so that nearly every track gets one"""
MAX_FREE_TAGS = 5
"""decided tags of a track that cost nothing; each one more costs 1; *chosen by us*"""
TOP_TAGS, TOP_TAG_GAIN = 3, 0.5
"""number of a track's best-ranked tags that reduce the cost if they are decided, and by how much; *chosen by us*"""
LAST_FREE_RANK, RANK_COST, MAX_COSTLY_RANKS = 6, 0.2, 6
"""number of ranks within a track at which a decided tag costs nothing, the cost of every rank below, and the number of
ranks that are counted; *chosen by us*, so that tags for which there is little evidence are not decided"""
MAX_COUNT_RATIO = 1.25
"""factor by which the number of tracks of a tag may differ from the reference decisions; *chosen by us*"""
MAX_SWEEPS = 40
"""passes over all tags at most; the search usually converges earlier; *chosen by us*"""
MIN_STD = 1e-9
"""standard deviation of logits below which a tag is constant"""

Decisions = Bool[np.ndarray, "tracks tags"]
InputScores = Float[np.ndarray, "tracks tags"]
Ranks = Int64[np.ndarray, "tracks tags"]
Counts = Int64[np.ndarray, "tags"]
"""number of tracks of every tag"""


def select_thresholds(
    scores: InputScores,
    *,
    priors: Sequence[float] | None = None,
    groups: Shaped[np.ndarray, "tracks"] | None = None,
    reference: Decisions | None = None,
) -> PerTag:
    """Choose thresholds by which most tracks get one to five well-supported tags and no tag is decided everywhere.

    Coordinate descent on the number of tracks each tag is decided for. It starts with as many tracks as have the tag
    among their `TOP_TAGS`, or as the reference has, and minimizes a cost: tracks without a tag, tags beyond the first
    `MAX_FREE_TAGS`, and tags at low ranks (`rank_tags`). Several solutions cost about the same, so with a reference,
    such as the decisions of a student's teacher, the counts stay within `MAX_COUNT_RATIO` of its counts.

    Args:
        scores: scores in 0 … 1 of music of many kinds.
        priors: share of all music that has each tag; no threshold is below its prior.
        groups: the kind of every track, such as its package; a tag is decided for at most `MAX_SHARE` of each group.
        reference: decisions, tracks × tags, whose counts the result stays near.

    Returns:
        One threshold per tag; a decision is a score strictly above it.

    Example:
        >>> scores = np.random.default_rng(0).uniform(size=(200, 12))
        >>> decided = scores > select_thresholds(scores)
        >>> bool(decided.any(axis=0).all()), bool(decided.mean(axis=0).max() <= MAX_SHARE)
        (True, True)
    """
    ranks = rank_tags(scores, priors)
    tag_cost = RANK_COST * np.clip(ranks - (LAST_FREE_RANK - 1), 0, MAX_COSTLY_RANKS)
    tag_cost -= TOP_TAG_GAIN * (ranks < TOP_TAGS)
    n_tracks, n_tags = scores.shape
    order = np.argsort(-scores, axis=0, kind="stable")
    priors_ = np.zeros(n_tags) if priors is None else np.array(priors)
    minimum = math.ceil(MIN_SHARE * n_tracks)
    maximum = _max_counts(order, np.zeros(n_tracks, int) if groups is None else groups)
    maximum = np.maximum(np.minimum(maximum, (scores > priors_).sum(axis=0)), minimum)
    counts = np.clip((ranks < TOP_TAGS if reference is None else reference).sum(axis=0), minimum, maximum)
    minima = np.full(n_tags, minimum)
    if reference is not None:
        minima = np.clip(np.floor(counts / MAX_COUNT_RATIO).astype(int), minimum, None)
        maximum = np.minimum(np.ceil(counts * MAX_COUNT_RATIO).astype(int), maximum)
    counts = _descend(tag_cost, order, counts, minima, maximum)
    ranked = np.take_along_axis(scores.astype(np.float64), order, axis=0)
    last = np.take_along_axis(ranked, counts[None] - 1, axis=0)[0]
    following = np.take_along_axis(ranked, np.minimum(counts, n_tracks - 1)[None], axis=0)[0]
    return np.asarray(np.maximum((last + following) / 2, priors_))


def rank_tags(scores: InputScores, priors: Sequence[float] | None) -> Ranks:
    """Rank the tags of every track by evidence, 0 for the most.

    Evidence is the log-odds of a score minus those of its prior. Without priors it is the number of standard deviations
    from the tag's mean logit, since by scores alone `film` ranks first for nearly all music of games.

    >>> rank_tags(np.array([[0.3, 0.2]]), priors=[0.5, 0.1]).tolist()
    [[1, 0]]
    """
    logits = calibration.logit(scores.astype(np.float64))
    evidence = _standardize(logits) if priors is None else logits - calibration.logit(np.array(priors))
    return np.asarray(np.argsort(np.argsort(-evidence, axis=1, kind="stable"), axis=1))


def agreement_statistics(
    teacher: InputScores, student: InputScores, teacher_decided: Decisions, *, priors: Sequence[float] | None = None
) -> dict[str, float]:
    """How well a student's scores agree with its teacher's scores and decisions on held-out tracks, by name."""
    correlations = metrics.spearman(teacher, student)
    teacher_top, student_top = (rank_tags(values, priors) < MAX_FREE_TAGS for values in (teacher, student))
    commonest = teacher_top[:, np.argsort(-teacher_top.sum(axis=0), kind="stable")[:MAX_FREE_TAGS]]
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


def decision_average_precision(decided: Decisions, scores: InputScores) -> PerTag:
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
    teacher: InputScores, student: InputScores, teacher_decided: Decisions, student_decided: Decisions
) -> Int64[np.ndarray, "tracks"]:
    """Rows of tracks, from those whose decisions agree best (`jaccard`) to those that agree least.

    Ties are broken by the Spearman correlation of the track's logits, standardized per tag so that common tags do not
    dominate every track.
    """
    correlations = metrics.spearman(*(_standardize(calibration.logit(scores)).T for scores in (teacher, student)))
    return np.lexsort((-correlations, -jaccard(teacher_decided, student_decided)))


def jaccard(a: Decisions, b: Decisions) -> Float64[np.ndarray, "tracks"]:
    """Jaccard index of two systems' decisions for every track; 1 where neither decides any tag.

    >>> jaccard(np.array([[True, True], [False, False]]), np.array([[True, False], [False, False]])).tolist()
    [0.5, 1.0]
    """
    both, either = (a & b).sum(axis=1), (a | b).sum(axis=1)
    return np.asarray(np.where(either > 0, both / np.maximum(either, 1), 1.0))


def _descend(tag_cost: Scores, order: Ranks, counts: Counts, minima: Counts, maxima: Counts) -> Counts:
    """Coordinate descent: for one tag after another, the number of tracks with the least cost, until none changes."""
    counts, decided = counts.copy(), np.zeros(order.shape, bool)
    for tag, count in enumerate(counts):
        decided[order[:count, tag], tag] = True
    for _ in range(MAX_SWEEPS):
        before = counts.copy()
        for tag in range(len(counts)):
            others = decided.sum(axis=1) - decided[:, tag]
            # Cost if the first k tracks by this tag's score had it, for every k at once.
            cost = np.cumsum((_count_cost(others + 1) - _count_cost(others) + tag_cost[:, tag])[order[:, tag]])
            best = minima[tag] + int(np.argmin(cost[minima[tag] - 1 : maxima[tag]]))
            if cost[best - 1] < cost[counts[tag] - 1]:
                counts[tag] = best
                decided[:, tag] = False
                decided[order[:best, tag], tag] = True
        if (counts == before).all():
            break
    return counts


def _max_counts(order: Ranks, groups: Shaped[np.ndarray, "tracks"]) -> Counts:
    """How many tracks, by each tag's scores, may have it before it exceeds `MAX_SHARE` of a group; always one."""
    members = [groups == group for group in np.unique(groups)]
    counts = [(np.cumsum(member[order], axis=0) <= max(1, MAX_SHARE * member.sum())).sum(axis=0) for member in members]
    return np.asarray(np.min(counts, axis=0))


def _standardize(logits: InputScores) -> Float64[np.ndarray, "tracks tags"]:
    """Standard deviations from the mean over tracks; 0 for a constant tag."""
    logits = logits.astype(np.float64)
    std = logits.std(axis=0)
    return np.asarray((logits - logits.mean(axis=0)) / np.where(std > MIN_STD, std, 1))


def _count_cost(counts: Int64[np.ndarray, "tracks"]) -> Float64[np.ndarray, "tracks"]:
    """Cost of tracks by their number of decided tags."""
    return np.where(counts == 0, NO_TAG_COST, np.maximum(counts - MAX_FREE_TAGS, 0.0))

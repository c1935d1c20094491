"""Metrics of scores and decisions: PR-AUC, ROC-AUC, F-score, rank correlation, best thresholds.

Malformed input (shapes that differ, NaN, truth that is not 0 and 1) raises `ScoresError`. A tag without positives is
not an error: its metrics are NaN, and the means of a `Report` leave it out and name it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation.choices import Criterion

AnyArray = Shaped[np.ndarray, "..."]
"""an array that is not yet checked"""
Truth = Bool[np.ndarray, "tracks tags"]
Scores = Float64[np.ndarray, "tracks tags"]
PerTag = Float64[np.ndarray, "tags"]


@dataclass(frozen=True, eq=False)
class Report:
    """The metrics of scores, and of decisions if there are any: macro, micro, and per tag."""

    tags: tuple[str, ...]
    """tag names in column order; the column numbers where no names were given"""
    per_tag: Mapping[str, PerTag]
    """name of a metric (`PR-AUC`, …) → its value for every tag, NaN where undefined"""
    macro: Mapping[str, float]
    """name → mean over the tags for which it is defined; NaN if there is none"""
    micro: Mapping[str, float]
    """name → value over all pairs of track and tag, as if they were one tag"""
    without_positives: tuple[str, ...]
    """tags without positives: no macro mean includes them"""
    without_negatives: tuple[str, ...]
    """tags without negatives: the macro mean of ROC-AUC does not include them"""

    def to_dict(self) -> dict[str, float]:
        """The official names (`PR-AUC-macro`, …, `recall-micro`) and their values, in the official order."""
        means = {"macro": self.macro, "micro": self.micro}
        return {f"{name}-{mean}": value for mean, values in means.items() for name, value in values.items()}


def evaluate(
    truth: AnyArray, scores: AnyArray, *, decisions: AnyArray | None = None, tags: Sequence[str] | None = None
) -> Report:
    """Compute the metrics of MediaEval's *Emotion and Theme Recognition in Music*.

    Args:
        truth: tracks × tags, boolean or 0/1.
        scores: tracks × tags, finite.
        decisions: tracks × tags, boolean or 0/1; without them there are only PR-AUC and ROC-AUC.
        tags: names of the columns.

    Returns:
        A report. Where a tag has positives but no decisions, precision and F-score are 0, as in the task. A tag without
        positives is NaN and left out of the macro means, where scikit-learn would average zeros.

    Raises:
        ScoresError: if shapes differ, or values are not as described.

    Example:
        >>> truth = np.array([[1, 0], [0, 1], [0, 1]])
        >>> scores = np.array([[0.9, 0.2], [0.3, 0.8], [0.1, 0.1]])
        >>> report = evaluate(truth, scores, decisions=scores > 0.5, tags=("happy", "sad"))
        >>> round(report.macro["F-score"], 3), report.per_tag["recall"].tolist()
        (0.833, [1.0, 0.5])
    """
    truth, scores = _check(truth, scores)
    names = tuple(map(str, range(truth.shape[1])) if tags is None else tags)
    if len(names) != truth.shape[1]:
        raise ScoresError(f"{len(names)} tag names for {truth.shape[1]} columns of truth; give one name per column")
    arrays = [truth, scores]
    if decisions is not None:
        arrays.append(check_binary(decisions, "decisions", like=truth))
    positives = truth.sum(axis=0)
    per_tag = {name: np.where(positives > 0, values, np.nan) for name, values in _metrics(*arrays).items()}
    pooled = _metrics(*(array.reshape(-1, 1) for array in arrays))
    return Report(
        tags=names,
        per_tag=per_tag,
        macro={name: _mean(values) for name, values in per_tag.items()},
        micro={name: float(value[0]) for name, value in pooled.items()},
        without_positives=tuple(name for name, count in zip(names, positives, strict=True) if count == 0),
        without_negatives=tuple(name for name, count in zip(names, positives, strict=True) if count == len(truth)),
    )


def average_precision(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Average precision per tag: the area under the precision-recall curve as a step function, in 0 … 1.

    This is the PR-AUC of the task and scikit-learn's `average_precision_score`. Tracks with equal scores enter the
    curve together. NaN for a tag without positives. Truth is boolean or 0/1, scores are finite, both tracks × tags;
    raises `ScoresError` otherwise.

    Example:
        >>> average_precision(np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.7]])).round(3).tolist()
        [0.833]
    """
    return _average_precision(_rank(*_check(truth, scores)))


def roc_auc(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Area under the ROC curve per tag, in 0 … 1: the probability that a positive scores above a negative, ties half.

    NaN for a tag without positives or without negatives. Truth is boolean or 0/1, scores are finite, both tracks ×
    tags; raises `ScoresError` otherwise.

    Example:
        >>> roc_auc(np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.7]])).tolist()
        [0.5]
    """
    return _roc_auc(_rank(*_check(truth, scores)))


def best_thresholds(truth: AnyArray, scores: AnyArray, *, criterion: Criterion = "f") -> PerTag:
    """The threshold per tag with the best F-score, for `decide`: a decision is a score strictly above it.

    Args:
        truth: tracks × tags, boolean or 0/1.
        scores: tracks × tags, finite.
        criterion: `f`: the best F-score of strict decisions, with the fewest decisions that reach it. The threshold
            lies midway between two neighbouring scores, or is −inf (always decided) if deciding every track is best.
            `official`: the task's script. The best F-score of `score >= threshold`, with the lowest such threshold,
            which is itself a score; the strict decision then omits the tracks with this very score, so its F-score may
            be lower.

    Returns:
        One threshold per tag; +inf (never decided) for a tag without positives. The script's value for such a tag
        depends on its version of scikit-learn.

    Raises:
        ScoresError: if shapes differ, or values are not as described.
        ConfigError: if the criterion is unknown.

    Example:
        >>> truth, scores = np.array([[1], [0], [1]]), np.array([[0.9], [0.2], [0.7]])
        >>> best_thresholds(truth, scores).round(3).tolist()
        [0.45]
    """
    if criterion not in get_args(Criterion):
        raise ConfigError(f"criterion={criterion!r} is unknown; use 'f' or 'official'")
    ranking = _rank(*_check(truth, scores))
    tags, tracks = ranking.hits.shape
    row, end = np.arange(tags), tracks - 1
    hits, decided = np.cumsum(ranking.hits, axis=1), np.arange(1, tracks + 1)
    positives = hits[:, -1:]
    separable = ranking.last == np.arange(tracks)  # no threshold lies within a tie
    if criterion == "f":
        cut = np.argmax(np.where(separable, 2 * hits / (decided + positives), -1.0), axis=1)
        above, below = ranking.scores[row, cut], ranking.scores[row, np.minimum(cut + 1, end)]
        middle = above / 2 + below / 2  # halved first: the sum of two large scores may overflow
        value = np.where((below <= middle) & (middle < above), middle, below)  # adjacent floats have no middle
        value = np.where(cut == end, -np.inf, value)
    else:
        precision, recall = hits / decided, divide(hits, positives)
        # Operation by operation as in the script, because rounding decides between equal candidates.
        f = np.where(separable, divide(2 * precision * recall, precision + recall, empty=0.0), -1.0)
        value = ranking.scores[row, end - np.argmax(f[:, ::-1], axis=1)]
    return np.where(positives[:, 0] > 0, value, np.inf)


def decide(scores: AnyArray, thresholds: AnyArray) -> Truth:
    """Decisions, tracks × tags: True where a score lies strictly above its tag's threshold.

    A threshold of −inf always decides, +inf never. Raises `ScoresError` if scores (tracks × tags) are not finite, or
    thresholds are NaN or not one per tag.

    Example:
        >>> decide(np.array([[0.5, 0.5]]), np.array([0.4, 0.5])).tolist()
        [[True, False]]
    """
    scores, limits = check_scores(scores, "scores"), np.asarray(thresholds)
    if limits.shape != scores.shape[1:] or limits.dtype.kind not in "iuf" or np.isnan(limits).any():
        raise ScoresError(
            f"thresholds are {limits.dtype} of shape {limits.shape}, {limits}; expected {scores.shape[1]} numbers, one "
            "per tag, none of them NaN; use +inf for never decided"
        )
    return np.asarray(scores > limits)


def spearman(a: AnyArray, b: AnyArray) -> PerTag:
    """Spearman's rank correlation of two score matrices (tracks × tags) per tag, in −1 … 1; ties share their mean rank.

    NaN where either column is constant. Raises `ScoresError` if shapes differ or values are not finite.

    Example:
        >>> spearman(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [8.0], [27.0]])).tolist()
        [1.0]
    """
    a = check_scores(a, "a")
    x, y = _centred_ranks(a), _centred_ranks(check_scores(b, "b", like=a))
    return divide((x * y).sum(axis=1), np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1)))


def relative_ranks(scores: AnyArray) -> Scores:
    """The rank of every track within its tag, from 0, the lowest, to 1; ties share their mean rank.

    Takes tracks × tags, finite. A single track, and every track of a constant column, has 0.5.

    Example:
        >>> relative_ranks(np.array([[0.1], [0.9], [0.5]])).ravel().tolist()
        [0.0, 1.0, 0.5]
    """
    centred = _centred_ranks(check_scores(scores, "scores")).T
    return 0.5 + centred / max(1, 2 * (len(centred) - 1))


def check_scores(values: AnyArray, name: str, *, like: AnyArray | None = None) -> Scores:
    """Scores as float64, tracks × tags; raises `ScoresError` unless finite and, if given, of the shape of `like`."""
    values = _check_matrix(values, name, like)
    _check_values(~np.isfinite(values), values, name, "not finite; repair or drop the tracks that have them")
    return values.astype(np.float64)


def check_binary(values: AnyArray, name: str, *, like: AnyArray | None = None) -> Truth:
    """Truth as bool, tracks × tags; raises `ScoresError` unless 0 or 1 and, if given, of the shape of `like`."""
    values = _check_matrix(values, name, like)
    wrong = (values != 0) & (values != 1)
    _check_values(wrong, values, name, "neither 0 nor 1; apply a threshold, or drop unknown tracks")
    return values.astype(bool)


def divide(numerator: AnyArray, denominator: AnyArray, *, empty: float = np.nan) -> AnyArray:
    """Element-wise quotient; `empty` where the denominator is 0.

    >>> divide(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), empty)
    return np.asarray(np.divide(numerator, denominator, out=out, where=denominator != 0))


def decision_metrics(positives: AnyArray, decided: AnyArray, hits: AnyArray) -> dict[str, AnyArray]:
    """F-score, precision and recall from counts: positives, decisions, and decisions that are right."""
    return {
        "F-score": divide(2 * hits, decided + positives, empty=0.0),
        "precision": divide(hits, decided, empty=0.0),
        "recall": divide(hits, positives, empty=0.0),
    }


class _Ranking(NamedTuple):
    """Every tag's tracks from the highest score to the lowest; tags first, so that a tag is contiguous in memory."""

    scores: Float64[np.ndarray, "tags tracks"]
    hits: Bool[np.ndarray, "tags tracks"]  # truth in that order
    first: Int64[np.ndarray, "tags tracks"]  # first place of the tie that this place belongs to
    last: Int64[np.ndarray, "tags tracks"]  # its last place


def _rank(truth: Truth, scores: Scores) -> _Ranking:
    columns = np.ascontiguousarray(scores.T)
    order = np.argsort(-columns, axis=1)
    ordered = np.take_along_axis(columns, order, axis=1)
    return _Ranking(ordered, np.take_along_axis(truth.T, order, axis=1), *_ties(ordered))


def _ties(ordered: Float64[np.ndarray, "tags tracks"]) -> tuple[AnyArray, AnyArray]:
    tags, tracks = ordered.shape
    position, edge = np.arange(tracks), np.ones((tags, 1), dtype=bool)
    change = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(np.hstack([edge, change]), position, 0), axis=1)
    last = np.minimum.accumulate(np.where(np.hstack([change, edge]), position, tracks)[:, ::-1], axis=1)[:, ::-1]
    return first, last


def _average_precision(ranking: _Ranking) -> PerTag:
    hits = np.take_along_axis(np.cumsum(ranking.hits, axis=1), ranking.last, axis=1)
    return divide((hits / (ranking.last + 1) * ranking.hits).sum(axis=1), ranking.hits.sum(axis=1))


def _roc_auc(ranking: _Ranking) -> PerTag:
    positives = ranking.hits.sum(axis=1)
    pairs = positives * (ranking.hits.shape[1] - positives)
    # Twice the negatives ahead of the positives, ties half: whole numbers, so nothing is rounded before the division.
    ahead = ((ranking.first + ranking.last) * ranking.hits).sum(axis=1) - positives * (positives - 1)
    return divide(2 * pairs - ahead, 2 * pairs)


def _metrics(truth: Truth, scores: Scores, decisions: Truth | None = None) -> dict[str, PerTag]:
    ranking = _rank(truth, scores)
    areas = {"PR-AUC": _average_precision(ranking), "ROC-AUC": _roc_auc(ranking)}
    if decisions is None:
        return areas
    return areas | decision_metrics(truth.sum(axis=0), decisions.sum(axis=0), (truth & decisions).sum(axis=0))


def _centred_ranks(values: Scores) -> Float64[np.ndarray, "tags tracks"]:
    """Twice every rank minus twice the mean rank: whole numbers, exact."""
    columns = np.ascontiguousarray(values.T)
    order = np.argsort(columns, axis=1)
    first, last = _ties(np.take_along_axis(columns, order, axis=1))
    ranks = np.empty_like(columns)
    np.put_along_axis(ranks, order, first + last - (columns.shape[1] - 1.0), axis=1)
    return ranks


def _mean(values: PerTag) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _check(truth: AnyArray, scores: AnyArray) -> tuple[Truth, Scores]:
    truth = check_binary(truth, "truth")
    return truth, check_scores(scores, "scores", like=truth)


def _check_matrix(values: AnyArray, name: str, like: AnyArray | None) -> AnyArray:
    values = np.asarray(values)
    actual = f"{name}: {values.dtype} of shape {values.shape}"
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "biuf":
        raise ScoresError(f"{actual}; expected numbers, one or more tracks × tags; reshape a single tag to (tracks, 1)")
    if like is not None and values.shape != like.shape:
        raise ScoresError(f"{actual}; expected shape {like.shape}, the same tracks and tags in the same order")
    return values


def _check_values(wrong: AnyArray, values: AnyArray, name: str, fault: str) -> None:
    if wrong.any():
        track, tag = np.argwhere(wrong)[0]
        first = f"the first: {values[track, tag]} at track {track}, tag {tag}"
        raise ScoresError(f"{wrong.sum()} of {wrong.size} values of {name} ({first}) are {fault}")

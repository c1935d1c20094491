"""Truth and scores become numbers and thresholds.

In: truth, scores, decisions, each tracks × tags. Out: areas, precision, recall, F, rank correlation, thresholds.
Knows nothing of: where truth and scores come from.

Malformed input (shapes that differ, NaN, truth that is not 0 and 1) is refused with `ScoresError`. Degenerate input
(a tag without positives) is an answer: NaN for that tag, which a `Report` leaves out of its means and names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from moodfield.errors import ConfigError, ScoresError

AnyArray = Shaped[np.ndarray, "..."]
"""an array as it came, not yet checked"""
Truth = Bool[np.ndarray, "tracks tags"]
Scores = Float64[np.ndarray, "tracks tags"]
PerTag = Float64[np.ndarray, "tags"]


@dataclass(frozen=True, eq=False)
class Report:
    """How well scores, and decisions if there are any, agree with truth."""

    tags: tuple[str, ...]
    """tag names in column order; the column numbers where no names were given"""
    per_tag: Mapping[str, PerTag]
    """name of a number (`PR-AUC`, …) → its value for every tag, NaN where undefined"""
    macro: Mapping[str, float]
    """name → mean over the tags where it is defined; NaN if there is none"""
    micro: Mapping[str, float]
    """name → value over all pairs of track and tag, as if they were one tag"""
    without_positives: tuple[str, ...]
    """tags without positives: every macro mean leaves them out"""
    without_negatives: tuple[str, ...]
    """tags without negatives: the macro mean of ROC-AUC leaves them out"""

    def to_dict(self) -> dict[str, float]:
        """The official names (`PR-AUC-macro`, …, `recall-micro`) and their values, in the official order."""
        means = {"macro": self.macro, "micro": self.micro}
        return {f"{name}-{mean}": value for mean, values in means.items() for name, value in values.items()}


def evaluate(
    truth: AnyArray, scores: AnyArray, *, decisions: AnyArray | None = None, tags: Sequence[str] | None = None
) -> Report:
    """The numbers of MediaEval's *Emotion and Theme Recognition in Music*: ten, or the four areas without decisions.

    All arrays are tracks × tags; truth and decisions are boolean or 0 and 1, scores finite; anything else is refused.
    Where a tag has positives but nothing was decided, precision and F are 0, as in the task. A tag without positives is
    NaN throughout, is left out of the macro means (scikit-learn would average zeros) and is named in `undefined`.
    """
    truth, scores = _checked(truth, scores)
    names = tuple(map(str, range(truth.shape[1])) if tags is None else tags)
    if len(names) != truth.shape[1]:
        raise ScoresError(f"{len(names)} tag names for {truth.shape[1]} columns of truth; give one name per column")
    arrays = [truth, scores]
    if decisions is not None:
        arrays.append(check_binary(decisions, "decisions", like=truth))
    positives = truth.sum(axis=0)
    per_tag = {name: np.where(positives > 0, values, np.nan) for name, values in _numbers(*arrays).items()}
    pooled = _numbers(*(array.reshape(-1, 1) for array in arrays))
    return Report(
        tags=names,
        per_tag=per_tag,
        macro={name: _mean(values) for name, values in per_tag.items()},
        micro={name: float(value[0]) for name, value in pooled.items()},
        without_positives=tuple(name for name, count in zip(names, positives, strict=True) if count == 0),
        without_negatives=tuple(name for name, count in zip(names, positives, strict=True) if count == len(truth)),
    )


def average_precision(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Area under the precision-recall curve per tag, as a step function (PR-AUC of the task), in 0…1.

    Tracks with equal scores enter the curve together; NaN for a tag without positives. Takes tracks × tags: boolean or
    0/1 truth, finite scores; refuses anything else.
    """
    return _precision_area(_rank(*_checked(truth, scores)))


def roc_auc(truth: AnyArray, scores: AnyArray) -> PerTag:
    """Chance per tag that a positive track scores above a negative one, ties counting half, in 0…1.

    Takes tracks × tags: boolean or 0/1 truth, finite scores; refuses anything else. NaN for a tag without positives or
    without negatives.
    """
    return _roc_area(_rank(*_checked(truth, scores)))


def best_thresholds(truth: AnyArray, scores: AnyArray, *, criterion: Literal["f", "official"] = "f") -> PerTag:
    """The threshold per tag with the best F, to be used with `decide`: a decision is a score strictly above it.

    `f`: the best F that strict decisions can reach, by the fewest decisions that reach it. The threshold lies midway
    between the two neighbouring scores, or is −inf (always decided) where it is best to decide every track.
    `official`: the task's script. The best F of `score >= threshold`, by the lowest such threshold, which is itself a
    score; the strict decision then drops the very tracks that have this score, so its F may be lower.
    With either, a tag without positives gets +inf: never decided. (The script's answer depends on its scikit-learn.)
    Takes tracks × tags: boolean or 0/1 truth, finite scores; refuses anything else.
    """
    if criterion not in ("f", "official"):
        raise ConfigError(f"criterion={criterion!r} is unknown; use 'f' or 'official'")
    ranking = _rank(*_checked(truth, scores))
    tags, tracks = ranking.hits.shape
    row, end = np.arange(tags), tracks - 1
    found, decided = np.cumsum(ranking.hits, axis=1), np.arange(1, tracks + 1)
    positives = found[:, -1:]
    between = ranking.last == np.arange(tracks)  # inside a tie nothing can be cut
    if criterion == "f":
        cut = np.argmax(np.where(between, 2 * found / (decided + positives), -1.0), axis=1)
        above, below = ranking.scores[row, cut], ranking.scores[row, np.minimum(cut + 1, end)]
        middle = above / 2 + below / 2  # halved first: the sum of two large scores may overflow
        value = np.where((below <= middle) & (middle < above), middle, below)  # between adjacent floats lies none
        value = np.where(cut == end, -np.inf, value)
    else:
        precision, recall = found / decided, divide(found, positives)
        # Operation by operation as in the script, because rounding decides between equal candidates.
        f = np.where(between, divide(2 * precision * recall, precision + recall, empty=0.0), -1.0)
        value = ranking.scores[row, end - np.argmax(f[:, ::-1], axis=1)]
    return np.where(positives[:, 0] > 0, value, np.inf)


def decide(scores: AnyArray, thresholds: AnyArray) -> Truth:
    """True where a score (tracks × tags) lies strictly above its tag's threshold; −inf is always decided, +inf never.

    Refuses scores that are not finite and thresholds that are NaN or not one per tag.
    """
    scores, limits = check_scores(scores, "scores"), np.asarray(thresholds)
    if limits.shape != scores.shape[1:] or limits.dtype.kind not in "iuf" or np.isnan(limits).any():
        came, wanted = f"{limits.dtype} of shape {limits.shape}, {limits}", f"{scores.shape[1]} numbers, one per tag"
        raise ScoresError(f"thresholds came as {came}; wanted {wanted}, none of them NaN; use +inf for never decided")
    return np.asarray(scores > limits)


def spearman(a: AnyArray, b: AnyArray) -> PerTag:
    """Rank correlation of two score matrices (tracks × tags) per tag, equal scores sharing their mean rank, in −1…1.

    NaN where either column is constant. Refuses shapes that differ and values that are not finite.
    """
    a = check_scores(a, "a")
    x, y = _centred_ranks(a), _centred_ranks(check_scores(b, "b", like=a))
    return divide((x * y).sum(axis=1), np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1)))


def relative_ranks(scores: AnyArray) -> Scores:
    """Where every track stands within its tag, from 0, the lowest, to 1; equal scores share their mean rank.

    Takes tracks × tags, finite. A lone track, and every track of a constant column, stands at 0.5.
    """
    centred = _centred_ranks(check_scores(scores, "scores")).T
    return 0.5 + centred / max(1, 2 * (len(centred) - 1))


def check_scores(values: AnyArray, what: str, *, like: AnyArray | None = None) -> Scores:
    """Scores as float64, tracks × tags; refuses all but a matrix of finite numbers, of the shape of `like` if given."""
    values = _matrix(values, what, like)
    _refuse(~np.isfinite(values), values, what, "not finite; repair or drop the tracks that have them")
    return values.astype(np.float64)


def check_binary(values: AnyArray, what: str, *, like: AnyArray | None = None) -> Truth:
    """Truth as bool, tracks × tags; refuses all but a matrix of 0 and 1, of the shape of `like` if given."""
    values = _matrix(values, what, like)
    _refuse((values != 0) & (values != 1), values, what, "neither 0 nor 1; apply a threshold, or drop unknown tracks")
    return values.astype(bool)


def divide(above: AnyArray, below: AnyArray, *, empty: float = np.nan) -> AnyArray:
    """One over the other, place by place; `empty` where there is nothing below."""
    out = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
    return np.asarray(np.divide(above, below, out=out, where=below != 0))


class _Ranking(NamedTuple):
    """Every tag's tracks from the highest score to the lowest, tags first so that a tag lies in one piece."""

    scores: Float64[np.ndarray, "tags tracks"]
    hits: Bool[np.ndarray, "tags tracks"]  # truth in that order
    first: Int64[np.ndarray, "tags tracks"]  # where the run of equal scores begins that this track belongs to
    last: Int64[np.ndarray, "tags tracks"]  # where it ends


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


def _precision_area(ranking: _Ranking) -> PerTag:
    found = np.take_along_axis(np.cumsum(ranking.hits, axis=1), ranking.last, axis=1)
    return divide((found / (ranking.last + 1) * ranking.hits).sum(axis=1), ranking.hits.sum(axis=1))


def _roc_area(ranking: _Ranking) -> PerTag:
    positives = ranking.hits.sum(axis=1)
    pairs = positives * (ranking.hits.shape[1] - positives)
    # Twice the negatives ahead of the positives, ties half: whole numbers, so nothing is rounded before the division.
    ahead = ((ranking.first + ranking.last) * ranking.hits).sum(axis=1) - positives * (positives - 1)
    return divide(2 * pairs - ahead, 2 * pairs)


def _numbers(truth: Truth, scores: Scores, decisions: Truth | None = None) -> dict[str, PerTag]:
    ranking = _rank(truth, scores)
    numbers = {"PR-AUC": _precision_area(ranking), "ROC-AUC": _roc_area(ranking)}
    if decisions is not None:
        right, decided, positives = (truth & decisions).sum(axis=0), decisions.sum(axis=0), truth.sum(axis=0)
        numbers["F-score"] = divide(2 * right, decided + positives, empty=0.0)
        numbers["precision"] = divide(right, decided, empty=0.0)
        numbers["recall"] = divide(right, positives, empty=0.0)
    return numbers


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


def _checked(truth: AnyArray, scores: AnyArray) -> tuple[Truth, Scores]:
    truth = check_binary(truth, "truth")
    return truth, check_scores(scores, "scores", like=truth)


def _matrix(values: AnyArray, what: str, like: AnyArray | None) -> AnyArray:
    values = np.asarray(values)
    came = f"{what} came as {values.dtype} of shape {values.shape}"
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "biuf":
        raise ScoresError(f"{came}; wanted numbers, one or more tracks × tags; reshape a single tag to (tracks, 1)")
    if like is not None and values.shape != like.shape:
        raise ScoresError(
            f"{came}, to compare with shape {like.shape}; give both the same tracks and tags, in one order"
        )
    return values


def _refuse(bad: AnyArray, values: AnyArray, what: str, fault: str) -> None:
    if bad.any():
        track, tag = np.argwhere(bad)[0]
        first = f"the first: {values[track, tag]} at track {track}, tag {tag}"
        raise ScoresError(f"{bad.sum()} of {bad.size} values of {what} ({first}) are {fault}")

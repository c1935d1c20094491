"""Ensembles: the weighted mean of several systems' scores, and weights by greedy selection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float64

from moodfield import calibration
from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.choices import Average
from moodfield.evaluation.metrics import AnyArray, Scores

N_ROUNDS = 50
"""members that a greedy selection draws, so that each weighs a fiftieth of the final mean"""
MIN_SCORE = 1e-9
"""distance from 0 and 1 to which scores are clipped, since 0 and 1 have no finite logit"""


@dataclass(frozen=True)
class Selection:
    """The result of a greedy selection."""

    weights: tuple[float, ...]
    """weight of every member in the mean, in their order; they sum to 1"""
    selected: tuple[int, ...]
    """the selected members in their order, up to the best mean"""
    score: float
    """macro PR-AUC of this mean on the data it was selected on, which is too high an estimate"""


def mean(members: Sequence[AnyArray], *, weights: Sequence[float] | None = None, average: Average = "scores") -> Scores:
    """Average the scores of several systems.

    Args:
        members: scores of every system, each tracks × tags.
        weights: one for every member, not negative; equal by default.
        average: `scores`: the mean of scores (§3.4); `logits`: the sigmoid of the mean logit, for scores in 0 … 1;
            `ranks`: the mean relative rank of a track within its tag, from 0 to 1. Ranks lose how common a tag is, so
            micro metrics mean little for them.

    Returns:
        The mean, tracks × tags, within the range of the members.

    Raises:
        ScoresError: if members differ in shape, are not finite, or have no logit.
        ConfigError: if weights do not fit, or `average` is unknown.

    Example:
        >>> mean([np.array([[0.2]]), np.array([[0.8]])], weights=[3.0, 1.0]).round(3).tolist()
        [[0.35]]
        >>> mean([np.array([[0.2]]), np.array([[0.8]])], average="logits").round(3).tolist()
        [[0.5]]
    """
    values = [_transform(scores, average) for scores in _check_members(members)]
    return _mean(values, _normalize(weights, len(members)), average)


def greedy_selection(
    truth: AnyArray, members: Sequence[AnyArray], *, n_rounds: int = N_ROUNDS, average: Average = "scores"
) -> Selection:
    """Choose weights by greedy selection with replacement (Caruana et al., 2004), for the best macro PR-AUC.

    Every round adds the member, added before or not, whose addition gives the best mean; of equals, the first. The
    result is the best mean of all rounds, the earliest of equals. Truth and members, tracks × tags, must be of
    validation tracks: the result must not be evaluated on the same data.

    Raises:
        ConfigError: if `n_rounds` is below 1.
        ScoresError: if members do not fit truth, or no tag has positives.

    Example:
        >>> truth = np.array([[1], [0], [0], [1]])
        >>> good, bad = np.array([[0.9], [0.1], [0.2], [0.8]]), np.array([[0.1], [0.9], [0.2], [0.3]])
        >>> greedy_selection(truth, [bad, good], n_rounds=4)
        Selection(weights=(0.0, 1.0), selected=(1,), score=1.0)
    """
    if n_rounds < 1:
        raise ConfigError(f"n_rounds={n_rounds}; use at least 1, such as {N_ROUNDS}")
    values = [_transform(scores, average) for scores in _check_members(members)]
    selected: list[int] = []
    best: list[float] = []
    for _ in range(n_rounds):
        counts = np.bincount(selected, minlength=len(values)) + np.eye(len(values))  # a row for every candidate
        areas = [_macro_pr_auc(truth, _mean(values, row / row.sum(), average)) for row in counts]
        selected.append(int(np.argmax(areas)))
        best.append(max(areas))
    count = int(np.argmax(best)) + 1
    weights = np.bincount(selected[:count], minlength=len(members)) / count
    return Selection(tuple(weights.tolist()), tuple(selected[:count]), best[count - 1])


def _mean(values: Sequence[Scores], weights: Float64[np.ndarray, "_"], average: Average) -> Scores:
    mean = np.asarray(sum(weight * value for weight, value in zip(weights, values, strict=True)))
    mean = np.clip(mean, np.min(values, axis=0), np.max(values, axis=0))  # rounding may exceed them by a digit
    return calibration.sigmoid(mean) if average == "logits" else mean


def _macro_pr_auc(truth: AnyArray, scores: Scores) -> float:
    values = metrics.average_precision(truth, scores)
    if (defined := values[~np.isnan(values)]).size:
        return float(defined.mean())
    raise ScoresError("the truth has no positives for any tag, so weights cannot be selected; give that of validation")


def _transform(scores: Scores, average: Average) -> Float64[np.ndarray, "tracks tags"]:
    """The values of which the mean is taken."""
    if average not in get_args(Average):
        raise ConfigError(f"average={average!r} is unknown; use {', '.join(get_args(Average))}")
    if average == "scores":
        return scores
    if average == "ranks":
        return metrics.relative_ranks(scores)
    if (outside := (scores < 0) | (scores > 1)).any():
        raise ScoresError(f"{outside.sum()} scores are outside 0 … 1 and have no logit; average scores or ranks")
    clipped = np.clip(scores, MIN_SCORE, 1 - MIN_SCORE)
    return np.log(clipped) - np.log1p(-clipped)


def _normalize(weights: Sequence[float] | None, count: int) -> Float64[np.ndarray, "_"]:
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if len(values) != count or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ConfigError(f"weights {list(values)} for {count} systems; give one for each, none negative, not all 0")
    return values / values.sum()


def _check_members(members: Sequence[AnyArray]) -> list[Scores]:
    if not members:
        raise ScoresError("an ensemble needs the scores of at least one system")
    numbered = enumerate(members, start=1)
    return [metrics.check_scores(scores, f"scores of system {number}", like=members[0]) for number, scores in numbered]

"""The scores of several systems become those of one.

In: scores of several systems, each tracks × tags. Out: their mean in one of three senses, weights chosen on validation.
Knows nothing of: networks, files, or where scores come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.metrics import AnyArray, Scores

Of = Literal["scores", "logits", "ranks"]
"""what is averaged: `scores` as they are (the paper, §3.4), their `logits`, or their `ranks` within a tag"""
N_ROUNDS = 50
"""members that a greedy selection draws; each weighs a fiftieth of the last mean"""
MIN_SCORE = 1e-9
"""a score this near to 0 or 1 is taken for this one, since 0 and 1 have no finite logit"""


@dataclass(frozen=True)
class Selection:
    """What a greedy selection came to."""

    weights: tuple[float, ...]
    """share of every member in the mean, in their order; they sum to 1"""
    selected: tuple[int, ...]
    """the members in the order they were drawn, up to the best mean"""
    score: float
    """macro PR-AUC of that mean on the data it was chosen on, which flatters it"""


def mean(members: Sequence[AnyArray], *, weights: Sequence[float] | None = None, average: Of = "scores") -> Scores:
    """The scores of several systems as one, tracks × tags, in 0 … 1 if theirs are; all weigh the same by default.

    `scores`: their weighted mean. `logits`: the sigmoid of the mean of their logits; refuses scores outside 0 … 1.
    `ranks`: the mean of where a track stands within its tag, from 0, the lowest, to 1. It forgets how sure a system was
    and how common the tag is, so numbers over all pairs of track and tag (micro) then say little.
    """
    views = [_seen(scores, average) for scores in _checked(members)]
    return _together(views, _shares(weights, len(members)), average)


def greedy_selection(
    truth: AnyArray, members: Sequence[AnyArray], *, n_rounds: int = N_ROUNDS, average: Of = "scores"
) -> Selection:
    """Weights by greedy selection with replacement (Caruana et al., 2004), for the best macro PR-AUC of the mean.

    Every round draws the member, drawn before or not, with which the mean of all drawn does best; of equals, the
    first. The answer is the best mean on the way, the earliest of equals. `truth` and `members` must be of validation
    tracks: what is chosen here is not to be scored on the same data.
    """
    if n_rounds < 1:
        raise ConfigError(f"rounds={n_rounds}; at least one is needed, and {N_ROUNDS} weigh finely")
    views = [_seen(scores, average) for scores in _checked(members)]
    drawn: list[int] = []
    path: list[float] = []
    for _ in range(n_rounds):
        counts = np.bincount(drawn, minlength=len(views)) + np.eye(len(views))  # a row for every member drawn next
        found = [_worth(truth, _together(views, row / row.sum(), average)) for row in counts]
        drawn.append(int(np.argmax(found)))
        path.append(max(found))
    count = int(np.argmax(path)) + 1
    shares = np.bincount(drawn[:count], minlength=len(members)) / count
    return Selection(tuple(shares.tolist()), tuple(drawn[:count]), path[count - 1])


def _together(views: Sequence[Scores], shares: Float64[np.ndarray, "_"], of: Of) -> Scores:
    """The mean of what is averaged, as scores again."""
    mean = np.asarray(sum(share * view for share, view in zip(shares, views, strict=True)))
    mean = np.clip(mean, np.min(views, axis=0), np.max(views, axis=0))  # rounding may take it a digit beyond
    return 0.5 * (1 + np.tanh(0.5 * mean)) if of == "logits" else mean


def _worth(truth: AnyArray, scores: Scores) -> float:
    """Macro PR-AUC, without all that a report has besides."""
    values = metrics.average_precision(truth, scores)
    if (defined := values[~np.isnan(values)]).size:
        return float(defined.mean())
    raise ScoresError("the truth has no positives for any tag, so nothing can be chosen by it; give that of validation")


def _seen(scores: Scores, of: Of) -> Float64[np.ndarray, "tracks tags"]:
    """Scores as what is averaged."""
    if of not in get_args(Of):
        raise ConfigError(f"of={of!r} is unknown; average {', '.join(get_args(Of))}")
    if of == "scores":
        return scores
    if of == "ranks":
        return metrics.relative_ranks(scores)
    if (outside := (scores < 0) | (scores > 1)).any():
        raise ScoresError(
            f"{outside.sum()} scores are outside 0 … 1 and have no logit; average scores or ranks instead"
        )
    inside = np.clip(scores, MIN_SCORE, 1 - MIN_SCORE)
    return np.log(inside) - np.log1p(-inside)


def _shares(weights: Sequence[float] | None, count: int) -> Float64[np.ndarray, "_"]:
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if len(values) != count or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ConfigError(f"weights {list(values)} for {count} systems; give each a number, none negative, not all 0")
    return values / values.sum()


def _checked(members: Sequence[AnyArray]) -> list[Scores]:
    if not members:
        raise ScoresError("no scores came; an ensemble needs those of at least one system")
    return [
        metrics.check_scores(each, f"scores of system {n}", like=members[0]) for n, each in enumerate(members, start=1)
    ]

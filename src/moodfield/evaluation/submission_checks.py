"""Checks of a submission: errors of its format, rows or columns in a wrong order, suspicious values."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from moodfield import errors
from moodfield.datasets.mtg_jamendo import Track
from moodfield.evaluation import metrics, submissions
from moodfield.evaluation.metrics import AnyArray, Scores, Truth
from moodfield.evaluation.submissions import Submission

CHANCE_ROC_AUC = 0.55
"""macro ROC-AUC below which the order of rows is in question; *chosen by us*"""
MIN_SWAP_GAIN = 0.2
"""ROC-AUC that two columns must gain together, if swapped, for their order to be in question; *chosen by us*: none in
ten published submissions gain as much, and most pairs that were swapped on purpose do"""
MIN_POSITIVES = 10
"""tracks with a tag, and without it, below which its ROC-AUC is no evidence of an order; *chosen by us*"""


def find_errors(
    submission: Submission, *, vocabulary: Sequence[str], tracks: Sequence[Track] = (), truth: AnyArray | None = None
) -> list[str]:
    """Everything that is wrong with a submission, as messages; an empty list if nothing is.

    Args:
        submission: the submission.
        vocabulary: the tags, in the order of the columns.
        tracks: the tracks of the index, in the order of the rows.
        truth: tracks × tags. Only with it a wrong order of rows or columns is found, if it makes a large difference.

    Example:
        >>> submission = submissions.make(np.array([[0.2, 0.9]]), np.array([0.5, 0.5]), ["happy", "sad"])
        >>> find_errors(submission, vocabulary=["happy", "sad"])
        []
        >>> find_errors(submission, vocabulary=["happy", "sad"], truth=np.eye(2))
        ['predictions have 1 rows; there are 2 tracks', 'decisions have 1 rows; there are 2 tracks']
    """
    rows = len(tracks) or len(submission.predictions if truth is None else truth)
    expected = rows, len(vocabulary)
    faults = submissions.format_errors(submission, vocabulary, expected)
    if truth is None or submission.predictions.shape != expected:
        return faults
    truth = metrics.check_binary(truth, "truth", like=submission.predictions)
    if np.isfinite(submission.predictions).all():
        predictions = metrics.check_scores(submission.predictions, "predictions")
        faults += [*_column_errors(predictions, truth, vocabulary), *_row_errors(predictions, truth, tracks)]
    return faults


def find_warnings(submission: Submission, vocabulary: Sequence[str]) -> Iterator[str]:
    """What has the official format and is hardly intended, though an index of few tracks may lead to it, as messages.

    >>> list(find_warnings(Submission(np.array([[0.0, 0.0], [0.1, 0.2]])), ["happy", "sad"]))
    ['predictions are 0 for every tag in 1 of 2 rows: 0 (from 0)']
    """
    predictions, decisions = submission.predictions, submission.decisions
    if empty := [str(row) for row in np.flatnonzero(~predictions.any(axis=1))]:
        rows = f"{len(empty):,} of {len(predictions):,} rows: {errors.join_some(empty)} (from 0)"
        yield f"predictions are 0 for every tag in {rows}"
    if len(predictions) > 1 and (constant := (predictions == predictions[0]).all(axis=0)).any():
        names = submissions.tags_where(constant, vocabulary)
        yield f"predictions are the same for every track for {names}: they cannot rank anything"
    if decisions is None or decisions.shape != predictions.shape or decisions.dtype != bool:
        return
    if decisions.all() or not decisions.any():
        yield f"{'every' if decisions.any() else 'no'} tag is decided, for all tracks"


def _column_errors(predictions: Scores, truth: Truth, vocabulary: Sequence[str]) -> Iterator[str]:
    """The pair of columns that would fit truth far better if they were swapped, if there is one."""
    areas = _roc_auc_of_pairs(predictions, truth)
    own = np.diag(areas)
    gain = np.triu(areas + areas.T - own[:, None] - own, 1)
    rare = ~_has_enough_positives(truth)
    gain[rare], gain[:, rare] = 0, 0
    pairs = np.argwhere(gain > MIN_SWAP_GAIN)
    if len(pairs):
        a, b = map(int, pairs[gain[tuple(pairs.T)].argmax()])
        yield (
            f"columns would fit far better if swapped: {vocabulary[a]!r} and {vocabulary[b]!r} would have ROC-AUC "
            f"{areas[a, b]:.2f} and {areas[b, a]:.2f}, not {own[a]:.2f} and {own[b]:.2f}; are they in the order of the "
            "tags?"
        )


def _row_errors(predictions: Scores, truth: Truth, tracks: Sequence[Track]) -> Iterator[str]:
    """Rows that rank at chance, and would not in another likely order."""
    enough = _has_enough_positives(truth)
    predictions, truth = predictions[:, enough], truth[:, enough]
    area = metrics.evaluate(truth, predictions).macro["ROC-AUC"] if enough.any() else 1.0
    if not area < CHANCE_ROC_AUC:
        return
    orders = {"backwards": np.arange(len(truth))[::-1]}
    for attribute in ("path", "id"):
        names = [getattr(track, attribute) for track in tracks]
        orders[f"sorted by {attribute}"] = np.array(sorted(range(len(names)), key=names.__getitem__), int)
    for order, rows in orders.items():
        better = metrics.evaluate(truth, predictions[np.argsort(rows)]).macro["ROC-AUC"] if len(rows) else 0.0
        if better > CHANCE_ROC_AUC:
            yield f"rows seem to be {order}: in that order, macro ROC-AUC is {better:.2f} instead of {area:.2f}"
            return
    yield f"macro ROC-AUC is {area:.2f}, which is chance: are rows in the order of the index?"


def _roc_auc_of_pairs(predictions: Scores, truth: Truth) -> Float64[np.ndarray, "tags tags"]:
    """ROC-AUC of every column of predictions (last axis) for every tag of truth; NaN where it is undefined."""
    positives = truth.sum(axis=0)[:, None]
    ranks = metrics.relative_ranks(predictions) * (len(truth) - 1)
    ahead = truth.T.astype(np.float64) @ ranks - positives * (positives - 1) / 2
    return metrics.divide(ahead, positives * (len(truth) - positives))


def _has_enough_positives(truth: Truth) -> Bool[np.ndarray, "tags"]:
    """Tags with enough positives and negatives for a meaningful ROC-AUC."""
    positives = truth.sum(axis=0)
    return np.asarray(np.minimum(positives, len(truth) - positives) >= MIN_POSITIVES)

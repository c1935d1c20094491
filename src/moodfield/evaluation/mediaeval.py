"""The MediaEval task: evaluate and compare submissions, read truth, find leaked tracks."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Bool

from moodfield import errors, tags
from moodfield.datasets import duplicates, mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split
from moodfield.errors import DatasetError, MoodfieldWarning, ScoresError
from moodfield.evaluation import bootstrap, metrics, submissions
from moodfield.evaluation.bootstrap import Difference, Interval, System
from moodfield.evaluation.choices import Criterion
from moodfield.evaluation.metrics import AnyArray, Report
from moodfield.evaluation.submissions import Rows, Submission

TUNED_SHARE = 0.5
"""share of tags with decisions as if tuned on the truth from which on this is no coincidence; *chosen by us*: in the
submissions of 2019 it was none or all of them, but for two tags here and there"""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of one submission."""

    report: Report
    """the official metrics: macro, micro, and per tag"""
    tuned_tags: tuple[str, ...]
    """tags whose decisions equal those of thresholds tuned on this truth"""
    intervals: Mapping[str, Interval]
    """official name of a metric → its confidence interval; empty without resamples"""
    tag_intervals: Mapping[str, tuple[Interval, ...]]
    """name of a metric → its confidence interval for every tag"""
    n_tracks: int
    """number of tracks"""
    rare_tags: tuple[str, ...] = ()
    """tags with too few tracks for intervals; empty without resamples"""
    without_excluded: "Evaluation | None" = None
    """the same metrics without the excluded tracks, if there are any"""

    @property
    def is_tuned_on_truth(self) -> bool:
        """Whether thresholds were tuned on this truth, so that F, precision and recall are too high."""
        return bool(self.tuned_tags) and len(self.tuned_tags) >= TUNED_SHARE * self.n_tunable_tags

    @property
    def n_tunable_tags(self) -> int:
        """How many tags have both positives and negatives, so that a threshold can be tuned."""
        return len(self.report.tags) - len(self.report.without_positives) - len(self.report.without_negatives)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, the official metrics first; None where a metric is undefined."""
        plain: dict[str, object] = {name: _plain(value) for name, value in self.report.to_dict().items()}
        plain["tracks"] = self.n_tracks
        plain["tuned_tags"] = list(self.tuned_tags)
        plain["without_positives"] = list(self.report.without_positives)
        if self.intervals:
            plain["intervals"] = {name: [*map(_plain, interval)] for name, interval in self.intervals.items()}
            plain["rare_tags"] = list(self.rare_tags)
        plain["tags"] = {
            tag: {name: _plain(values[column]) for name, values in self.report.per_tag.items()}
            | {f"{name}-interval": [*map(_plain, ends[column])] for name, ends in self.tag_intervals.items()}
            for column, tag in enumerate(self.report.tags)
        }
        if self.without_excluded:
            plain["without_excluded"] = self.without_excluded.to_dict()
        return plain


@dataclass(frozen=True, eq=False)
class Comparison:
    """The metrics of two submissions on the same tracks, and their paired differences."""

    a: Report
    """metrics of the first submission"""
    b: Report
    """metrics of the second submission"""
    differences: Mapping[str, Difference]
    """official name of a metric → a minus b"""
    tag_differences: Mapping[str, tuple[Difference, ...]]
    """name of a metric → a minus b for every tag"""
    rare_tags: tuple[str, ...]
    """tags with too few tracks for intervals and p-values"""

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON by official names; None where a metric is undefined."""
        a, b = self.a.to_dict(), self.b.to_dict()
        plain: dict[str, object] = {
            name: {"a": _plain(a[name]), "b": _plain(b[name])} | _plain_difference(difference)
            for name, difference in self.differences.items()
        }
        plain["tags"] = {
            tag: {name: _plain_difference(differences[column]) for name, differences in self.tag_differences.items()}
            for column, tag in enumerate(self.a.tags)
        }
        plain["rare_tags"] = list(self.rare_tags)
        return plain


def evaluate(
    truth: AnyArray,
    submission: Submission,
    *,
    vocabulary: Sequence[str] | None = None,
    exclude: Rows | None = None,
    n_resamples: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a submission by the official metrics of the task.

    Args:
        truth: tracks × tags, boolean or 0/1.
        submission: predictions, and decisions if there are any, for the same tracks and tags.
        vocabulary: names of the tags in column order.
        exclude: rows of tracks to exclude, such as tracks that were also trained on; the result then has
            `without_excluded` beside the official metrics.
        n_resamples: bootstrap resamples for confidence intervals; 0 for none.
        seed: seed of the resamples.

    Warns:
        MoodfieldWarning: where metrics mean little: boolean or constant predictions, thresholds in another order.

    Example:
        >>> truth = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
        >>> submission = submissions.make(0.2 + 0.6 * truth, np.array([0.5, 0.5]), ["happy", "sad"])
        >>> evaluation = evaluate(truth, submission, vocabulary=["happy", "sad"])
        >>> evaluation.report.macro["PR-AUC"], evaluation.is_tuned_on_truth
        (1.0, True)
    """
    _check_shapes(truth, submission)
    full = _evaluate(truth, submission, vocabulary, n_resamples, seed)
    for message in _warnings(submission, full.report.tags):
        warnings.warn(message, MoodfieldWarning, stacklevel=2)
    tuned = zip(full.report.tags, _is_tuned(truth, submission), strict=True)
    full = replace(full, tuned_tags=tuple(tag for tag, is_tuned in tuned if is_tuned))
    if exclude is None or not len(exclude):
        return full
    rows = exclude_rows(len(truth), exclude)
    part = _evaluate(np.asarray(truth)[rows], submission.take(rows), vocabulary, n_resamples, seed)
    return replace(full, without_excluded=replace(part, tuned_tags=full.tuned_tags))


def compare(
    truth: AnyArray,
    a: Submission,
    b: Submission,
    *,
    vocabulary: Sequence[str] | None = None,
    exclude: Rows | None = None,
    n_resamples: int = bootstrap.N_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two submissions with a paired bootstrap test, without the rows in `exclude`.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> truth = generator.random((100, 1)) < 0.3
        >>> a, b = Submission(truth + generator.random(truth.shape)), Submission(generator.random(truth.shape))
        >>> compare(truth, a, b, n_resamples=100).differences["PR-AUC-macro"].p < 0.05
        True
    """
    _check_shapes(truth, a)
    _check_shapes(truth, b)
    rows = exclude_rows(len(truth), np.array([], np.int64) if exclude is None else exclude)
    systems = [_system(np.asarray(truth)[rows], submission.take(rows), vocabulary) for submission in (a, b)]
    pair = bootstrap.bootstrap(systems, n_resamples=n_resamples, generator=np.random.default_rng(seed))
    return Comparison(
        systems[0].report, systems[1].report, bootstrap.compare(*pair), bootstrap.compare_tags(*pair), pair[0].rare_tags
    )


def exclude_rows(n_tracks: int, exclude: Rows) -> Rows:
    """The rows of an index without those in `exclude`; raises `DatasetError` if a row does not exist or none is left.

    >>> exclude_rows(4, np.array([1, 2])).tolist()
    [0, 3]
    """
    missing = [str(row) for row in exclude if not 0 <= row < n_tracks]
    if missing:
        raise DatasetError(f"{n_tracks} tracks have no rows {errors.join_some(missing)} to exclude; count rows from 0")
    rows = np.setdiff1d(np.arange(n_tracks), exclude)
    if not len(rows):
        raise DatasetError(f"all {n_tracks} tracks are excluded; keep at least one")
    return rows


def find_leaks(index: str | Path, training_indexes: Sequence[str | Path], checksums: str | Path) -> Rows:
    """The rows of an index whose audio file, by a list of checksums, is also in the indexes that were trained on.

    Raises:
        DatasetError: if the list has no checksum for any track of one of the indexes.

    Warns:
        MoodfieldWarning: if the list lacks checksums; these tracks are compared by path.
    """
    sums = mtg_jamendo.read_checksums(checksums)
    indexes = (index, *training_indexes)
    paths = [[track.path for track in mtg_jamendo.read(path).tracks] for path in indexes]
    listed = [[mtg_jamendo.checksum_of(path, sums) is not None for path in names] for names in paths]
    if unlisted := [str(path) for path, flags in zip(indexes, listed, strict=True) if not any(flags)]:
        raise DatasetError(f"{checksums} has no checksum for any track of {', '.join(unlisted)}; name another list")
    all_listed = list(chain(*listed))
    if n_missing := all_listed.count(False):
        message = f"{checksums} has no checksum for {n_missing:,} of {len(all_listed):,} tracks"
        warnings.warn(f"{message}: their audio under another path is not found", MoodfieldWarning, stacklevel=2)
    evaluated, *trained = paths
    return np.array(duplicates.find_leaks(chain(*trained), evaluated, sums), np.int64)


def read_truth(
    path: str | Path, *, vocabulary: Sequence[str] | None = None, like: Sequence[Submission] = ()
) -> tuple[AnyArray, tuple[str, ...] | None]:
    """Read truth, and the names of its tags if known, from a `.npy` file or an index in MTG-Jamendo's format.

    An index of few tracks may lack tags: `read_index` then takes them from the submissions in `like`. Raises
    `ScoresError` if their predictions have as many rows but another number of columns.
    """
    if Path(path).suffix == ".npy":
        truth = submissions.read_array(path)
        official = tags.MOODS_AND_THEMES if truth.shape[1] == len(tags.MOODS_AND_THEMES) else None
        return truth, tuple(vocabulary) if vocabulary else official
    split = read_index(path, vocabulary=vocabulary, like=like)
    for submission in like:
        rows, columns = submission.predictions.shape
        if rows == len(split.tracks) and columns != len(split.vocabulary):
            raise ScoresError(
                f"predictions of {submission.name} have {columns} columns; there are {len(split.vocabulary)} tags in "
                f"{path}: list the tags in the order of the columns, with --tags"
            )
    return split.truth, split.vocabulary


def read_index(path: str | Path, *, vocabulary: Sequence[str] | None = None, like: Sequence[Submission] = ()) -> Split:
    """Read an index whose tags are those of `vocabulary`, or else its own.

    If the columns of the submissions in `like` are named, its tags are these. If it has fewer tags than they have
    columns, its tags are those of their thresholds, or the official ones: where their number fits and all tags of the
    index are among them. Raises `ScoresError` if the columns of two submissions have different names.
    """
    named = {submission.columns for submission in like if submission.columns}
    if len(named) > 1:
        raise ScoresError("the predictions have different tags, or the same in another order; compare like with like")
    if named and not vocabulary:
        return mtg_jamendo.read(path, vocabulary=named.pop())
    split = mtg_jamendo.read(path, vocabulary=vocabulary)
    columns = {submission.predictions.shape[1] for submission in like}
    if vocabulary or columns <= {len(split.vocabulary)}:
        return split
    lists = {tuple(submission.thresholds) for submission in like if submission.thresholds} or {tags.MOODS_AND_THEMES}
    fitting = [names for names in lists if {len(names)} == columns and set(split.vocabulary) <= set(names)]
    return mtg_jamendo.read(path, vocabulary=fitting[0]) if len(fitting) == 1 else split


def _evaluate(
    truth: AnyArray, submission: Submission, vocabulary: Sequence[str] | None, n_resamples: int, seed: int
) -> Evaluation:
    if not n_resamples:
        report = metrics.evaluate(truth, submission.predictions, decisions=submission.decisions, tags=vocabulary)
        return Evaluation(report, (), {}, {}, len(truth))
    system, generator = _system(truth, submission, vocabulary), np.random.default_rng(seed)
    [resampled] = bootstrap.bootstrap([system], n_resamples=n_resamples, generator=generator)
    intervals, tag_intervals = bootstrap.intervals(resampled), bootstrap.tag_intervals(resampled)
    return Evaluation(resampled.report, (), intervals, tag_intervals, len(truth), resampled.rare_tags)


def _system(truth: AnyArray, submission: Submission, vocabulary: Sequence[str] | None) -> System:
    return System(truth, submission.predictions, decisions=submission.decisions, tags=vocabulary)


def _check_shapes(truth: AnyArray, submission: Submission) -> None:
    """Raise `ScoresError` unless a submission has the shape of truth and finite values; the message names it."""
    metrics.check_scores(submission.predictions, f"predictions of {submission.name}", like=truth)
    if submission.decisions is not None:
        metrics.check_scores(submission.decisions, f"decisions of {submission.name}", like=truth)


def _is_tuned(truth: AnyArray, submission: Submission) -> Bool[np.ndarray, "tags"]:
    """Tags whose decisions equal those of thresholds tuned on truth by either criterion.

    A tag with constant predictions or constant truth has no threshold to tune, and is not among them.
    """
    scores, decisions = submission.predictions, submission.decisions
    if decisions is None:
        return np.zeros(scores.shape[1], bool)
    thresholds = [metrics.best_thresholds(truth, scores, criterion=criterion) for criterion in get_args(Criterion)]
    tuned = [metrics.decide(scores, values) for values in thresholds]
    same = np.any([(candidate == decisions).all(axis=0) for candidate in tuned], axis=0)
    return np.asarray(same & (scores != scores[0]).any(axis=0) & (truth != truth[0]).any(axis=0))


def _warnings(submission: Submission, names: Sequence[str]) -> Iterator[str]:
    """Warn where metrics mean little."""
    name, predictions, listed = submission.name, submission.predictions, list(submission.thresholds)
    if sorted(listed) == sorted(names) and listed != list(names):
        yield f"thresholds of {name} list the tags in another order than the truth; the columns may have it, too"
    if predictions.dtype == bool:
        yield f"predictions of {name} are boolean: positive tracks are tied, so areas add little to the decisions"
    constant = [tag for tag, column in zip(names, predictions.T, strict=True) if (column == column[0]).all()]
    if constant:
        tied = f"predictions of {name} are the same for all tracks for {errors.join_some(constant)}"
        yield f"{tied}: ROC-AUC is then 0.5, PR-AUC the share of positives"


def _plain_difference(difference: Difference) -> dict[str, object]:
    return {name: _plain(value) for name, value in difference._asdict().items()}


def _plain(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)

"""The task: submissions gathered, scored, compared.

In: submissions and truth. Out: the official numbers with intervals, differences, predictions for a whole index.
Knows nothing of: taggers, audio, the form of a submission, or how a track is tagged.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from moodfield import tags
from moodfield.datasets import duplicates, mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import ConfigError, DatasetError, MoodfieldError, MoodfieldWarning, ScoresError
from moodfield.evaluation import bootstrap, metrics, submissions
from moodfield.evaluation.bootstrap import Difference, Interval, System
from moodfield.evaluation.metrics import AnyArray, Report, Scores
from moodfield.evaluation.submissions import Rows, Submission

TUNED_SHARE = 0.5
"""share of tags with decisions as if tuned on the truth from which on this is no chance: it was none or all of them in
the submissions of 2019, but for two tags here and there"""
MAX_LISTED = 5
"""tracks, rows or tags that a message names; there may be hundreds"""

Hear = Callable[[Sequence[Track]], Iterable[tuple[Track, AnyArray | MoodfieldError]]]
"""predicts tracks, in their order: scores, one per tag, or why a track could not be read"""
CACHE_HEADS = (b'{"model": ',)
"""how files of scores begin that `predict_index` keeps"""
Fill = Literal["mean", "zeros"]
"""what stands for a track that could not be heard: the mean of all others, tag by tag, or nothing but 0"""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a submission is worth."""

    report: Report
    """the official numbers: macro, micro, and of every tag"""
    tuned_tags: tuple[str, ...]
    """tags with just the decisions that thresholds make which are tuned on this very truth"""
    intervals: Mapping[str, Interval]
    """official name of a number → its interval; empty if none were asked for"""
    tag_intervals: Mapping[str, tuple[Interval, ...]]
    """name of a number → its interval for every tag"""
    n_tracks: int
    """how many were scored"""
    rare_tags: tuple[str, ...] = ()
    """tags on too few tracks for intervals, if any were asked for"""
    without_excluded: "Evaluation | None" = None
    """the same without the tracks that were to be left out"""

    @property
    def is_tuned_on_truth(self) -> bool:
        """Whether F, precision and recall flatter: their thresholds were tuned on the data that is scored."""
        return bool(self.tuned_tags) and len(self.tuned_tags) >= TUNED_SHARE * self.n_tunable_tags

    @property
    def n_tunable_tags(self) -> int:
        """How many tags have both positives and negatives, so that a threshold can be tuned by them."""
        return len(self.report.tags) - len(self.report.without_positives) - len(self.report.without_negatives)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, the official numbers first; None where a number is not defined."""
        plain: dict[str, object] = {name: _plain(value) for name, value in self.report.to_dict().items()}
        plain["tracks"] = self.n_tracks
        plain["tuned_on_this_truth"] = list(self.tuned_tags)
        plain["undefined"] = list(self.report.without_positives)
        if self.intervals:
            plain["intervals"] = {name: [*map(_plain, ends)] for name, ends in self.intervals.items()}
            plain["too_rare_for_intervals"] = list(self.rare_tags)
        plain["tags"] = {
            tag: {name: _plain(values[column]) for name, values in self.report.per_tag.items()}
            | {f"{name}-interval": [*map(_plain, ends[column])] for name, ends in self.tag_intervals.items()}
            for column, tag in enumerate(self.report.tags)
        }
        if self.without_excluded:
            plain["without_left_out"] = self.without_excluded.to_dict()
        return plain


@dataclass(frozen=True, eq=False)
class Comparison:
    """One submission beside another, on the same tracks."""

    a: Report
    """the numbers of the first"""
    b: Report
    """those of the second"""
    differences: Mapping[str, Difference]
    """official name of a number → how far the first is ahead"""
    tag_differences: Mapping[str, tuple[Difference, ...]]
    """name of a number → the same for every tag"""
    rare_tags: tuple[str, ...]
    """tags on too few tracks for intervals and p"""

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON by official names; None where a number is not defined."""
        one, other = self.a.to_dict(), self.b.to_dict()
        plain: dict[str, object] = {
            name: {"one": _plain(one[name]), "other": _plain(other[name])} | _difference(each)
            for name, each in self.differences.items()
        }
        plain["tags"] = {
            tag: {name: _difference(each[column]) for name, each in self.tag_differences.items()}
            for column, tag in enumerate(self.a.tags)
        }
        plain["too_rare_for_intervals"] = list(self.rare_tags)
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
    """What a submission is worth on truth, tracks × tags; with intervals from so many resamples, if any.

    Every finite array is scored; `MoodfieldWarning` says where its numbers mean little. `leave_out` has the rows of
    tracks that are not fair, such as those that were also trained on; the answer then has a `rest`.
    """
    _checked(truth, submission)
    full = _score(truth, submission, vocabulary, n_resamples, seed)
    _warn(submission, full.report.tags)
    tuned = tuple(tag for tag, each in zip(full.report.tags, _tuned(truth, submission), strict=True) if each)
    rest = None
    if exclude is not None and len(exclude):
        kept = exclude_rows(len(truth), exclude)
        part = _score(np.asarray(truth)[kept], submission.take(kept), vocabulary, n_resamples, seed)
        rest = replace(part, tuned_tags=tuned)
    return replace(full, tuned_tags=tuned, without_excluded=rest)


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
    """How far one submission is ahead of another: paired, on the same resamples, without the rows in `leave_out`."""
    for each in (a, b):
        _checked(truth, each)
    kept = exclude_rows(len(truth), np.array([], np.int64) if exclude is None else exclude)
    systems = [_system(np.asarray(truth)[kept], each.take(kept), vocabulary) for each in (a, b)]
    both = bootstrap.bootstrap(systems, n_resamples=n_resamples, generator=np.random.default_rng(seed))
    ahead, tags_ahead = bootstrap.compare(*both), bootstrap.compare_tags(*both)
    return Comparison(systems[0].report, systems[1].report, ahead, tags_ahead, both[0].rare_tags)


def exclude_rows(tracks: int, leave_out: Rows) -> Rows:
    """The rows of an index that are left when some are left out; refuses rows that are not there, or all of them."""
    strangers = [str(row) for row in leave_out if not 0 <= row < tracks]
    if strangers:
        raise DatasetError(
            f"there are no rows {_first(strangers, ', ')} to leave out of {tracks} tracks; count rows from 0"
        )
    kept = np.setdiff1d(np.arange(tracks), leave_out)
    if not len(kept):
        raise DatasetError(f"all {tracks} tracks are left out; leave some in")
    return kept


def find_leaks(index: str | Path, learned: Sequence[str | Path], sums: str | Path) -> Rows:
    """The rows of an index whose very audio is also in indexes that were learned from, by a list of checksums.

    Refuses a list that has none of the tracks of an index, and warns if it lacks some: they are then known by path.
    """
    listed, faults, lacking = mtg_jamendo.read_checksums(sums), [], 0
    paths: list[list[str]] = []
    for each in (index, *learned):
        paths.append([track.path for track in mtg_jamendo.read(each).tracks])
        missing = sum(mtg_jamendo.checksum_of(path, listed) is None for path in paths[-1])
        lacking += missing
        if missing == len(paths[-1]):
            faults.append(str(each))
    if faults:
        raise DatasetError(f"{sums} has no checksum for any track of {', '.join(faults)}; name the list of their files")
    if lacking:
        words = f"{sums} has no checksum for {lacking:,} of {sum(map(len, paths)):,} tracks"
        warnings.warn(f"{words}: the same audio under another path is not found", MoodfieldWarning, stacklevel=2)
    judged, *others = paths
    return np.array(duplicates.find_leaks(chain(*others), judged, listed), np.int64)


def read_truth(
    path: str | Path, *, vocabulary: Sequence[str] | None = None, like: Sequence[Submission] = ()
) -> tuple[AnyArray, tuple[str, ...] | None]:
    """Truth, and the names of its tags as far as known: from a `.npy` file, or an index in MTG-Jamendo's form.

    An index may lack tags: they are then those of the submissions `given`, or refused, as `read_index` finds them.
    """
    if Path(path).suffix != ".npy":
        split = read_index(path, vocabulary=vocabulary, like=like)
        for each in like:
            rows, columns = each.predictions.shape
            if rows == len(split.tracks) and columns != len(split.vocabulary):
                words = f"predictions of {each.name} have {columns} columns; there are {len(split.vocabulary)} tags"
                raise ScoresError(f"{words} in {path}: list the tags in the order of the columns, with --tags")
        return split.truth, split.vocabulary
    truth = submissions.read_array(path)
    official = tags.MOODS_AND_THEMES if truth.shape[1] == len(tags.MOODS_AND_THEMES) else None
    return truth, tuple(vocabulary) if vocabulary else official


def read_index(path: str | Path, *, vocabulary: Sequence[str] | None = None, like: Sequence[Submission] = ()) -> Split:
    """An index whose tags are those of `vocabulary`, or else its own.

    If it has not as many tags as the submissions `given` have columns, they are those that their thresholds name, or
    the official ones: where there are as many, and all tags of the index are among them.
    """
    split = mtg_jamendo.read(path, vocabulary=vocabulary)
    columns = {each.predictions.shape[1] for each in like}
    if vocabulary or columns <= {len(split.vocabulary)}:
        return split
    lists = {tuple(each.thresholds) for each in like if each.thresholds} or {tags.MOODS_AND_THEMES}
    fitting = [names for names in lists if {len(names)} == columns and set(split.vocabulary) <= set(names)]
    return mtg_jamendo.read(path, vocabulary=fitting[0]) if len(fitting) == 1 else split


def predict_index(
    tracks: Sequence[Track],
    predict: Hear,
    *,
    tags: Sequence[str],
    vocabulary: Sequence[str],
    cache: Path | None,
    model: str,
    audio: str = "",
    fill: Fill | None = None,
    hint: str = "",
    progress: Callable[[Track, MoodfieldError | None], None] = lambda track, error: None,
) -> Scores:
    """The scores of all tracks of an index, tracks × tags in the order of `vocabulary`; `said` are the tags of `hear`.

    Scores are in the file `kept` at once. Tracks in it are not predicted again; it is refused if it is of another
    `model`, of other tracks, or of `music` of another name, such as the folder it lies in. `heard` is called with every
    track. In the end all tracks that could not be read are refused together, unless `fill` says what is to stand for
    them: a `MoodfieldWarning` then names them. `otherwise` is what else can be done, for the refusal, where it helps.
    """
    if missing := [tag for tag in vocabulary if tag not in tags]:
        raise ScoresError(f"the model has no scores for {', '.join(missing)}; take one that has, or fewer tags")
    failed: list[tuple[str, MoodfieldError]] = []
    index = hashlib.sha256(json.dumps([(track.id, track.path) for track in tracks]).encode()).hexdigest()
    with closing(_Kept(cache, {"model": model, "index": index, "music": audio}, len(tags))) as known:
        for track in tracks:
            if track.id in known.scores:
                progress(track, None)
        for track, result in predict([track for track in tracks if track.id not in known.scores]):
            if isinstance(result, MoodfieldError):
                failed.append((track.path, result))
            else:
                known.add(track, result)
            progress(track, result if isinstance(result, MoodfieldError) else None)
        scores = known.scores
    if failed and (fill is None or len(failed) == len(tracks)):
        advice = f", or {hint}" if hint and len(failed) < len(tracks) else ""
        raise DatasetError(
            f"{len(failed)} of {len(tracks)} tracks could not be read, and predictions are wanted for all of them: "
            f"{_first([f'{path}: {reason}' for path, reason in failed], '; ')}; get these files again{advice}"
        )
    columns = [list(tags).index(tag) for tag in vocabulary]
    there = np.array([track.id in scores for track in tracks])
    found = np.zeros((len(tracks), len(vocabulary)))
    found[there] = np.array([scores[track.id] for track in tracks if track.id in scores])[:, columns]
    if fill == "mean":
        found[~there] = found[there].mean(axis=0)
    if failed:
        how = "the mean of all others" if fill == "mean" else "zeros"
        words = f"{len(failed)} of {len(tracks)} rows are filled with {how}, since these tracks could not be read"
        warnings.warn(f"{words}: {_first([path for path, _ in failed], ', ')}", MoodfieldWarning, stacklevel=2)
    return found


class _Kept:
    """The scores of tracks that were predicted before, in a file that grows line by line.

    Only one process may write to it: `files.lock` sees to that.
    """

    def __init__(self, path: Path | None, source: Mapping[str, str], count: int) -> None:
        self.scores: dict[str, AnyArray] = {}
        self._file = None
        if path is None:
            return
        head = json.dumps(source).encode() + b"\n"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not head.startswith(lines[0]):
            words = "has scores of another model, of other tracks, or of music in another folder"
            raise ConfigError(f"{path} {words}; remove it, or name another place")
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # a process was killed while it wrote
        try:
            entries = [json.loads(line) for line in lines[1:]]
            self.scores = {entry["track"]: np.array(entry["scores"], np.float64) for entry in entries}
            if any(row.shape != (count,) or not np.isfinite(row).all() for row in self.scores.values()):
                raise ValueError(f"every track wants {count} finite numbers")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ConfigError(f"{path} has lines that are no scores ({error}); remove it") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._file.truncate(sum(map(len, lines)))
        self._write(b"" if lines else head)

    def add(self, track: Track, scores: AnyArray) -> None:
        """Keep the scores of a track."""
        self.scores[track.id] = np.asarray(scores, np.float64)
        self._write(json.dumps({"track": track.id, "scores": self.scores[track.id].tolist()}).encode() + b"\n")

    def close(self) -> None:
        """Nothing more comes; a file without scores is removed."""
        if self._file:
            self._file.close()
            if not self.scores:
                Path(self._file.name).unlink(missing_ok=True)

    def _write(self, line: bytes) -> None:
        if self._file:
            self._file.write(line)


def _score(
    truth: AnyArray, submission: Submission, vocabulary: Sequence[str] | None, resamples: int, seed: int
) -> Evaluation:
    if not resamples:
        report = metrics.evaluate(truth, submission.predictions, decisions=submission.decisions, tags=vocabulary)
        return Evaluation(report, (), {}, {}, len(truth))
    system = _system(truth, submission, vocabulary)
    (found,) = bootstrap.bootstrap([system], n_resamples=resamples, generator=np.random.default_rng(seed))
    sure, tags_sure = bootstrap.intervals(found), bootstrap.tag_intervals(found)
    return Evaluation(found.report, (), sure, tags_sure, len(truth), found.rare_tags)


def _system(truth: AnyArray, submission: Submission, vocabulary: Sequence[str] | None) -> System:
    return System(truth, submission.predictions, decisions=submission.decisions, tags=vocabulary)


def _checked(truth: AnyArray, submission: Submission) -> None:
    """Refuse what is not about the tracks and tags of truth."""
    metrics.check_scores(submission.predictions, f"predictions of {submission.name}", like=truth)
    if submission.decisions is not None:
        metrics.check_scores(submission.decisions, f"decisions of {submission.name}", like=truth)


def _tuned(truth: AnyArray, submission: Submission) -> Bool[np.ndarray, "tags"]:
    """Tags with the very decisions of thresholds that were tuned on truth, in one way or the other.

    Where all tracks have the same prediction, or the same truth, no threshold could be tuned: deciding none, or all, of
    them says nothing.
    """
    scores, decisions = submission.predictions, submission.decisions
    if decisions is None:
        return np.zeros(scores.shape[1], bool)
    ways = [metrics.decide(scores, metrics.best_thresholds(truth, scores, criterion=way)) for way in ("f", "official")]
    same = np.any([(way == decisions).all(axis=0) for way in ways], axis=0)
    return np.asarray(same & (scores != scores[0]).any(axis=0) & (truth != truth[0]).any(axis=0))


def _warn(submission: Submission, names: Sequence[str]) -> None:
    """Say where numbers mean little."""
    values, listed = submission.predictions, list(submission.thresholds)
    if sorted(listed) == sorted(names) and listed != list(names):
        words = "list the tags in another order than the truth: its columns may be, too"
        warnings.warn(f"thresholds of {submission.name} {words}", MoodfieldWarning, stacklevel=3)
    if values.dtype == bool:
        words = "are boolean: all decided tracks of a tag share one place, so areas say little beyond the decisions"
        warnings.warn(f"predictions of {submission.name} {words}", MoodfieldWarning, stacklevel=3)
    constant = [name for name, column in zip(names, values.T, strict=True) if (column == column[0]).all()]
    if constant:
        words = f"are the same for all tracks for {_first(constant, ', ')}"
        words = f"{words}: ROC-AUC is then 0.5, PR-AUC the share of positives"
        warnings.warn(f"predictions of {submission.name} {words}", MoodfieldWarning, stacklevel=3)


def _first(things: Sequence[str], separator: str) -> str:
    """The first of many things, and how many more there are."""
    return separator.join(things[:MAX_LISTED]) + (
        f" and {len(things) - MAX_LISTED} more" if len(things) > MAX_LISTED else ""
    )


def _difference(each: Difference) -> dict[str, object]:
    return {name: _plain(value) for name, value in each._asdict().items()}


def _plain(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)

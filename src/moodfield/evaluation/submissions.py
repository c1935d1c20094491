"""Submissions to the MediaEval task in the official format: make, read, write.

A submission to *Emotion and Theme Recognition in Music* is a folder with `predictions.npy` (float64) and
`decisions.npy` (bool), both tracks × tags in the order of the test index and of the list of tags, and `thresholds.txt`.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from moodfield import arrays, errors, files, tags
from moodfield.datasets import mtg_jamendo
from moodfield.errors import DatasetError, OutputError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.metrics import AnyArray, PerTag

FILES = PREDICTIONS, DECISIONS, THRESHOLDS = "predictions.npy", "decisions.npy", "thresholds.txt"
CATEGORY = "mood/theme"
"""category of the task's tags, in its own lists"""
SPLIT_SIZES = {"training": 9_949, "validation": 3_802, "test": 4_231}
"""number of tracks of the task's splits"""
MAX_ROW_DIGITS = 18
"""digits of a row number at most, so that it fits into 64 bits"""

Rows = Int64[np.ndarray, "_"]
"""rows of an index, counted from 0"""


@dataclass(frozen=True, eq=False)
class Submission:
    """Predictions and decisions of a system for the tracks of an index, not yet checked."""

    predictions: AnyArray
    """scores, tracks × tags, in 0 … 1"""
    decisions: AnyArray | None = None
    """scores above the thresholds, tracks × tags, boolean"""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """tag → threshold of its decisions; empty if unknown"""
    columns: tuple[str, ...] = ()
    """tags of the columns of predictions in a `.npy` file; empty if unknown"""
    name: str = "the submission"
    """its name in messages and tables, such as the path of its folder"""

    def take(self, rows: Rows) -> "Submission":
        """The submission for some of the tracks."""
        decisions = None if self.decisions is None else self.decisions[rows]
        return replace(self, predictions=self.predictions[rows], decisions=decisions)


def make(predictions: AnyArray, thresholds: PerTag, vocabulary: Sequence[str]) -> Submission:
    """Make a submission of predictions, tracks × tags, and one threshold per tag.

    Raises `ScoresError` if predictions, thresholds and vocabulary do not fit together.

    Example:
        >>> make(np.array([[0.2, 0.9]]), np.array([0.5, 0.5]), ["happy", "sad"]).decisions.tolist()
        [[False, True]]
    """
    decisions = metrics.decide(predictions, thresholds)
    if len(vocabulary) != len(thresholds):
        raise ScoresError(f"{len(vocabulary)} tags for {len(thresholds)} columns of predictions; give one for each")
    return Submission(predictions, decisions, dict(zip(vocabulary, map(float, thresholds), strict=True)))


def read(path: str | Path) -> Submission:
    """Read the submission in a folder, or the predictions in one `.npy` file.

    Decisions and thresholds may be missing; those of `preds.npy` are in `preds.thresholds.txt`. Only the file format
    is checked: `submission_checks` checks the content. Raises `ScoresError` or `DatasetError` for a
    missing or unreadable file.
    """
    path = Path(path)
    if not path.exists():
        raise ScoresError(f"there is no folder or file {path}; name a submission's folder, or predictions as .npy")
    if not path.is_dir():
        predictions, companion = read_array(path), thresholds_path(path)
        if not companion.exists():
            return Submission(predictions, name=str(path))
        thresholds = read_thresholds(companion)
        if len(thresholds) != predictions.shape[1]:
            raise ScoresError(
                f"{companion} has {len(thresholds)} tags, {path} {predictions.shape[1]} columns; predict again, or "
                "remove the thresholds"
            )
        submission = make(predictions, np.array(list(thresholds.values())), tuple(thresholds))
        return replace(submission, columns=tuple(thresholds), name=str(path))
    decisions, limits = path / DECISIONS, path / THRESHOLDS
    return Submission(
        read_array(path / PREDICTIONS),
        read_array(decisions) if decisions.exists() else None,
        read_thresholds(limits) if limits.exists() else {},
        name=str(path),
    )


def thresholds_path(predictions: Path) -> Path:
    """The file beside a `.npy` file of predictions that names its columns and has their thresholds.

    >>> thresholds_path(Path("preds.npy")).name
    'preds.thresholds.txt'
    """
    return predictions.with_suffix(".thresholds.txt")


def read_array(path: str | Path) -> AnyArray:
    """Read numbers, tracks × tags, from a `.npy` file without pickle; raises `ScoresError` for any other file."""
    return arrays.read_numbers(Path(path), ndim=2, expected="numbers, tracks × tags", error=ScoresError)


def read_thresholds(path: str | Path) -> dict[str, float]:
    """Read thresholds from lines `tag<TAB>value`; raises `DatasetError` with all errors of the file."""
    thresholds: dict[str, float] = {}
    faults = []
    for number, line in enumerate(mtg_jamendo.read_lines(path), start=1):
        tag, _, value = line.partition("\t")
        name, threshold = tags.name(tag), mtg_jamendo.parse_number(value)
        if not name or name in thresholds or math.isnan(threshold):
            faults.append(f"line {number} is {line!r}")
        thresholds[name] = threshold
    if faults or not thresholds:
        raise DatasetError(
            f"{path} cannot be used: {errors.join_some(faults) or 'it is empty'}; every line must have a tag, a tab "
            "and a number, each tag once"
        )
    return thresholds


def write_thresholds(path: str | Path, thresholds: Mapping[str, float]) -> None:
    """Write thresholds as lines `tag<TAB>value`, atomically; the official tags with their category."""
    prefix = f"{CATEGORY}{tags.SEPARATOR}" if tuple(thresholds) == tags.MOODS_AND_THEMES else ""
    lines = [f"{prefix}{tag}\t{float(threshold)!r}\n" for tag, threshold in thresholds.items()]
    files.write(Path(path), "".join(lines).encode())


def order_thresholds(thresholds: Mapping[str, float], vocabulary: Sequence[str]) -> PerTag:
    """Thresholds in the order of the vocabulary; raises `DatasetError` if one is missing.

    >>> order_thresholds({"sad": 0.2, "happy": 0.5}, ["happy", "sad"]).tolist()
    [0.5, 0.2]
    """
    if missing := [repr(tag) for tag in vocabulary if tag not in thresholds]:
        raise DatasetError(f"there are no thresholds for {errors.join_some(missing)}; give one for every tag")
    return np.array([thresholds[tag] for tag in vocabulary], np.float64)


def read_rows(path: str | Path) -> Rows:
    """Read rows of an index, counted from 0: whole numbers in a text file, one a line, or in a `.npy` file.

    Raises `ScoresError` for another array and `DatasetError` for another text file.
    """
    if Path(path).suffix == ".npy":
        expected = "a list of whole numbers"
        rows = arrays.read_numbers(Path(path), ndim=1, expected=expected, error=ScoresError, kinds="iu")
        return rows.astype(np.int64)
    lines = [line.strip() for line in mtg_jamendo.read_lines(path) if line.strip()]
    if faults := [repr(line) for line in lines if not line.isdecimal() or len(line) > MAX_ROW_DIGITS]:
        raise DatasetError(f"{path} must have one row a line, counted from 0, and has {errors.join_some(faults)}")
    return np.array(lines, np.int64)


def check_output(folder: str | Path, *, inputs: Sequence[str | Path] = (), shared: bool = False) -> None:
    """Raise `OutputError`, before any work is done, for a folder that a submission must not be written to.

    Allowed are a new folder, an empty one, and one with a submission that `write` wrote, which is replaced. Neither
    the `inputs`, nor files in them if they are folders, are replaced. A `shared` folder may also hold other files.
    """
    folder = Path(folder)
    files.check_name(folder)
    if any(files.is_same(folder, Path(path)) for path in inputs):
        raise OutputError(f"{folder} is an input of this command and is not overwritten; name another folder")
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder} is not a folder, and a submission is one; name another one")
    if not folder.is_dir():
        parent = next(path for path in folder.absolute().parents if os.path.lexists(path))
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"{folder} cannot be made: {parent} is not a writable folder; name another path")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} is write-protected; name another folder")
    input_files = [path for source in inputs if Path(source).is_dir() for path in Path(source).iterdir()]
    for name in FILES:
        kind = (b"",) if name == THRESHOLDS else files.NPY
        files.check_output(folder / name, kind=kind, inputs=[*inputs, *input_files])
    names = [path.name for path in sorted(folder.iterdir()) if not files.PARTIAL.fullmatch(path.name)]
    if THRESHOLDS not in names and (PREDICTIONS in names or (names and not shared)):
        raise OutputError(f"{folder} holds {errors.join_some(names)} and no submission of ours; name a new folder")
    try:
        if THRESHOLDS in names:
            read_thresholds(folder / THRESHOLDS)
    except DatasetError as error:
        raise OutputError(f"{folder / THRESHOLDS} is not replaced: {error}; name another folder") from error


def write(submission: Submission, folder: str | Path, *, vocabulary: Sequence[str]) -> None:
    """Write a submission with decisions and thresholds into a folder, in the official format.

    Old predictions are removed first and new ones renamed last: a folder without predictions is no submission, and
    they never lie beside the decisions of another one.

    Raises:
        ScoresError: if the submission has `format_errors`, or no thresholds.
        OutputError: if `check_output` raises it for the folder.
    """
    check_output(folder, shared=True)
    faults = format_errors(submission, vocabulary, (len(submission.predictions), len(vocabulary)))
    if faults or not submission.thresholds:
        raise ScoresError(f"{submission.name} cannot be submitted: {'; '.join(faults) or 'it has no thresholds'}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # the first to be entered is the last to be renamed
        partial = {name: stack.enter_context(files.atomic_path(folder / name)) for name in FILES}
        arrays.write(partial[PREDICTIONS], submission.predictions)
        arrays.write(partial[DECISIONS], np.asarray(submission.decisions))
        write_thresholds(partial[THRESHOLDS], {tag: submission.thresholds[tag] for tag in vocabulary})
        (folder / PREDICTIONS).unlink(missing_ok=True)


def format_errors(submission: Submission, vocabulary: Sequence[str], expected: tuple[int, int]) -> list[str]:
    """Everything that is not the official format: shapes other than `expected`, types, values, inconsistent decisions.

    >>> format_errors(Submission(np.array([[0.5, 1.5]])), ["happy", "sad"], (1, 2))
    ['1 predictions are outside 0 … 1 (they span 0.5 … 1.5): apply the sigmoid', 'there are no decisions: ...']
    """
    if faults := [*_shape_errors("predictions", submission.predictions, expected)]:
        return [*faults, *_shape_errors("decisions", submission.decisions, expected)]
    return [
        *_prediction_errors(submission.predictions, vocabulary),
        *_threshold_errors(submission.thresholds, vocabulary),
        *_decision_errors(submission, vocabulary, expected),
    ]


def tags_where(mask: Bool[np.ndarray, "tags"], vocabulary: Sequence[str]) -> str:
    """The first names of the tags where a mask is true, and how many more there are."""
    return errors.join_some(repr(tag) for tag, selected in zip(vocabulary, mask, strict=True) if selected)


def _shape_errors(name: str, values: AnyArray | None, expected: tuple[int, int]) -> Iterator[str]:
    if values is None or values.shape == expected:
        return
    rows, columns = values.shape
    if (columns, rows) == expected:
        yield f"{name} are {rows} × {columns}, which is tags × tracks: transpose them to tracks × tags"
        return
    if rows != expected[0]:
        splits = [f", as many as the {split} split of the task" for split, n in SPLIT_SIZES.items() if n == rows]
        yield f"{name} have {rows:,} rows{''.join(splits)}; there are {expected[0]:,} tracks"
    if columns != expected[1]:
        yield f"{name} have {columns} columns; there are {expected[1]} tags"


def _prediction_errors(predictions: AnyArray, vocabulary: Sequence[str]) -> Iterator[str]:
    if predictions.dtype != np.float64:
        yield f"predictions are {predictions.dtype}; the task requires float64: use astype(numpy.float64)"
    for mask, fault in ((np.isnan(predictions), "not a number"), (np.isinf(predictions), "infinite")):
        if mask.any():
            row, column = np.argwhere(mask)[0]
            yield f"{mask.sum():,} predictions are {fault}, the first in row {row} for {vocabulary[column]!r}"
    finite = predictions[np.isfinite(predictions)]
    if (outside := (finite < 0) | (finite > 1)).any():
        span = f"{finite.min():.4g} … {finite.max():.4g}"
        yield f"{outside.sum():,} predictions are outside 0 … 1 (they span {span}): apply the sigmoid"


def _threshold_errors(thresholds: Mapping[str, float], vocabulary: Sequence[str]) -> Iterator[str]:
    missing = [repr(tag) for tag in vocabulary if tag not in thresholds]
    unknown = [repr(tag) for tag in thresholds if tag not in vocabulary]
    if thresholds and missing:
        yield f"there are no thresholds for {errors.join_some(missing)}"
    if unknown:
        yield f"there are thresholds for {errors.join_some(unknown)}, which are no tags of the task"
    if thresholds and not missing and not unknown and list(thresholds) != list(vocabulary):
        yield "thresholds list the tags in another order than the task: are the columns in the order of its tags?"


def _decision_errors(submission: Submission, vocabulary: Sequence[str], expected: tuple[int, int]) -> Iterator[str]:
    """What is wrong with decisions beside predictions of the right shape."""
    predictions, decisions, thresholds = submission.predictions, submission.decisions, submission.thresholds
    if decisions is None:
        yield f"there are no decisions: put them beside the predictions, as {DECISIONS}"
        return
    yield from _shape_errors("decisions", decisions, expected)
    if decisions.dtype != bool:
        yield f"decisions are {decisions.dtype}; the task requires bool"
    if decisions.shape != expected or decisions.dtype != bool:
        return
    if thresholds and all(tag in thresholds for tag in vocabulary):
        wrong = (predictions > order_thresholds(thresholds, vocabulary)) != decisions
        if wrong.any():
            names = tags_where(wrong.any(axis=0), vocabulary)
            yield f"{wrong.sum():,} decisions are not those of the thresholds (strictly above): see {names}"
        return
    lowest = np.where(decisions, predictions, np.inf).min(axis=0)
    highest = np.where(decisions, -np.inf, predictions).max(axis=0)
    if (impossible := highest >= lowest).any():
        yield f"no threshold makes these decisions of the predictions for {tags_where(impossible, vocabulary)}"

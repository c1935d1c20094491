"""Submissions to the task in the official form: write, read, check.

In: predictions, decisions and thresholds; the index they are for. Out: files, and every fault in words.
Knows nothing of: numbers that make systems comparable, taggers, or how predictions came to be.

A submission to MediaEval's *Emotion and Theme Recognition in Music* is a folder with `predictions.npy` (float64) and
`decisions.npy` (bool), both tracks × tags in the order of the test index and of the list of tags, and `thresholds.txt`.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from moodfield import arrays, files, tags
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, OutputError, ScoresError
from moodfield.evaluation import metrics
from moodfield.evaluation.metrics import AnyArray, PerTag, Scores, Truth

PREDICTIONS, DECISIONS, THRESHOLDS = "predictions.npy", "decisions.npy", "thresholds.txt"
CATEGORY = "mood/theme"
"""of the task's tags, in its own lists"""
SPLIT_SIZES = {"training": 9_949, "validation": 3_802, "test": 4_231}
"""rows of the parts of the task's split"""
CHANCE_ROC_AUC = 0.55
"""macro ROC-AUC below which the order of rows is in question; *chosen by us*"""
MIN_SWAP_GAIN = 0.2
"""ROC-AUC that two columns must gain together, if exchanged, for their order to be in question; *chosen by us*: none
in ten published submissions gain as much, and most pairs that were exchanged on purpose do"""
MIN_POSITIVES = 10
"""tracks with a tag, and without it, below which its ROC-AUC says nothing about an order; *chosen by us*"""
MAX_ROW_DIGITS = 18
"""more make no row, and may not fit into 64 bits"""
MAX_LISTED = 5
"""things that one fault names; there may be hundreds"""

Rows = Int64[np.ndarray, "_"]


@dataclass(frozen=True, eq=False)
class Submission:
    """Predictions and decisions of a system for the tracks of an index, as they came."""

    predictions: AnyArray
    """scores, tracks × tags"""
    decisions: AnyArray | None = None
    """which scores are decided, of the same shape"""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """tag → the threshold that its decisions come from; empty if unknown"""
    name: str = "the submission"
    """what it is called in words and tables"""

    def take(self, rows: Rows) -> "Submission":
        """The submission for some of the tracks."""
        decisions = None if self.decisions is None else self.decisions[rows]
        return replace(self, predictions=self.predictions[rows], decisions=decisions)


def make(predictions: AnyArray, thresholds: PerTag, vocabulary: Sequence[str]) -> Submission:
    """A submission of predictions, tracks × tags, and of one threshold per tag, which its decisions lie above."""
    decisions = metrics.decide(predictions, thresholds)
    if len(vocabulary) != len(thresholds):
        raise ScoresError(
            f"{len(vocabulary)} tags came for {len(thresholds)} columns of predictions; give one for each"
        )
    return Submission(predictions, decisions, dict(zip(vocabulary, map(float, thresholds), strict=True)))


def read(place: str | Path) -> Submission:
    """The submission in a folder, or the predictions in one `.npy` file; refuses what cannot be read.

    Decisions and thresholds may be missing. Whether a submission is in order is for `find_errors` to say.
    """
    place = Path(place)
    if not place.exists():
        raise ScoresError(f"there is no folder or file {place}; name a submission's folder, or predictions as .npy")
    if not place.is_dir():
        return Submission(read_array(place), name=str(place))
    decisions, thresholds = place / DECISIONS, place / THRESHOLDS
    return Submission(
        read_array(place / PREDICTIONS),
        read_array(decisions) if decisions.exists() else None,
        read_thresholds(thresholds) if thresholds.exists() else {},
        str(place),
    )


def read_array(path: str | Path) -> AnyArray:
    """The numbers in a `.npy` file, tracks × tags; nothing in it can act. Refuses any other file."""
    return arrays.read_numbers(Path(path), ndim=2, expected="numbers, tracks × tags", error=ScoresError)


def read_thresholds(path: str | Path) -> dict[str, float]:
    """The thresholds in a file of lines `tag<TAB>value`; refuses with all faults at once."""
    found: dict[str, float] = {}
    faults = []
    for number, line in enumerate(_lines(path), start=1):
        tag, _, value = line.partition("\t")
        name, threshold = tags.name(tag), _number(value)
        if not name or name in found or math.isnan(threshold):
            faults.append(f"line {number} is {line!r}")
        found[name] = threshold
    if faults or not found:
        wanted = "every line wants a tag, a tab and a number, each tag once"
        raise DatasetError(f"{path} cannot be used: {_some(faults) or 'it is empty'}; {wanted}")
    return found


def order_thresholds(thresholds: Mapping[str, float], vocabulary: Sequence[str]) -> PerTag:
    """Thresholds in the order of the tags; refuses if one is missing."""
    if missing := [repr(tag) for tag in vocabulary if tag not in thresholds]:
        raise DatasetError(f"there are no thresholds for {_some(missing)}; give one for every tag")
    return np.array([thresholds[tag] for tag in vocabulary], np.float64)


def read_rows(path: str | Path) -> Rows:
    """Rows of an index, counted from 0: whole numbers in a text file, one a line, or in a `.npy` file."""
    if Path(path).suffix == ".npy":
        expected = "a list of whole numbers"
        rows = arrays.read_numbers(Path(path), ndim=1, expected=expected, error=ScoresError, kinds="iu")
        return rows.astype(np.int64)
    lines = [line.strip() for line in _lines(path) if line.strip()]
    if faults := [repr(line) for line in lines if not line.isdecimal() or len(line) > MAX_ROW_DIGITS]:
        raise DatasetError(f"{path} wants one row a line, counted from 0, and has {_some(faults)}")
    return np.array(lines, np.int64)


def check_output(folder: str | Path, *, inputs: Sequence[str | Path] = (), shared: bool = False) -> None:
    """Refuse with `OutputError`, before any work is done, a folder that a submission must not be written to.

    Allowed are a new folder, an empty one, and one with a submission as `write` leaves it, which is replaced. Neither
    the `inputs`, nor files in them if they are folders, are replaced. A `shared` folder may also hold other things.
    """
    folder = Path(folder)
    files.check_name(folder)
    if any(files.is_same(folder, Path(given)) for given in inputs):
        raise OutputError(f"{folder} is an input of this command and is not overwritten; name another folder")
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder} is not a folder, and a submission is one; name another one")
    if not folder.is_dir():
        parent = next(path for path in folder.absolute().parents if os.path.lexists(path))
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"{folder} cannot be made: {parent} is no folder to write to; name another place")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} is write-protected; name another folder")
    taken = [path for given in inputs if Path(given).is_dir() for path in Path(given).iterdir()]
    for name in (PREDICTIONS, DECISIONS, THRESHOLDS):
        kind = (b"",) if name == THRESHOLDS else files.NPY
        files.check_output(folder / name, kind=kind, inputs=[*inputs, *taken])
    others = [path.name for path in sorted(folder.iterdir()) if not files.PARTIAL.fullmatch(path.name)]
    if THRESHOLDS not in others and (PREDICTIONS in others or (others and not shared)):
        raise OutputError(f"{folder} holds {_some(others)} and no submission of ours; name a new folder")
    try:
        if THRESHOLDS in others:
            read_thresholds(folder / THRESHOLDS)
    except DatasetError as error:
        raise OutputError(f"{folder / THRESHOLDS} is not replaced: {error}; name another folder") from error


def write(submission: Submission, folder: str | Path, *, vocabulary: Sequence[str]) -> None:
    """Put a submission with decisions and thresholds into a folder, in the official form; refuses one of another form.

    What is only odd, such as a tag that has the same prediction for all tracks, is written.

    Its predictions take their place last, and old ones go first: a folder without them is no submission, and they are
    never seen beside the decisions of another one.
    """
    check_output(folder, shared=True)
    faults = _malformed(submission, vocabulary, (len(submission.predictions), len(vocabulary)))
    if faults or not submission.thresholds:
        raise ScoresError(f"{submission.name} cannot be submitted: {'; '.join(faults) or 'it has no thresholds'}")
    form = f"{CATEGORY}{tags.SEPARATOR}" if tuple(vocabulary) == tags.MOODS_AND_THEMES else ""
    lines = "".join(f"{form}{tag}\t{float(submission.thresholds[tag])!r}\n" for tag in vocabulary)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # what was entered first takes its place last
        half = {
            name: stack.enter_context(files.atomic_path(folder / name)) for name in (PREDICTIONS, DECISIONS, THRESHOLDS)
        }
        for name, values in ((PREDICTIONS, submission.predictions), (DECISIONS, submission.decisions)):
            arrays.write(half[name], np.asarray(values))
        half[THRESHOLDS].write_text(lines, encoding="utf-8")
        (folder / PREDICTIONS).unlink(missing_ok=True)


def write_array(path: str | Path, values: AnyArray) -> None:
    """Put numbers into a `.npy` file; it is there whole or not at all."""
    arrays.write(Path(path), np.asarray(values))


def find_errors(
    submission: Submission,
    *,
    vocabulary: Sequence[str],
    tracks: Sequence[Track] = (),
    rows: int | None = None,
    truth: AnyArray | None = None,
) -> list[str]:
    """Everything that is wrong with a new submission, in words; nothing if it is in order, though it may be odd.

    `vocabulary` has the tags in their order. `rows` says how many tracks there are to be, `tracks` which. Whether rows
    and columns are in order shows only beside a `truth`, tracks × tags, and only where it makes a large difference.
    """
    rows = len(tracks) or (rows if truth is None else len(truth)) or len(submission.predictions)
    wanted = rows, len(vocabulary)
    faults = _malformed(submission, vocabulary, wanted)
    if submission.predictions.shape != wanted:
        return faults
    if truth is not None:
        truth = metrics.check_binary(truth, "truth", like=submission.predictions)
        if np.isfinite(submission.predictions).all():
            predictions = metrics.check_scores(submission.predictions, "predictions")
            faults += [*_bad_columns(predictions, truth, vocabulary), *_bad_rows(predictions, truth, tracks)]
    return faults


def _malformed(submission: Submission, vocabulary: Sequence[str], wanted: tuple[int, int]) -> list[str]:
    """What is not of the official form."""
    if faults := [*_misshapen("predictions", submission.predictions, wanted)]:
        return [*faults, *_misshapen("decisions", submission.decisions, wanted)]
    return [*_bad_predictions(submission.predictions, vocabulary), *_bad_decisions(submission, vocabulary, wanted)]


def find_warnings(submission: Submission, vocabulary: Sequence[str]) -> Iterator[str]:
    """What has the official form and is hardly meant, though an index of few tracks may lead to it; no faults."""
    values, decisions = submission.predictions, submission.decisions
    if empty := [str(row) for row in np.flatnonzero(~values.any(axis=1))]:
        yield f"predictions are 0 for every tag in {len(empty):,} of {len(values):,} rows: {_some(empty)} (from 0)"
    if len(values) > 1 and (constant := (values == values[0]).all(axis=0)).any():
        named = _some(_where(constant, vocabulary))
        yield f"predictions are the same for every track for {named}: they cannot rank anything"
    if decisions is None or decisions.shape != values.shape or decisions.dtype != bool:
        return
    if decisions.all() or not decisions.any():
        yield f"{'every' if decisions.any() else 'no'} tag is decided, for all tracks"


def _misshapen(what: str, values: AnyArray | None, wanted: tuple[int, int]) -> Iterator[str]:
    """What is wrong with the shape of an array."""
    if values is None or values.shape == wanted:
        return
    rows, columns = values.shape
    if (columns, rows) == wanted:
        yield f"{what} lie on their side, {rows} × {columns}: transpose them to tracks × tags"
        return
    if rows != wanted[0]:
        part = [f", as many as the {name} split of the task" for name, count in SPLIT_SIZES.items() if count == rows]
        yield f"{what} have {rows:,} rows{''.join(part)}; there are {wanted[0]:,} tracks"
    if columns != wanted[1]:
        yield f"{what} have {columns} columns; there are {wanted[1]} tags"


def _bad_predictions(values: AnyArray, vocabulary: Sequence[str]) -> Iterator[str]:
    """What is wrong with predictions of the right shape."""
    if values.dtype != np.float64:
        yield f"predictions are {values.dtype}; the task wants float64: use astype(numpy.float64)"
    for bad, what in ((np.isnan(values), "not a number"), (np.isinf(values), "infinite")):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            yield f"{bad.sum():,} predictions are {what}, the first in row {row} for {vocabulary[column]!r}"
    finite = values[np.isfinite(values)]
    if (outside := (finite < 0) | (finite > 1)).any():
        ends = f"{finite.min():.4g} … {finite.max():.4g}"
        yield f"{outside.sum():,} predictions are outside 0 … 1 (they span {ends}): apply the sigmoid"


def _bad_decisions(submission: Submission, vocabulary: Sequence[str], wanted: tuple[int, int]) -> Iterator[str]:
    """What is wrong with decisions and thresholds beside predictions of the right shape."""
    values, limits = submission.decisions, submission.thresholds
    missing, strangers = (
        [repr(tag) for tag in a if tag not in b] for a, b in ((vocabulary, limits), (limits, vocabulary))
    )
    if limits and missing:
        yield f"there are no thresholds for {_some(missing)}"
    if strangers:
        yield f"there are thresholds for {_some(strangers)}, which are no tags of the task"
    if limits and not missing and not strangers and list(limits) != list(vocabulary):
        yield "thresholds list the tags in another order than the task: are the columns in the order of its tags?"
    if values is None:
        yield f"there are no decisions: put them beside the predictions, as {DECISIONS}"
        return
    yield from _misshapen("decisions", values, wanted)
    if values.dtype != bool:
        yield f"decisions are {values.dtype}; the task wants bool"
    if values.shape != wanted or values.dtype != bool:
        return
    if limits and not missing:
        apart = (submission.predictions > np.array([limits[tag] for tag in vocabulary])) != values
        if apart.any():
            named = _some(_where(apart.any(axis=0), vocabulary))
            yield f"{apart.sum():,} decisions are not those of the thresholds (strictly above): see {named}"
        return
    lowest = np.where(values, submission.predictions, np.inf).min(axis=0)
    highest = np.where(values, -np.inf, submission.predictions).max(axis=0)
    if (crossed := highest >= lowest).any():
        yield f"no threshold makes these decisions of the predictions for {_some(_where(crossed, vocabulary))}"


def _bad_columns(predictions: Scores, truth: Truth, vocabulary: Sequence[str]) -> Iterator[str]:
    """Pairs of columns that would fit truth far better if they were exchanged."""
    fit = _fit(predictions, truth)
    own = np.diag(fit)
    gain = np.triu(fit + fit.T - own[:, None] - own, 1)
    gain[~_enough(truth)], gain[:, ~_enough(truth)] = 0, 0
    pairs = np.argwhere(gain > MIN_SWAP_GAIN)
    if len(pairs):
        first, second = map(int, pairs[gain[tuple(pairs.T)].argmax()])
        yield (
            f"columns would fit far better in each other's place: {vocabulary[first]!r} and {vocabulary[second]!r} "
            f"would have ROC-AUC {fit[first, second]:.2f} and {fit[second, first]:.2f}, not {own[first]:.2f} and "
            f"{own[second]:.2f}; are they in the order of the tags?"
        )


def _bad_rows(predictions: Scores, truth: Truth, tracks: Sequence[Track]) -> Iterator[str]:
    """Rows that tell nothing, or would tell something in another order that comes easily."""
    enough = _enough(truth)
    predictions, truth = predictions[:, enough], truth[:, enough]
    found = metrics.evaluate(truth, predictions).macro["ROC-AUC"] if enough.any() else 1.0
    if not found < CHANCE_ROC_AUC:
        return
    orders = {"backwards": np.arange(len(truth))[::-1]}
    for what in ("path", "id"):
        names = [getattr(track, what) for track in tracks]
        orders[f"sorted by {what}"] = np.array(sorted(range(len(names)), key=names.__getitem__), int)
    for order, rows in orders.items():
        better = metrics.evaluate(truth, predictions[np.argsort(rows)]).macro["ROC-AUC"] if len(rows) else 0.0
        if better > CHANCE_ROC_AUC:
            yield f"rows seem to be {order}: so read, macro ROC-AUC is {better:.2f} instead of {found:.2f}"
            return
    yield f"macro ROC-AUC is {found:.2f}, which is chance: are rows in the order of the index?"


def _fit(predictions: Scores, truth: Truth) -> Float64[np.ndarray, "tags tags"]:
    """ROC-AUC of every column of predictions (last axis) for every tag of truth; NaN where it is not defined."""
    positives = truth.sum(axis=0)[:, None]
    pairs = positives * (len(truth) - positives)
    ahead = (
        truth.T.astype(np.float64) @ (metrics.relative_ranks(predictions) * (len(truth) - 1))
        - positives * (positives - 1) / 2
    )
    return np.divide(ahead, pairs, out=np.full(ahead.shape, np.nan), where=pairs > 0)


def _enough(truth: Truth) -> Bool[np.ndarray, "tags"]:
    """Tags whose ROC-AUC is more than chance: there are enough tracks with and without them."""
    positives = truth.sum(axis=0)
    return np.asarray(np.minimum(positives, len(truth) - positives) >= MIN_POSITIVES)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a text file: {error}") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _where(mask: Bool[np.ndarray, "tags"], vocabulary: Sequence[str]) -> Iterator[str]:
    """The tags that are meant."""
    return (repr(tag) for tag, meant in zip(vocabulary, mask, strict=True) if meant)


def _some(things: Iterable[str]) -> str:
    """The first of many things, and how many more there are."""
    named = list(things)
    more = f" and {len(named) - MAX_LISTED} more" if len(named) > MAX_LISTED else ""
    return ", ".join(named[:MAX_LISTED]) + more

"""The commands about submissions: evaluate, compare, submit, check, ensemble.

In: predictions, truth, models. Out: tables or JSON, and submissions.
Knows nothing of: how anything is measured.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moodfield.cli import console, prediction, tables
from moodfield.cli.prediction import Fill
from moodfield.errors import UsageError

if TYPE_CHECKING:
    from moodfield.datasets.mtg_jamendo import Split, Track
    from moodfield.evaluation.metrics import AnyArray
    from moodfield.evaluation.submissions import Rows, Submission


class Of(StrEnum):
    """What is averaged."""

    SCORES = "scores"
    LOGITS = "logits"
    RANKS = "ranks"


TUNED = ("f", "official")
"""what thresholds are tuned for, by name; any other word is a file"""
Place = Annotated[str, typer.Argument(help="a submission's folder, or predictions as .npy", show_default=False)]
TruthFile = Annotated[Path, typer.Option("--truth", "--index", help="truth: a TSV like MTG-Jamendo's, or .npy")]
Index = Annotated[Path, typer.Option(help="the tracks: a TSV in the form of MTG-Jamendo")]
Audio = Annotated[Path, typer.Option(help="the folder that the paths in the TSV are below")]
TagList = Annotated[Path | None, typer.Option("--tags", help="the tags in their order, one a line")]
LeaveOut = Annotated[Path | None, typer.Option(help="rows of tracks to leave out, from 0: text, one a line, or .npy")]
Learned = Annotated[
    list[Path] | None, typer.Option(help="instead: TSVs of the training tracks; the same audio is left out")
]
Sums = Annotated[Path | None, typer.Option(help="with --learned: a list of the tracks' SHA-256")]
Intervals = Annotated[int, typer.Option(min=0, help="resamples for 95 % intervals; 0: none")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the resamples")]
PerTag = Annotated[bool, typer.Option("--per-tag", help="a row for every tag too (always in JSON)")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object instead of a table, with every digit")]
FillIn = Annotated[Fill | None, typer.Option(help="what stands for tracks that cannot be read; else they are refused")]


def evaluate(
    place: Annotated[str | None, typer.Argument(help="a submission's folder, or predictions as .npy")] = None,
    *,
    truth: TruthFile,
    predictions: Annotated[Path | None, typer.Option(help="instead of a folder: scores, tracks × tags, .npy")] = None,
    decisions: Annotated[Path | None, typer.Option(help="decisions to go with them, .npy")] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="decide anew: by a thresholds.txt, or tuned by `f` or `official`")
    ] = None,
    tune_truth: Annotated[Path | None, typer.Option(help="tune on this truth, of validation, …")] = None,
    tune_predictions: Annotated[Path | None, typer.Option(help="… and these predictions for it")] = None,
    model: console.Models = None,
    audio: Annotated[Path | None, typer.Option(help="with --model: the folder of the music of the TSV")] = None,
    keep: Annotated[Path | None, typer.Option(help="with --model: where scores are kept: scores.jsonl")] = None,
    tags: TagList = None,
    leave_out: LeaveOut = None,
    learned: Learned = None,
    sums: Sums = None,
    intervals: Intervals = 1_000,
    seed: Seed = 0,
    per_tag: PerTag = False,
    as_json: AsJson = False,
    jobs: console.Jobs = 0,
) -> None:
    """Evaluate predictions by the official metrics, overall and per tag, with intervals."""
    from moodfield.evaluation import mediaeval, submissions

    if bool(place) + bool(predictions) + bool(model) != 1:
        raise UsageError("name one of: a submission, --predictions, or --model")
    console.refuse_unused(
        {} if model else {"--audio": audio, "--keep": keep, "--jobs": jobs}, why="they go with --model"
    )
    _check_thresholds(thresholds, tune_truth, tune_predictions, decisions)
    _check_rows(truth, leave_out, learned, sums)
    names = _names(tags)
    if model:
        if audio is None or truth.suffix == ".npy":
            raise UsageError("--model needs an index of tracks as --truth, and their music as --audio")
        given, split = prediction.tagged(model, truth, audio, names=names, kept=keep, jobs=jobs)
        known, names = split.truth, split.vocabulary
    else:
        given = submissions.read(str(place or predictions))
        known, names = mediaeval.read_truth(truth, vocabulary=names, like=[given])
    if decisions:
        given = replace(given, decisions=submissions.read_array(decisions))
    if thresholds or tune_truth:
        given = _decided(given, thresholds or "f", known, names, tune_truth, tune_predictions)
    unfair = _left_out(truth, leave_out, learned, sums)
    found = mediaeval.evaluate(known, given, vocabulary=names, exclude=unfair, n_resamples=intervals, seed=seed)
    if as_json:
        console.result_json(found.to_dict())
    else:
        tables.show(found, given.name, per_tag=per_tag)


def _check_thresholds(
    thresholds: str | None, tune_truth: Path | None, tune_predictions: Path | None, decisions: Path | None
) -> None:
    """Refuse options about decisions that contradict each other."""
    if bool(tune_truth) != bool(tune_predictions):
        raise UsageError("thresholds are tuned on --tune-truth and --tune-predictions; give both")
    if thresholds not in (None, *TUNED):
        console.refuse_unused({"--tune-truth": tune_truth}, why=f"thresholds are those of {thresholds}")
    if thresholds or tune_truth:
        console.refuse_unused({"--decisions": decisions}, why="decisions are made anew with thresholds")


def _check_rows(truth: Path, leave_out: Path | None, learned: list[Path] | None, sums: Path | None) -> None:
    """Refuse options about left-out rows that contradict each other."""
    if (learned or sums) and (not learned or not sums or leave_out or truth.suffix == ".npy"):
        raise UsageError("--learned and --sums go together, with a TSV as --truth and without --leave-out")


def _left_out(truth: Path, leave_out: Path | None, learned: list[Path] | None, sums: Path | None) -> "Rows | None":
    """The rows that are not fair, if any are named or can be found."""
    from moodfield.evaluation import mediaeval, submissions

    if not learned or not sums:
        return submissions.read_rows(leave_out) if leave_out else None
    rows = mediaeval.find_leaks(truth, learned, sums)
    console.say(f"{len(rows)} leaks: tracks of {truth} whose audio is also in the training tracks")
    return rows


def compare(
    one: Place,
    other: Place,
    *,
    truth: TruthFile,
    tags: TagList = None,
    leave_out: LeaveOut = None,
    learned: Learned = None,
    sums: Sums = None,
    intervals: Annotated[int, typer.Option(min=1, help="resamples")] = 1_000,
    seed: Seed = 0,
    per_tag: PerTag = False,
    as_json: AsJson = False,
) -> None:
    """Test whether one submission is better than another, on the same tracks."""
    from moodfield.evaluation import mediaeval, submissions

    _check_rows(truth, leave_out, learned, sums)
    both = submissions.read(one), submissions.read(other)
    known, names = mediaeval.read_truth(truth, vocabulary=_names(tags), like=both)
    rows = _left_out(truth, leave_out, learned, sums)
    found = mediaeval.compare(known, *both, vocabulary=names, exclude=rows, n_resamples=intervals, seed=seed)
    if as_json:
        console.result_json(found.to_dict())
    else:
        tables.show_beside(found, one, other, per_tag=per_tag)


def submit(
    *,
    index: Index,
    audio: Audio,
    to: Annotated[
        Path, typer.Option(help="the folder of the submission; scores are kept beside it until it is complete")
    ],
    model: console.Models = None,
    tags: TagList = None,
    thresholds: Annotated[Path | None, typer.Option(help="a thresholds.txt instead of the model's own")] = None,
    fill: FillIn = None,
    jobs: console.Jobs = 0,
) -> None:
    """Predict all tracks of an index and write a submission: predictions, decisions, thresholds."""
    from moodfield import tagger
    from moodfield.evaluation import submissions

    prediction.check_audio(audio)
    inputs = [index, *(each for each in (tags, thresholds) if each)]
    submissions.check_output(to, inputs=[*inputs, audio])
    names, limits = _names(tags), submissions.read_thresholds(thresholds) if thresholds else None
    whole = Path(os.path.abspath(to))  # noqa: PTH100 (a link stays one; `.` gets a name)
    kept = whole.with_name(f"{whole.name}.scores.jsonl")
    with prediction.scores_file(kept, inputs=inputs):
        asked = tagger.load(*(model or ()))
        split = prediction.untagged(index, names or asked.vocabulary)
        otherwise = "" if fill else prediction.OTHERWISE
        made = prediction.predict(asked, model, split, audio, kept=kept, fill=fill, otherwise=otherwise, jobs=jobs)
        if limits:
            made = submissions.make(
                made.predictions, submissions.order_thresholds(limits, split.vocabulary), split.vocabulary
            )
        submissions.write(made, to, vocabulary=split.vocabulary)
        kept.unlink(missing_ok=True)
    command = prediction.check_command(to, index, tags, model, split.vocabulary)
    console.result(f"the submission is {to}; try: {command}")


def check(
    place: Place,
    *,
    truth: Annotated[
        Path | None, typer.Option("--truth", "--index", help="the tracks: a TSV, or truth as .npy")
    ] = None,
    tags: TagList = None,
    model: Annotated[str | None, typer.Option(help="instead of --tags: a model that has these tags")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a new submission: everything that is wrong with its form, and what is only odd."""
    from moodfield import tagger
    from moodfield.card import Card
    from moodfield.evaluation import mediaeval, submissions
    from moodfield.tags import MOODS_AND_THEMES

    if model and tags:
        raise UsageError("--tags and --model both name the tags; leave one of them out")
    given = submissions.read(place)
    names, known = Card.read(tagger.model_folder(model)).vocabulary if model else _names(tags), None
    tracks: Sequence[Track] = ()
    others: list[str] = []
    if truth and truth.suffix == ".npy":
        known, names = mediaeval.read_truth(truth, vocabulary=names)
    elif truth:
        split, others = _index(truth, names, given)
        known, names, tracks = split.truth, split.vocabulary, split.tracks
    told = known if known is not None and known.any() else None  # an index may leave its tags to the task
    names = names or MOODS_AND_THEMES
    faults = submissions.find_errors(given, vocabulary=names, tracks=tracks, truth=told)
    odd = [] if faults else list(submissions.find_warnings(given, names))
    if others and not faults:
        odd.append(f"{truth} has tags that the submission has not ({len(others)}), so its truth is not compared")
    if as_json:
        console.result_json({"submission": place, "faults": faults, "odd": odd})
    else:
        for line in [*faults, *(f"odd: {each}" for each in odd)] or ["in order"]:
            console.result(f"{place}: {line}")
    if faults:
        raise typer.Exit(console.FAILED)


def _index(path: Path, names: Sequence[str] | None, given: "Submission") -> "tuple[Split, list[str]]":
    """The index that a submission is checked with, without its truth if it has tags that are not among `names`."""
    from moodfield.datasets import mtg_jamendo
    from moodfield.evaluation import mediaeval
    from moodfield.tags import MOODS_AND_THEMES

    own = mtg_jamendo.read(path).vocabulary
    if given.predictions.shape[1] == len(MOODS_AND_THEMES) and set(own) < set(MOODS_AND_THEMES):
        names = names or MOODS_AND_THEMES  # an index of few tracks lacks some tags
    others = [tag for tag in own if names and tag not in names]
    if names and others:
        return prediction.untagged(path, names), others
    return mediaeval.read_index(path, vocabulary=names, like=[given]), others


def ensemble(
    members: Annotated[list[str], typer.Argument(help="submissions, or predictions as .npy", show_default=False)],
    *,
    to: Annotated[Path, typer.Option(help="the predictions, x.npy, or the folder of a submission")],
    of: Annotated[Of, typer.Option(help="what is averaged")] = Of.SCORES,
    weights: Annotated[str | None, typer.Option(help="one for every member: 2,1,1")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="weights by greedy selection on validation")] = False,
    truth: Annotated[Path | None, typer.Option("--validation-truth", help="of validation: a TSV, or .npy")] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="predictions for it, once for every member, in their order")
    ] = None,
    tags: TagList = None,
) -> None:
    """Average several submissions into one, with thresholds from validation."""
    from moodfield.evaluation import ensemble as room
    from moodfield.evaluation import mediaeval, metrics, submissions

    folder = to.suffix != ".npy"
    if weights and greedy:
        raise UsageError(f"--weights {weights} are given and --greedy chooses others; leave one of them out")
    if (folder or greedy or truth or validation) and (truth is None or len(validation or ()) != len(members)):
        raise UsageError(
            "weights and thresholds are chosen on validation: give --validation-truth, and --validation once for every "
            "member; or only average predictions, --to x.npy"
        )
    if not truth:
        console.refuse_unused({"--tags": tags}, why="tags are those of --validation-truth")
    shares: Sequence[float] | None = _numbers(weights, len(members)) if weights else None
    _check_ensemble(to, inputs=[*members, *(validation or ()), *(each for each in (truth, tags) if each)])
    given = [submissions.read(member).predictions for member in members]
    if truth is not None and validation:
        systems = [submissions.read(each) for each in validation]
        known, names = mediaeval.read_truth(truth, vocabulary=_names(tags), like=systems)
        judged = [each.predictions for each in systems]
        if greedy:
            chosen = room.greedy_selection(known, judged, average=of.value)
            shares = chosen.weights
        there = room.mean(judged, weights=shares, average=of.value)
    together = room.mean(given, weights=shares, average=of.value)
    if folder:
        names = names or tuple(map(str, range(together.shape[1])))
        submissions.write(
            submissions.make(together, metrics.best_thresholds(known, there), names), to, vocabulary=names
        )
    else:
        submissions.write_array(to, together)
    for member, share in zip(members, shares or [1 / len(members)] * len(members), strict=True):
        console.result(f"{share:.3f}  {member}")
    if truth is not None and validation:
        console.result(
            f"validation PR-AUC-macro {metrics.evaluate(known, there).macro['PR-AUC']:.4f}, for which all was chosen"
        )
    console.result(f"their mean is {to}")


def _check_ensemble(to: Path, *, inputs: Sequence[str | Path]) -> None:
    """Refuse an output that is an input, or lies in one, or is of another kind."""
    from moodfield import files
    from moodfield.evaluation import submissions

    if to.suffix == ".npy":
        inside = [path for given in map(Path, inputs) if given.is_dir() for path in given.iterdir()]
        files.check_output(to, kind=files.NPY, inputs=[*inputs, *inside])
    else:
        submissions.check_output(to, inputs=inputs)


def _decided(
    given: "Submission",
    how: str,
    truth: "AnyArray",
    names: Sequence[str] | None,
    tune_truth: Path | None,
    tune_predictions: Path | None,
) -> "Submission":
    """A submission with other decisions: by thresholds in a file, or tuned on validation, or on the truth itself."""
    from moodfield.evaluation import mediaeval, metrics, submissions

    names = names or tuple(map(str, range(given.predictions.shape[1])))
    criterion: Literal["f", "official"] = "official" if how == "official" else "f"
    if how not in TUNED:
        limits = submissions.order_thresholds(submissions.read_thresholds(how), names)
    elif tune_truth and tune_predictions:
        known, _ = mediaeval.read_truth(tune_truth, vocabulary=names)
        limits = metrics.best_thresholds(known, submissions.read_array(tune_predictions), criterion=criterion)
    else:
        limits = metrics.best_thresholds(truth, given.predictions, criterion=criterion)
    return replace(submissions.make(given.predictions, limits, names), name=given.name)


def _names(path: Path | None) -> tuple[str, ...] | None:
    from moodfield.datasets import mtg_jamendo

    return mtg_jamendo.read_vocabulary(path) if path else None


def _numbers(text: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UsageError(f"--weights {text} are not {count} numbers with commas between them, such as 2,1")
    return numbers

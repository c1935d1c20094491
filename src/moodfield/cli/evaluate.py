"""The commands that score predictions: evaluate, compare, thresholds, ensemble."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moodfield.cli import console, tables
from moodfield.errors import UsageError
from moodfield.evaluation.choices import Average, Criterion

Truth = Annotated[Path, typer.Option(help="truth: a TSV in the form of MTG-Jamendo, or .npy")]
Exclude = Annotated[Path | None, typer.Option(help="rows to leave out, counted from 0: text, one a line, or .npy")]
Intervals = Annotated[int, typer.Option(min=0, help="resamples for 95 % intervals; 0: none")]
PerTag = Annotated[bool, typer.Option("--per-tag", help="print a row for every tag, too (always in JSON)")]


def evaluate(
    submission: Annotated[str | None, typer.Argument(help="folder of a submission, or predictions as .npy")] = None,
    *,
    truth: Truth,
    predictions: Annotated[Path | None, typer.Option(help="scores, tracks × tags, .npy, instead of a folder")] = None,
    decisions: Annotated[Path | None, typer.Option(help="decisions, tracks × tags, .npy")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="decide anew by the thresholds in this file")] = None,
    tags: console.Tags = None,
    exclude: Exclude = None,
    intervals: Intervals = 1_000,
    seed: console.Seed = 0,
    per_tag: PerTag = False,
    as_json: console.AsJson = False,
) -> None:
    """Score predictions by the official metrics, with intervals.

    For example:
        moodfield evaluate mine --truth test.tsv
        moodfield evaluate --truth truth.npy --predictions preds.npy --decisions decisions.npy --json
        moodfield evaluate --truth test.tsv --predictions preds.npy --thresholds thresholds.txt --exclude rows.txt
    """
    from moodfield.evaluation import mediaeval, submissions

    if bool(submission) == bool(predictions):
        raise UsageError("name either a submission or --predictions")
    if thresholds:
        console.check_unused({"--decisions": decisions}, why="decisions are made by --thresholds")
    scored = submissions.read(str(submission or predictions))
    labels, vocabulary = mediaeval.read_truth(truth, vocabulary=console.read_tags(tags), like=[scored])
    if decisions:
        scored = replace(scored, decisions=submissions.read_array(decisions))
    if thresholds:
        names = vocabulary or _column_names(scored.predictions.shape[1])
        limits = submissions.order_thresholds(submissions.read_thresholds(thresholds), names)
        scored = replace(submissions.make(scored.predictions, limits, names), name=scored.name)
    rows = submissions.read_rows(exclude) if exclude else None
    score = mediaeval.evaluate(labels, scored, vocabulary=vocabulary, exclude=rows, n_resamples=intervals, seed=seed)
    if as_json:
        console.result_json(score.to_dict())
    else:
        tables.print_score(score, scored.name, per_tag=per_tag)


def compare(
    a: console.SubmissionPath,
    b: console.SubmissionPath,
    *,
    truth: Truth,
    tags: console.Tags = None,
    exclude: Exclude = None,
    intervals: Annotated[int, typer.Option(min=1, help="resamples")] = 1_000,
    seed: console.Seed = 0,
    per_tag: PerTag = False,
    as_json: console.AsJson = False,
) -> None:
    """Test whether one submission is better than another.

    For example:
        moodfield compare mine theirs --truth test.tsv
        moodfield compare a.npy b.npy --truth truth.npy --per-tag
    """
    from moodfield.evaluation import mediaeval, submissions

    pair = submissions.read(a), submissions.read(b)
    labels, vocabulary = mediaeval.read_truth(truth, vocabulary=console.read_tags(tags), like=pair)
    rows = submissions.read_rows(exclude) if exclude else None
    comparison = mediaeval.compare(labels, *pair, vocabulary=vocabulary, exclude=rows, n_resamples=intervals, seed=seed)
    if as_json:
        console.result_json(comparison.to_dict())
    else:
        tables.print_comparison(comparison, a, b, per_tag=per_tag)


def thresholds(
    *,
    truth: Annotated[Path, typer.Option(help="truth of validation tracks: a TSV in the form of MTG-Jamendo, or .npy")],
    predictions: Annotated[Path, typer.Option(help="scores of the same tracks, .npy, or a submission")],
    output: Annotated[Path, typer.Option("--output", "-o", help="file of thresholds, such as thresholds.txt")],
    criterion: Annotated[Criterion, typer.Option(help="f: best F-score; official: rule of the task's script")] = "f",
    tags: console.Tags = None,
) -> None:
    """Choose a threshold for every tag on validation tracks.

    For example:
        moodfield thresholds --truth validation.tsv --predictions validation.npy -o thresholds.txt
        moodfield evaluate --truth test.tsv --predictions test.npy --thresholds thresholds.txt
    """
    from moodfield.evaluation import mediaeval, metrics, submissions

    inside = list(predictions.iterdir()) if predictions.is_dir() else []
    console.check_output(output, submissions.read_thresholds, inputs=[truth, predictions, tags, *inside])
    scored = submissions.read(predictions)
    labels, vocabulary = mediaeval.read_truth(truth, vocabulary=console.read_tags(tags), like=[scored])
    values = metrics.best_thresholds(labels, scored.predictions, criterion=criterion)
    names = vocabulary or _column_names(scored.predictions.shape[1])
    submissions.write_thresholds(output, dict(zip(names, values.tolist(), strict=True)))
    console.result(f"wrote {output}: {len(names)} thresholds")


def ensemble(
    members: Annotated[list[str], typer.Argument(help="submissions, or predictions as .npy", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="predictions, x.npy, or the folder of a submission")],
    average: Annotated[Average, typer.Option(help="what is averaged")] = "scores",
    weights: Annotated[str | None, typer.Option(help="one for every member, such as 2,1,1")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="choose weights by greedy selection on validation")] = False,
    validation_truth: Annotated[Path | None, typer.Option(help="truth of validation tracks: a TSV, or .npy")] = None,
    validation_predictions: Annotated[list[str] | None, typer.Option(help="one for every member, in order")] = None,
    tags: console.Tags = None,
) -> None:
    r"""Average several predictions into one.

    For example:
        moodfield ensemble a.npy b.npy -o mean.npy
        moodfield ensemble a b -o both --greedy --validation-truth validation.tsv \
            --validation-predictions a-validation.npy --validation-predictions b-validation.npy
    """
    from moodfield import arrays
    from moodfield.evaluation import ensemble as ensembles
    from moodfield.evaluation import mediaeval, metrics, submissions

    validation, folder = validation_predictions or [], output.suffix != ".npy"
    if weights and greedy:
        raise UsageError(f"--weights {weights} and --greedy both set the weights; leave one of them out")
    complete = validation_truth and len(validation) == len(members)
    if (folder or greedy or validation_truth or validation) and not complete:
        raise UsageError(
            "weights and thresholds are chosen on validation: give --validation-truth, and --validation-predictions "
            "once for every member; or only average predictions, --output x.npy"
        )
    if not validation_truth:
        console.check_unused({"--tags": tags}, why="they are the tags of --validation-truth")
    shares = _parse_weights(weights, len(members))
    inputs: list[str | Path] = [*members, *validation, *(path for path in (validation_truth, tags) if path)]
    _check_ensemble_output(output, inputs=inputs)
    systems = [submissions.read(member).predictions for member in members]
    if validation_truth:
        validated = [submissions.read(path) for path in validation]
        labels, vocabulary = mediaeval.read_truth(validation_truth, vocabulary=console.read_tags(tags), like=validated)
        parts = [submission.predictions for submission in validated]
        if greedy:
            shares = ensembles.greedy_selection(labels, parts, average=average).weights
        tuned = ensembles.mean(parts, weights=shares, average=average)
    mean = ensembles.mean(systems, weights=shares, average=average)
    if folder:
        names = vocabulary or _column_names(mean.shape[1])
        decided = submissions.make(mean, metrics.best_thresholds(labels, tuned), names)
        submissions.write(decided, output, vocabulary=names)
    else:
        arrays.write(output, mean)
    for member, share in zip(members, shares or [1 / len(members)] * len(members), strict=True):
        console.result(f"{share:.3f}  {member}")
    if validation_truth:
        value = metrics.evaluate(labels, tuned).macro["PR-AUC"]
        console.result(f"PR-AUC-macro {value:.4f} on the validation tracks that the choices were made on")
    console.result(f"wrote {output}")


def _check_ensemble_output(output: Path, *, inputs: Sequence[str | Path]) -> None:
    """Raise `OutputError` for an output that is an input, lies in one, or is of another kind."""
    from moodfield import files
    from moodfield.evaluation import submissions

    if output.suffix == ".npy":
        inside = [path for folder in map(Path, inputs) if folder.is_dir() for path in folder.iterdir()]
        files.check_output(output, kind=files.NPY, inputs=[*inputs, *inside])
    else:
        submissions.check_output(output, inputs=inputs)


def _column_names(n_tags: int) -> tuple[str, ...]:
    """Names of tags where none are known."""
    return tuple(map(str, range(n_tags)))


def _parse_weights(weights: str | None, count: int) -> Sequence[float] | None:
    if weights is None:
        return None
    try:
        numbers = [float(word) for word in weights.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UsageError(f"--weights {weights} are not {count} numbers, separated by commas, such as 2,1")
    return numbers

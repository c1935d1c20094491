"""The commands that make and check submissions to the task."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, predict
from moodfield.errors import UsageError

if TYPE_CHECKING:
    from moodfield.datasets.mtg_jamendo import Split, Track
    from moodfield.evaluation.submissions import Submission


def make(
    tracks: console.Tracks,
    *,
    audio: console.Audio,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder; an unfinished submission continues")],
    model: console.Models = None,
    tags: console.Tags = None,
    thresholds: Annotated[Path | None, typer.Option(help="thresholds.txt to use instead of the model's")] = None,
    on_error: predict.OnError = None,
    jobs: console.Jobs = 0,
) -> None:
    """Predict all tracks in a TSV and write them as a submission.

    For example:
        moodfield submission make test.tsv --audio music/ --model runs/first -o mine
        moodfield submission check mine --truth test.tsv
    """
    from moodfield.evaluation import submissions

    console.check_audio(audio)
    submissions.check_output(output, inputs=[path for path in (tracks, tags, thresholds, audio) if path])
    limits = submissions.read_thresholds(thresholds) if thresholds else None
    predicted = predict.predicted(tracks, audio, output, model=model, tags=tags, fill=on_error, jobs=jobs)
    with predicted as (submission, split):
        if limits:
            values = submissions.order_thresholds(limits, split.vocabulary)
            submission = submissions.make(submission.predictions, values, split.vocabulary)
        submissions.write(submission, output, vocabulary=split.vocabulary)
    console.result(f"wrote {output}; try: {_check_command(output, tracks, tags, model, split.vocabulary)}")


def _check_command(
    output: Path, tracks: Path, tags: Path | None, model: Sequence[str] | None, vocabulary: Sequence[str]
) -> str:
    """The command that checks a submission, quoted for a shell."""
    from moodfield.datasets import mtg_jamendo
    from moodfield.tags import MOODS_AND_THEMES

    words = ["moodfield", "submission", "check", f"--truth={tracks}"]
    if tags:
        words.append(f"--tags={tags}")
    elif tuple(vocabulary) != MOODS_AND_THEMES or not set(mtg_jamendo.read(tracks).vocabulary) <= set(vocabulary):
        words.append(f"--model={(model or ['default'])[0]}")
    return shlex.join([*words, str(output)])


def check(
    submission: console.SubmissionPath,
    *,
    truth: Annotated[Path | None, typer.Option(help="the tracks as a TSV, or their truth as .npy")] = None,
    tags: console.Tags = None,
    model: Annotated[str | None, typer.Option(help="tags of this model", autocompletion=console.complete_model)] = None,
    as_json: console.AsJson = False,
) -> None:
    """List the faults of a submission, and what is unusual."""
    from moodfield import tagger
    from moodfield.card import Card
    from moodfield.evaluation import mediaeval, submission_checks, submissions
    from moodfield.tags import MOODS_AND_THEMES

    if model and tags:
        raise UsageError("--tags and --model both name the tags; leave one of them out")
    checked = submissions.read(submission)
    vocabulary, labels = Card.read(tagger.model_folder(model)).vocabulary if model else console.read_tags(tags), None
    tracks: Sequence[Track] = ()
    unknown: list[str] = []
    if truth and truth.suffix == ".npy":
        labels, vocabulary = mediaeval.read_truth(truth, vocabulary=vocabulary)
    elif truth:
        split, unknown = _read_index(truth, vocabulary, checked)
        labels, vocabulary, tracks = split.truth, split.vocabulary, split.tracks
    if labels is not None and not labels.any():
        labels = None  # the TSV of a test set may leave out its tags
    vocabulary = vocabulary or MOODS_AND_THEMES
    faults = submission_checks.find_errors(checked, vocabulary=vocabulary, tracks=tracks, truth=labels)
    unusual = [] if faults else list(submission_checks.find_warnings(checked, vocabulary))
    if unknown and not faults:
        unusual.append(f"{truth} has {len(unknown)} tags that the submission lacks, so its truth is not compared")
    if as_json:
        console.result_json({"submission": submission, "faults": faults, "unusual": unusual})
    else:
        for line in [*faults, *(f"unusual: {line}" for line in unusual)] or ["in order"]:
            console.result(f"{submission}: {line}")
    if faults:
        raise typer.Exit(console.FAILED)


def _read_index(path: Path, vocabulary: Sequence[str] | None, submission: "Submission") -> "tuple[Split, list[str]]":
    """The tracks of a TSV, without their tags if some are not in `vocabulary`, and those tags."""
    from moodfield.datasets import mtg_jamendo
    from moodfield.evaluation import mediaeval
    from moodfield.tags import MOODS_AND_THEMES

    split = mtg_jamendo.read(path)
    if submission.predictions.shape[1] == len(MOODS_AND_THEMES) and set(split.vocabulary) < set(MOODS_AND_THEMES):
        vocabulary = vocabulary or MOODS_AND_THEMES  # a TSV of few tracks lacks some tags
    unknown = [tag for tag in split.vocabulary if vocabulary and tag not in vocabulary]
    if vocabulary and unknown:
        untagged = tuple(replace(track, tags=()) for track in split.tracks)
        return replace(split, tracks=untagged, vocabulary=tuple(vocabulary)), unknown
    return mediaeval.read_index(path, vocabulary=vocabulary, like=[submission]), unknown

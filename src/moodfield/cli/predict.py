"""The command that predicts all tracks of a dataset, and what `submission make` shares with it."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodfield.cli import console, progress
from moodfield.errors import MoodfieldError, UsageError
from moodfield.evaluation.choices import Fill

if TYPE_CHECKING:
    from moodfield.datasets.mtg_jamendo import Split, Track
    from moodfield.evaluation.metrics import AnyArray
    from moodfield.evaluation.submissions import Submission


ADVICE = "fill their rows: --on-error mean"
"""what to do about tracks that cannot be read"""
OnError = Annotated[Fill | None, typer.Option(help="fill the rows of unreadable tracks; by default, an error")]


def predict(
    tracks: console.Tracks,
    *,
    audio: console.Audio,
    output: Annotated[Path, typer.Option("--output", "-o", help="scores, such as preds.npy; unfinished ones continue")],
    model: console.Models = None,
    tags: console.Tags = None,
    on_error: OnError = None,
    jobs: console.Jobs = 0,
) -> None:
    """Predict the scores of all tracks in a TSV; the names of the columns are written beside them.

    For example:
        moodfield predict test.tsv --audio music/ --model runs/first -o preds.npy
        moodfield evaluate --truth test.tsv --predictions preds.npy
    """
    from moodfield import arrays, files
    from moodfield.evaluation import submissions

    if output.suffix != ".npy":
        raise UsageError(f"--output {output} is not named .npy; for a folder, see moodfield submission make")
    inputs = [tracks, *([tags] if tags else [])]
    console.check_audio(audio)
    files.check_output(output, kind=files.NPY, inputs=inputs)
    companion = submissions.thresholds_path(output)
    console.check_output(companion, submissions.read_thresholds, inputs=inputs)
    with predicted(tracks, audio, output, model=model, tags=tags, fill=on_error, jobs=jobs) as (submission, split):
        arrays.write(output, submission.predictions)
        submissions.write_thresholds(companion, submission.thresholds)
    console.result(f"wrote {output}: {len(split.tracks)} tracks × {len(split.vocabulary)} tags")
    console.result(f"wrote {companion}: the tags of the columns, and the model's thresholds")


@contextmanager
def predicted(
    tracks: Path, audio: Path, output: Path, *, model: list[str] | None, tags: Path | None, fill: Fill | None, jobs: int
) -> "Iterator[tuple[Submission, Split]]":
    """Predictions with the models' thresholds, and the tracks, whose tags in the TSV are ignored.

    The scores of finished tracks are kept beside `output` until the block ends without an error. Only one process at a
    time writes there.
    """
    from moodfield import files, tagger
    from moodfield.datasets import mtg_jamendo
    from moodfield.evaluation import prediction, submissions

    vocabulary = console.read_tags(tags)
    path = Path(os.path.abspath(output))  # noqa: PTH100 (a link stays one; `.` gets a name)
    cache = path.with_name(f"{path.name}.scores.jsonl")
    cache.parent.mkdir(parents=True, exist_ok=True)
    files.check_output(cache, kind=prediction.CACHE_HEADS, inputs=[path for path in (tracks, tags) if path])
    with files.lock(cache.with_name(f"{cache.name}.lock"), what=str(cache)):
        loaded = tagger.load(*(model or ()))
        untagged = tuple(replace(track, tags=()) for track in mtg_jamendo.read(tracks).tracks)
        split = mtg_jamendo.Split(untagged, tuple(vocabulary or loaded.vocabulary))
        with progress.FileProgress("tracks", len(untagged)) as bar:
            scores = prediction.predict_index(
                untagged, _tag_tracks(audio, model, jobs), tags=loaded.vocabulary, vocabulary=split.vocabulary,
                cache=cache, model=loaded.digest, audio=str(audio.resolve()), fill=fill,
                hint="" if fill else ADVICE, progress=lambda *_: bar.advance(),
            )  # fmt: skip
        thresholds = dict(zip(loaded.vocabulary, loaded.thresholds.tolist(), strict=True))
        limits = submissions.order_thresholds(thresholds, split.vocabulary)
        yield submissions.make(scores, limits, split.vocabulary), split
        cache.unlink(missing_ok=True)


def _tag_tracks(
    audio: Path, model: Sequence[str] | None, jobs: int
) -> "Callable[[Sequence[Track]], Iterable[tuple[Track, AnyArray | MoodfieldError]]]":
    """A function that yields the scores of tracks."""
    from moodfield import tagger
    from moodfield.datasets import mtg_jamendo

    def tag(tracks: "Sequence[Track]") -> "Iterator[tuple[Track, AnyArray | MoodfieldError]]":
        paths = [mtg_jamendo.locate(audio, track.path) for track in tracks]
        processes = console.choose_jobs(jobs, len(paths))
        results = tagger.tag_files(paths, *(model or ()), jobs=processes) if paths else ()
        for track, (_, tagging) in zip(tracks, results, strict=True):
            yield track, tagging if isinstance(tagging, MoodfieldError) else tagging.scores

    return tag

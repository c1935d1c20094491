"""Predictions for a whole index, shared by the commands that make them.

In: models, an index and the folder of its music. Out: a submission, with scores kept on the way.
Knows nothing of: how a track is tagged, or what a submission is worth.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from moodfield.cli import progress
from moodfield.errors import MoodfieldError, UsageError

if TYPE_CHECKING:
    from moodfield.datasets.mtg_jamendo import Split, Track
    from moodfield.evaluation.metrics import AnyArray
    from moodfield.evaluation.submissions import Submission
    from moodfield.tagger import Tagger


class Fill(StrEnum):
    """What stands for a track that could not be read."""

    MEAN = "mean"
    ZEROS = "zeros"


OTHERWISE = "fill their rows: --fill mean"
"""what to do about tracks that cannot be read, where the command has the option"""


def check_audio(folder: Path) -> None:
    """Refuse a folder of music that is not there, once and not track by track."""
    if not os.path.isdir(folder):  # noqa: PTH112 (Path.is_dir would raise where it may not look)
        raise UsageError(f"--audio {folder} is not a folder; name the one that the paths in the index are below")


def untagged(index: Path, vocabulary: Sequence[str]) -> "Split":
    """The tracks of an index to be predicted: whatever tags it has do not matter."""
    from moodfield.datasets import mtg_jamendo

    tracks = mtg_jamendo.read(index).tracks
    return mtg_jamendo.Split(tuple(replace(track, tags=()) for track in tracks), tuple(vocabulary))


def predict(
    asked: "Tagger",
    model: Sequence[str] | None,
    split: "Split",
    audio: Path,
    *,
    kept: Path | None,
    fill: Fill | None = None,
    otherwise: str = "",
    jobs: int,
) -> "Submission":
    """A submission for the tracks of an index by the tagger of some models, with their thresholds."""
    from moodfield import parallel, tagger
    from moodfield.datasets import mtg_jamendo
    from moodfield.evaluation import mediaeval, submissions

    def tag(tracks: "Sequence[Track]") -> "Iterator[tuple[Track, AnyArray | MoodfieldError]]":
        files = [mtg_jamendo.locate(audio, track.path) for track in tracks]
        results = tagger.tag_files(files, *(model or ()), jobs=jobs or parallel.cpu_count()) if files else ()
        for track, (_, result) in zip(tracks, results, strict=True):
            yield track, result if isinstance(result, MoodfieldError) else result.scores

    with progress.Tracks("tracks", len(split.tracks)) as bar:
        scores = mediaeval.predict_index(
            split.tracks, tag, tags=asked.vocabulary, vocabulary=split.vocabulary, cache=kept, model=asked.digest,
            audio=str(audio.resolve()), fill=fill.value if fill else None, hint=otherwise,
            progress=lambda *_: bar.one(),
        )  # fmt: skip
    own = dict(zip(asked.vocabulary, asked.thresholds.tolist(), strict=True))
    made = submissions.make(scores, submissions.order_thresholds(own, split.vocabulary), split.vocabulary)
    return replace(made, name=" + ".join(model or ["the bundled model"]))


def tagged(
    model: Sequence[str], index: Path, audio: Path, *, names: Sequence[str] | None, kept: Path | None, jobs: int
) -> "tuple[Submission, Split]":
    """A submission for an index whose tags are its truth, all of which the models must have; and this index."""
    from moodfield import tagger
    from moodfield.datasets import mtg_jamendo

    check_audio(audio)
    with scores_file(kept, inputs=[index]):
        asked = tagger.load(*model)
        split = mtg_jamendo.read(index, vocabulary=names or asked.vocabulary)
        return predict(asked, model, split, audio, kept=kept, jobs=jobs), split


@contextmanager
def scores_file(path: Path | None, *, inputs: Sequence[Path]) -> Iterator[None]:
    """Hold the lock of the file in which scores are kept, if any; refuses a file that is not ours."""
    from moodfield import files
    from moodfield.evaluation import mediaeval

    with ExitStack() as stack:
        if path:
            files.check_name(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.check_output(path, kind=mediaeval.CACHE_HEADS, inputs=inputs)
            stack.enter_context(files.lock(path.with_name(f"{path.name}.lock"), what=str(path)))
        yield


def check_command(
    to: Path, index: Path, tags: Path | None, model: Sequence[str] | None, vocabulary: Sequence[str]
) -> str:
    """The command that checks a submission, as a shell takes it."""
    from moodfield.datasets import mtg_jamendo
    from moodfield.tags import MOODS_AND_THEMES

    words = ["moodfield", "submission", "check", f"--index={index}"]
    official = tuple(vocabulary) == MOODS_AND_THEMES and set(mtg_jamendo.read(index).vocabulary) <= set(vocabulary)
    if tags:
        words.append(f"--tags={tags}")
    elif not official:
        words.append(f"--model={(model or ['default'])[0]}")
    return shlex.join([*words, str(to)])

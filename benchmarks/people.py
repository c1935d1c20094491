"""Compare scores of the 56 moods and themes with the nine emotions that people annotated in Emotify.

    MOODFIELD_DATA=… python benchmarks/people.py [MODEL …]

No model was trained on Emotify, and the map from tags to emotions was fixed before any score was computed. Prints a
Markdown table with Spearman's rank correlation with the share of annotators who felt an emotion, averaged over the four
genres, for every model (default: the bundled one) and for the teacher if its checkpoint exists; and the differences to
the teacher with paired intervals over excerpts.
"""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

import emotify
from moodfield import calibration, parallel, tagger, tags
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation.teachers import published, teacher
from moodfield.errors import MoodfieldError
from moodfield.evaluation import metrics

EMOTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        emotion: tuple(words.split())
        for emotion, words in {
            "amazement": "dream inspiring uplifting hopeful space",
            "solemnity": "epic inspiring deep meditative film",
            "tenderness": "love romantic soft ballad",
            "nostalgia": "melancholic emotional ballad retro",
            "calmness": "calm relaxing meditative soft slow",
            "power": "powerful epic energetic heavy action motivational",
            "joyfulactivation": "happy fun upbeat party groovy positive energetic",
            "tension": "dark drama dramatic action trailer fast",
            "sadness": "sad melancholic emotional slow",
        }.items()
    }
)
"""emotion → tags whose mean logit predicts it"""
RESAMPLES = 1_000
CONFIDENCE = 0.95
CONSTANT = 1e-9
"""standard deviation of logits that do not vary, up to rounding"""


@dataclass(frozen=True)
class People:
    """Annotations of excerpts."""

    ids: tuple[int, ...]
    """numbers of the excerpts"""
    genres: np.ndarray
    """index of the genre of every excerpt"""
    felt: Float64[np.ndarray, "tracks tags"]
    """share of annotators who felt each of the `EMOTIONS`"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["default"])
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    arguments = parser.parse_args()
    home = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (home / "emotify").is_dir():
        sys.exit("Emotify is missing: set MOODFIELD_DATA to the folder that contains emotify/")
    page(
        {name: name for name in arguments.models}, home / "emotify", home / "vggish" / "best_model.pth", arguments.store
    )


def page(models: Mapping[str, str | Path], data: Path, checkpoint: Path, store: Path) -> None:
    """Print the correlations of models, by name, and of the teacher if its checkpoint exists, as a Markdown section."""
    split, _ = emotify.tracks(data)
    paths = [data / "audio" / track.path for track in split.tracks]
    people = read(data, split.tracks)
    felt = {}
    if checkpoint.is_file():
        logits = teacher_logits(published.teacher(published.VGGISH, checkpoint), split.tracks, data / "audio", store)
        felt["the teacher"] = emotions(logits, tags.MOODS_AND_THEMES)
    vocabulary = tagger.load(next(iter(models.values()))).vocabulary
    felt |= {name: emotions(logits_of(model, paths), vocabulary) for name, model in models.items()}
    print("## Emotions of people\n")
    print(
        f"Spearman with the share of annotators, within each of four genres, mean over them; {len(paths)} excerpts.\n"
    )
    print(f"| | {' | '.join(EMOTIONS)} | mean |\n|---|{'---|' * (len(EMOTIONS) + 1)}")
    for name, values in felt.items():
        correlations = agreement(values, people)
        cells = " | ".join(f"{value:.3f}" for value in correlations)
        print(f"| {name} | {cells} | {correlations.mean():.3f} |")
    if "the teacher" in felt:
        print()
        for name in models:
            mean, low, high = difference(felt[name], felt["the teacher"], people)
            print(f"- {name} − the teacher: {mean:+.3f} ({low:+.3f} … {high:+.3f})")


def read(folder: Path, excerpts: Sequence[Track]) -> People:
    """Read the annotations of excerpts, in their order."""
    ids = [int(track.id.removeprefix("track_")) for track in excerpts]
    rows = annotations(folder)
    genres = sorted({row["genre"] for row in rows.values()})
    return People(
        tuple(ids),
        np.array([genres.index(rows[number]["genre"]) for number in ids]),
        np.array([[float(rows[number][emotion]) for emotion in EMOTIONS] for number in ids]),
    )


def annotations(folder: Path) -> dict[int, dict[str, str]]:
    """The rows of the annotations, by number of the excerpt."""
    with (folder / "emotify-annotators.tsv").open(encoding="utf-8", newline="") as file:
        return {int(row["track"]): row for row in csv.DictReader(file, delimiter="\t")}


def teacher_logits(
    source: teacher.Teacher, tracks: Sequence[Track], audio_dir: Path, store: Path
) -> Float64[np.ndarray, "tracks tags"]:
    """Track logits of a teacher of the 56 tags, computed unless they are cached."""
    for track, result in teacher.compute(source, tracks, audio_dir, store, jobs=parallel.cpu_count()):
        if isinstance(result, MoodfieldError):
            sys.exit(f"{track.id}: {result}")
    return np.stack([outputs.values.mean(axis=0) for outputs in teacher.load(source, tracks, audio_dir, store)])


def logits_of(model: str | Path, paths: list[Path]) -> Float64[np.ndarray, "tracks tags"]:
    """Track logits of a model for files."""
    scores = [result.scores for _, result in tagger.tag_files(paths, model, jobs=parallel.cpu_count())]
    return calibration.logit(np.stack(scores))


def emotions(logits: np.ndarray, vocabulary: tuple[str, ...]) -> Float64[np.ndarray, "tracks tags"]:
    """Predictions of emotions: means of the standardised logits of their tags; a tag that does not vary counts as 0."""
    std = logits.std(axis=0)
    standard = (logits - logits.mean(axis=0)) / np.where(std > CONSTANT, std, np.inf)
    rows = [[vocabulary.index(tag) for tag in tags] for tags in EMOTIONS.values()]
    return np.stack([standard[:, row].mean(axis=1) for row in rows], axis=1)


def agreement(values: np.ndarray, people: People) -> Float64[np.ndarray, "tags"]:
    """Spearman with the share of annotators for every emotion, within each genre, and the mean over genres."""
    genres = [np.flatnonzero(people.genres == genre) for genre in range(people.genres.max() + 1)]
    return np.mean([metrics.spearman(people.felt[rows], values[rows]) for rows in genres], axis=0)


def difference(one: np.ndarray, other: np.ndarray, people: People) -> tuple[float, float, float]:
    """Difference of the mean correlations of two systems, with a paired bootstrap interval over excerpts."""

    def mean_difference(rows: np.ndarray, sample: People) -> float:
        return float((agreement(one[rows], sample) - agreement(other[rows], sample)).mean())

    return _interval(mean_difference, people)


def mean_agreement(values: np.ndarray, people: People) -> tuple[float, float, float]:
    """Mean correlation of a system over the emotions, with a bootstrap interval over excerpts."""
    return _interval(lambda rows, sample: float(agreement(values[rows], sample).mean()), people)


def _interval(statistic: Callable[[np.ndarray, People], float], people: People) -> tuple[float, float, float]:
    """A statistic of all excerpts, and its bootstrap interval: excerpts are resampled within their genres.

    The interval has the width of that of the resamples and is centred on the statistic itself, since ties of repeated
    excerpts bias all systems equally.
    """
    generator = np.random.default_rng(0)
    genres = [np.flatnonzero(people.genres == genre) for genre in range(people.genres.max() + 1)]
    value = statistic(np.arange(len(people.ids)), people)
    resampled = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([generator.choice(genre, len(genre)) for genre in genres])
        resampled.append(statistic(rows, People(people.ids, people.genres[rows], people.felt[rows])))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.array(resampled) - np.mean(resampled), [tail, 1 - tail])
    return value, value + float(low), value + float(high)


def choosing_half(people: People, validation: Collection[int]) -> np.ndarray:
    """Which excerpts choices may be made on: the validation excerpts, and of every genre those with the lowest numbers.

    Half of every genre; of an odd number one more for every other genre.
    """
    ids = np.array(people.ids)
    chosen = np.isin(ids, list(validation))
    for genre in range(people.genres.max() + 1):
        rows = np.flatnonzero(people.genres == genre)
        rest = rows[~chosen[rows]]
        wanted = (len(rows) + (genre < 2)) // 2 - int(chosen[rows].sum())
        chosen[rest[np.argsort(ids[rest])][:wanted]] = True
    return chosen


def select(people: People, rows: np.ndarray) -> People:
    """Some of the excerpts."""
    return People(tuple(np.array(people.ids)[rows].tolist()), people.genres[rows], people.felt[rows])


if __name__ == "__main__":
    main()

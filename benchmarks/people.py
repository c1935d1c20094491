"""What people felt, and what a model says they feel: the 56 moods and themes against the nine emotions of Emotify.

    MOODFIELD_DATA=… python benchmarks/people.py [MODEL …]

Nothing here was learned from Emotify. The map from tags to emotions was fixed before any score was seen, and stays.
Prints, for every model (the bundled one if none is named) and for the teacher if its checkpoint is there, Spearman's
rank correlation with the share of annotators who felt an emotion, within each genre and averaged over the four, as a
Markdown table, and how far models are from the teacher, with paired intervals over excerpts.
"""

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64

import emotify
from moodfield import calibration, parallel, tagger
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import teacher
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
"""the tags whose mean stands for an emotion"""
RESAMPLES = 1_000
LEVEL = 0.95


@dataclass(frozen=True)
class People:
    """What people felt."""

    ids: tuple[int, ...]
    """numbers of the excerpts"""
    genres: np.ndarray
    """the genre of each, as a number"""
    felt: Float64[np.ndarray, "tracks tags"]
    """share of its annotators who felt each of the `EMOTIONS`"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["default"])
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    given = parser.parse_args()
    home = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (home / "emotify").is_dir():
        sys.exit("Emotify is not here: set MOODFIELD_DATA to the folder that holds emotify/")
    page({name: name for name in given.models}, home / "emotify", home / "vggish" / "best_model.pth", given.store)


def page(models: Mapping[str, str | Path], data: Path, checkpoint: Path, store: Path) -> None:
    """Print what models, by their names, and the teacher, if its checkpoint is there, have in common with people."""
    whole, _ = emotify.tracks(data)
    paths = [data / "audio" / track.path for track in whole.tracks]
    people = read(data, whole.tracks)
    asked = {"the teacher": teacher.export_model(checkpoint, store)} if checkpoint.is_file() else {}
    vocabulary = tagger.load(next(iter(models.values()))).vocabulary
    felt = {name: emotions(said(model, paths), vocabulary) for name, model in (asked | dict(models)).items()}
    print("## Emotions of people\n")
    print(
        f"Spearman with the share of annotators, within each of four genres, mean over them; {len(paths)} excerpts.\n"
    )
    print(f"| | {' | '.join(EMOTIONS)} | mean |\n|---|{'---|' * (len(EMOTIONS) + 1)}")
    for name, values in felt.items():
        each = agreement(values, people)
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in each)} | {each.mean():.3f} |")
    if asked:
        print()
        for name in models:
            mean, low, high = apart(felt[name], felt["the teacher"], people)
            print(f"- {name} − the teacher: {mean:+.3f} ({low:+.3f} … {high:+.3f})")


def read(folder: Path, excerpts: Sequence[Track]) -> People:
    """What people felt about some excerpts, in their order."""
    ids = [int(track.id.removeprefix("track_")) for track in excerpts]
    with (folder / "emotify-annotators.tsv").open(encoding="utf-8", newline="") as file:
        rows = {int(row["track"]): row for row in csv.DictReader(file, delimiter="\t")}
    genres = sorted({row["genre"] for row in rows.values()})
    return People(
        tuple(ids),
        np.array([genres.index(rows[each]["genre"]) for each in ids]),
        np.array([[float(rows[each][emotion]) for emotion in EMOTIONS] for each in ids]),
    )


def said(model: str | Path, paths: list[Path]) -> Float64[np.ndarray, "tracks tags"]:
    """A model's logits of some files."""
    scores = [result.scores for _, result in tagger.tag_files(paths, model, jobs=parallel.cpu_count())]
    return calibration.logit(np.stack(scores))


def emotions(logits: np.ndarray, vocabulary: tuple[str, ...]) -> Float64[np.ndarray, "tracks tags"]:
    """For each emotion the mean of its tags' logits, each in standard deviations from its mean over the tracks."""
    standard = (logits - logits.mean(axis=0)) / logits.std(axis=0)
    rows = [[vocabulary.index(tag) for tag in tags] for tags in EMOTIONS.values()]
    return np.stack([standard[:, row].mean(axis=1) for row in rows], axis=1)


def agreement(values: np.ndarray, people: People) -> Float64[np.ndarray, "tags"]:
    """Spearman with the share of annotators for every emotion, within each genre, and the mean over genres."""
    genres = [np.flatnonzero(people.genres == genre) for genre in range(people.genres.max() + 1)]
    return np.mean([metrics.spearman(people.felt[rows], values[rows]) for rows in genres], axis=0)


def apart(one: np.ndarray, other: np.ndarray, people: People) -> tuple[float, float, float]:
    """How much nearer to people one system is than another, mean over the emotions, with an interval over excerpts.

    Excerpts are drawn again within their genres, the same ones for both systems. The interval is as wide as that of
    the draws, and centred on the difference itself: ties of repeated excerpts move both systems alike.
    """
    generator = np.random.default_rng(0)
    genres = [np.flatnonzero(people.genres == genre) for genre in range(people.genres.max() + 1)]
    mean = float((agreement(one, people) - agreement(other, people)).mean())
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([generator.choice(each, len(each)) for each in genres])
        again = People(people.ids, people.genres[rows], people.felt[rows])
        drawn.append(float((agreement(one[rows], again) - agreement(other[rows], again)).mean()))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.array(drawn) - np.mean(drawn), [tail, 1 - tail])
    return mean, mean + float(low), mean + float(high)


if __name__ == "__main__":
    main()

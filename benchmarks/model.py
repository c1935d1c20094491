"""Evaluation of models distilled from the ensemble: agreement with it and with people, decisions, speed, size.

    MOODFIELD_DATA=… python benchmarks/model.py [NAME=MODEL …] [--run runs/default]

No MODEL may be trained on the held-out packages of music/manifest.tsv; the bundled model is not. Several are compared
in one table, and the first is described in detail. Prints the first part of docs/model.md. Needs the music of
`make music`, the ensemble of `make targets` and Emotify; outputs are cached.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

import emotify
import measures
import outputs
import people
import speed
from measures import HALVES, SUNG, Music
from moodfield import parallel, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import manifest
from moodfield.distillation.manifest import KINDS
from moodfield.distillation.teachers.published import VGGISH
from moodfield.evaluation import metrics
from moodfield.training import log
from moodfield.training.pipeline import RunPaths
from outputs import ENSEMBLE

HERE = Path(__file__).parent
HEAD = """# Evaluation of the bundled model

By `benchmarks/model.py`, `embedding.py` and `copies.py` (`make model`), on {tracks} tracks of packages that it was not
trained on and on the {excerpts} excerpts of Emotify, whose annotations are in no training. The model's card states its
purpose and limits; its README ends with this page. `docs/students.md` compares variants of its recipe.
The meaning of scores is in `docs/calibration.md`, the ensemble of teachers in `docs/teachers.md`. The held-out packages
helped to choose the recipe, so the agreement on them is slightly optimistic.

*Spearman* is the rank correlation of the track logits of model and ensemble, over tracks, for every tag. *Offset* is
the mean over tags of |mean over tracks of (logit of the model − logit of the ensemble)|, of logits before any
calibration: the card's calibration is undone.
"""
PEOPLE = """
## Agreement with people

Spearman with the share of Emotify's annotators who felt an emotion, within each of four genres, mean over nine
emotions. `benchmarks/people.py` has the map from tags to emotions, which was fixed before any score was seen. Words of
the ensemble were changed after a look at {chosen} excerpts; the other {rest} are reported, with 95 % of {resamples:,}
resamples of the excerpts. Differences are paired.
"""
KIND_HEAD = """
## Agreement by kind of music

Within the held-out tracks of a kind, and within the genres of Emotify: median tag's Spearman, for {fewest} tracks or
more, and offset. Part of the agreement over all tracks is the difference between kinds: the ensemble's mean over a
track's kind alone has a Spearman of {by_kind:.2f} with the ensemble in the median tag.
"""
FEWEST = 5
"""tracks of a kind in which ranks are compared"""

Interval = tuple[float, float, float]
"""value, lower and upper bound"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["the model=default"], help="NAME=MODEL, or MODEL")
    parser.add_argument("--run", type=Path, help="the run of the first one, for the learning curve")
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument("--ensemble", type=Path, default=Path(".cache/teachers/ensemble.json"))
    parser.add_argument("--jobs", type=int, default=parallel.cpu_count())
    options = parser.parse_args()
    data = outputs.data_folder("emotify", "teachers", "vggish")
    models = outputs.named_models(options.models)
    listed = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
    split, _ = emotify.tracks(data / "emotify")
    everyone = people.read(data / "emotify", split.tracks)
    genres = _genres(data / "emotify", split.tracks)
    music_paths, excerpt_paths = (
        RunPaths(folder, options.store, Path(), options.jobs) for folder in (options.music, data / "emotify" / "audio")
    )
    teachers = data, options.ensemble
    heldout = _outputs(models, listed.heldout.tracks, listed.kinds, teachers, music_paths)
    excerpts = _outputs(models, split.tracks, genres, teachers, excerpt_paths)
    if len(excerpts.tracks) != len(split.tracks):
        sys.exit(f"{len(excerpts.tracks)} of {len(split.tracks)} excerpts could be read; get Emotify again")
    felt = {VGGISH: excerpts.teachers[VGGISH], ENSEMBLE: excerpts.ensemble}
    felt |= {name: item.logits for name, item in excerpts.models.items()}
    predicted = {name: people.emotions(logits, tags.MOODS_AND_THEMES) for name, logits in felt.items()}
    halves = _halves(data / "emotify", everyone)
    songs = speed.songs(heldout.tracks, options.music)
    times = {name: speed.measure(model, songs) for name, model in models.items()}
    print(HEAD.format(tracks=len(heldout.tracks), excerpts=len(excerpts.tracks)))
    print(f"| | goal | {' | '.join(models)} |\n|---|--:|{'--:|' * len(models)}")
    for measure in [
        *measures.agreement(heldout, "held-out packages", (0.92, 0.77, None)),
        *measures.agreement(excerpts, "Emotify", (0.92, 0.80, 0.3)),
        *measures.of_people(predicted, everyone, halves, tuple(models)),
        *measures.absolute(heldout, "held-out packages", (0.3, 30, 0.05)),
        *measures.absolute(excerpts, "Emotify", (0.4, 30, 0.05)),
        *measures.relative(excerpts, SUNG),
        *measures.cost(models, times),
    ]:
        print(measure.row())
    _people(predicted, everyone, halves)
    _kinds(heldout, excerpts)
    _tags(next(iter(models)), heldout, excerpts)
    if options.run:
        _curve(options.run)
    speed.page(next(iter(models)), times)


def _outputs(
    models: Mapping[str, str],
    tracks: Sequence[Track],
    groups: Mapping[str, str],
    teachers: tuple[Path, Path],
    paths: RunPaths,
) -> Music:
    """Outputs for the tracks that all models could tag."""
    tagged = {name: outputs.of_model(model, tracks, paths) for name, model in models.items()}
    common = [track for track in tracks if all(track in item.tracks for item in tagged.values())]
    return Music(
        tuple(common),
        tuple(groups[track.id] for track in common),
        {name: item.take(common) for name, item in tagged.items()},
        outputs.of_teachers(*teachers, common, paths),
    )


def _genres(folder: Path, tracks: Sequence[Track]) -> dict[str, str]:
    """Identifier of every excerpt → its genre."""
    rows = people.annotations(folder)
    return {track.id: rows[int(track.id.removeprefix("track_"))]["genre"] for track in tracks}


def _halves(folder: Path, everyone: people.People) -> dict[str, np.ndarray]:
    """Rows of all excerpts, of those that choices were made on, and of those that are reported."""
    validation = mtg_jamendo.read(folder / "emotify-validation.tsv")
    chosen = people.choosing_half(everyone, [int(track.id.removeprefix("track_")) for track in validation.tracks])
    return dict(zip(HALVES, map(np.flatnonzero, (np.ones_like(chosen), chosen, ~chosen)), strict=True))


def _people(predicted: Mapping[str, np.ndarray], everyone: people.People, halves: Mapping[str, np.ndarray]) -> None:
    """Print the agreement with people, with intervals and by emotion."""
    rows = halves[HALVES[2]]
    reported = people.select(everyone, rows)
    counts = [f"{half}, {len(halves[half])}" for half in HALVES]
    print(PEOPLE.format(chosen=len(halves[HALVES[1]]), rest=len(rows), resamples=people.RESAMPLES))
    print(f"| | {' | '.join(counts)} | reported, − {ENSEMBLE} | reported, − VGG-ish |\n|---|{'--:|' * 5}")
    for name, values in predicted.items():
        cells = [f"{measures.mean_agreement(values, everyone, halves[half]):.3f}" for half in HALVES[:2]]
        cells.append(_interval(people.mean_agreement(values[rows], reported)))
        for other in (ENSEMBLE, VGGISH):
            change = people.difference(values[rows], predicted[other][rows], reported)
            cells.append("–" if name == other else _interval(change, sign="+"))
        print(f"| {_title(name)} | {' | '.join(cells)} |")
    print(f"\nBy emotion, all {len(everyone.ids)} excerpts:\n")
    print(f"| | {' | '.join(people.EMOTIONS)} |\n|---|{'--:|' * len(people.EMOTIONS)}")
    for name, values in predicted.items():
        print(f"| {_title(name)} | {' | '.join(f'{item:.2f}' for item in people.agreement(values, everyone))} |")


def _title(name: str) -> str:
    return "VGG-ish" if name == VGGISH else name


def _interval(values: Interval, *, sign: str = "") -> str:
    value, low, high = (f"{item:{sign}.3f}" for item in values)
    return f"{value} ({low} … {high})"


def _kinds(heldout: Music, excerpts: Music) -> None:
    """Print the agreement within every kind of music and every genre."""
    names, groups = list(heldout.models), np.array(heldout.groups)
    means = np.stack([heldout.ensemble[groups == group].mean(axis=0) for group in groups])
    by_kind = float(np.median(metrics.spearman(heldout.ensemble, means)))
    print(KIND_HEAD.format(fewest=FEWEST, by_kind=by_kind))
    columns = [f"{name}: {what}" for name in names for what in ("median tag", "offset")]
    print(f"| music | tracks | {' | '.join(columns)} |\n|---|--:|{'--:|' * len(columns)}")
    order: Callable[[str], int] = KINDS.index
    for music, present in (
        (heldout, sorted(set(heldout.groups), key=order)),
        (excerpts, sorted(set(excerpts.groups))),
    ):
        for group in present:
            rows, cells = np.flatnonzero(np.array(music.groups) == group), []
            for item in music.models.values():
                one, other = item.logits[rows], music.ensemble[rows]
                few = len(rows) < FEWEST
                cells += [
                    "–" if few else f"{np.median(metrics.spearman(other, one)):.3f}",
                    f"{measures.offset(one, other):.2f}",
                ]
            print(f"| {'Emotify: ' * (music is excerpts)}{group} | {len(rows)} | {' | '.join(cells)} |")


def _tags(name: str, heldout: Music, excerpts: Music) -> None:
    """Print the agreement of one model with the ensemble by tag."""
    columns = []
    for music in (heldout, excerpts):
        logits = music.models[name].logits
        columns += [metrics.spearman(music.ensemble, logits), (logits - music.ensemble).mean(axis=0)]
        columns.append(music.models[name].decided.mean(axis=0))
    themes = heldout.models[name].taggings[0].theme_vocabulary
    print(f"\n## Agreement by tag\n\nOf {name}. Themes are in italics; *difference* is the mean of the logits.\n")
    print("| tag | held-out packages: Spearman | difference | decided | Emotify: Spearman | difference | decided |")
    print(f"|---|{'--:|' * len(columns)}")
    for tag in np.argsort(-columns[0], kind="stable"):
        cells = [f"{column[tag]:{form}}" for column, form in zip(columns, (".3f", "+.2f", ".0%") * 2, strict=True)]
        word = tags.MOODS_AND_THEMES[tag]
        print(f"| {f'*{word}*' if word in themes else word} | {' | '.join(cells)} |")


def _curve(run: Path) -> None:
    """Print the learning curve of the run."""
    epochs = [item for item in log.read(run).epochs if item.score is not None or item.averaged is not None]
    print("\n## Learning curve\n\nMean Spearman over tags, on a clip in every 30 s of the held-out tracks.\n")
    print("| epoch | network | averaged weights |\n|---|---|---|")
    for item in epochs:
        cells = ("–" if value is None else f"{value:.3f}" for value in (item.score, item.averaged))
        print(f"| {item.epoch} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

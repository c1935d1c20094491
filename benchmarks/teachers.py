"""The teachers and their ensemble: agreement with people, decisions, targets by kind of music, hours of music.

    MOODFIELD_DATA=… python benchmarks/teachers.py [--plot docs/teachers.png]

Needs the music of `make music`, the checkpoints, Emotify and MTG-Jamendo's TSVs. Prints the page docs/teachers.md.
Outputs are cached, so it resumes; from nothing it takes about an hour on two cores.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

import emotify
import people
from moodfield import calibration, parallel, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import manifest, targets
from moodfield.distillation.manifest import KINDS, Music
from moodfield.distillation.teachers import bridge as bridges
from moodfield.distillation.teachers import ensemble as ensembles
from moodfield.distillation.teachers import msd_musicnn, published, teacher
from moodfield.distillation.teachers.bridge import Bridge
from moodfield.distillation.teachers.ensemble import Ensemble
from moodfield.distillation.teachers.published import VGGISH
from moodfield.errors import MoodfieldError
from moodfield.evaluation import submissions
from moodfield.plots import figures
from moodfield.training.pipeline import RunPaths

HERE = Path(__file__).parent
JAMENDO = "jamendo_fcn", "jamendo_crnn", "jamendo_musicnn"
MSD, FIRST = "msd_musicnn", "msd_musicnn, first words"
FIRST_WORDS = {
    "action": "hard rock, metal",
    "fast": "punk, metal",
    "meditative": "ambient",
    "motivational": "",
    "trailer": "",
}
"""words before the choosing half was looked at, where they were others"""
SYSTEMS: Mapping[str, Mapping[str, float]] = {
    "VGG-ish": {VGGISH: 1},
    "FCN, by the bridge": {"jamendo_fcn": 1},
    "CRNN, by the bridge": {"jamendo_crnn": 1},
    "Musicnn, by the bridge": {"jamendo_musicnn": 1},
    "MSD_musicnn, by words": {MSD: 1},
    "VGG-ish + bridge": {VGGISH: 1, **dict.fromkeys(JAMENDO, 1 / 3)},
    "VGG-ish + ½ MSD_musicnn": {VGGISH: 1, MSD: 0.5},
    "VGG-ish + MSD_musicnn": {VGGISH: 1, MSD: 1},
    "the ensemble, first words": {VGGISH: 1, **dict.fromkeys(JAMENDO, 1 / 3), FIRST: 1},
    "the ensemble": ensembles.WEIGHTS,
}
"""name → weights of teachers"""
COMPARED = "VGG-ish", "the ensemble"
"""systems whose decisions are shown, standardized over the training music"""
SHOWN = 6
"""tags that are shown for a kind of music"""
HEAD = """# Teachers and targets

By `benchmarks/teachers.py` (`make teachers`). A student learns from the logits of an ensemble of five published
networks, which `moodfield distill targets` computes; [training](train.md) has the commands.

| teacher | trained on | vocabulary | how it becomes moods | licence |
|---|---|---|---|---|
| VGG-ish | MTG-Jamendo | the 56 moods and themes | itself | Apache-2.0 repository |
| FCN, CRNN, Musicnn (Won et al., 2020) | MTG-Jamendo | its top 50 tags | the bridge | MIT |
| MSD_musicnn (Pons and Serra, 2019) | Million Song Dataset | 50 tags of last.fm | words of related meaning | ISC-like |

**The bridge** is a logistic regression from the {inputs} genres and instruments among the top 50 tags to the 56 moods
and themes. It is fitted on MTG-Jamendo's training TSV, without audio; its strength ({strength:g}) has the least log
loss on the validation tracks. `benchmarks/bridge.py` evaluates it. **The words** are `ensemble.WORDS`.

**The ensemble** is the mean of the teachers' logits. They are standardized, for every tag, over the training music,
in which every kind of music with 20 tracks or more counts as much as any other. The three networks of one training
set and vocabulary count as one teacher. The mean is scaled so that over this music every tag has the mean and the
standard deviation of VGG-ish's published predictions for MTG-Jamendo's test tracks.

So this is assumed, not measured: that a tag is as frequent in music balanced over these kinds as it is on
MTG-Jamendo, and that the calibration of VGG-ish holds for the ensemble.
"""
PEOPLE = """## Agreement with people

Spearman with the share of Emotify's annotators who felt an emotion, within each of four genres, mean over nine
emotions. `benchmarks/people.py` has the map from tags to emotions, which was fixed before any score was seen. Nothing
was trained on these excerpts. Equal weights were known to be good on all of them; words were changed after a look at
{chosen} of them, and the other {rest} are reported, with 95 % of {resamples:,} resamples of the excerpts. The
difference to VGG-ish is paired.
"""
DECISIONS = """
## Decisions

What would be decided if a tag were decided for a track whose logit exceeds that of as many of VGG-ish's published
predictions as test tracks of MTG-Jamendo have the tag. In every cell: VGG-ish with its own logits → VGG-ish
standardized over the training music → the ensemble, which is standardized, too. Most tracks of a kind belong to that
music. The bundled model has other thresholds. *On*: share of the tracks that have the commonest tag.

| music | tracks | commonest tag | on | different tags | tags a track | without a tag |
|---|--:|---|--:|--:|--:|--:|"""
TARGETS = """
## Targets by kind of music

The ensemble's logits in standard deviations of VGG-ish's published predictions from their mean, averaged over the
tracks of a kind: the highest and the lowest tags. *Spread* is the standard deviation over the tracks of a kind, mean
over the tags.

| music | highest | lowest | spread |
|---|---|---|--:|"""
MUSIC = """
## Music

Hours by kind and licence; `music/README.md` has every licence, `music/manifest.tsv` every file.
"""


@dataclass(frozen=True)
class TrackMoods:
    """The logits of moods of all teachers for some tracks, means over their windows."""

    tracks: tuple[Track, ...]
    """the tracks that every teacher could read"""
    by_teacher: Mapping[str, Float[np.ndarray, "tracks tags"]]
    """teacher → logits"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    options = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (data / "teachers").is_dir() or not (data / "emotify").is_dir():
        sys.exit("set MOODFIELD_DATA to the folder that contains teachers/ and emotify/")
    fit = bridges.fit(data / "mtg-jamendo")
    music = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
    logits = calibration.logit(submissions.read_array(data / "mediaeval2019" / "baseline" / "vggish_predictions.npy"))
    split, _ = emotify.tracks(data / "emotify")
    excerpts = _moods(data, fit.bridge, split.tracks, data / "emotify" / "audio", options.store)
    pieces = _moods(data, fit.bridge, music.tracks, options.music, options.store)
    reference = np.isin([track.id for track in pieces.tracks], [track.id for track in music.train.tracks])
    kinds = np.array([music.kinds[track.id] for track in pieces.tracks])
    fitted = {name: _fit(pieces, reference, kinds, logits, dict(weights)) for name, weights in SYSTEMS.items()}
    print(HEAD.format(inputs=len(fit.bridge.inputs), strength=fit.strength))
    agreement = _people(excerpts, fitted, data / "emotify")
    test = mtg_jamendo.read(data / "mtg-jamendo" / f"{mtg_jamendo.MOODTHEME}test.tsv", vocabulary=tags.MOODS_AND_THEMES)
    thresholds = np.array([np.quantile(logits[:, tag], 1 - share) for tag, share in enumerate(test.priors)])
    _decisions(excerpts, pieces, kinds, fitted, thresholds)
    _targets(pieces, kinds, fitted["the ensemble"])
    _hours(music)
    if options.plot:
        print(f"\n![Agreement with people, and hours of music by kind]({options.plot.name})")
        _draw(options.plot, agreement, music)


def _moods(data: Path, bridge: Bridge, tracks: Sequence[Track], audio: Path, store: Path) -> TrackMoods:
    """The logits of all teachers for tracks; a track that one cannot read is named on standard error."""
    teachers, paths = published.teachers(data), RunPaths(audio, store, Path(), parallel.cpu_count())

    def report(track: Track, error: MoodfieldError | None) -> None:
        if error:
            print(f"left out: {track.id}: {error}", file=sys.stderr)

    readable = targets.compute_all(teachers, tracks, paths, report).tracks
    logits = targets.track_moods(teachers, bridge, readable, paths)
    words = ensembles.mean_of_words(msd_musicnn.VOCABULARY, {**ensembles.WORDS, **FIRST_WORDS})
    outputs = teacher.load(next(item for item in teachers if item.name == MSD), readable, audio, store)
    first = np.stack([rows.values[:, : len(words)].mean(axis=0) @ words for rows in outputs])
    return TrackMoods(readable, logits | {FIRST: first})


def _fit(
    pieces: TrackMoods,
    rows: Bool[np.ndarray, "tracks"],
    kinds: np.ndarray,
    logits: np.ndarray,
    weights: Mapping[str, float],
) -> Ensemble:
    """The ensemble with some weights, on the training tracks."""
    moods = {name: values[rows] for name, values in pieces.by_teacher.items()}
    return ensembles.fit(moods, kinds[rows].tolist(), logits, weights=weights)


def _people(
    excerpts: TrackMoods, fitted: Mapping[str, Ensemble], folder: Path
) -> dict[str, tuple[float, float, float]]:
    """Print the agreement of all systems with people; returns that on the reported half."""
    everyone = people.read(folder, excerpts.tracks)
    validation = mtg_jamendo.read(folder / "emotify-validation.tsv")
    chosen = people.choosing_half(everyone, [int(track.id.removeprefix("track_")) for track in validation.tracks])
    halves = [(np.flatnonzero(rows), people.select(everyone, rows)) for rows in (chosen, ~chosen)]
    felt = {name: _emotions(system.combine(excerpts.by_teacher)) for name, system in fitted.items()}
    print(PEOPLE.format(chosen=chosen.sum(), rest=(~chosen).sum(), resamples=people.RESAMPLES))
    print(f"| | all {len(chosen)} | {chosen.sum()} to choose on | {(~chosen).sum()} reported | reported, − VGG-ish |")
    print("|---|--:|--:|--:|--:|")
    results = {}
    for name, values in felt.items():
        (choosing, first), (rest, second) = halves
        results[name] = people.mean_agreement(values[rest], second)
        change = people.difference(values[rest], felt["VGG-ish"][rest], second)
        parts = [people.agreement(values, everyone), people.agreement(values[choosing], first)]
        cells = [*(f"{part.mean():.3f}" for part in parts), _interval(results[name]), _interval(change, sign="+")]
        print(f"| {name} | {' | '.join(cells if name != 'VGG-ish' else [*cells[:-1], '–'])} |")
    print("\nBy emotion, reported half:\n")
    print(f"| | {' | '.join(people.EMOTIONS)} |\n|---|{'--:|' * len(people.EMOTIONS)}")
    for name in ("VGG-ish", "VGG-ish + bridge", "the ensemble"):
        values = people.agreement(felt[name][halves[1][0]], halves[1][1])
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")
    return results


def _emotions(logits: np.ndarray) -> np.ndarray:
    return people.emotions(logits.astype(np.float64), tags.MOODS_AND_THEMES)


def _decisions(
    excerpts: TrackMoods, pieces: TrackMoods, kinds: np.ndarray, fitted: Mapping[str, Ensemble], thresholds: np.ndarray
) -> None:
    """Print the decisions that VGG-ish and the ensemble would make, by kind of music."""
    print(DECISIONS)
    groups = {"Emotify": (excerpts, np.ones(len(excerpts.tracks), bool))}
    groups |= {kind: (pieces, kinds == kind) for kind in KINDS}
    for name, (moods, rows) in groups.items():
        systems = [moods.by_teacher[VGGISH], *(fitted[name].combine(moods.by_teacher) for name in COMPARED)]
        cells = zip(*(_statistics(logits[rows] > thresholds) for logits in systems), strict=True)
        print(f"| {name} | {rows.sum()} | {' | '.join(map(' → '.join, cells))} |")


def _statistics(decided: Bool[np.ndarray, "tracks tags"]) -> tuple[str, ...]:
    """Commonest tag, its share, tags that are used, tags a track, tracks without one."""
    share, per_track = decided.mean(axis=0), decided.sum(axis=1)
    return (
        tags.MOODS_AND_THEMES[int(share.argmax())],
        f"{share.max():.0%}",
        f"{decided.any(axis=0).sum()}",
        f"{per_track.mean():.1f}",
        f"{(per_track == 0).mean():.0%}",
    )


def _targets(pieces: TrackMoods, kinds: np.ndarray, ensemble: Ensemble) -> None:
    """Print statistics of the targets by kind of music."""
    logits = ensemble.combine(pieces.by_teacher)
    standard = (logits - ensemble.target.mean) / ensemble.target.std
    print(TARGETS)
    for kind in KINDS:
        rows = standard[kinds == kind]
        order = np.argsort(-rows.mean(axis=0), kind="stable")
        high, low = (
            ", ".join(f"{tags.MOODS_AND_THEMES[tag]} {rows[:, tag].mean():+.1f}" for tag in numbers)
            for numbers in (order[:SHOWN], order[: -SHOWN // 2 - 1 : -1])
        )
        print(f"| {kind} | {high} | {low} | {rows.std(axis=0).mean():.2f} |")


def _hours(music: Music) -> None:
    """Print hours by kind and kind of licence."""
    print(MUSIC)
    groups = ("CC0, public domain", "CC BY", "CC BY-SA", "GPL, LGPL", "other free")
    hours = music.hours("kind", "licence")
    print(f"| music | {' | '.join(groups)} | all | held out |\n|---|{'--:|' * (len(groups) + 2)}")
    heldout = music.hours("kind", "split")
    for kind in KINDS:
        of_kind = {licence: value for (name, licence), value in hours.items() if name == kind}
        cells = [sum(value for licence, value in of_kind.items() if _group(licence) == group) for group in groups]
        cells += [sum(cells), heldout.get((kind, "heldout"), 0)]
        print(f"| {kind} | {' | '.join(map(_number, cells))} |")


def _group(licence: str) -> str:
    """The group of a licence."""
    if licence.startswith(("CC0", "public-domain")):
        return "CC0, public domain"
    if licence.startswith("CC-BY-SA"):
        return "CC BY-SA"
    if licence.startswith("CC-BY"):
        return "CC BY"
    return "GPL, LGPL" if licence.startswith(("GPL", "LGPL")) else "other free"


def _number(value: float) -> str:
    return f"{value:.2f}" if value else "–"


def _interval(values: Iterable[float], *, sign: str = "") -> str:
    value, low, high = (f"{item:{sign}.3f}" for item in values)
    return f"{value} ({low} … {high})"


def _draw(path: Path, agreement: Mapping[str, tuple[float, float, float]], music: Music) -> None:
    """Draw the agreement with people, and the hours of music by kind."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(agreement)[::-1]
    values, low, high = np.array([agreement[name] for name in names]).T
    colours = ["#b5502b" if name == "the ensemble" else "#2b6cb0" for name in names]
    left.barh(names, values, color=colours, height=0.6, xerr=[values - low, high - values], ecolor=figures.INK)
    left.set_title("Agreement with people (Spearman), reported half", fontsize=10, color=figures.INK)
    hours = music.hours("kind", "split")
    kinds = list(KINDS)[::-1]
    train, heldout = ([hours.get((kind, part), 0) for kind in kinds] for part in ("train", "heldout"))
    right.barh(kinds, train, color="#2b6cb0", height=0.6, label="training")
    right.barh(kinds, heldout, left=train, color="#b5502b", height=0.6, label="held out")
    right.set_title("Hours of music", fontsize=10, color=figures.INK)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.tick_params(labelsize=8, colors=figures.INK)
        axes.spines[["top", "right"]].set_visible(False)
    figures.write(path, figure)


if __name__ == "__main__":
    main()

"""Which rule decides tags best: comparisons of absolute and of relative decisions, by people and by counts.

    MOODFIELD_DATA=… python benchmarks/decisions.py [--model MODEL]

MODEL is a model folder or the name of a model, which is evaluated after the ensemble of teachers. Prints the page
docs/deciding.md. Needs the music of `make music`, the ensemble of `make targets` and Emotify; outputs are cached, and
a model tags all of the music first: a quarter of an hour or more.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

import emotify
import outputs
import people
from moodfield import calibration, decisions, tagger, tags
from moodfield.calibration import Calibration
from moodfield.datasets import mtg_jamendo
from moodfield.decisions import CUT, KIND_SLACK, MARGIN, MAX_TAGS, MIN_TRACKS, PSEUDO_TRACKS
from moodfield.distillation import manifest, model_card
from moodfield.training.pipeline import RunPaths
from outputs import ENSEMBLE
from rules import RULES, Data, Decided, Percentiles, relative

HERE = Path(__file__).parent
SONG = "song"
"""kind of music with singing: nothing is chosen on it"""
FOLDS = 5
"""parts of the training packages, each of which is decided by a reference of the others"""
HEAD = """# How tags are decided

By `benchmarks/decisions.py`, for {models}.
The rule was chosen with the ensemble's logits; the choice is recorded in
decisions [0034](decisions/0034-decisions-against-what-is-usual.md) and
[0037](decisions/0037-evidence-among-each-kind-of-music.md).

1. The *evidence* for a tag is how many standard deviations its logit is above its mean in the reference, the training
   music with all kinds balanced; or if less, above its mean in any one kind of music, plus {slack:g}.
2. A tag is decided if its evidence is more than {cut:g}, at most {margin:g} below that of the track's clearest tag, and
   among the {most} largest.
3. For decisions *relative* to n tracks all means and standard deviations move to those of the tracks with the weight
   n / (n + {k:g}); without that, decisions are *absolute*.

Cells: share of the tracks with the commonest tag · number of different tags used · share of tracks without a tag ·
tags a track · human percentile. The *human percentile* is the mean, over all decided tags that `benchmarks/people.py`
maps to emotions, of the percentile of the excerpt among all {excerpts} by the share of its annotators who felt these
emotions; chance is {chance:.3f}, and {oracle:.3f} would be reached if every excerpt got its best tag. Intervals are
95 % of 1,000 resamples of the excerpts.
"""
ABSOLUTE = """
## Absolute decisions of {model}: to choose by

On half of Emotify and on the training packages without sung music, each fifth of which is decided by a reference of
the other packages. *With songs*: the reference is all training music, as in the card.

| rule | Emotify, {chosen} to choose on | the same, with songs | left-out training packages |
|---|--:|--:|--:|"""
REPORTED = """
## Absolute decisions of {model}: other music

No constant was fitted to the reported half, the held-out packages or the songs, but their figures were seen while the
form of the rule was developed. The reference has no sung music for the songs; *with songs*: all training music, which
has {sung} of the {songs} songs. *Single tag*: human percentile of the excerpts of Emotify with one tag that has an
emotion, and their number. *z*: standard deviations above the mean of the reference; *of a kind*: above that of each
kind of music.

| rule | Emotify, {rest} reported | all of Emotify | single tag | held-out packages | {songs} songs | with songs |
|---|--:|--:|--:|--:|--:|--:|"""
RELATIVE = """
## Relative decisions of {model}

*Strength* is the weight of the tracks' own mean, {none} the n / (n + k) of the rule; the spread is that of the
reference, that of the tracks, or between them with the same weight. Every set is decided relative to itself;
*libraries* are the {libraries} training packages with {fewest} tracks or more, and cells are means over them.
Choices were made with the ensemble on the first two columns.

| strength | spread | Emotify, {chosen} chosen on | libraries | Emotify, {rest} reported | rock, pop | {songs} songs |
|---|---|--:|--:|--:|--:|--:|"""

ROBUST = """
## Relative decisions of {model}: few tracks, one genre, copies

Excerpts of Emotify. *Random*: means over {draws} drawings. *Agreement*: decided tags that are the same relative to all
{excerpts} excerpts, among those decided by either. *Changed*: decisions that change if every track is there {copies}
times.

| library | tracks | figures | agreement | changed |
|---|--:|--:|--:|--:|"""
DRAWS = 20
"""random libraries of a size"""
COPIES = 10
"""times that every track is there in the comparison with copies"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder or name, beside the ensemble of teachers")
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--music", type=Path, default=Path(".cache/music"))
    parser.add_argument("--ensemble", type=Path, default=Path(".cache/teachers/ensemble.json"))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    subjects = [read(options, model) for model in dict.fromkeys((None, options.model))]
    known = subjects[0].percentiles
    oracle, chance = float(np.nanmax(known, axis=1).mean()), float(np.nanmean(known))
    print(
        HEAD.format(
            models=" and ".join(data.model for data in subjects), cut=CUT, margin=MARGIN, most=MAX_TAGS,
            slack=KIND_SLACK, k=PSEUDO_TRACKS, excerpts=len(known), chance=chance, oracle=oracle,
        )
    )  # fmt: skip
    _goals(subjects)
    for data in subjects:
        _absolute(data)
        _relative(data)
        _robust(data)
        _times(data)


# ---------------------------------------------------------------- data


def read(options: argparse.Namespace, model: str | None) -> Data:
    """The logits of a model, or of the ensemble, for everything."""
    folder = outputs.data_folder("emotify", "teachers", "mtg-jamendo", "mediaeval2019")
    listed = manifest.read_manifest(HERE.parent / "music" / "manifest.tsv")
    split, _ = emotify.tracks(folder / "emotify")
    everyone = people.read(folder / "emotify", split.tracks)
    validation = mtg_jamendo.read(folder / "emotify" / "emotify-validation.tsv")
    taught = model_card.calibrate_teacher(
        folder / "mediaeval2019" / "baseline" / "vggish_predictions.npy", folder / "mtg-jamendo"
    )
    scale, sets = taught.calibration, []
    for tracks, audio in ((listed.tracks, options.music), (split.tracks, folder / "emotify" / "audio")):
        paths = RunPaths(audio, options.store, Path(), options.jobs)
        if model:
            tagged = outputs.of_model(model, tracks, paths)
            [loaded] = tagger.load(model).models
            scale = loaded.card.calibration or Calibration((1.0,) * len(taught.priors), (0.0,) * len(taught.priors))
            sets.append((tagged.tracks, tagged.logits))
        else:
            sets.append((tracks, outputs.of_teachers(folder, options.ensemble, tracks, paths)[ENSEMBLE]))
    (pieces, music), (excerpts, emotions) = (
        (tracks, logits * np.array(scale.slopes) + np.array(scale.offsets)) for tracks, logits in sets
    )
    assert len(excerpts) == len(split.tracks), "an excerpt of Emotify could not be tagged"
    heldout = {track.id for track in listed.heldout.tracks}
    return Data(
        model=f"the model `{model}`" if model else "the ensemble",
        music=music,
        kinds=np.array([listed.kinds[track.id] for track in pieces]),
        packages=np.array([track.path.partition("/")[0] for track in pieces]),
        heldout=np.array([track.id in heldout for track in pieces]),
        excerpts=emotions,
        percentiles=human_percentiles(everyone.felt),
        chosen=people.choosing_half(everyone, [int(track.id.removeprefix("track_")) for track in validation.tracks]),
        genres=np.array([people.annotations(folder / "emotify")[number]["genre"] for number in everyone.ids]),
        priors=np.array(taught.priors),
        titles=tuple(track.path for track in pieces),
    )


def human_percentiles(felt: Float64[np.ndarray, "tracks emotions"]) -> Percentiles:
    """Percentile of every excerpt among all, mean over the emotions of a tag; ties count half."""
    of_emotions = np.stack(
        [((values[:, None] > values).mean(axis=1) + (values[:, None] == values).mean(axis=1) / 2) for values in felt.T],
        axis=1,
    )
    result = np.full((len(felt), len(tags.MOODS_AND_THEMES)), np.nan)
    for column, tag in enumerate(tags.MOODS_AND_THEMES):
        if members := [number for number, words in enumerate(people.EMOTIONS.values()) if tag in words]:
            result[:, column] = of_emotions[:, members].mean(axis=1)
    return result


# ---------------------------------------------------------------- the page


def figures(decided: Decided, percentiles: Percentiles | None = None) -> list[float]:
    """Share with the commonest tag, tags used, share without a tag, tags a track, and the human percentile."""
    counts = decided.sum(axis=1)
    values = [decided.mean(axis=0).max(), decided.any(axis=0).sum(), (counts == 0).mean(), counts.mean()]
    if percentiles is not None:
        values.append(float(np.nanmean(np.where(decided, percentiles, np.nan))))
    return list(map(float, values))


def cell(values: Sequence[float]) -> str:
    """Figures as a cell of a table."""
    words = [f"{values[0]:.0%}", f"{values[1]:.0f}", f"{values[2]:.0%}", f"{values[3]:.1f}"]
    return " · ".join(words + [f"{value:.3f}" for value in values[4:]])


def interval(decided: Decided, percentiles: Percentiles) -> tuple[float, float, float]:
    """The human percentile with a bootstrap interval over excerpts."""
    mapped = decided & np.isfinite(percentiles)
    totals, counts = np.where(mapped, percentiles, 0).sum(axis=1), mapped.sum(axis=1)
    drawn = np.random.default_rng(0).integers(0, len(totals), (people.RESAMPLES, len(totals)))
    tail = (1 - people.CONFIDENCE) / 2
    low, high = np.quantile(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [tail, 1 - tail])
    return float(totals.sum() / counts.sum()), float(low), float(high)


def with_interval(decided: Decided, percentiles: Percentiles) -> str:
    """Figures as a cell, with the interval of the human percentile."""
    mean, low, high = interval(decided, percentiles)
    return f"{cell(figures(decided))} · {mean:.3f} ({low:.3f} … {high:.3f})"


def of_single(decided: Decided, percentiles: Percentiles) -> str:
    """Human percentile of tracks with a single tag, and their number, as a cell."""
    single = decided & (decided.sum(axis=1, keepdims=True) == 1)
    values = percentiles[single & np.isfinite(percentiles)]
    return f"{values.mean():.3f} ({len(values)})" if len(values) else "–"


def agreement(first: Decided, second: Decided) -> float:
    """Decisions that are the same, among those of either."""
    return float((first & second).sum() / (first | second).sum())


def _absolute(data: Data) -> None:
    """Print the rules on the music that choices are made on, and on other music."""
    train, song = ~data.heldout, data.kinds == SONG
    instrumental = train & ~song
    names = np.unique(data.packages[instrumental])
    fold = np.random.default_rng(0).permutation(len(names)) % FOLDS
    part = fold[np.minimum(np.searchsorted(names, data.packages), len(names) - 1)]
    print(ABSOLUTE.format(model=data.model, chosen=data.chosen.sum()))
    for rule in RULES:
        excerpts = rule.decide(data, instrumental, data.excerpts[data.chosen])
        left = [rule.decide(data, instrumental & (part != n), data.music[instrumental & (part == n)])
                for n in range(FOLDS)]  # fmt: skip
        chosen = data.percentiles[data.chosen]
        with_songs = rule.decide(data, train, data.excerpts[data.chosen])
        cells = [with_interval(decided, chosen) for decided in (excerpts, with_songs)]
        cells.append(cell(figures(np.concatenate(left))))
        print(f"| {rule.name} | {' | '.join(cells)} |")
    rest, songs, sung = (~data.chosen).sum(), song.sum(), (song & train).sum()
    print(REPORTED.format(model=data.model, rest=rest, songs=songs, sung=sung))
    for rule in RULES:
        by_half = rule.decide(data, train, data.excerpts)
        cells = [
            with_interval(by_half[~data.chosen], data.percentiles[~data.chosen]),
            with_interval(by_half, data.percentiles),
            of_single(by_half, data.percentiles),
            cell(figures(rule.decide(data, train, data.music[data.heldout]))),
        ]
        cells += [cell(figures(rule.decide(data, rows, data.music[song]))) for rows in (instrumental, train)]
        print(f"| {rule.name} | {' | '.join(cells)} |")


def _relative(data: Data) -> None:
    """Print variants of relative decisions."""
    song, train = data.kinds == SONG, ~data.heldout
    usual, without = data.reference(train), data.reference(train & ~song)
    names, counts = np.unique(data.packages[train & ~song], return_counts=True)
    libraries = [data.music[(data.packages == name) & train] for name in names[counts >= MIN_TRACKS]]
    sung = np.isin(data.genres, ["pop", "rock"])
    print(RELATIVE.format(
        model=data.model, none="–", libraries=len(libraries), fewest=MIN_TRACKS, chosen=data.chosen.sum(),
        rest=(~data.chosen).sum(), songs=song.sum(),
    ))  # fmt: skip
    variants = [
        (strength, spread, PSEUDO_TRACKS)
        for strength in (0.5, None, 1.0)
        for spread in ("reference", "between", "tracks")
    ]
    variants += [(None, "between", k) for k in (5.0, 20.0, 40.0)]
    for strength, spread, k in variants:
        cells = []
        for rows in (data.chosen, None, ~data.chosen, sung):
            if rows is None:
                each = [figures(relative(without, logits, strength, spread, k)) for logits in libraries]
                cells.append(cell(np.mean(each, axis=0).tolist()))
            else:
                decided = relative(usual, data.excerpts[rows], strength, spread, k)
                cells.append(with_interval(decided, data.percentiles[rows]))
        cells.append(cell(figures(relative(without, data.music[song], strength, spread, k))))
        name = f"n / (n + {k:g})" if strength is None else f"{strength:g}"
        print(f"| {name} | {spread} | {' | '.join(cells)} |")


def _robust(data: Data) -> None:
    """Print relative decisions of small and of uniform libraries."""
    usual, generator = data.reference(~data.heldout), np.random.default_rng(0)
    everyone = decisions.shrink(usual, data.excerpts).decide(data.excerpts)
    libraries = [(str(genre), [np.flatnonzero(data.genres == genre)]) for genre in np.unique(data.genres)]
    libraries += [
        ("random", [generator.choice(len(data.excerpts), size, replace=False) for _ in range(DRAWS)])
        for size in (MIN_TRACKS, 200)
    ]
    print(ROBUST.format(model=data.model, draws=DRAWS, excerpts=len(data.excerpts), copies=COPIES))
    for name, drawn in libraries:
        values, same, changed = list[list[float]](), list[float](), 0
        for rows in drawn:
            logits = data.excerpts[rows]
            decided = decisions.shrink(usual, logits).decide(logits)
            copied = decisions.shrink(usual, np.repeat(logits, COPIES, axis=0)).decide(logits)
            values.append(figures(decided, data.percentiles[rows]))
            same.append(agreement(decided, everyone[rows]))
            changed += int((decided != copied).sum())
        figure = cell(np.mean(values, axis=0).tolist())
        print(f"| {name} | {len(drawn[0])} | {figure} | {np.mean(same):.2f} | {changed} |")


def _goal_rows(data: Data) -> list[tuple[str, Decided, Percentiles | None, tuple[float, ...]]]:
    """Decisions of the adopted rule, human percentiles and goals."""
    song, train, sung = data.kinds == SONG, ~data.heldout, np.isin(data.genres, ["pop", "rock"])
    usual, without = data.reference(train), data.reference(train & ~song)
    shrunk = decisions.shrink
    return [
        ("absolute, Emotify", usual.decide(data.excerpts), data.percentiles, (0.40, 30, 0.05, 0.62)),
        ("absolute, Emotify, reported half", usual.decide(data.excerpts[~data.chosen]),
         data.percentiles[~data.chosen], (0.40, 30, 0.05, 0.62)),
        ("absolute, songs, reference without songs", without.decide(data.music[song]), None, (0.50, 20, 0.08)),
        ("absolute, songs, reference with songs", usual.decide(data.music[song]), None, (0.50, 20, 0.08)),
        ("absolute, held-out packages", usual.decide(data.music[data.heldout]), None, (0.30, 30, 0.05)),
        ("relative, songs, reference without songs", shrunk(without, data.music[song]).decide(data.music[song]), None,
         (0.30, 25)),
        ("relative, Emotify's rock and pop", shrunk(usual, data.excerpts[sung]).decide(data.excerpts[sung]),
         data.percentiles[sung], (0.30, 25)),
        ("relative, Emotify", shrunk(usual, data.excerpts).decide(data.excerpts), data.percentiles, ()),
    ]  # fmt: skip


def _goals(subjects: Sequence[Data]) -> None:
    """Print the figures of the adopted rule beside the goals."""
    for data in subjects:
        print(f"\n## Goals: {data.model}\n")
        print("| decisions | commonest tag | on | tags used | no tag | tags a track | human percentile |")
        print("|---|---|--:|--:|--:|--:|--:|")
        for row in _goal_rows(data):
            _goal(*row)


def _goal(name: str, decided: Decided, percentiles: Percentiles | None, goals: tuple[float, ...]) -> None:
    """Print a row of the table of goals."""
    values = figures(decided)
    words = [f"{values[0]:.1%}", f"{values[1]:.0f}", f"{values[2]:.1%}", f"{values[3]:.1f}", "–"]
    results = [-values[0], values[1], -values[2]]
    if percentiles is not None:
        mean, low, high = interval(decided, percentiles)
        words[4] = f"{mean:.3f} ({low:.3f} … {high:.3f})"
        results.append(mean)
    places = (0, 1, 2, 4)
    for place, result, goal, sign in zip(places, results, goals, (-1, 1, -1, 1), strict=False):
        bound = f"{goal:.0%}" if place in (0, 2) else f"{goal:g}"
        words[place] += f", goal {'≤' if sign < 0 else '≥'} {bound}{'' if result >= sign * goal else ', missed'}"
    common = tags.MOODS_AND_THEMES[int(decided.mean(axis=0).argmax())]
    print(f"| {name} | {common} | {' | '.join(words)} |")


def _times(data: Data) -> None:
    """Print what is read as "4 × as usual": the score divided by the usual one."""
    usual = data.reference(~data.heldout)
    logits = data.music[data.heldout]
    times = calibration.sigmoid(logits) / usual.scores
    decided = usual.decide(logits)
    print(f"\n## How much more likely than usual: {data.model}\n")
    print("Score divided by the usual one: the mean score, if logits are normally distributed.\n")
    print("| held-out packages | 5 % | 25 % | median | 75 % | 95 % |\n|---|--:|--:|--:|--:|--:|")
    for name, values in (("all tags", times.ravel()), ("decided tags", times[decided])):
        print(
            f"| {name} | {' | '.join(f'{value:.2g}' for value in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))} |"
        )
    weights = decisions.balance(data.kinds[~data.heldout].tolist())
    ratio = weights @ calibration.sigmoid(data.music[~data.heldout]) / usual.scores
    spread = f"{np.median(ratio):.2f} × the usual ones in the median tag ({ratio.min():.2f} … {ratio.max():.2f})"
    print(f"\nThe mean scores of the reference themselves are {spread}. Some held-out tracks:\n")
    for row in np.linspace(7, len(logits) - 8, 12).astype(int):
        order = [tag for tag in np.argsort(-usual.evidence(logits[row])) if decided[row, tag]]
        words = ", ".join(f"{tags.MOODS_AND_THEMES[tag]} {times[row, tag]:.2g} ×" for tag in order)
        print(f"- `{np.array(data.titles)[data.heldout][row]}`: {words or '–'}")


if __name__ == "__main__":
    main()

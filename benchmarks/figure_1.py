"""Figure 1 on Emotify: PR-AUC against the receptive field, with and without averages of the weights.

    MOODFIELD_DATA=… python benchmarks/figure_1.py [--to runs/figure_1] [--folds 0-4]

Three folds are for training, one chooses the best epoch, the fifth is the test, in five turns. The recipe is that of
CP_ResNet, scaled from 200 to 80 epochs, at a quarter of its width. The result of a network on a fold is a line of
figure_1.jsonl beside this script: it is not trained again unless its settings changed, or its line and its run are
deleted; a run that was stopped resumes. Draws docs/figure-1.png and prints the page docs/figure-1.md.
"""

import argparse
import hashlib
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import ablation
import emotify
from moodfield import parallel
from moodfield.datasets.mtg_jamendo import Dataset, Split
from moodfield.paper import figure1
from moodfield.paper.figure1 import Point
from moodfield.plots import score_curves
from moodfield.training import loop, pipeline
from moodfield.training.recipe import Recipe

SETTINGS = (
    *(setting for setting in ablation.BASE if not setting.startswith("mel.n_mels")),
    "validate_every=2",
    "validate_stride=20",
)
"""settings of all networks; the mel keeps its 256 bands, as in the paper"""
FREQ_AND_TIME = tuple((rho, rho) for rho in figure1.RHOS)
FIXED = 4
"""ρ along frequency where ρ along time is varied"""
TIME_ALONE = tuple((FIXED, rho) for rho in (0, FIXED, 22))
RESULTS = Path(__file__).with_suffix(".jsonl")
PICTURE = Path(__file__).parent.parent / "docs" / "figure-1.png"
HEAD = """# Figure 1 on Emotify

The paper's Figure 1 shows PR-AUC on validation and test tracks against the receptive field of ResNets, each with and
without averages of its weights. This is the same on Emotify: 300 one-minute excerpts, nine emotions. Networks are
CP_ResNets at a quarter of the published width, on mels of 256 bands with a hop of 1,536 samples, trained by the paper's
recipe scaled to 80 epochs. Of five fixed folds three are for training, one chooses the best epoch (*validation*) and
the fifth is the *test*, in five turns. `make figure` writes this page; the results of each network on each fold are in
[figure_1.jsonl](../benchmarks/figure_1.jsonl).

![PR-AUC against the receptive field](figure-1.png)

Points are means over the folds, bars their standard errors, most of which is variation between folds, not between
networks: the comparisons below are paired by fold. ± in the table is the standard deviation over the folds. Validation
scores of best epochs are optimistic, because the epoch was chosen by them.
"""

TAIL = """
## Limits

This shows how PR-AUC depends on the receptive field for this music, and how little of that is significant with 300
excerpts: *do not differ significantly* neither confirms nor refutes the paper, whose networks were trained on 9,949
tracks, not 180, at four times the width. §3.1 states that time matters less than frequency: the panel on the right
varies time alone and needs the same caution. A receptive field longer than the clip, which has 288 frames, covers
padding in training, and the rest of the track only in evaluation."""


@dataclass(frozen=True)
class Result:
    """The result of one network on one fold."""

    fold: int
    point: Point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("runs/figure_1"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(emotify.FOLDS)))
    parser.add_argument("--page", action="store_true", help="train nothing, print the page of the finished networks")
    arguments = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not arguments.page:
        if not data.is_dir():
            sys.exit("Emotify is missing: set MOODFIELD_DATA to the folder that contains emotify/")
        loop.keep_freed_memory(Recipe())
        split, folds = emotify.tracks(data)
        for fold in arguments.folds:
            _train(_dataset(split, folds, fold, data / "audio"), fold, arguments.to, arguments.store)
    _page(_read_results())


def _dataset(split: Split, folds: np.ndarray, fold: int, audio: Path) -> Dataset:
    """Three folds for training, the next one for validation, this one for the test."""
    return Dataset("emotify", *(split.take(rows.tolist()) for rows in emotify.thirds(folds, fold)), audio)


def _train(dataset: Dataset, fold: int, runs_dir: Path, store: Path) -> None:
    """Train every network of a fold without a result."""
    finished = {(result.point.rho_freq, result.point.rho_time) for result in _read_results() if result.fold == fold}
    for field in dict.fromkeys((*FREQ_AND_TIME, *TIME_ALONE)):
        if field not in finished:
            settings = hashlib.sha256(" ".join(SETTINGS).encode()).hexdigest()[:8]
            paths = pipeline.RunPaths(dataset.audio, store, runs_dir / settings / str(fold), parallel.cpu_count())
            [point] = figure1.train(figure1.networks([field], settings=SETTINGS), dataset, paths)
            emotify.keep(RESULTS, {"fold": fold, "settings": " ".join(SETTINGS), **asdict(point)})
            print(f"fold {fold}: {point}", file=sys.stderr, flush=True)


def _read_results() -> list[Result]:
    """Results of networks with the present settings."""
    results = []
    for line in emotify.kept(RESULTS):
        fold, settings = line.pop("fold"), line.pop("settings")
        if settings == " ".join(SETTINGS):
            results.append(Result(fold, Point(**line)))
    return results


def _page(results: list[Result]) -> None:
    """Draw the figure; print the table and the comparisons."""
    first, time_alone = (
        [result.point for field in fields for result in _results_of(field, results)]
        for fields in (FREQ_AND_TIME, TIME_ALONE)
    )
    panels = [figure1.panel(first)] if first else []
    if time_alone:
        panels.append(figure1.panel(time_alone, title=f"ρ along time alone, {FIXED} along frequency", axis="time"))
    if panels:
        score_curves.draw(PICTURE, panels)
    print(HEAD)
    print(
        "| ρ frequency | ρ time | receptive field, bands × frames | validation | validation, SWA | test | test, SWA "
        "| folds |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for field in dict.fromkeys((*FREQ_AND_TIME, *TIME_ALONE)):
        if results_of_field := _results_of(field, results):
            cells = [
                emotify.spread([getattr(result.point, kind)[part] for result in results_of_field])
                for part in ("validation", "test") for kind in ("best_epoch", "average")
            ]  # fmt: skip
            size = " × ".join(map(str, results_of_field[0].point.field))
            print(f"| {field[0]} | {field[1]} | {size} | {' | '.join(cells)} | {len(results_of_field)} |")
    print(f"\nDifferences in PR-AUC on the test folds, with SWA,\n{emotify.INTERVALS},")
    print("without correction for their number. The best receptive field has the best mean on validation:\n")
    validation_means: dict[tuple[int, int], float] = {}
    for field in FREQ_AND_TIME:
        if results_of_field := _results_of(field, results):
            validation_means[field] = float(
                np.mean([result.point.average["validation"] for result in results_of_field])
            )
    best = max(validation_means, key=lambda field: validation_means[field], default=None)
    for field in validation_means:
        if best and field != best:
            _compare(f"ρ {best[0]}, the best on validation,", f"ρ {field[0]}", best, field, results)
    for field in TIME_ALONE:
        if field != (FIXED, FIXED):
            _compare(f"time ρ {FIXED}", f"time ρ {field[1]}", (FIXED, FIXED), field, results)
    gains: dict[int, list[float]] = {}
    for result in results:
        gains.setdefault(result.fold, []).append(result.point.average["test"] - result.point.best_epoch["test"])
    if len(gains) > 1:
        means = [float(np.mean(result)) for result in gains.values()]
        name = "SWA, mean over all receptive fields,"
        print(f"- {emotify.sentence(name, 'the best epoch', means, share=ablation.SHARE)}")
    print(TAIL)


def _results_of(field: tuple[int, int], results: list[Result]) -> list[Result]:
    return sorted(
        (result for result in results if (result.point.rho_freq, result.point.rho_time) == field),
        key=lambda result: result.fold,
    )


def _compare(
    first_name: str, second_name: str, first: tuple[int, int], second: tuple[int, int], results: list[Result]
) -> None:
    """Print the comparison of two receptive fields on the folds that both have."""
    scores = [
        {result.fold: result.point.average["test"] for result in _results_of(field, results)}
        for field in (first, second)
    ]
    shared_folds = sorted(scores[0].keys() & scores[1].keys())
    if len(shared_folds) > 1:
        differences = [scores[0][fold] - scores[1][fold] for fold in shared_folds]
        print(f"- {emotify.sentence(first_name, second_name, differences, share=ablation.SHARE)}")


if __name__ == "__main__":
    main()

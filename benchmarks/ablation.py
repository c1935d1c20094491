"""Ablation of the recipe on Emotify: averages of weights, snapshots, seeds, pos_weight, mix-up.

    MOODFIELD_DATA=… python benchmarks/ablation.py [--to runs/ablation] [--folds 0-4] [--only NAME …]

Three folds are for training, one chooses the best epoch, the fifth is the test, in five turns. The recipe is the
paper's, scaled from 200 to 80 epochs, at a quarter of its width. The result of a variant on a fold is a line of
ablation.jsonl beside this script: it is not trained again unless its line and its run are deleted; a run that was
stopped resumes. Prints a Markdown table of the finished variants, and comparisons.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import emotify
from moodfield import parallel
from moodfield.datasets.mtg_jamendo import Split
from moodfield.evaluation import metrics
from moodfield.training import checkpoints, loop, pipeline, validation
from moodfield.training.recipe import Recipe

BASE = (
    "net.width=32",
    "mel.hop_length=1536",
    "mel.n_mels=128",
    "batch.clip_seconds=10",
    "schedule.warm_up=4",
    "schedule.constant=24",
    "schedule.decay=20",
    "schedule.final=32",
    "schedule.peak=1e-3",
    "schedule.floor=1e-5",
    "precision=bf16-mixed",
    "validate_stride=none",
)
"""settings of all variants; each phase of the schedule has two fifths of its published epochs"""
SEEDS = (42, 43, 44, 45, 46)
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "the recipe": ((), SEEDS),
    "pos_weight 1": (("loss.pos_weight=1",), SEEDS[:1]),
    "no mix-up": (("augment.mixup_alpha=0",), SEEDS[:1]),
}
"""name → changed settings, and seeds"""
BEST, SWA, SNAPSHOTS, SEEDS_MEAN = (
    "best epoch",
    "last average of the weights",
    "mean of the snapshots",
    "mean of the seeds",
)
RESULTS = Path(__file__).with_suffix(".jsonl")
SHARE = 1 / 3
"""test tracks per training track"""
HEAD = """# Ablation of the recipe on real labels

The effect of averaged weights, snapshots, seeds, the weight of positive labels and mix-up on Emotify: 300 one-minute
excerpts, nine emotions, macro averages over them. Networks are FA-ResNets with ρ 5 at a quarter of the published width,
trained by the paper's recipe scaled to 80 epochs (4 of warm-up, 24 constant, 20 of decay, 32 final), at a peak learning
rate of 1e-3; the mel has 128 bands and a hop of 1,536 samples. Of five fixed folds three are for training, one chooses
the best epoch and the fifth is the test, in five turns. `make ablation` writes this page; the results of each variant
on each fold are in [ablation.jsonl](../benchmarks/ablation.jsonl).

A *snapshot* is the best epoch or one of the last four averages of the weights (SWA, every third epoch after the decay);
the predictions of the paper's runs are the mean of all five, those of its submissions the mean of several runs.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(emotify.FOLDS)))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not data.is_dir():
        sys.exit("Emotify is missing: set MOODFIELD_DATA to the folder that contains emotify/")
    split, folds = emotify.tracks(data)
    loop.keep_freed_memory(Recipe())
    for fold in arguments.folds:
        for variant in arguments.only:
            if fold not in _read_results(variant):
                run = arguments.to / variant.replace(" ", "-") / str(fold)
                paths = pipeline.RunPaths(data / "audio", arguments.store, run, parallel.cpu_count())
                scores = _evaluate_variant(variant, split, folds, fold, paths)
                line = {"variant": variant, "fold": fold, "settings": _settings(variant), "scores": scores}
                emotify.keep(RESULTS, line)
                print(f"{variant}, fold {fold}: {scores}", file=sys.stderr, flush=True)
    _table({variant: _read_results(variant) for variant in VARIANTS})


def _settings(variant: str) -> str:
    changes, seeds = VARIANTS[variant]
    return " ".join([*BASE, *changes, *(f"seed={seed}" for seed in seeds)])


def _evaluate_variant(
    variant: str, split: Split, folds: np.ndarray, fold: int, paths: pipeline.RunPaths
) -> dict[str, list[tuple[float, float]]]:
    """Train a variant with all its seeds; PR-AUC and ROC-AUC, by seed, of best epoch, average and snapshots."""
    changes, seeds = VARIANTS[variant]
    train_rows, validation_rows, test_rows = emotify.thirds(folds, fold)
    truth, predictions = split.truth.astype(np.float32), []
    for seed in seeds:
        recipe = Recipe().change(*BASE, *changes, f"seed={seed}")
        run_paths = replace(paths, run_dir=paths.run_dir / str(seed))
        pipeline.extract_mels(split.tracks, recipe, run_paths)
        train_set, validation_set, test_set = (
            pipeline.load_dataset(split.take(rows.tolist()), truth[rows], recipe, run_paths)
            for rows in (train_rows, validation_rows, test_rows)
        )
        statistics = run_paths.mel_cache(recipe.mel).statistics(split.take(train_rows.tolist()).tracks)
        net = loop.fit(recipe, train_set, validation_set, statistics, split.vocabulary, run_paths.run_dir)
        scores = []
        for weights in checkpoints.snapshot_paths(recipe, run_paths.run_dir).values():
            checkpoints.load_weights(net, weights)
            scores.append(validation.predict(recipe, net, test_set, split.vocabulary))
        predictions.append({BEST: scores[0], SWA: scores[-1], SNAPSHOTS: np.mean(scores, axis=0)})
    results = {
        kind: [_score(split.truth[test_rows], scores_of[kind]) for scores_of in predictions] for kind in predictions[0]
    }
    if len(seeds) > 1:
        results[SEEDS_MEAN] = [
            _score(split.truth[test_rows], np.mean([scores_of[SNAPSHOTS] for scores_of in predictions], axis=0))
        ]
    return results


def _score(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    macro = metrics.evaluate(truth, scores).macro
    return round(macro["PR-AUC"], 6), round(macro["ROC-AUC"], 6)


def _read_results(variant: str) -> dict[int, dict[str, list[tuple[float, float]]]]:
    """Results of a variant with its present settings, by fold and seed."""
    return {
        line["fold"]: line["scores"]
        for line in emotify.kept(RESULTS)
        if (line["variant"], line["settings"]) == (variant, _settings(variant))
    }


def _table(results: dict[str, dict[int, dict[str, list[tuple[float, float]]]]]) -> None:
    print(
        HEAD + "| variant | predictions of | macro PR-AUC | macro ROC-AUC | seeds | folds |\n|---|---|---|---|---|---|"
    )
    for variant, folds in results.items():
        for kind in dict.fromkeys(kind for scores in folds.values() for kind in scores):
            means = np.array([np.mean(scores[kind], axis=0) for scores in folds.values()])
            pr_auc, roc_auc = emotify.spread(means[:, 0].tolist()), emotify.spread(means[:, 1].tolist())
            print(f"| {variant} | {kind} | {pr_auc} | {roc_auc} | {len(VARIANTS[variant][1])} | {len(folds)} |")
    print(
        '\n± is the standard deviation over the folds, of the mean over the seeds; for "mean of the seeds", of their '
        "mean."
    )
    print(f"Differences in PR-AUC, {emotify.INTERVALS}:\n")
    first = {
        variant: {fold: _only_first(scores) for fold, scores in folds.items()} for variant, folds in results.items()
    }
    recipe_ = "the recipe"
    for first_, second_ in (
        ((results, recipe_, SWA), (results, recipe_, BEST)),
        ((results, recipe_, SNAPSHOTS), (results, recipe_, BEST)),
        ((results, recipe_, SNAPSHOTS), (results, recipe_, SWA)),
        ((results, recipe_, SEEDS_MEAN), (results, recipe_, SNAPSHOTS)),
        ((first, recipe_, SNAPSHOTS), (first, "pos_weight 1", SNAPSHOTS)),
        ((first, recipe_, SNAPSHOTS), (first, "no mix-up", SNAPSHOTS)),
    ):
        names = [kind if first_[1] == second_[1] else f"{variant} ({kind})" for _, variant, kind in (first_, second_)]
        shared_folds = sorted(first_[0][first_[1]].keys() & second_[0][second_[1]].keys())
        if len(shared_folds) > 1:
            values = [
                [np.mean(results_[variant][n][kind], axis=0)[0] for n in shared_folds]
                for results_, variant, kind in (first_, second_)
            ]
            print(f"- {emotify.sentence(*names, np.subtract(*values).tolist(), share=SHARE)}")


def _only_first(scores: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """Scores of the first seed, which all variants have."""
    return {kind: values[:1] for kind, values in scores.items()}


if __name__ == "__main__":
    main()

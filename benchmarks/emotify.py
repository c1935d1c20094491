"""A small FA-ResNet against two baselines on Emotify: five fixed folds, 300 one-minute excerpts, nine emotions.

    MOODFIELD_DATA=… python benchmarks/emotify.py [--to runs/emotify] [--set a.b=v …]

The folds are in `emotify_folds.tsv`, stratified by genre. Nothing is chosen on the fold that is scored: every network
is judged after its last epoch. Prints a Markdown table; a run that was stopped goes on.
"""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from moodfield import parallel
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split
from moodfield.evaluation import metrics
from moodfield.nets import Net
from moodfield.training import loop, pipeline, validation
from moodfield.training.log import Epoch
from moodfield.training.recipe import Recipe

HERE = Path(__file__).parent
FOLDS = 5
INTERVALS = "fold by fold, with 95 % intervals that allow for overlapping training sets (Nadeau and Bengio, 2003)"
"""what `sentence` gives"""
SETTINGS = (
    "net=fa_resnet",
    "net.width=32",
    "mel.hop_length=1536",
    "mel.n_mels=128",
    "batch.clip_seconds=10",
    "loss.pos_weight=1",
    "schedule.warm_up=2",
    "schedule.constant=15",
    "schedule.decay=20",
    "schedule.final=3",
    "schedule.peak=1e-3",
    "schedule.floor=1e-5",
    "averaging.every=0",
    "precision=bf16-mixed",
    "validate_every=40",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("runs/emotify"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not data.is_dir():
        sys.exit("Emotify is not here: set MOODFIELD_DATA to the folder that holds emotify/")
    whole, folds = tracks(data)
    loop.keep_freed_memory(Recipe())
    recipe = Recipe().change(*SETTINGS, *options.settings)
    paths = pipeline.RunPaths(data / "audio", options.store, options.to, parallel.cpu_count())
    pipeline.extract_mels(whole.tracks, recipe, paths)
    features = np.stack([mel_statistics(paths.mel_cache(recipe.mel).open(track)) for track in whole.tracks])
    results: dict[str, list[tuple[float, float]]] = {"tag priors": [], "logistic regression": [], "FA-ResNet": []}
    seconds = []
    for fold in range(FOLDS):
        train_rows, test_rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        truth = whole.truth[test_rows]
        priors = np.tile(whole.truth[train_rows].mean(axis=0), (len(test_rows), 1))
        results["tag priors"].append(_score(truth, priors))
        results["logistic regression"].append(_score(truth, _regression(features, whole.truth, train_rows, test_rows)))
        fresh = not (options.to / str(fold)).exists()
        began = time.monotonic()
        results["FA-ResNet"].append(
            _score(
                truth, network(recipe, whole, train_rows, test_rows, replace(paths, run_dir=options.to / str(fold)))[1]
            )
        )
        seconds += [time.monotonic() - began] if fresh else []
    print("## Emotify, five folds\n")
    print("| system | macro PR-AUC | macro ROC-AUC |\n|---|---|---|")
    for system, scores in results.items():
        means, spreads = np.mean(scores, axis=0), np.std(scores, axis=0, ddof=1)
        print(f"| {system} | {means[0]:.3f} ± {spreads[0]:.3f} | {means[1]:.3f} ± {spreads[1]:.3f} |")
    print("\nfold by fold, PR-AUC: " + "; ".join(
        f"{system} {' '.join(f'{score[0]:.3f}' for score in scores)}" for system, scores in results.items()
    ))  # fmt: skip
    print(f"\nnetwork: {recipe.net}, hop {recipe.mel.hop_length}, {recipe.schedule.epochs} epochs")
    if seconds:
        print(f"trained in {np.mean(seconds):.0f} s a fold")


def tracks(data: Path) -> tuple[Split, np.ndarray]:
    """All excerpts, and the fold of each."""
    tags = mtg_jamendo.read_vocabulary(data / "tags.txt")
    splits = [mtg_jamendo.read(data / f"emotify-{part}.tsv", vocabulary=tags) for part in ("train", "validation")]
    whole = Split(splits[0].tracks + splits[1].tracks, splits[0].vocabulary)
    with (HERE / "emotify_folds.tsv").open(encoding="utf-8", newline="") as file:
        fold = {row["TRACK_ID"]: int(row["FOLD"]) for row in csv.DictReader(file, delimiter="\t")}
    return whole, np.array([fold[track.id] for track in whole.tracks])


def thirds(folds: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of three folds to learn from, of the next one to choose by, and of this one to be judged by."""
    test_rows, validation_rows = (np.flatnonzero(folds == item % FOLDS) for item in (fold, fold + 1))
    return np.setdiff1d(np.arange(len(folds)), [*test_rows, *validation_rows]), validation_rows, test_rows


def keep(path: Path, result: Mapping[str, Any]) -> None:
    """Add a line to a file of results; a line is short enough to be written at once, whoever else writes."""
    with path.open("a") as file:
        file.write(json.dumps(dict(result), ensure_ascii=False) + "\n")


def kept(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else np.nan:.3f}"


def sentence(first: str, second: str, differences: list[float], *, share: float = 1 / (FOLDS - 1)) -> str:
    """What the differences between two systems on the folds say, in words that claim nothing inside the noise.

    `share` is how many tracks are judged for each one learned from.
    """
    mean, count = float(np.mean(differences)), len(differences)
    half_width = stats.t.ppf(0.975, count - 1) * np.std(differences, ddof=1) * np.sqrt(1 / count + share)
    wins = f"{sum(item > 0 for item in differences)} of {count} folds"
    figures = f"{mean:+.3f} ({mean - half_width:+.3f} … {mean + half_width:+.3f}; better on {wins})"
    if abs(mean) <= half_width:
        return f"{first} and {second} do not differ significantly: {figures}."
    return f"{first} is {'better' if mean > 0 else 'worse'} than {second}: {figures}."


def mel_statistics(stored: np.ndarray) -> np.ndarray:
    """Mean, spread and percentiles of every band."""
    values = np.asarray(stored, np.float32)
    return np.concatenate(
        [values.mean(axis=0), values.std(axis=0), *np.percentile(values, (5, 25, 50, 75, 95), axis=0)]
    )


def _regression(features: np.ndarray, truth: np.ndarray, train_rows: np.ndarray, test_rows: np.ndarray) -> np.ndarray:
    scaler = StandardScaler().fit(features[train_rows])
    scores = [
        LogisticRegression(C=0.003, max_iter=2_000)
        .fit(scaler.transform(features[train_rows]), truth[train_rows, tag])
        .predict_proba(scaler.transform(features[test_rows]))[:, 1]
        for tag in range(truth.shape[1])
    ]
    return np.stack(scores, axis=1)


def network(
    recipe: Recipe,
    whole: Split,
    train_rows: np.ndarray,
    test_rows: np.ndarray,
    paths: pipeline.RunPaths,
    *,
    report: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Net, np.ndarray]:
    """A network trained on some tracks, and its scores of others."""
    truth = whole.truth.astype(np.float32)
    train_data = pipeline.load_dataset(whole.take(train_rows.tolist()), truth[train_rows], recipe, paths)
    test_data = pipeline.load_dataset(whole.take(test_rows.tolist()), truth[test_rows], recipe, paths)
    statistics = paths.mel_cache(recipe.mel).statistics(whole.take(train_rows.tolist()).tracks)
    net = loop.fit(recipe, train_data, test_data, statistics, whole.vocabulary, paths.run_dir, on_epoch=report)
    return net, validation.predict(recipe, net, test_data, whole.vocabulary)


def _score(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    results = metrics.evaluate(truth, scores).macro
    return results["PR-AUC"], results["ROC-AUC"]


if __name__ == "__main__":
    main()

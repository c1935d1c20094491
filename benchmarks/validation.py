"""Cost and accuracy of validation during training, on whole tracks and on one clip in so many seconds.

    MOODFIELD_DATA=… python benchmarks/validation.py [--to runs/validation]

A small FA-ResNet is trained on four folds of Emotify; after every epoch the fifth is scored on whole tracks and with
each stride. Prints a Markdown table: cost, difference from whole tracks, and PR-AUC of the epoch that a stride chooses.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from scipy import stats

import emotify
from moodfield import parallel
from moodfield.datasets.mtg_jamendo import Split
from moodfield.engine import Precision
from moodfield.evaluation import metrics
from moodfield.training import checkpoints, loop, pipeline, validation
from moodfield.training.log import Epoch
from moodfield.training.recipe import Recipe

SETTINGS: tuple[tuple[float | None, Precision], ...] = (
    (None, "float32"), (None, "bfloat16"),
    *((stride, "bfloat16") for stride in (10.0, 20.0, 30.0, 60.0)),
)  # fmt: skip
"""seconds from one clip of 10 s to the next, or none for whole tracks, and the precision"""
JAMENDO = (9_949, 3_802, 836_000)
"""training tracks, validation tracks and their seconds, of MTG-Jamendo's moods and themes, split 0"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("runs/validation"))
    parser.add_argument("--store", type=Path, default=Path(".cache/moodfield"))
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1])
    args = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "emotify"
    if not data.is_dir():
        sys.exit("Emotify is not here: set MOODFIELD_DATA to the folder that holds emotify/")
    whole, folds = emotify.tracks(data)
    recipe = Recipe().change(*emotify.SETTINGS)
    loop.keep_freed_memory(recipe)
    paths = pipeline.RunPaths(data / "audio", args.store, args.to, parallel.cpu_count())
    pipeline.extract_mels(whole.tracks, recipe, paths)
    results = [_curves(recipe, whole, folds, fold, paths) for fold in args.folds]
    _table(results, recipe)


def _curves(
    recipe: Recipe, whole: Split, folds: np.ndarray, fold: int, paths: pipeline.RunPaths
) -> dict[str, np.ndarray]:
    """Scores (epochs × settings), seconds of each validation, and seconds of every training epoch."""
    train_rows, validation_rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    truth = whole.truth.astype(np.float32)
    train_set, validation_set = (
        pipeline.load_dataset(whole.take(rows.tolist()), truth[rows], recipe, paths)
        for rows in (train_rows, validation_rows)
    )
    statistics = paths.mel_cache(recipe.mel).statistics(whole.take(train_rows.tolist()).tracks)
    net = recipe.net.build(n_mels=recipe.mel.n_mels, n_tags=len(whole.vocabulary))
    scores, seconds, training = [], [], []
    started = time.monotonic()

    with tempfile.TemporaryDirectory() as run:

        def on_epoch(epoch: Epoch) -> None:
            nonlocal started
            training.append(time.monotonic() - started)
            weights = load_file(Path(run) / checkpoints.RESUME_WEIGHTS.format(epoch.epoch))
            net.load_state_dict({name[4:]: value for name, value in weights.items() if name.startswith("net.")})
            scores.append([])
            seconds.append([])
            for stride, precision in SETTINGS:
                started = time.monotonic()
                predicted = validation.predict(
                    recipe, net, validation_set, whole.vocabulary, stride=stride, precision=precision
                )
                seconds[-1].append(time.monotonic() - started)
                scores[-1].append(metrics.evaluate(whole.truth[validation_rows], predicted).macro["PR-AUC"])
            started = time.monotonic()

        loop.fit(recipe, train_set, validation_set, statistics, whole.vocabulary, Path(run) / ".", on_epoch=on_epoch)
    return {"scores": np.array(scores), "seconds": np.array(seconds), "training": np.array(training[1:-1])}


def _table(results: list[dict[str, np.ndarray]], recipe: Recipe) -> None:
    """Print one row for each setting."""
    epoch = np.median(np.concatenate([fold["training"] for fold in results]))
    print("## Cost and accuracy of validation during training\n")
    print(
        f"{len(results)} folds of Emotify, {len(results[0]['scores'])} epochs each, 60 validation tracks of 60 s."
        " Training"
    )
    print(f"is in {recipe.precision}; an epoch of 240 clips takes {epoch:.2f} s. The last column is extrapolated to")
    print(f"MTG-Jamendo: {JAMENDO[0]:,} training clips an epoch, {JAMENDO[2] / 3600:.0f} h of validation music.\n")
    print(
        "| scored | seconds | of an epoch | PR-AUC difference | rank correlation | loss by the "
        "choice | of an epoch there |"
    )
    print("|---|---|---|---|---|---|---|")
    for column, (stride, precision) in enumerate(SETTINGS):
        seconds = np.median(np.concatenate([fold["seconds"][:, column] for fold in results]))
        scores = [(fold["scores"][:, 0], fold["scores"][:, column]) for fold in results]
        difference = np.mean([np.abs(whole - strided).mean() for whole, strided in scores])
        correlation = np.mean([stats.spearmanr(whole, strided)[0] for whole, strided in scores])
        loss = np.mean([whole.max() - whole[strided.argmax()] for whole, strided in scores])
        share = seconds * (JAMENDO[2] / 3600) / (epoch * JAMENDO[0] / 240)
        scored = "whole tracks" if stride is None else f"10 s of every {stride:.0f} s"
        print(
            f"| {scored}, {precision} | {seconds:.2f} | {seconds / epoch:.0%} | {difference:.4f} | {correlation:.3f} "
            f"| {loss:.4f} "
            f"| {share:.0%} |"
        )
    print(
        "\nDifference, correlation and loss are of macro PR-AUC against the first row, over the "
        "epochs of a fold: the loss"
    )
    print("is the PR-AUC of the best epoch minus that of the chosen one, both by the first row.")


if __name__ == "__main__":
    main()

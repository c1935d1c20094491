"""Bootstrap metrics against scikit-learn on explicit resamples, and against a lower bound.

    MOODFIELD_DATA=… python benchmarks/bootstrap.py [--resamples 1000] [--few 8]

4,231 tracks × 56 tags: the predictions of CP-JKU's third submission. Both use the same resamples, and their metrics
must agree; scikit-learn gets only a few of them, because each takes as long as dozens of ours. Every resample must at
least read the count of the track of every pair of track and tag, in the order of the scores, and add it up: once per
tag, and once for all pairs (micro). The lower bound is that, at the speed of this core's sum of integers in its cache.
"""
# ruff: noqa: E402

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is loaded: one core for both

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn import metrics as oracle

from moodfield.evaluation import bootstrap, metrics, submissions
from moodfield.evaluation.bootstrap import System

GOAL = 10.0
"""seconds for 1,000 resamples of macro PR-AUC, on two cores"""
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--resamples", type=int, default=bootstrap.N_RESAMPLES)
    parser.add_argument("--few", type=int, default=8, help="resamples for scikit-learn")
    options = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", "")) / "mediaeval2019"
    if not data.is_dir():
        sys.exit("the published predictions are missing: set MOODFIELD_DATA to the folder that holds mediaeval2019/")
    truth = submissions.read_array(data / "groundtruth.npy").astype(bool)
    read = submissions.read(data / "CP-JKU/3_avg_ensemble")
    scores, decisions = read.predictions, read.decisions
    ranked = min(_timed(lambda: System(truth, scores, decisions=decisions)) for _ in range(REPEATS))
    system, plain = System(truth, scores, decisions=decisions), System(truth, scores)
    weights = np.concatenate(list(bootstrap.draw_weights(len(truth), options.few, np.random.default_rng(0))), axis=1)
    drawn = [np.repeat(np.arange(len(truth)), weights[:, column]) for column in range(options.few)]
    ours: dict[str, list[float]] = {name: [] for name in ("tags", "areas", "all")}
    theirs: dict[str, list[float]] = {name: [] for name in ("macro PR-AUC", "the four areas", "metrics")}
    for _ in range(REPEATS):  # interleaved, because other processes may share the machine
        ours["tags"].append(_timed(lambda: _tags_alone(plain, options.resamples)))
        theirs["macro PR-AUC"].append(_timed(lambda: [_precision(truth[rows], scores[rows]) for rows in drawn]))
        ours["areas"].append(_timed(lambda: _bootstrap(plain, options.resamples)))
        theirs["the four areas"].append(_timed(lambda: [_areas(truth[rows], scores[rows]) for rows in drawn]))
        ours["all"].append(_timed(lambda: _bootstrap(system, options.resamples)))
        theirs["metrics"].append(
            _timed(lambda: [metrics.evaluate(truth[rows], scores[rows], decisions=decisions[rows]) for rows in drawn])
        )
    areas = _bootstrap(plain, options.few).macro["PR-AUC"]
    difference = np.abs(areas - [_precision(truth[rows], scores[rows]) for rows in drawn]).max()
    if difference > 1e-12:
        sys.exit(f"the metrics differ by {difference}; compare their times only when they agree")
    _print(truth.size, options.resamples, options.few, ranked, ours, theirs)


def _print(
    pairs: int,
    resamples: int,
    few: int,
    ranked: float,
    ours: dict[str, list[float]],
    theirs: dict[str, list[float]],
) -> None:
    print(f"## {resamples:,} resamples of a submission, one core\n")
    print(
        f"4,231 tracks × 56 tags; medians of {REPEATS} repeats; goal for macro PR-AUC: {GOAL:.0f} s on two cores. Macro"
    )
    print(f"PR-AUC equals that of scikit-learn to 1e-12 on {few} resamples; its time for all is extrapolated from")
    print(f"these. Ranking a system, once, takes {ranked:.2f} s and is not included.\n")
    print("| metrics | moodfield, s | reference, s | ratio |\n|---|---|---|---|")
    for name, mine, other in (
        ("macro PR-AUC and ROC-AUC; scikit-learn PR-AUC alone", "tags", "macro PR-AUC"),
        ("macro and micro PR-AUC and ROC-AUC; scikit-learn", "areas", "the four areas"),
        ("all ten numbers; `metrics.evaluate`", "all", "metrics"),
    ):
        seconds, laid = float(np.median(ours[mine])), float(np.median(theirs[other])) * resamples / few
        print(f"| {name} | {seconds:.2f} | {laid:.0f} | {laid / seconds:.0f} |")
    block = np.ones((2**11, bootstrap.BATCH_RESAMPLES), np.int32)
    speed = 1_000 * block.size / min(_timed(lambda: [block.sum(axis=0) for _ in range(1_000)]) for _ in range(REPEATS))
    least = 2 * pairs * resamples / speed
    print(
        f"\nLower bound of the four areas: 2 × {pairs:,} × {resamples:,} weights added, "
        f"{8 * pairs * resamples / 1e9:.1f} GB"
    )
    print(f"read. This core adds {speed / 1e9:.1f} G of them a second: {least:.2f} s; moodfield takes")
    print(f"{np.median(ours['areas']) / least:.1f} times that. It must also gather each weight by its track.")


def _bootstrap(system: System, resamples: int) -> bootstrap.Resampled:
    (found,) = bootstrap.bootstrap([system], generator=np.random.default_rng(0), n_resamples=resamples)
    return found


def _tags_alone(system: System, resamples: int) -> None:
    """PR-AUC and ROC-AUC of every tag, without micro metrics."""
    for weights in bootstrap.draw_weights(system.shape[0], resamples, np.random.default_rng(0)):
        for ranking in system._by_tag:
            bootstrap._areas(ranking, weights)


def _precision(truth: np.ndarray, scores: np.ndarray) -> float:
    return oracle.average_precision_score(truth, scores, average="macro")


def _areas(truth: np.ndarray, scores: np.ndarray) -> list[float]:
    ways = (oracle.average_precision_score, oracle.roc_auc_score)
    return [way(truth, scores, average=mean) for way in ways for mean in ("macro", "micro")]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

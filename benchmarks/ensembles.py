"""Means of several public systems, evaluated on the test split of MTG-Jamendo's moods and themes.

    MOODFIELD_DATA=… python benchmarks/ensembles.py [--resamples 1000]

Weights are chosen on validation alone, where there are published predictions for it. Prints the page docs/ensembles.md.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from moodfield.evaluation import bootstrap, ensemble, mediaeval, metrics, submissions
from moodfield.evaluation.bootstrap import Difference, Resampled, System
from moodfield.evaluation.choices import Average

NETWORKS = {
    "convs, m96, 128, BCE": "convs-m96-i128-bce",
    "convs, m96, 224, weighted BCE": "convs-m96-i224-wbce",
    "filters, m128, 128, BCE": "filters-m128-i128-bce",
    "filters, m96, 224, focal": "filters-m96-i224-focal",
}
"""the four networks of 2021"""
TEAM = {
    "CP-JKU 1, Shake-FA-ResNet": "1_shakefaresnet",
    "CP-JKU 2, FA-ResNet": "2_faresnet",
    "CP-JKU 3, average": "3_avg_ensemble",
    "CP-JKU 4, CRNN": "4_crnn",
    "CP-JKU 5, ResNet-34": "5_resnet34",
}
"""the submissions of CP-JKU in 2019"""
BASELINE = "VGG-ish baseline"
BEST = "CP-JKU 3, average"
NUMBER = "PR-AUC-macro"
HEAD = """# Ensembles of public systems

Macro PR-AUC on the 4,231 test tracks and 56 tags of the task (split 0), of published predictions: four networks of the
MediaEval 2021 submission *lileonardo*, whose predictions for validation are published too, and the five submissions of
CP-JKU and the VGG-ish baseline of 2019, without them. `make ensembles` writes this page, by
[ensembles.py](../benchmarks/ensembles.py).

Intervals contain 95 % of {resamples:,} bootstrap resamples of the tracks, centred on the estimate: the variation over
other tracks of the same kind and number, not over training seeds. Differences are paired, on the same resamples. Their
p is corrected for the number of comparisons in its list (Holm), their intervals are not; "better" and "worse" mean
p < 0.05. The last column of a table leaves out the {leaked} test tracks whose audio files are also in another split.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=bootstrap.N_RESAMPLES)
    arguments = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (data / "lileonardo2021").is_dir():
        sys.exit(
            "the published predictions are missing: set MOODFIELD_DATA to the folder that contains lileonardo2021/"
        )
    truth = submissions.read_array(data / "mediaeval2019/groundtruth.npy")
    *train_indexes, index = (
        data / f"mtg-jamendo/autotagging_moodtheme-{part}.tsv" for part in ("train", "validation", "test")
    )
    checksums = data / "mtg-jamendo/autotagging_moodtheme_audio-low_sha256_tracks.txt"
    leaked = mediaeval.find_leaks(index, train_indexes, checksums)
    networks = {name: data / "lileonardo2021" / folder for name, folder in NETWORKS.items()}
    test = {name: submissions.read_array(folder / "test-last-swa-outputs.npy") for name, folder in networks.items()}
    test |= {
        name: submissions.read(data / "mediaeval2019/CP-JKU" / folder).predictions for name, folder in TEAM.items()
    }
    test[BASELINE] = submissions.read_array(data / "mediaeval2019/baseline/vggish_predictions.npy")
    validation_truth = submissions.read_array(data / "lileonardo2021/validation-targets.npy")
    validation_scores = {
        name: submissions.read_array(folder / "validation-last-swa-outputs.npy") for name, folder in networks.items()
    }
    validated, validation, weights_table = _validated_ensembles(validation_truth, validation_scores, test)
    means = _plain_means(test)
    systems = {name: System(truth, scores) for name, scores in (test | validated | means).items()}
    resampled = dict(
        zip(
            systems,
            bootstrap.bootstrap(
                list(systems.values()), generator=np.random.default_rng(0), n_resamples=arguments.resamples
            ),
            strict=True,
        )
    )
    kept = np.setdiff1d(np.arange(len(truth)), leaked)
    without_leaks = {
        name: metrics.evaluate(truth[kept], scores[kept]).macro["PR-AUC"]
        for name, scores in (test | validated | means).items()
    }
    single = {
        name: metrics.evaluate(validation_truth, scores).macro["PR-AUC"] for name, scores in validation_scores.items()
    }
    print(HEAD.format(resamples=arguments.resamples, leaked=len(leaked)))
    print("## Single systems\n")
    _table(resampled, without_leaks, test, validation=single)
    print("\n## Chosen on validation: the four networks of 2021\n")
    print(weights_table + "\n")
    _table(resampled, without_leaks, validated, validation=validation)
    print()
    single, mean, *others = validated
    are_better = _print_comparisons(resampled, [(mean, single), *((name, mean) for name in others)])[1:]
    print(f"\n{sum(are_better) or 'None'} of the other {len(are_better)} methods is better than the mean of scores.")
    print("\n## Plain means across systems\n")
    print(
        f"All weights are equal. *{BEST}* is in most rows because it was the best of 2019 on this test split, so\n"
        "the best of these rows is a biased choice; the last one involves no choice.\n"
    )
    _table(resampled, without_leaks, means)
    print()
    are_better = _print_comparisons(resampled, [(name, BEST) for name in means])
    higher = sum(resampled[name].report.macro["PR-AUC"] > resampled[BEST].report.macro["PR-AUC"] for name in means)
    print(
        f"\n{higher} of {len(are_better)} means have a higher PR-AUC than *{BEST}*, {sum(are_better) or 'none'} is "
        "significantly better."
    )


def _validated_ensembles(
    validation_truth: np.ndarray, validation_scores: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float], str]:
    """Test scores of ensembles of the four, their PR-AUC on validation, and the chosen weights as text."""
    validation_list, test_list = list(validation_scores.values()), [test[name] for name in validation_scores]
    pr_aucs = [metrics.evaluate(validation_truth, scores).macro["PR-AUC"] for scores in validation_list]
    best = list(validation_scores)[int(np.argmax(pr_aucs))]
    methods: dict[str, tuple[Average, Sequence[float] | None]] = {
        f"mean of {average}": (average, None) for average in ("scores", "logits", "ranks")
    }
    greedy = {
        average: ensemble.greedy_selection(validation_truth, validation_list, average=average)
        for average in ("scores", "ranks")
    }
    methods |= {f"greedy, {average}": (average, selection.weights) for average, selection in greedy.items()}
    scores = {"the best on validation": test[best]}
    validation = {"the best on validation": max(pr_aucs)}
    for name, (average, weights) in methods.items():
        scores[name] = ensemble.mean(test_list, weights=weights, average=average)
        validation[name] = metrics.evaluate(
            validation_truth, ensemble.mean(validation_list, weights=weights, average=average)
        ).macro["PR-AUC"]
    lines = [
        f"The best network on validation is *{best}*. Greedy selection with replacement",
        f"(Caruana et al., 2004; {ensemble.N_ROUNDS} rounds, the best mean of all rounds) gives these weights:\n",
        f"| weights | {' | '.join(validation_scores)} |",
        "|---|" + "---|" * len(validation_scores),
        *(
            f"| greedy, {average} | {' | '.join(f'{share:.2f}' for share in selection.weights)} |"
            for average, selection in greedy.items()
        ),
    ]
    return scores, validation, "\n".join(lines)


def _plain_means(test: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means of systems without predictions for validation."""
    groups = {f"{BEST} + {name}": [BEST, name] for name in test if name != BEST}
    groups |= {
        "CP-JKU 1 + 2": list(TEAM)[:2],
        "CP-JKU 1 to 5": list(TEAM),
        "the four of 2021": list(NETWORKS),
        f"{BEST} + the four of 2021": [BEST, *NETWORKS],
        "all ten": list(test),
    }
    return {name: ensemble.mean([test[member] for member in members]) for name, members in groups.items()}


def _table(
    resampled: Mapping[str, Resampled],
    without_leaks: Mapping[str, float],
    names: Iterable[str],
    *,
    validation: Mapping[str, float] | None = None,
) -> None:
    print(f"| system |{' validation |' if validation else ''} test | 95 % interval | without leaks |")
    print(f"|---|{'---|' if validation else ''}---|---|---|")
    for name in names:
        low, high = bootstrap.intervals(resampled[name])[NUMBER]
        before = f" {validation[name]:.4f} |" if validation and name in validation else " – |" if validation else ""
        value = resampled[name].report.macro["PR-AUC"]
        print(f"| {name} |{before} {value:.4f} | {low:.4f} … {high:.4f} | {without_leaks[name]:.4f} |")


def _difference(resampled: Mapping[str, Resampled], first: str, second: str) -> Difference:
    return bootstrap.compare(resampled[first], resampled[second])[NUMBER]


def _print_comparisons(resampled: Mapping[str, Resampled], pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Print differences with corrected p; return which are significantly better."""
    are_better = []
    differences = [_difference(resampled, first, second) for first, second in pairs]
    for (first, second), difference, p in zip(
        pairs, differences, _holm([first.p for first in differences]), strict=True
    ):
        direction = "is better than" if difference.value > 0 else "is worse than"
        are_better.append(p < 0.05 and difference.value > 0)
        verdict = direction if p < 0.05 else "does not differ significantly from"
        interval = f"{difference.low:+.4f} … {difference.high:+.4f}"
        print(f"- *{first}* {verdict} *{second}*: {difference.value:+.4f} ({interval}; p = {p:.3f}).")
    return are_better


def _holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of comparisons."""
    order, corrected, lower_bound = np.argsort(values, kind="stable"), np.ones(len(values)), 0.0
    for rank, index in enumerate(order):
        lower_bound = max(lower_bound, min(1.0, values[index] * (len(values) - rank)))
        corrected[index] = lower_bound
    return corrected.tolist()


if __name__ == "__main__":
    main()

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
    given = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (data / "lileonardo2021").is_dir():
        sys.exit("the published predictions are not here: set MOODFIELD_DATA to the folder that holds lileonardo2021/")
    truth = submissions.read_array(data / "mediaeval2019/groundtruth.npy")
    *learned, index = (
        data / f"mtg-jamendo/autotagging_moodtheme-{part}.tsv" for part in ("train", "validation", "test")
    )
    sums = data / "mtg-jamendo/autotagging_moodtheme_audio-low_sha256_tracks.txt"
    leaked = mediaeval.find_leaks(index, learned, sums)
    networks = {name: data / "lileonardo2021" / folder for name, folder in NETWORKS.items()}
    test = {name: submissions.read_array(folder / "test-last-swa-outputs.npy") for name, folder in networks.items()}
    test |= {
        name: submissions.read(data / "mediaeval2019/CP-JKU" / folder).predictions for name, folder in TEAM.items()
    }
    test[BASELINE] = submissions.read_array(data / "mediaeval2019/baseline/vggish_predictions.npy")
    known = submissions.read_array(data / "lileonardo2021/validation-targets.npy")
    judged = {
        name: submissions.read_array(folder / "validation-last-swa-outputs.npy") for name, folder in networks.items()
    }
    chosen, validation, words = _chosen(known, judged, test)
    across = _across(test)
    systems = {name: System(truth, scores) for name, scores in (test | chosen | across).items()}
    found = dict(
        zip(
            systems,
            bootstrap.bootstrap(
                list(systems.values()), generator=np.random.default_rng(0), n_resamples=given.resamples
            ),
            strict=True,
        )
    )
    fair = np.setdiff1d(np.arange(len(truth)), leaked)
    rest = {
        name: metrics.evaluate(truth[fair], scores[fair]).macro["PR-AUC"]
        for name, scores in (test | chosen | across).items()
    }
    single = {name: metrics.evaluate(known, scores).macro["PR-AUC"] for name, scores in judged.items()}
    print(HEAD.format(resamples=given.resamples, leaked=len(leaked)))
    print("## Single systems\n")
    _table(found, rest, test, validation=single)
    print("\n## Chosen on validation: the four networks of 2021\n")
    print(words + "\n")
    _table(found, rest, chosen, validation=validation)
    print()
    single, mean, *others = chosen
    ahead = _verdicts(found, [(mean, single), *((name, mean) for name in others)])[1:]
    print(f"\n{sum(ahead) or 'None'} of the other {len(ahead)} methods is better than the mean of scores.")
    print("\n## Plain means across systems\n")
    print(
        f"All weights are equal. *{BEST}* is in most rows because it was the best of 2019 on this test split, so\n"
        "the best of these rows is a biased choice; the last one involves no choice.\n"
    )
    _table(found, rest, across)
    print()
    ahead = _verdicts(found, [(name, BEST) for name in across])
    higher = sum(found[name].report.macro["PR-AUC"] > found[BEST].report.macro["PR-AUC"] for name in across)
    print(
        f"\n{higher} of {len(ahead)} means have a higher PR-AUC than *{BEST}*, {sum(ahead) or 'none'} is "
        "significantly better."
    )


def _chosen(
    known: np.ndarray, judged: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, float], str]:
    """Test scores of ensembles of the four, their PR-AUC on validation, and the chosen weights as text."""
    here, there = list(judged.values()), [test[name] for name in judged]
    worth = [metrics.evaluate(known, scores).macro["PR-AUC"] for scores in here]
    best = list(judged)[int(np.argmax(worth))]
    ways: dict[str, tuple[ensemble.Of, Sequence[float] | None]] = {
        f"mean of {of}": (of, None) for of in ("scores", "logits", "ranks")
    }
    greedy = {of: ensemble.greedy_selection(known, here, average=of) for of in ("scores", "ranks")}
    ways |= {f"greedy, {of}": (of, each.weights) for of, each in greedy.items()}
    scores = {"the best on validation": test[best]}
    validation = {"the best on validation": max(worth)}
    for name, (of, weights) in ways.items():
        scores[name] = ensemble.mean(there, weights=weights, average=of)
        validation[name] = metrics.evaluate(known, ensemble.mean(here, weights=weights, average=of)).macro["PR-AUC"]
    words = [
        f"The best network on validation is *{best}*. Greedy selection with replacement",
        f"(Caruana et al., 2004; {ensemble.N_ROUNDS} rounds, the best mean of all rounds) gives these weights:\n",
        f"| weights | {' | '.join(judged)} |",
        "|---|" + "---|" * len(judged),
        *(f"| greedy, {of} | {' | '.join(f'{share:.2f}' for share in each.weights)} |" for of, each in greedy.items()),
    ]
    return scores, validation, "\n".join(words)


def _across(test: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means of systems without predictions for validation."""
    groups = {f"{BEST} + {name}": [BEST, name] for name in test if name != BEST}
    groups |= {
        "CP-JKU 1 + 2": list(TEAM)[:2],
        "CP-JKU 1 to 5": list(TEAM),
        "the four of 2021": list(NETWORKS),
        f"{BEST} + the four of 2021": [BEST, *NETWORKS],
        "all ten": list(test),
    }
    return {name: ensemble.mean([test[each] for each in members]) for name, members in groups.items()}


def _table(
    found: Mapping[str, Resampled],
    rest: Mapping[str, float],
    names: Iterable[str],
    *,
    validation: Mapping[str, float] | None = None,
) -> None:
    print(f"| system |{' validation |' if validation else ''} test | 95 % interval | without leaks |")
    print(f"|---|{'---|' if validation else ''}---|---|---|")
    for name in names:
        low, high = bootstrap.intervals(found[name])[NUMBER]
        before = f" {validation[name]:.4f} |" if validation and name in validation else " – |" if validation else ""
        value = found[name].report.macro["PR-AUC"]
        print(f"| {name} |{before} {value:.4f} | {low:.4f} … {high:.4f} | {rest[name]:.4f} |")


def _difference(found: Mapping[str, Resampled], one: str, other: str) -> Difference:
    return bootstrap.compare(found[one], found[other])[NUMBER]


def _verdicts(found: Mapping[str, Resampled], pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Print differences with corrected p; which are significantly better."""
    ahead = []
    each = [_difference(found, one, other) for one, other in pairs]
    for (one, other), difference, p in zip(pairs, each, _holm([one.p for one in each]), strict=True):
        way = "is better than" if difference.value > 0 else "is worse than"
        ahead.append(p < 0.05 and difference.value > 0)
        what = way if p < 0.05 else "does not differ significantly from"
        ends = f"{difference.low:+.4f} … {difference.high:+.4f}"
        print(f"- *{one}* {what} *{other}*: {difference.value:+.4f} ({ends}; p = {p:.3f}).")
    return ahead


def _holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of comparisons."""
    order, found, least = np.argsort(values, kind="stable"), np.ones(len(values)), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, values[index] * (len(values) - place)))
        found[index] = least
    return found.tolist()


if __name__ == "__main__":
    main()

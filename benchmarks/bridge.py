"""The bridge from genres and instruments to moods, evaluated on MTG-Jamendo from true and simulated tags.

    MOODFIELD_DATA=… python benchmarks/bridge.py [--resamples 1000] [--seeds 10]

Fitted on the TSVs alone, with the strength chosen on the validation tracks. Prints a Markdown section.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import NormalDist

import numpy as np

from moodfield import calibration, tags
from moodfield.datasets import mtg_jamendo
from moodfield.distillation.teachers import bridge
from moodfield.distillation.teachers.bridge import Bridge, BridgeFit, Examples
from moodfield.evaluation import bootstrap, calibration_fit, metrics, submissions
from moodfield.evaluation.bootstrap import Resampled, System

ROC_AUC = 0.825
"""macro ROC-AUC of a simulated network on the top 50 tags; published: .825 (FCN), .822 (Musicnn)"""
WEIGHTS = (0.25, 0.5, 1.0)
"""of the bridge in a sum"""
VGGISH, PARTNER = "mediaeval2019/baseline/vggish_predictions.npy", "lileonardo2021/convs-m96-i128-bce"
"""published predictions: of the test tracks, and of both the validation and the test tracks"""
HEAD = """## A bridge from genres and instruments to moods

Logistic regressions from the {inputs} genres and instruments among MTG-Jamendo's top 50 tags to its {tags} moods and
themes, fitted on the {train:,} training tracks from metadata alone. `strength` is the L2 penalty of every weight; the
least log loss on the {validation:,} validation tracks chooses it: **{strength:g}**. *Sum* is the published VGG-ish
predictions plus {weight} times the bridge, both as logits standardized over the tracks. Macro PR-AUC and ROC-AUC of the
{test:,} test tracks, with 95 % of {resamples:,} bootstrap resamples of the tracks.

From **true tags** the bridge is an upper bound: no network predicts the musicians' tags so well, and they chose them
together with the moods. A **simulated network** has the true value of every tag plus independent normal noise, so that
its expected ROC-AUC is {roc_auc} for every tag, and gives the probability of the tag, for its share among all training
tracks of the top 50 tags. The errors of a real network are correlated with each other and with those of VGG-ish, so
this is an estimate. The table has one such network.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=bootstrap.N_RESAMPLES)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (data / "mediaeval2019").is_dir():
        sys.exit("the published predictions are missing: set MOODFIELD_DATA to the folder that contains mediaeval2019/")
    splits = data / "mtg-jamendo"
    fitted = bridge.fit(splits)
    examples = {part: bridge.read(splits, part, fitted.bridge.inputs) for part in ("train", "validation", "test")}
    vggish = calibration.logit(submissions.read_array(data / VGGISH))
    shares = _shares(splits, fitted.bridge)
    print(
        HEAD.format(
            inputs=len(fitted.bridge.inputs), tags=len(fitted.bridge.tags), strength=fitted.strength,
            weight=bridge.WEIGHT, resamples=arguments.resamples, roc_auc=ROC_AUC,
            **{part: len(example.split.tracks) for part, example in examples.items()},
        )
    )  # fmt: skip
    _systems(fitted.bridge, examples["test"], vggish, shares, arguments.resamples)
    _strengths([bridge.fit(splits, strengths=[strength]) for strength in bridge.STRENGTHS], examples, vggish)
    partner = {part: _partner(data / PARTNER, part) for part in ("validation", "test")}
    _forms(fitted.bridge, examples, {"validation": partner["validation"], "test": vggish}, shares, arguments.seeds)


def _partner(folder: Path, part: str) -> np.ndarray:
    return calibration.logit(submissions.read_array(folder / f"{part}-last-swa-outputs.npy"))


def _shares(splits: Path, fitted: Bridge) -> np.ndarray:
    """The share of every input among all tracks for training that have one of the top 50 tags."""
    split = mtg_jamendo.read(splits / f"{bridge.TOP_50}train.tsv")
    return split.priors[[split.vocabulary.index(tags.name(name)) for name in fitted.inputs]]


def simulated_logits(inputs: np.ndarray, shares: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Logits of a calibrated network with a ROC-AUC of `ROC_AUC` for every tag, whose errors are independent."""
    distance = 2**0.5 * NormalDist().inv_cdf(ROC_AUC)  # between the means of positives and negatives
    scores = distance * inputs + generator.standard_normal(inputs.shape)
    return distance * scores - distance**2 / 2 + calibration.logit(shares)


def _systems(fitted: Bridge, test: Examples, vggish: np.ndarray, shares: np.ndarray, n_resamples: int) -> None:
    """The main table: metrics with intervals."""
    true_tags = fitted.logits(test.inputs.astype(np.float64))
    network = simulated_logits(test.inputs, shares, np.random.default_rng(0))
    simulated = fitted.logits(calibration.sigmoid(network))
    scores = {
        "VGG-ish, published": vggish,
        "bridge from true tags (upper bound)": true_tags,
        "sum with true tags (upper bound)": bridge.add_standardized(vggish, true_tags),
        "bridge from a simulated network": simulated,
        "sum with a simulated network": bridge.add_standardized(vggish, simulated),
    }
    systems = [System(test.split.truth, values) for values in scores.values()]
    resampled = bootstrap.bootstrap(systems, generator=np.random.default_rng(0), n_resamples=n_resamples)
    reference = resampled[0]
    print("| system | PR-AUC | ROC-AUC | PR-AUC minus VGG-ish |\n|---|---|---|---|")
    for name, system in zip(scores, resampled, strict=True):
        difference = bootstrap.compare(system, reference)["PR-AUC-macro"]
        text = f"{difference.value:+.4f} ({difference.low:+.4f} … {difference.high:+.4f})"
        cells = [_with_interval(system, metric) for metric in ("PR-AUC", "ROC-AUC")]
        print(f"| {name} | {' | '.join(cells)} | {'–' if system is reference else text} |")


def _with_interval(system: Resampled, metric: str) -> str:
    low, high = bootstrap.intervals(system)[f"{metric}-macro"]
    return f"{system.report.macro[metric]:.4f} ({low:.4f} … {high:.4f})"


def _strengths(fits: list[BridgeFit], examples: Mapping[str, Examples], vggish: np.ndarray) -> None:
    """All strengths, and one strength per tag, from true tags."""
    print(
        "\nOne strength for all tags, and strengths chosen tag by tag on the validation tracks, from true tags:\n\n"
        "| strength | validation log loss | validation PR-AUC | test PR-AUC | test PR-AUC of the sum |\n"
        "|---|---|---|---|---|"
    )
    logits = {
        part: np.stack([fitted.bridge.logits(examples[part].inputs.astype(np.float64)) for fitted in fits])
        for part in ("validation", "test")
    }
    truth = {part: example.split.truth for part, example in examples.items()}
    losses = np.stack(
        [calibration_fit.log_loss(truth["validation"], calibration.sigmoid(x)) for x in logits["validation"]]
    )
    areas = np.stack([metrics.average_precision(truth["validation"], x) for x in logits["validation"]])
    choices = {f"{fitted.strength:g}": np.full(losses.shape[1], row) for row, fitted in enumerate(fits)}
    choices |= {"per tag, by log loss": losses.argmin(axis=0), "per tag, by PR-AUC": areas.argmax(axis=0)}
    columns = np.arange(losses.shape[1])
    for name, rows in choices.items():
        test = logits["test"][rows, :, columns].T
        sums = bridge.add_standardized(vggish, test)
        values = [losses[rows, columns].mean(), areas[rows, columns].mean()]
        values += [metrics.average_precision(truth["test"], scores).mean() for scores in (test, sums)]
        print(f"| {name} | {values[0]:.5f} | {' | '.join(f'{value:.4f}' for value in values[1:])} |")


def _forms(
    fitted: Bridge,
    examples: Mapping[str, Examples],
    others: Mapping[str, np.ndarray],
    shares: np.ndarray,
    n_seeds: int,
) -> None:
    """What of a network to use as inputs, on simulated networks."""
    training_shares = examples["train"].inputs.mean(axis=0)
    forms: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "probabilities": calibration.sigmoid,
        "probabilities, moved to the tags' shares": lambda logits: _moved(logits, training_shares),
        "probabilities, with mean and deviation of the tags": lambda logits: _scaled(logits, training_shares),
        "logits": lambda logits: logits,
    }
    print(
        f"\nInputs of the bridge, with {n_seeds} simulated networks (mean ± standard deviation of macro PR-AUC). Sums\n"
        "are with a network of 2021 whose predictions for validation are published, and with VGG-ish for test; the\n"
        "number is the weight of the bridge. Probabilities as they are need no statistics of a network's outputs on\n"
        "music like the training tracks; logits rank worse alone, and on validation better in sums.\n\n"
        "| inputs | validation: bridge alone | "
        + " | ".join(f"sum, {weight:g}" for weight in WEIGHTS)
        + " | test: bridge alone | "
        + " | ".join(f"sum, {weight:g}" for weight in WEIGHTS)
        + " |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, form in forms.items():
        cells = []
        for part, other in others.items():
            values = []
            for seed in range(n_seeds):
                network = simulated_logits(examples[part].inputs, shares, np.random.default_rng(seed))
                logits = fitted.logits(form(network))
                scores = [logits, *(bridge.add_standardized(other, logits, weight=weight) for weight in WEIGHTS)]
                truth = examples[part].split.truth
                values.append([metrics.average_precision(truth, score).mean() for score in scores])
            cells += [
                f"{mean:.4f} ± {std:.4f}" for mean, std in zip(np.mean(values, 0), np.std(values, 0), strict=True)
            ]
        print(f"| {name} | {' | '.join(cells)} |")


def _moved(logits: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probabilities with these means, by an offset of the logits of every input."""
    offsets = np.zeros(len(shares))
    for _ in range(50):
        probabilities = calibration.sigmoid(logits + offsets)
        offsets += (shares - probabilities.mean(axis=0)) / (probabilities * (1 - probabilities)).mean(axis=0)
    return calibration.sigmoid(logits + offsets)


def _scaled(logits: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probabilities with mean and standard deviation of tags with these shares; they may leave 0 … 1."""
    probabilities = calibration.sigmoid(logits)
    standardized = (probabilities - probabilities.mean(axis=0)) / probabilities.std(axis=0)
    return shares + np.sqrt(shares * (1 - shares)) * standardized


if __name__ == "__main__":
    main()

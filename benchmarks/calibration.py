"""Calibrations of the organisers' baseline, evaluated on music of other artists.

    MOODFIELD_DATA=… python benchmarks/calibration.py [--plot docs/calibration.png] [--cuts 10]

Fitted on one half of the published predictions, whole artists, and measured on the other. Prints docs/calibration.md.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression

from moodfield import calibration
from moodfield.datasets import mtg_jamendo
from moodfield.evaluation import bootstrap, calibration_fit, submissions
from moodfield.evaluation.calibration_fit import SHARED, Regularization
from moodfield.plots import figures

UNREGULARIZED = 1e-3
"""a strength without regularization"""
UNCALIBRATED, GLOBAL, REGULARIZED = "uncalibrated", "one slope, one offset for all", "regularized slopes and offsets"
HEAD = """# Calibration of scores

The VGG-ish baseline, one of the teachers of the bundled model, has published predictions for the {tracks:,} test
tracks of MTG-Jamendo's moods and themes, and their 56 tags are known. How well do scores match probabilities, and which
calibration helps? `make calibration` writes this page, by [calibration.py](../benchmarks/calibration.py).

The tracks are split into halves, with every artist in one half, because the tracks of an artist are similar ({artists}
artists; one of them has {most} tracks). Every method is fitted on the first half ({learned:,} tracks) and evaluated
once on the other ({other:,}). All numbers are means over the tags.

- **Brier score**: mean squared difference of score and truth. **Log loss**: mean negative log-likelihood, in nats.
- **ECE**, the expected calibration error: mean distance between mean score and share with the tag in {bins} bins of
  equally many tracks by score (tracks with equal scores share a bin). Bins of equal width would put nearly all tracks
  of a rare tag into one. **By chance** is the ECE of perfectly calibrated scores, which is not 0 because the share in
  {group} tracks, few of them with the tag, varies. **Pooled** is the ECE of all pairs of track and tag as one tag.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, default=None)
    parser.add_argument("--cuts", type=int, default=10)
    arguments = parser.parse_args()
    data = Path(os.environ.get("MOODFIELD_DATA", ""))
    if not (data / "mediaeval2019").is_dir():
        sys.exit("the published predictions are missing: set MOODFIELD_DATA to the folder that contains mediaeval2019/")
    train, test = (
        mtg_jamendo.read(data / f"mtg-jamendo/{mtg_jamendo.MOODTHEME}{part}.tsv") for part in ("train", "test")
    )
    scores = submissions.read_array(data / "mediaeval2019/baseline/vggish_predictions.npy").astype(np.float64)
    artists = np.array([track.artist for track in test.tracks])
    half_fit = calibration_fit.fit_half(test.truth, scores, artists, generator=np.random.default_rng(0))
    is_fitted, is_evaluated = half_fit.fitted_on, ~half_fit.fitted_on
    scores_by_method = _calibrated(test.truth[is_fitted], scores[is_fitted], scores[is_evaluated], train.priors)
    scores_by_method[REGULARIZED] = half_fit.calibration.scores(calibration.logit(scores[is_evaluated]))
    truth = test.truth[is_evaluated]
    counts = np.unique(artists, return_counts=True)[1]
    print(
        HEAD.format(
            tracks=len(artists), artists=len(counts), most=counts.max(), learned=is_fitted.sum(),
            other=is_evaluated.sum(), bins=calibration_fit.N_BINS, group=is_evaluated.sum() // calibration_fit.N_BINS,
        )
    )  # fmt: skip
    print("## Methods, on the other half\n")
    _table(truth, scores_by_method)
    print()
    _differences(truth, scores_by_method, artists[is_evaluated])
    print(f"\n*{REGULARIZED}* is the method of the bundled model. The rule for its strength was chosen after a first")
    print("evaluation on the other half ([0020](decisions/0020-regularized-calibration.md)): only its row is a second")
    print("one.")
    print(f"{_strength(half_fit)}\n")
    print("## Other halves\n")
    _other_splits(test.truth, scores, artists, train.priors, arguments.cuts)
    print("\n## Tags, on the other half\n")
    _tags(truth, scores_by_method[UNCALIBRATED], scores_by_method[REGULARIZED], test.vocabulary, train.priors)
    print(_limits_text(test, train, artists))
    if arguments.plot:
        _draw(arguments.plot, truth, scores_by_method, test.vocabulary)


def _calibrated(
    truth: np.ndarray, scores: np.ndarray, other_scores: np.ndarray, priors: np.ndarray, *, isotonic: bool = True
) -> dict[str, np.ndarray]:
    """Scores of other tracks by every method with a fixed strength, fitted on these tracks."""
    logits = calibration.logit(other_scores)
    scores_by_method = {
        "no network: prior of the training tracks": np.tile(priors, (len(other_scores), 1)),
        UNCALIBRATED: other_scores,
        "offset per tag": calibration.sigmoid(logits + _offsets(truth, scores)),
    }
    regularizations = {
        GLOBAL: Regularization(SHARED, SHARED),
        "one slope, offset per tag": Regularization(SHARED, UNREGULARIZED),
        "slope and offset per tag": Regularization(UNREGULARIZED, UNREGULARIZED),
    }
    for name, strength in regularizations.items():
        scores_by_method[name] = calibration_fit.fit(truth, scores, regularization=strength).scores(logits)
    if isotonic:
        steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        columns = [
            steps.fit(scores[:, tag], truth[:, tag]).predict(other_scores[:, tag]) for tag in range(truth.shape[1])
        ]
        scores_by_method["isotonic, by scikit-learn"] = np.stack(columns, axis=1)
    return scores_by_method


def _offsets(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Offsets of the logits of every tag that give scores the mean of the truth, by Newton's method."""
    logits, offsets = calibration.logit(scores), np.zeros(truth.shape[1])
    for _ in range(50):
        probabilities = calibration.sigmoid(logits + offsets)
        offsets += (truth - probabilities).sum(axis=0) / (probabilities * (1 - probabilities)).sum(axis=0)
    return offsets


def _table(truth: np.ndarray, scores_by_method: Mapping[str, np.ndarray]) -> None:
    print("| method | Brier score | log loss | ECE | by chance | pooled ECE |\n|---|---|---|---|---|---|")
    for name, scores in scores_by_method.items():
        brier, loss = calibration_fit.brier_score(truth, scores).mean(), calibration_fit.log_loss(truth, scores).mean()
        error, chance, pooled = (
            _error(truth, scores),
            _chance(scores),
            _error(_as_one_column(truth), _as_one_column(scores)),
        )
        print(f"| {name} | {brier:.5f} | {loss:.5f} | {error:.5f} | {chance:.5f} | {pooled:.5f} |")


def _error(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(calibration_fit.expected_calibration_error(truth, scores).mean())


def _as_one_column(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1)


def _chance(scores: np.ndarray) -> float:
    """The error of perfectly calibrated scores, from truth drawn from them."""
    generator = np.random.default_rng(0)
    return float(np.mean([_error(generator.random(scores.shape) < scores, scores) for _ in range(5)]))


def _differences(truth: np.ndarray, scores_by_method: Mapping[str, np.ndarray], artists: np.ndarray) -> None:
    """Differences from the uncalibrated scores, with intervals over artists."""
    names, member = np.unique(artists, return_inverse=True)
    draws = np.concatenate(
        [*bootstrap.draw_weights(len(names), bootstrap.N_RESAMPLES, np.random.default_rng(0))], axis=1
    )
    weights = draws[member] / draws[member].sum(axis=0)
    print(
        f"Differences in Brier score and log loss from *{UNCALIBRATED}* scores (below 0 is better), with 95 % of\n"
        f"{bootstrap.N_RESAMPLES:,} resamples of the artists:\n\n| method | Brier score | log loss |\n|---|---|---|"
    )
    losses = {name: (np.square(scores - truth), _surprise(truth, scores)) for name, scores in scores_by_method.items()}
    for name in scores_by_method:
        cells = []
        for method_loss, raw_loss in zip(losses[name], losses[UNCALIBRATED], strict=True):
            differences = (method_loss - raw_loss).mean(axis=1)
            low, high = np.quantile(differences @ weights, [0.025, 0.975])
            cells.append(f"{differences.mean():+.5f} ({low:+.5f} … {high:+.5f})")
        if name != UNCALIBRATED:
            print(f"| {name} | {' | '.join(cells)} |")


def _surprise(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    logits = np.clip(calibration.logit(scores), -calibration_fit.MAX_LOGIT, calibration_fit.MAX_LOGIT)
    return np.logaddexp(0, logits) - truth * logits


def _strength(half_fit: calibration_fit.HalfFit) -> str:
    """The chosen strength of the regularization, as text."""
    slopes = half_fit.calibration.slopes
    descriptions = [
        "one value for all" if strength >= SHARED else f"a standard deviation of about {strength**-0.5:.2f}"
        for strength in (half_fit.regularization.slopes, half_fit.regularization.offsets)
    ]
    return (
        f"Inside the first half, in {calibration_fit.N_FOLDS} folds by artist, no weaker regularization had a log loss "
        "better by\n"
        f"a standard error than {descriptions[0]} for the logarithms of the slopes, "
        f"and {descriptions[1]} for the offsets at a\n"
        f"tag's mean logit. Slopes are {min(slopes):.2f} … {max(slopes):.2f}; below 1 the network was overconfident."
    )


def _other_splits(truth: np.ndarray, scores: np.ndarray, artists: np.ndarray, priors: np.ndarray, count: int) -> None:
    """The methods on other halves."""
    sums: dict[str, list[list[float]]] = {}
    for seed in range(1, count + 1):
        is_first = calibration_fit.group_split(artists, 2, generator=np.random.default_rng(seed)) == 0
        for name, calibrated in _calibrated(truth[is_first], scores[is_first], scores[~is_first], priors).items():
            values = [
                calibration_fit.brier_score(truth[~is_first], calibrated).mean(),
                calibration_fit.log_loss(truth[~is_first], calibrated).mean(),
                _error(truth[~is_first], calibrated),
            ]
            sums.setdefault(name, []).append(values)
    print(
        f"Means over {count} other splits into halves by artist, and the number of splits in which a method is better\n"
        f"than *{UNCALIBRATED}*, to show that the order above does not depend on one split.\n"
        f"*{REGULARIZED}* is missing: its strength would have to be chosen each time.\n\n"
        "| method | Brier score | better in | log loss | better in | ECE | better in |\n"
        "|---|---|---|---|---|---|---|"
    )
    raw = np.array(sums[UNCALIBRATED])
    for name, values_ in sums.items():
        means, better = np.mean(values_, axis=0), (np.array(values_) < raw).sum(axis=0)
        cells = [f"{mean:.5f} | {'–' if name == UNCALIBRATED else n}" for mean, n in zip(means, better, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


def _tags(
    truth: np.ndarray, raw: np.ndarray, regularized: np.ndarray, vocabulary: Sequence[str], priors: np.ndarray
) -> None:
    gains = calibration_fit.brier_score(truth, raw) - calibration_fit.brier_score(truth, regularized)
    errors = [calibration_fit.expected_calibration_error(truth, scores) for scores in (raw, regularized)]
    order = np.argsort(errors[1])
    print(
        f"The five best and the five worst calibrated tags. Of all {len(vocabulary)}, {(gains > 0).sum()} have a\n"
        "better Brier score than uncalibrated.\n\n| tag | mean score | share with the tag | training share | ECE | "
        "uncalibrated ECE |\n"
        "|---|---|---|---|---|---|"
    )
    for tag in [*order[:5], *order[-5:]]:
        means = " | ".join(f"{value:.4f}" for value in (regularized[:, tag].mean(), truth[:, tag].mean(), priors[tag]))
        print(f"| {vocabulary[tag]} | {means} | {errors[1][tag]:.4f} | {errors[0][tag]:.4f} |")


def _limits_text(test: mtg_jamendo.Split, train: mtg_jamendo.Split, artists: np.ndarray) -> str:
    log_ratios = np.abs(np.log(test.priors / train.priors))
    tag_name = test.vocabulary[int(np.argmax(log_ratios))]
    tag = test.vocabulary.index(tag_name)
    counts = np.unique(artists[test.truth[:, tag]], return_counts=True)[1]
    factor = np.exp(np.median(log_ratios))
    highest, total, test_share, train_share = counts.max(), counts.sum(), test.priors[tag], train.priors[tag]
    return f"""
## Limits

- Tags differ more between artists than an offset per tag can learn from one half. *{tag_name}* is the tag of
  {train_share:.2%} of the training tracks and of {test_share:.2%} of the test tracks, and {highest} of these
  {total} are by one artist; for the median tag the two shares differ by a factor of {factor:.2f}. Offsets and curves
  per tag overfit to the artists of the first half, and on others they are worse than no calibration.
- What generalises is the overall confidence of the network. It helps where scores are low, and the gain is small:
  per tag, most of the error is in shares that differ between artists, far above chance.
- A calibrated score is the share of MTG-Jamendo's tracks with this score whose uploaders chose the tag. They choose few
  of the tags that fit, so these probabilities are low. Other music has other shares.
- The bundled model is a student of an ensemble with this network: it is trained to have the ensemble's logits on other
  music, and scores whole tracks where the published predictions may be of excerpts. That its scores mean the same is an
  assumption, not a measurement.
- Logits of an ensemble of teachers (`docs/teachers.md`) have, for every tag, the mean and the standard deviation of
  the published predictions, over the training music balanced over its kinds. The calibration applies to them if
  tags are as frequent in such music as on MTG-Jamendo, and if a logit that orders tracks better means as much as ever:
  a better network could afford more confidence. Neither was measured.
- Within a tag the order of tracks does not change: PR-AUC and ROC-AUC of a tag stay the same, and so do decisions,
  because thresholds are transformed with the scores.
- The calibration was fitted on the first half of the test split. A metric of the bundled model on this split that
  compares scores across tags (a micro mean) is therefore slightly optimistic.

![Reliability, pooled and by tag](calibration.png)"""


def _draw(path: Path, truth: np.ndarray, scores_by_method: Mapping[str, np.ndarray], vocabulary: Sequence[str]) -> None:
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    pooled, by_tag = figure.subplots(1, 2)
    for name, colour in ((UNCALIBRATED, "#b5651d"), (REGULARIZED, "#1f5a7a")):
        [table] = calibration_fit.calibration_curves(
            _as_one_column(truth), _as_one_column(scores_by_method[name]), n_bins=20
        )
        pooled.plot(table.mean_score, table.positive_rate, "o-", color=colour, markersize=4, linewidth=1, label=name)
        by_tag.plot(
            scores_by_method[name].mean(axis=0), truth.mean(axis=0), "o", color=colour, markersize=4, label=name
        )
    mean_scores, shares = scores_by_method[REGULARIZED].mean(axis=0), truth.mean(axis=0)
    distances = np.abs(np.log(np.maximum(shares, 1e-4) / mean_scores))
    for rank, tag in enumerate(np.argsort(-distances)[:5]):
        side = (6, 4 - 10 * (rank % 2))
        point = mean_scores[tag], shares[tag]
        by_tag.annotate(vocabulary[tag], point, textcoords="offset points", xytext=side, fontsize=8, color=figures.INK)
    for axes, title in ((pooled, "all pairs of track and tag, 20 bins"), (by_tag, "one point per tag")):
        ends = [4e-4, 0.4]
        axes.plot(ends, ends, color=figures.FAINT, linewidth=0.8, linestyle="--", zorder=0)
        axes.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            title=title,
            xlabel="mean score",
            ylabel="share with the tag",
        )
        axes.title.set_size(10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figures.write(path, figure)


if __name__ == "__main__":
    main()

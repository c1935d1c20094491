"""Calibration fits and measures against scikit-learn and known distortions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from moodfield import calibration
from moodfield.calibration import Calibration
from moodfield.datasets import mtg_jamendo
from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import calibration_fit, submissions
from moodfield.evaluation.calibration_fit import SHARED, Regularization

FREE, TIED = Regularization(1e-6, 1e-6), Regularization(SHARED, 1e-6)
SOME = Regularization(100.0, 10.0)


def problem(tracks: int, tags: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and the logits of its probabilities; some tags are rarer than others."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(np.linspace(-3, -1, tags), 1.2, (tracks, tags))
    return generator.random(logits.shape) < calibration.sigmoid(logits), logits


def distorted(logits: np.ndarray, slopes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Scores that a calibration with `slopes` and `offsets` turns into the sigmoid of `logits`."""
    return calibration.sigmoid((logits - offsets) / slopes)


# ---------------------------------------------------------------- fit


def test_unregularized_fits_are_logistic_regressions():
    truth, logits = problem(1_500, 4)
    scores = distorted(logits, np.array([0.5, 0.8, 1.0, 1.6]), np.array([0.3, -0.5, 0.0, 1.0]))
    fitted = calibration_fit.fit(truth, scores, regularization=FREE)
    for tag in range(4):
        oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000)
        oracle.fit(calibration.logit(scores[:, [tag]]), truth[:, tag])
        assert fitted.slopes[tag] == pytest.approx(oracle.coef_[0, 0], rel=5e-3)
        assert fitted.offsets[tag] == pytest.approx(oracle.intercept_[0], abs=1e-2)


def test_a_shared_slope_is_one_logistic_regression():
    truth, logits = problem(1_500, 4, seed=1)
    fitted = calibration_fit.fit(truth, distorted(logits, np.full(4, 0.6), np.linspace(-1, 1, 4)), regularization=TIED)
    logits_ = calibration.logit(distorted(logits, np.full(4, 0.6), np.linspace(-1, 1, 4)))
    own = np.tile(np.eye(4), (len(truth), 1))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000, fit_intercept=False)
    oracle.fit(np.hstack([logits_.reshape(-1, 1), own]), truth.ravel())
    np.testing.assert_allclose(fitted.slopes, oracle.coef_[0, 0], rtol=5e-3)
    np.testing.assert_allclose(fitted.offsets, oracle.coef_[0, 1:], atol=1e-2)


@pytest.mark.parametrize("strength", [FREE, TIED, SOME, Regularization(SHARED, SHARED)])
def test_a_fit_is_a_minimum(strength):
    """The objective, from its definition, is not lower anywhere near."""
    truth, logits = problem(300, 3, seed=2)
    scores = distorted(logits, np.array([0.5, 0.7, 1.4]), np.array([0.5, -0.5, 0.2]))
    fitted = calibration_fit.fit(truth, scores, regularization=strength)
    logits_ = calibration.logit(scores)
    middle = logits_.mean(axis=0)

    def objective(logs: np.ndarray, offsets: np.ndarray) -> float:
        predicted = np.exp(logs) * (logits_ - middle) + middle + offsets
        lost = -np.where(truth, np.log(calibration.sigmoid(predicted)), np.log(calibration.sigmoid(-predicted))).sum()
        for values, strong in zip((logs, offsets), strength, strict=True):
            lost += strong * np.square(values - values.mean()).sum() / 2 + values.mean() ** 2 / 2
        return lost

    logs = np.log(fitted.slopes)
    offsets = np.array(fitted.offsets) - middle * (1 - np.array(fitted.slopes))
    best = objective(logs, offsets)
    generator = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            one, other = generator.normal(0, size, (2, 3))
            assert objective(logs + one, offsets + other) >= best - 1e-7
            assert objective(logs + one[0], offsets + other[0]) >= best - 1e-7


def test_calibrated_scores_stay():
    truth, logits = problem(20_000, 3, seed=3)
    for strength in (FREE, SOME, Regularization(SHARED, SHARED)):
        fitted = calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=strength)
        np.testing.assert_allclose(fitted.slopes, 1, atol=0.06)
        np.testing.assert_allclose(fitted.scores(logits), calibration.sigmoid(logits), atol=0.03)


def test_distorted_scores_are_recovered():
    truth, logits = problem(20_000, 3, seed=4)
    slopes, offsets = np.array([0.5, 0.9, 1.8]), np.array([1.0, 0.0, -1.0])
    scores = distorted(logits, slopes, offsets)
    fitted = calibration_fit.fit(truth, scores, regularization=FREE)
    np.testing.assert_allclose(fitted.slopes, slopes, rtol=0.08)
    np.testing.assert_allclose(fitted.scores(calibration.logit(scores)), calibration.sigmoid(logits), atol=0.03)
    before, after = (
        calibration_fit.brier_score(truth, scores),
        calibration_fit.brier_score(truth, fitted.scores(calibration.logit(scores))),
    )
    assert (after <= before).all()


def test_stronger_regularization_makes_slopes_more_equal():
    truth, logits = problem(2_000, 4, seed=5)
    scores = distorted(logits, np.array([0.4, 0.8, 1.2, 2.0]), np.zeros(4))
    spread = [
        np.std(np.log(calibration_fit.fit(truth, scores, regularization=Regularization(strong, 1.0)).slopes))
        for strong in (1e-3, 10.0, 1e3, SHARED)
    ]
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 0.3
    assert spread[-1] < 1e-3


@pytest.mark.parametrize("what", ["none", "all", "constant", "separated", "reversed", "sure"])
def test_a_degenerate_tag_gets_about_the_values_of_others(what):
    truth, logits = problem(400, 4, seed=6)
    scores = distorted(logits, np.full(4, 0.7), np.zeros(4))
    if what in ("none", "all"):
        truth[:, 0] = what == "all"
    elif what == "constant":
        scores[:, 0] = 0.2
    elif what == "separated":
        truth[:, 0] = scores[:, 0] > np.median(scores[:, 0])
    elif what == "reversed":
        truth[:, 0] = scores[:, 0] < np.median(scores[:, 0])
    else:
        scores[:, 0] = truth[:, 0]
    fitted = calibration_fit.fit(truth, scores, regularization=Regularization(300.0, 30.0))
    others = np.array(fitted.slopes[1:])
    assert fitted.slopes[0] > 0
    assert 0.4 < fitted.slopes[0] / np.median(others) < 2.5
    assert np.abs(fitted.offsets).max() < 10
    alone = calibration_fit.fit(truth[:, :1], scores[:, :1], regularization=FREE)  # without others it is still finite
    assert np.isfinite([*alone.slopes, *alone.offsets]).all()
    assert alone.slopes[0] >= 0


@pytest.mark.parametrize("strength", [FREE, Regularization(3.0, 1.0)])
def test_a_diverging_step_is_shortened(strength):
    # scores so small that the first step overflows
    truth = np.arange(2_000)[:, None] < 300
    logits = np.where(truth, -10, -20) + np.random.default_rng(0).normal(0, 0.5, truth.shape)
    fitted = calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=strength)
    assert calibration_fit.brier_score(truth, fitted.scores(logits)).max() < 1e-3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(calibration_fit.REGULARIZATIONS))
def test_a_fit_keeps_the_ranking_within_a_tag(seed, strength):
    generator = np.random.default_rng(seed)
    truth, scores = generator.random((30, 3)) < 0.2, generator.random((30, 3)) ** 3
    fitted = calibration_fit.fit(truth, scores, regularization=strength)
    after = fitted.scores(calibration.logit(scores))
    np.testing.assert_array_equal(np.argsort(after, axis=0), np.argsort(scores, axis=0))
    assert ((after >= 0) & (after <= 1)).all()


# ---------------------------------------------------------------- splits and selection


def test_group_split():
    generator = np.random.default_rng(0)
    groups = [f"artist {n}" for n in generator.integers(0, 60, 600)]
    parts = calibration_fit.group_split(groups, 3, generator=generator)
    assert len({(group, part) for group, part in zip(groups, parts, strict=True)}) == len(set(groups))
    assert np.ptp(np.bincount(parts)) <= 30
    np.testing.assert_array_equal(
        calibration_fit.group_split(groups, 3, generator=np.random.default_rng(1)),
        calibration_fit.group_split(groups, 3, generator=np.random.default_rng(1)),
    )
    for count in (1, 61):
        with pytest.raises(ConfigError, match=f"{count} parts"):
            calibration_fit.group_split(groups, count, generator=generator)


def test_the_better_regularization_is_selected():
    truth, logits = problem(1_500, 6, seed=7)
    parts = np.arange(1_500) % 3
    unlike = distorted(logits, np.geomspace(0.3, 3, 6), np.linspace(-2, 2, 6))
    both = (FREE, Regularization(SHARED, SHARED))
    assert calibration_fit.select_regularization(truth, unlike, parts, candidates=both) == both[0]
    few = slice(0, 90)
    alike = distorted(logits, np.full(6, 0.6), np.zeros(6))
    assert calibration_fit.select_regularization(truth[few], alike[few], parts[few], candidates=both) == both[1]


def test_of_equal_candidates_the_last_is_selected():
    truth, logits = problem(400, 3, seed=10)
    same = Regularization(10.0, 10.0), Regularization(10.0, 10.0)
    chosen = calibration_fit.select_regularization(
        truth, calibration.sigmoid(logits), np.arange(400) % 4, candidates=same
    )
    assert chosen is same[1]


def test_the_other_half_does_not_influence_the_fit():
    truth, logits = problem(400, 3, seed=8)
    scores = distorted(logits, np.full(3, 0.6), np.zeros(3))
    groups = [str(n // 4) for n in range(400)]
    one = calibration_fit.fit_half(truth, scores, groups, generator=np.random.default_rng(0))
    assert 150 < one.fitted_on.sum() < 250
    assert not {groups[n] for n in np.flatnonzero(one.fitted_on)} & {groups[n] for n in np.flatnonzero(~one.fitted_on)}
    other = calibration_fit.fit_half(
        np.where(one.fitted_on[:, None], truth, ~truth), np.where(one.fitted_on[:, None], scores, 0.5), groups,
        generator=np.random.default_rng(0),
    )  # fmt: skip
    assert (one.calibration, one.regularization) == (other.calibration, other.regularization)


# ---------------------------------------------------------------- measures


def test_measures_against_scikit_learn():
    truth, logits = problem(1_000, 3, seed=9)
    scores = distorted(logits, np.full(3, 0.6), np.full(3, 0.5))
    brier, losses = calibration_fit.brier_score(truth, scores), calibration_fit.log_loss(truth, scores)
    errors = calibration_fit.expected_calibration_error(truth, scores)
    for tag in range(3):
        assert brier[tag] == pytest.approx(brier_score_loss(truth[:, tag], scores[:, tag]))
        assert losses[tag] == pytest.approx(log_loss(truth[:, tag], scores[:, tag]))
        positive_rate, mean_score = calibration_curve(truth[:, tag], scores[:, tag], n_bins=10, strategy="quantile")
        curve = calibration_fit.calibration_curves(truth, scores)[tag]
        np.testing.assert_allclose(curve.mean_score, mean_score, atol=2e-3)  # its bin edges are interpolated quantiles
        assert curve.n_tracks.tolist() == [100] * 10
        assert errors[tag] == pytest.approx(np.abs(positive_rate - mean_score).mean(), abs=4e-3)


def test_calibration_error_by_hand():
    truth = np.array([[0], [1], [0], [1]])
    scores = np.array([[0.1], [0.3], [0.6], [0.8]])
    [curve] = calibration_fit.calibration_curves(truth, scores, n_bins=2)
    np.testing.assert_allclose(curve.mean_score, [0.2, 0.7])
    np.testing.assert_allclose(curve.positive_rate, [0.5, 0.5])
    assert calibration_fit.expected_calibration_error(truth, scores, n_bins=2)[0] == pytest.approx(0.25)
    assert calibration_fit.brier_score(truth, scores)[0] == pytest.approx((0.01 + 0.49 + 0.36 + 0.04) / 4)


def test_equal_scores_share_a_bin_and_the_order_of_tracks_does_not_matter():
    generator = np.random.default_rng(0)
    truth, scores = generator.random((200, 2)) < 0.3, generator.integers(0, 4, (200, 2)) / 4
    curves = calibration_fit.calibration_curves(truth, scores)
    assert all(len(np.unique(curve.mean_score)) == len(curve.mean_score) <= 4 for curve in curves)
    order = generator.permutation(200)
    np.testing.assert_allclose(
        calibration_fit.expected_calibration_error(truth, scores),
        calibration_fit.expected_calibration_error(truth[order], scores[order]),
    )
    constant = calibration_fit.expected_calibration_error(truth, np.full((200, 2), 0.5))
    np.testing.assert_allclose(constant, np.abs(truth.mean(axis=0) - 0.5))


def test_errors_of_right_and_wrong_scores_are_0_and_1():
    truth = np.random.default_rng(0).random((50, 2)) < 0.5
    for measure in (calibration_fit.brier_score, calibration_fit.expected_calibration_error):
        np.testing.assert_allclose(measure(truth, truth.astype(float)), 0)
        np.testing.assert_allclose(measure(truth, 1 - truth.astype(float)), 1)
    assert (calibration_fit.log_loss(truth, truth.astype(float)) < 1e-8).all()


def test_sigmoid_inverts_logit():
    scores = np.array([1e-12, 0.01, 0.5, 0.9])
    np.testing.assert_allclose(calibration.sigmoid(calibration.logit(scores)), scores, atol=1e-15)
    ends = calibration.logit(np.array([-np.inf, 0.0, 1.0, np.inf]))
    assert np.isfinite(ends).all()
    assert (ends[0], ends[3]) == (ends[1], ends[2])
    assert ends[1] < -100 < 100 < ends[2]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [
        ([[0], [2]], [[0.5], [0.5]], "neither 0 nor 1"),
        ([[0], [1]], [[0.5], [np.nan]], "not finite"),
        ([[0], [1]], [[0.5], [-3.0]], "1 scores"),
        ([[0], [1]], [[0.5, 0.5], [0.5, 0.5]], r"expected shape"),
        ([0, 1], [0.5, 0.5], "tracks × tags"),
    ],
)
def test_malformed_input_raises(truth, scores, message):
    truth, scores = np.array(truth), np.array(scores)
    for measure in (calibration_fit.brier_score, calibration_fit.log_loss, calibration_fit.expected_calibration_error):
        with pytest.raises(ScoresError, match=message):
            measure(truth, scores)
    with pytest.raises(ScoresError, match=message):
        calibration_fit.fit(truth, scores, regularization=SOME)


def test_invalid_settings_raise():
    truth, logits = problem(10, 1)
    with pytest.raises(ConfigError, match="above 0"):
        calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=Regularization(0.0, 1.0))
    with pytest.raises(ConfigError, match="bins=0"):
        calibration_fit.calibration_curves(truth, calibration.sigmoid(logits), n_bins=0)


@pytest.mark.parametrize(
    ("slopes", "offsets"), [((1.0,), ()), ((-0.1,), (0.0,)), ((np.nan,), (0.0,)), ((1.0,), (np.inf,))]
)
def test_an_invalid_calibration_raises(slopes, offsets):
    with pytest.raises(ConfigError, match="no slope below 0"):
        Calibration(slopes, offsets)


# ---------------------------------------------------------------- real data


@pytest.mark.golden
def test_calibration_improves_published_scores_of_other_artists(data):
    test = mtg_jamendo.read(data / "mtg-jamendo" / "autotagging_moodtheme-test.tsv")
    scores = submissions.read_array(data / "mediaeval2019" / "baseline" / "vggish_predictions.npy")
    half = (
        calibration_fit.group_split([track.artist for track in test.tracks], 2, generator=np.random.default_rng(0)) == 0
    )
    fitted = calibration_fit.fit(test.truth[half], scores[half], regularization=Regularization(100.0, SHARED))
    after = fitted.scores(calibration.logit(scores[~half]))
    assert (
        calibration_fit.log_loss(test.truth[~half], after).mean()
        < calibration_fit.log_loss(test.truth[~half], scores[~half]).mean()
    )

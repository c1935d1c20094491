"""Calibration: a fit agrees with scikit-learn, undoes what was done to scores, and is sure of nothing by itself."""

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


def drawn(tracks: int, tags: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of tags of which some are rarer than others, and truth that the logits' sigmoid is the probability of."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(np.linspace(-3, -1, tags), 1.2, (tracks, tags))
    return generator.random(logits.shape) < calibration.sigmoid(logits), logits


def distorted(logits: np.ndarray, slopes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Scores that `slopes` and `offsets` make the sigmoid of `logits` again."""
    return calibration.sigmoid((logits - offsets) / slopes)


# ---------------------------------------------------------------- fitted


def test_free_tags_are_scikit_learns_logistic_regressions():
    truth, logits = drawn(1_500, 4)
    scores = distorted(logits, np.array([0.5, 0.8, 1.0, 1.6]), np.array([0.3, -0.5, 0.0, 1.0]))
    found = calibration_fit.fit(truth, scores, regularization=FREE)
    for tag in range(4):
        oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000)
        oracle.fit(calibration.logit(scores[:, [tag]]), truth[:, tag])
        assert found.slopes[tag] == pytest.approx(oracle.coef_[0, 0], rel=5e-3)
        assert found.offsets[tag] == pytest.approx(oracle.intercept_[0], abs=1e-2)


def test_tags_with_one_slope_are_one_logistic_regression():
    truth, logits = drawn(1_500, 4, seed=1)
    found = calibration_fit.fit(truth, distorted(logits, np.full(4, 0.6), np.linspace(-1, 1, 4)), regularization=TIED)
    came = calibration.logit(distorted(logits, np.full(4, 0.6), np.linspace(-1, 1, 4)))
    own = np.tile(np.eye(4), (len(truth), 1))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000, fit_intercept=False)
    oracle.fit(np.hstack([came.reshape(-1, 1), own]), truth.ravel())
    np.testing.assert_allclose(found.slopes, oracle.coef_[0, 0], rtol=5e-3)
    np.testing.assert_allclose(found.offsets, oracle.coef_[0, 1:], atol=1e-2)


@pytest.mark.parametrize("strength", [FREE, TIED, SOME, Regularization(SHARED, SHARED)])
def test_nothing_near_a_fit_is_better(strength):
    """Log loss with what holds tags together, from its definition and by numbers alone."""
    truth, logits = drawn(300, 3, seed=2)
    scores = distorted(logits, np.array([0.5, 0.7, 1.4]), np.array([0.5, -0.5, 0.2]))
    found = calibration_fit.fit(truth, scores, regularization=strength)
    came = calibration.logit(scores)
    middle = came.mean(axis=0)

    def worth(logs: np.ndarray, offsets: np.ndarray) -> float:
        said = np.exp(logs) * (came - middle) + middle + offsets
        lost = -np.where(truth, np.log(calibration.sigmoid(said)), np.log(calibration.sigmoid(-said))).sum()
        for values, strong in zip((logs, offsets), strength, strict=True):
            lost += strong * np.square(values - values.mean()).sum() / 2 + values.mean() ** 2 / 2
        return lost

    logs = np.log(found.slopes)
    offsets = np.array(found.offsets) - middle * (1 - np.array(found.slopes))
    best = worth(logs, offsets)
    generator = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            one, other = generator.normal(0, size, (2, 3))
            assert worth(logs + one, offsets + other) >= best - 1e-7
            assert worth(logs + one[0], offsets + other[0]) >= best - 1e-7


def test_calibrated_scores_stay_what_they_are():
    truth, logits = drawn(20_000, 3, seed=3)
    for strength in (FREE, SOME, Regularization(SHARED, SHARED)):
        found = calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=strength)
        np.testing.assert_allclose(found.slopes, 1, atol=0.06)
        np.testing.assert_allclose(found.scores(logits), calibration.sigmoid(logits), atol=0.03)


def test_what_was_done_to_scores_is_undone():
    truth, logits = drawn(20_000, 3, seed=4)
    slopes, offsets = np.array([0.5, 0.9, 1.8]), np.array([1.0, 0.0, -1.0])
    scores = distorted(logits, slopes, offsets)
    found = calibration_fit.fit(truth, scores, regularization=FREE)
    np.testing.assert_allclose(found.slopes, slopes, rtol=0.08)
    np.testing.assert_allclose(found.scores(calibration.logit(scores)), calibration.sigmoid(logits), atol=0.03)
    before, after = (
        calibration_fit.brier_score(truth, scores),
        calibration_fit.brier_score(truth, found.scores(calibration.logit(scores))),
    )
    assert (after <= before).all()


def test_the_stronger_the_more_alike():
    truth, logits = drawn(2_000, 4, seed=5)
    scores = distorted(logits, np.array([0.4, 0.8, 1.2, 2.0]), np.zeros(4))
    spread = [
        np.std(np.log(calibration_fit.fit(truth, scores, regularization=Regularization(strong, 1.0)).slopes))
        for strong in (1e-3, 10.0, 1e3, SHARED)
    ]
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 0.3
    assert spread[-1] < 1e-3


@pytest.mark.parametrize("what", ["none", "all", "constant", "separated", "reversed", "sure"])
def test_a_tag_that_says_little_is_taken_along(what):
    truth, logits = drawn(400, 4, seed=6)
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
    found = calibration_fit.fit(truth, scores, regularization=Regularization(300.0, 30.0))
    others = np.array(found.slopes[1:])
    assert found.slopes[0] > 0
    assert 0.4 < found.slopes[0] / np.median(others) < 2.5
    assert np.abs(found.offsets).max() < 10
    alone = calibration_fit.fit(
        truth[:, :1], scores[:, :1], regularization=FREE
    )  # and without others it is still finite
    assert np.isfinite([*alone.slopes, *alone.offsets]).all()
    assert alone.slopes[0] >= 0


@pytest.mark.parametrize("strength", [FREE, Regularization(3.0, 1.0)])
def test_a_step_too_long_is_not_taken(strength):
    # scores so small that the first step goes out of all numbers
    truth = np.arange(2_000)[:, None] < 300
    logits = np.where(truth, -10, -20) + np.random.default_rng(0).normal(0, 0.5, truth.shape)
    found = calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=strength)
    assert calibration_fit.brier_score(truth, found.scores(logits)).max() < 1e-3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(calibration_fit.REGULARIZATIONS))
def test_whatever_comes_within_a_tag_nothing_changes_places(seed, strength):
    generator = np.random.default_rng(seed)
    truth, scores = generator.random((30, 3)) < 0.2, generator.random((30, 3)) ** 3
    found = calibration_fit.fit(truth, scores, regularization=strength)
    after = found.scores(calibration.logit(scores))
    np.testing.assert_array_equal(np.argsort(after, axis=0), np.argsort(scores, axis=0))
    assert ((after >= 0) & (after <= 1)).all()


# ---------------------------------------------------------------- halves


def test_groups_stay_together_and_parts_are_alike_in_size():
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
        with pytest.raises(ConfigError, match=f"60 groups cannot be in {count} parts"):
            calibration_fit.group_split(groups, count, generator=generator)


def test_the_strength_that_fits_is_chosen():
    truth, logits = drawn(1_500, 6, seed=7)
    parts = np.arange(1_500) % 3
    unlike = distorted(logits, np.geomspace(0.3, 3, 6), np.linspace(-2, 2, 6))
    both = (FREE, Regularization(SHARED, SHARED))
    assert calibration_fit.select_regularization(truth, unlike, parts, candidates=both) == both[0]
    few = slice(0, 90)
    alike = distorted(logits, np.full(6, 0.6), np.zeros(6))
    assert calibration_fit.select_regularization(truth[few], alike[few], parts[few], candidates=both) == both[1]


def test_of_strengths_that_cannot_be_told_apart_the_last_is_chosen():
    truth, logits = drawn(400, 3, seed=10)
    same = Regularization(10.0, 10.0), Regularization(10.0, 10.0)
    chosen = calibration_fit.select_regularization(
        truth, calibration.sigmoid(logits), np.arange(400) % 4, candidates=same
    )
    assert chosen is same[1]


def test_the_other_half_is_not_looked_at():
    truth, logits = drawn(400, 3, seed=8)
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


# ---------------------------------------------------------------- measured


def test_measures_are_scikit_learns():
    truth, logits = drawn(1_000, 3, seed=9)
    scores = distorted(logits, np.full(3, 0.6), np.full(3, 0.5))
    brier, surprise = calibration_fit.brier_score(truth, scores), calibration_fit.log_loss(truth, scores)
    errors = calibration_fit.expected_calibration_error(truth, scores)
    for tag in range(3):
        assert brier[tag] == pytest.approx(brier_score_loss(truth[:, tag], scores[:, tag]))
        assert surprise[tag] == pytest.approx(log_loss(truth[:, tag], scores[:, tag]))
        found, said = calibration_curve(truth[:, tag], scores[:, tag], n_bins=10, strategy="quantile")
        table = calibration_fit.calibration_curves(truth, scores)[tag]
        np.testing.assert_allclose(table.mean_score, said, atol=2e-3)  # its groups are cut at quantiles, a track apart
        assert table.n_tracks.tolist() == [100] * 10
        assert errors[tag] == pytest.approx(np.abs(found - said).mean(), abs=4e-3)


def test_an_error_by_hand():
    truth = np.array([[0], [1], [0], [1]])
    scores = np.array([[0.1], [0.3], [0.6], [0.8]])
    [table] = calibration_fit.calibration_curves(truth, scores, n_bins=2)
    np.testing.assert_allclose(table.mean_score, [0.2, 0.7])
    np.testing.assert_allclose(table.positive_rate, [0.5, 0.5])
    assert calibration_fit.expected_calibration_error(truth, scores, n_bins=2)[0] == pytest.approx(0.25)
    assert calibration_fit.brier_score(truth, scores)[0] == pytest.approx((0.01 + 0.49 + 0.36 + 0.04) / 4)


def test_equal_scores_are_in_one_group_and_the_order_of_tracks_does_not_matter():
    generator = np.random.default_rng(0)
    truth, scores = generator.random((200, 2)) < 0.3, generator.integers(0, 4, (200, 2)) / 4
    tables = calibration_fit.calibration_curves(truth, scores)
    assert all(len(np.unique(table.mean_score)) == len(table.mean_score) <= 4 for table in tables)
    order = generator.permutation(200)
    np.testing.assert_allclose(
        calibration_fit.expected_calibration_error(truth, scores),
        calibration_fit.expected_calibration_error(truth[order], scores[order]),
    )
    constant = calibration_fit.expected_calibration_error(truth, np.full((200, 2), 0.5))
    np.testing.assert_allclose(constant, np.abs(truth.mean(axis=0) - 0.5))


def test_the_right_answer_has_no_error_and_the_wrong_one_has_all():
    truth = np.random.default_rng(0).random((50, 2)) < 0.5
    for measure in (calibration_fit.brier_score, calibration_fit.expected_calibration_error):
        np.testing.assert_allclose(measure(truth, truth.astype(float)), 0)
        np.testing.assert_allclose(measure(truth, 1 - truth.astype(float)), 1)
    assert (calibration_fit.log_loss(truth, truth.astype(float)) < 1e-8).all()


def test_logits_and_scores_go_back_and_forth():
    scores = np.array([1e-12, 0.01, 0.5, 0.9])
    np.testing.assert_allclose(calibration.sigmoid(calibration.logit(scores)), scores, atol=1e-15)
    ends = calibration.logit(np.array([-np.inf, 0.0, 1.0, np.inf]))
    assert np.isfinite(ends).all()
    assert (ends[0], ends[3]) == (ends[1], ends[2])
    assert ends[1] < -100 < 100 < ends[2]


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("truth", "scores", "said"),
    [
        ([[0], [2]], [[0.5], [0.5]], "neither 0 nor 1"),
        ([[0], [1]], [[0.5], [np.nan]], "not finite"),
        ([[0], [1]], [[0.5], [-3.0]], "1 scores are outside 0 … 1"),
        ([[0], [1]], [[0.5, 0.5], [0.5, 0.5]], r"expected shape"),
        ([0, 1], [0.5, 0.5], "tracks × tags"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, scores, said):
    truth, scores = np.array(truth), np.array(scores)
    for measure in (calibration_fit.brier_score, calibration_fit.log_loss, calibration_fit.expected_calibration_error):
        with pytest.raises(ScoresError, match=said):
            measure(truth, scores)
    with pytest.raises(ScoresError, match=said):
        calibration_fit.fit(truth, scores, regularization=SOME)


def test_settings_that_make_no_sense_are_refused():
    truth, logits = drawn(10, 1)
    with pytest.raises(ConfigError, match="above 0"):
        calibration_fit.fit(truth, calibration.sigmoid(logits), regularization=Regularization(0.0, 1.0))
    with pytest.raises(ConfigError, match="bins=0"):
        calibration_fit.calibration_curves(truth, calibration.sigmoid(logits), n_bins=0)


@pytest.mark.parametrize(
    ("slopes", "offsets"), [((1.0,), ()), ((-0.1,), (0.0,)), ((np.nan,), (0.0,)), ((1.0,), (np.inf,))]
)
def test_a_calibration_that_cannot_be_right_is_refused(slopes, offsets):
    with pytest.raises(ConfigError, match="no slope below 0"):
        Calibration(slopes, offsets)


# ---------------------------------------------------------------- real


@pytest.mark.golden
def test_the_teachers_scores_are_better_calibrated_on_other_artists(data):
    test = mtg_jamendo.read(data / "mtg-jamendo" / "autotagging_moodtheme-test.tsv")
    scores = submissions.read_array(data / "mediaeval2019" / "baseline" / "vggish_predictions.npy")
    half = (
        calibration_fit.group_split([track.artist for track in test.tracks], 2, generator=np.random.default_rng(0)) == 0
    )
    found = calibration_fit.fit(test.truth[half], scores[half], regularization=Regularization(100.0, SHARED))
    after = found.scores(calibration.logit(scores[~half]))
    assert (
        calibration_fit.log_loss(test.truth[~half], after).mean()
        < calibration_fit.log_loss(test.truth[~half], scores[~half]).mean()
    )

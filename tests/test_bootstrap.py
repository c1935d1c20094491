"""Bootstrap: resampled metrics against scikit-learn on the drawn tracks; coverage of intervals and tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as oracle

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import bootstrap, metrics
from moodfield.evaluation.bootstrap import Interval, System

NAMES = ["PR-AUC", "ROC-AUC", "F-score", "precision", "recall"]


@st.composite
def problems(draw):
    """Truth, scores with many ties, decisions; tags without positives or negatives."""
    shape = draw(st.tuples(st.integers(1, 20), st.integers(1, 4)))
    truth, decisions = draw(arrays.arrays(bool, shape)), draw(arrays.arrays(bool, shape))
    scores = draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])))
    return truth, scores, decisions


def random_problem(tracks=300, tags=5, *, levels=12, seed=0, gain=0.3, share=0.2):
    drawn = np.random.default_rng(seed)
    truth = drawn.random((tracks, tags)) < share
    scores = drawn.random((tracks, tags)) + gain * truth
    return truth, scores if levels is None else np.floor(scores * levels) / levels


def generator(seed=0):
    return np.random.default_rng(seed)


def rows(weights, column):
    """The tracks of a resample, one by one."""
    return np.repeat(np.arange(len(weights)), weights[:, column])


def weights_of(tracks, resamples, seed=0):
    return np.concatenate(list(bootstrap.draw_weights(tracks, resamples, generator(seed))), axis=1)


# ---------------------------------------------------------------- metrics of a resample


@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(0, 2**32 - 1))
def test_metrics_of_a_resample_are_those_of_the_drawn_tracks(problem, seed):
    truth, scores, decisions = problem
    (resampled,) = bootstrap.bootstrap(
        [System(truth, scores, decisions=decisions)], generator=generator(seed), n_resamples=3
    )
    weights = weights_of(len(truth), 3, seed)
    for column in range(3):
        drawn = rows(weights, column)
        expected = metrics.evaluate(truth[drawn], scores[drawn], decisions=decisions[drawn])
        for name in NAMES:
            np.testing.assert_allclose(resampled.per_tag[name][column], expected.per_tag[name], rtol=0, atol=1e-12)
            np.testing.assert_allclose(resampled.macro[name][column], expected.macro[name], rtol=0, atol=1e-12)
            np.testing.assert_allclose(resampled.micro[name][column], expected.micro[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [4, None])
def test_metrics_of_a_resample_against_scikit_learn(levels):
    truth, scores = random_problem(400, 4, levels=levels)
    decisions = scores > 0.8
    (resampled,) = bootstrap.bootstrap(
        [System(truth, scores, decisions=decisions)], generator=generator(), n_resamples=40
    )
    weights = weights_of(400, 40)
    for column in (0, 13, 39):
        drawn = rows(weights, column)
        t, s, d = truth[drawn], scores[drawn], decisions[drawn]
        for mean in ("macro", "micro"):
            p, r, f, _ = oracle.precision_recall_fscore_support(t, d, average=mean, zero_division=0)
            expected = {
                "PR-AUC": oracle.average_precision_score(t, s, average=mean),
                "ROC-AUC": oracle.roc_auc_score(t, s, average=mean),
                "F-score": f, "precision": p, "recall": r,
            }  # fmt: skip
            for name, value in expected.items():
                assert resampled.to_dict()[f"{name}-{mean}"][column] == pytest.approx(value, rel=0, abs=1e-12)


@pytest.mark.golden
def test_resamples_of_a_published_submission_against_scikit_learn(data):
    truth = np.load(data / "mediaeval2019/groundtruth.npy", allow_pickle=False)
    scores = np.load(data / "mediaeval2019/CP-JKU/3_avg_ensemble/predictions.npy", allow_pickle=False)
    (resampled,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=35)
    weights = weights_of(len(truth), 35)
    for column in (0, 31, 34):  # the first, and both sides of a batch
        drawn = rows(weights, column)
        for mean in ("macro", "micro"):
            precision = oracle.average_precision_score(truth[drawn], scores[drawn], average=mean)
            assert resampled.to_dict()[f"PR-AUC-{mean}"][column] == pytest.approx(precision, rel=0, abs=1e-12)
        roc = oracle.roc_auc_score(truth[drawn], scores[drawn], average="macro")
        assert resampled.macro["ROC-AUC"][column] == pytest.approx(roc, rel=0, abs=1e-12)


def test_a_tag_without_positives_in_a_resample_is_left_out_of_its_mean():
    truth = np.zeros((6, 2), bool)
    truth[0, 0] = truth[:3, 1] = True
    scores = np.linspace(0, 1, 12).reshape(6, 2)
    (resampled,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=200)
    lost = np.isnan(resampled.per_tag["PR-AUC"][:, 0]) & ~np.isnan(resampled.per_tag["PR-AUC"][:, 1])
    assert 0 < lost.sum() < 200
    np.testing.assert_array_equal(resampled.macro["PR-AUC"][lost], resampled.per_tag["PR-AUC"][lost, 1])


def test_a_tag_without_positives_is_nan_throughout():
    truth, scores = random_problem(50, 2)
    truth[:, 1] = False
    (resampled,) = bootstrap.bootstrap(
        [System(truth, scores, decisions=scores > 1)], generator=generator(), n_resamples=20
    )
    assert all(np.isnan(resampled.per_tag[name][:, 1]).all() for name in NAMES)
    assert np.isnan(bootstrap.tag_intervals(resampled)["PR-AUC"][1]).all()
    assert np.isfinite(bootstrap.intervals(resampled)["PR-AUC-macro"]).all()


def test_without_decisions_there_are_the_four_areas():
    (resampled,) = bootstrap.bootstrap([System(*random_problem())], generator=generator(), n_resamples=5)
    assert list(resampled.to_dict()) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]
    assert list(bootstrap.intervals(resampled)) == list(resampled.to_dict())


def test_a_system_keeps_the_report_on_the_tracks_as_they_are():
    truth, scores = random_problem(60, 2)
    system = System(truth, scores, decisions=scores > 1, tags=("happy", "sad"))
    expected = metrics.evaluate(truth, scores, decisions=scores > 1, tags=("happy", "sad"))
    assert system.report.to_dict() == expected.to_dict()
    assert system.report.tags == ("happy", "sad")


# ---------------------------------------------------------------- resamples


def test_weights_sum_to_the_tracks_and_are_uniform():
    weights = weights_of(50, 4_000)
    assert weights.shape == (50, 4_000)
    assert (weights.sum(axis=0) == 50).all()
    np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.1)
    np.testing.assert_allclose(weights.var(axis=1), 1 - 1 / 50, atol=0.15)


def test_resamples_do_not_depend_on_the_batch_size():
    one = np.concatenate(list(bootstrap.draw_weights(17, 30, generator(), batch_size=7)), axis=1)
    np.testing.assert_array_equal(one, np.concatenate(list(bootstrap.draw_weights(17, 30, generator())), axis=1))


def test_large_problems_have_smaller_batches_and_the_same_metrics(monkeypatch):
    system = System(*random_problem())
    (whole,) = bootstrap.bootstrap([system], generator=generator(), n_resamples=20)
    monkeypatch.setattr(bootstrap, "MAX_BATCH_WEIGHTS", 3 * 300 * 5)
    monkeypatch.setattr(bootstrap, "BATCH_SEGMENTS", 2)
    sizes = []
    weigh = system.weighted_metrics
    monkeypatch.setattr(system, "weighted_metrics", lambda weights: sizes.append(weights.shape[1]) or weigh(weights))
    (parts,) = bootstrap.bootstrap([system], generator=generator(), n_resamples=20)
    assert sizes == [3] * 6 + [2]
    np.testing.assert_array_equal(whole.macro["PR-AUC"], parts.macro["PR-AUC"])
    np.testing.assert_array_equal(whole.micro["ROC-AUC"], parts.micro["ROC-AUC"])


def test_equal_seeds_give_equal_resamples_and_systems_share_them():
    truth, scores = random_problem()
    one, other = System(truth, scores), System(truth, -scores)
    a, b = bootstrap.bootstrap([one, other], generator=generator(3), n_resamples=10)
    (alone,) = bootstrap.bootstrap([other], generator=generator(3), n_resamples=10)
    (elsewhere,) = bootstrap.bootstrap([other], generator=generator(4), n_resamples=10)
    np.testing.assert_array_equal(b.macro["PR-AUC"], alone.macro["PR-AUC"])
    assert not np.array_equal(b.macro["PR-AUC"], elsewhere.macro["PR-AUC"])
    np.testing.assert_allclose(a.micro["ROC-AUC"] + b.micro["ROC-AUC"], 1, rtol=1e-12)


# ---------------------------------------------------------------- intervals


def test_an_interval_is_centred_on_the_metric():
    (resampled,) = bootstrap.bootstrap([System(*random_problem(share=0.03))], generator=generator(), n_resamples=2_000)
    observed, values = resampled.report.macro["PR-AUC"], resampled.macro["PR-AUC"]
    low, high = bootstrap.intervals(resampled)["PR-AUC-macro"]
    assert values.mean() > observed + 0.003  # an unmoved interval would be too high by that
    centred = values - values.mean() + observed
    assert np.mean((centred >= low) & (centred <= high)) == pytest.approx(0.95, abs=0.001)
    assert np.mean(centred < low) == pytest.approx(0.025, abs=0.001)


def test_intervals_of_tags_are_those_of_their_columns():
    truth, scores = random_problem(200, 3)
    (resampled,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=200)
    for tag in range(3):
        (alone,) = bootstrap.bootstrap(
            [System(truth[:, [tag]], scores[:, [tag]])], generator=generator(), n_resamples=200
        )
        assert bootstrap.tag_intervals(resampled)["ROC-AUC"][tag] == bootstrap.intervals(alone)["ROC-AUC-macro"]


def rare_problem(positives, tracks=300):
    """One tag with a number of positives, and random scores."""
    truth = np.arange(tracks)[:, None] < positives
    return truth, np.random.default_rng(positives).random((tracks, 1))


@pytest.mark.parametrize(
    ("positives", "tracks", "enough"),
    [(1, 4_231, False), (4, 300, False), (296, 300, False), (9, 19, False), (5, 300, True), (295, 300, True)]
)  # fmt: skip
def test_too_few_tracks_have_no_intervals_and_no_p(positives, tracks, enough):
    truth, scores = rare_problem(positives, tracks)
    systems = [System(truth, each, decisions=each > 0.5, tags=("rare",)) for each in (scores, scores[::-1])]
    both = bootstrap.bootstrap(systems, generator=generator(), n_resamples=40)
    assert both[0].rare_tags == (() if enough else ("rare",))
    for intervals in (bootstrap.intervals(both[0]), {k: v[0] for k, v in bootstrap.tag_intervals(both[0]).items()}):
        assert all(np.isfinite(ends).all() == enough == np.isfinite(ends).any() for ends in intervals.values())
    for differences in (bootstrap.compare(*both), {k: v[0] for k, v in bootstrap.compare_tags(*both).items()}):
        for difference in differences.values():
            assert np.isfinite(difference.value)
            assert [np.isnan(end) for end in difference[1:]] == [not enough] * 3


def test_a_rare_tag_does_not_affect_others():
    truth, scores = random_problem(200, 3)
    truth[:, 1] = np.arange(200) < 4
    (resampled,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=20)
    assert resampled.rare_tags == ("1",)
    assert [bool(np.isnan(ends).any()) for ends in bootstrap.tag_intervals(resampled)["PR-AUC"]] == [False, True, False]
    assert np.isfinite(bootstrap.intervals(resampled)["PR-AUC-macro"]).all()
    truth[:, 1] = False  # it has no metrics at all, and is among without_positives
    (resampled,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=20)
    assert resampled.rare_tags == ()


@pytest.mark.slow
@pytest.mark.parametrize("positives", [1, 2, 3, 5, 30])
def test_random_systems_rarely_differ_for_a_tag(positives):
    differences = 0
    for seed in range(60):
        truth, _ = rare_problem(positives)
        systems = [System(truth, each) for each in generator(seed).random((2, 300, 1))]
        both = bootstrap.bootstrap(systems, generator=generator(seed + 999), n_resamples=200)
        differences += bootstrap.compare_tags(*both)["ROC-AUC"][0].p < 0.05
    assert differences <= 60 * 0.12


def test_intervals_are_clipped_to_0_and_1():
    drawn = np.random.default_rng(0)
    cut = 0
    for _ in range(20):
        truth = np.arange(300)[:, None] < 5
        scores = drawn.random((300, 1))
        (resampled,) = bootstrap.bootstrap(
            [System(truth, scores, decisions=scores > 0.95)], generator=generator(), n_resamples=100
        )
        ends = np.array([*bootstrap.intervals(resampled).values()])
        assert ((ends >= 0) & (ends <= 1)).all()
        cut += (ends == 0).sum()
    assert cut
    worst = System(truth, -scores * truth, decisions=scores > 2)
    both = bootstrap.bootstrap([worst, System(truth, truth * 1.0)], generator=generator(), n_resamples=100)
    assert bootstrap.compare(*both)["PR-AUC-macro"].low < -0.5  # a difference is in -1 … 1


@pytest.mark.slow
def test_coverage_of_intervals():
    """Of 50 data sets, about 95 % of the intervals contain the mean of all of them."""
    results = []
    for seed in range(50):
        system = System(*random_problem(800, 6, levels=None, seed=seed, share=0.05))
        (resampled,) = bootstrap.bootstrap([system], generator=generator(seed), n_resamples=300)
        results.append((system.report.macro["PR-AUC"], bootstrap.intervals(resampled)["PR-AUC-macro"]))
    mean = np.mean([value for value, _ in results])
    assert 0.89 <= np.mean([low <= mean <= high for _, (low, high) in results]) <= 0.99


# ---------------------------------------------------------------- paired tests


def compared(*systems, resamples=500):
    return bootstrap.compare(*bootstrap.bootstrap(systems, generator=generator(), n_resamples=resamples))


def test_a_system_does_not_differ_from_itself():
    truth, scores = random_problem()
    for each in compared(System(truth, scores), System(truth, 2 * scores)).values():
        assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_antisymmetric():
    truth, scores = random_problem()
    good, bad = System(truth, scores), System(truth, np.random.default_rng(1).random(truth.shape))
    there, back = compared(good, bad)["PR-AUC-macro"], compared(bad, good)["PR-AUC-macro"]
    assert there.value == pytest.approx(good.report.macro["PR-AUC"] - bad.report.macro["PR-AUC"])
    assert 0 < there.low < there.value < there.high
    assert there.p == pytest.approx(2 / 501)
    assert (back.value, back.p) == (-there.value, there.p)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_a_paired_interval_is_narrower_than_a_single_one():
    truth, scores = random_problem(levels=None)
    near = scores + 0.02 * np.random.default_rng(1).standard_normal(scores.shape)
    both = bootstrap.bootstrap([System(truth, scores), System(truth, near)], generator=generator(), n_resamples=300)
    alone, pair = bootstrap.intervals(both[0])["PR-AUC-macro"], bootstrap.compare(*both)["PR-AUC-macro"]
    assert pair.high - pair.low < (alone.high - alone.low) / 2


def test_only_metrics_of_both_are_compared():
    truth, scores = random_problem()
    resampled = compared(System(truth, scores, decisions=scores > 0.9), System(truth, scores), resamples=5)
    assert list(resampled) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]


def test_tags_are_compared_one_by_one():
    truth, scores = random_problem(300, 3)
    worse = scores.copy()
    worse[:, 1] = np.random.default_rng(1).random(300)
    both = bootstrap.bootstrap([System(truth, scores), System(truth, worse)], generator=generator(), n_resamples=200)
    same, other, last = bootstrap.compare_tags(*both)["ROC-AUC"]
    assert (same.value, same.p, last.p) == (0, 1, 1)
    assert other.low > 0
    assert other.p < 0.05


@pytest.mark.slow
def test_equal_systems_rarely_differ():
    """Two systems of the same quality with independent noise: about 5 % of tests may find a difference."""
    rare = 0
    for seed in range(50):
        truth, _ = random_problem(600, 6, seed=seed, share=0.05)
        drawn = np.random.default_rng(1_000 + seed)
        systems = [System(truth, drawn.standard_normal(truth.shape) + truth) for _ in range(2)]
        rare += compared(*systems, resamples=200)["PR-AUC-macro"].p < 0.05
    assert rare <= 50 * 0.12


# ---------------------------------------------------------------- errors


def test_systems_of_other_tracks_raise():
    systems = [System(*random_problem(30)), System(*random_problem(31))]
    with pytest.raises(ScoresError, match=r"\[30, 31\] tracks"):
        bootstrap.bootstrap(systems, generator=generator())
    with pytest.raises(ScoresError, match="one or more"):
        bootstrap.bootstrap([], generator=generator())
    with pytest.raises(ConfigError, match="resamples=0"):
        bootstrap.bootstrap(systems[:1], generator=generator(), n_resamples=0)


def test_scores_that_are_not_finite_raise():
    with pytest.raises(ScoresError, match="not finite"):
        System(np.eye(2), np.full((2, 2), np.nan))


def test_an_interval_is_a_tuple():
    assert Interval(1.0, 2.0) == (1.0, 2.0)

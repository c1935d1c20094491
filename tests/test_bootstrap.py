"""Resampled numbers are those of scikit-learn on the tracks that were drawn; intervals and tests hold what they say."""

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
    """Truth, scores with many ties, decisions; tags that nobody or everybody has."""
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


# ---------------------------------------------------------------- the numbers of a resample


@settings(max_examples=80)
@given(problems(), st.integers(0, 2**32 - 1))
def test_a_resample_has_the_numbers_of_the_tracks_that_were_drawn(problem, seed):
    truth, scores, decisions = problem
    (found,) = bootstrap.bootstrap(
        [System(truth, scores, decisions=decisions)], generator=generator(seed), n_resamples=3
    )
    weights = weights_of(len(truth), 3, seed)
    for column in range(3):
        drawn = rows(weights, column)
        wanted = metrics.evaluate(truth[drawn], scores[drawn], decisions=decisions[drawn])
        for name in NAMES:
            np.testing.assert_allclose(found.per_tag[name][column], wanted.per_tag[name], rtol=0, atol=1e-12)
            np.testing.assert_allclose(found.macro[name][column], wanted.macro[name], rtol=0, atol=1e-12)
            np.testing.assert_allclose(found.micro[name][column], wanted.micro[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [4, None])
def test_a_resample_has_the_numbers_of_scikit_learn(levels):
    truth, scores = random_problem(400, 4, levels=levels)
    decisions = scores > 0.8
    (found,) = bootstrap.bootstrap([System(truth, scores, decisions=decisions)], generator=generator(), n_resamples=40)
    weights = weights_of(400, 40)
    for column in (0, 13, 39):
        drawn = rows(weights, column)
        t, s, d = truth[drawn], scores[drawn], decisions[drawn]
        for mean in ("macro", "micro"):
            p, r, f, _ = oracle.precision_recall_fscore_support(t, d, average=mean, zero_division=0)
            wanted = {
                "PR-AUC": oracle.average_precision_score(t, s, average=mean),
                "ROC-AUC": oracle.roc_auc_score(t, s, average=mean),
                "F-score": f, "precision": p, "recall": r,
            }  # fmt: skip
            for name, value in wanted.items():
                assert found.to_dict()[f"{name}-{mean}"][column] == pytest.approx(value, rel=0, abs=1e-12)


@pytest.mark.golden
def test_resamples_of_a_published_submission_have_the_numbers_of_scikit_learn(data):
    truth = np.load(data / "mediaeval2019/groundtruth.npy", allow_pickle=False)
    scores = np.load(data / "mediaeval2019/CP-JKU/3_avg_ensemble/predictions.npy", allow_pickle=False)
    (found,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=35)
    weights = weights_of(len(truth), 35)
    for column in (0, 31, 34):  # the first, and both sides of a block
        drawn = rows(weights, column)
        for mean in ("macro", "micro"):
            precision = oracle.average_precision_score(truth[drawn], scores[drawn], average=mean)
            assert found.to_dict()[f"PR-AUC-{mean}"][column] == pytest.approx(precision, rel=0, abs=1e-12)
        roc = oracle.roc_auc_score(truth[drawn], scores[drawn], average="macro")
        assert found.macro["ROC-AUC"][column] == pytest.approx(roc, rel=0, abs=1e-12)


def test_a_tag_that_lost_its_positives_is_left_out_of_that_mean():
    truth = np.zeros((6, 2), bool)
    truth[0, 0] = truth[:3, 1] = True
    scores = np.linspace(0, 1, 12).reshape(6, 2)
    (found,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=200)
    lost = np.isnan(found.per_tag["PR-AUC"][:, 0]) & ~np.isnan(found.per_tag["PR-AUC"][:, 1])
    assert 0 < lost.sum() < 200
    np.testing.assert_array_equal(found.macro["PR-AUC"][lost], found.per_tag["PR-AUC"][lost, 1])


def test_a_tag_without_positives_is_nan_throughout():
    truth, scores = random_problem(50, 2)
    truth[:, 1] = False
    (found,) = bootstrap.bootstrap([System(truth, scores, decisions=scores > 1)], generator=generator(), n_resamples=20)
    assert all(np.isnan(found.per_tag[name][:, 1]).all() for name in NAMES)
    assert np.isnan(bootstrap.tag_intervals(found)["PR-AUC"][1]).all()
    assert np.isfinite(bootstrap.intervals(found)["PR-AUC-macro"]).all()


def test_without_decisions_there_are_the_four_areas():
    (found,) = bootstrap.bootstrap([System(*random_problem())], generator=generator(), n_resamples=5)
    assert list(found.to_dict()) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]
    assert list(bootstrap.intervals(found)) == list(found.to_dict())


def test_a_system_keeps_the_report_on_the_tracks_as_they_are():
    truth, scores = random_problem(60, 2)
    system = System(truth, scores, decisions=scores > 1, tags=("happy", "sad"))
    wanted = metrics.evaluate(truth, scores, decisions=scores > 1, tags=("happy", "sad"))
    assert system.report.to_dict() == wanted.to_dict()
    assert system.report.tags == ("happy", "sad")


# ---------------------------------------------------------------- resamples


def test_a_resample_has_as_many_tracks_as_there_are_and_every_track_the_same_chance():
    weights = weights_of(50, 4_000)
    assert weights.shape == (50, 4_000)
    assert (weights.sum(axis=0) == 50).all()
    np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.1)
    np.testing.assert_allclose(weights.var(axis=1), 1 - 1 / 50, atol=0.15)


def test_resamples_do_not_depend_on_how_many_are_drawn_together():
    one = np.concatenate(list(bootstrap.draw_weights(17, 30, generator(), batch_size=7)), axis=1)
    np.testing.assert_array_equal(one, np.concatenate(list(bootstrap.draw_weights(17, 30, generator())), axis=1))


def test_large_problems_are_weighed_in_smaller_blocks_with_the_same_numbers(monkeypatch):
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


def test_an_interval_lies_around_the_number_itself():
    (found,) = bootstrap.bootstrap([System(*random_problem(share=0.03))], generator=generator(), n_resamples=2_000)
    observed, values = found.report.macro["PR-AUC"], found.macro["PR-AUC"]
    low, high = bootstrap.intervals(found)["PR-AUC-macro"]
    assert values.mean() > observed + 0.003  # resamples flatter; an unmoved interval would be off by that
    centred = values - values.mean() + observed
    assert np.mean((centred >= low) & (centred <= high)) == pytest.approx(0.95, abs=0.001)
    assert np.mean(centred < low) == pytest.approx(0.025, abs=0.001)


def test_intervals_of_tags_are_those_of_their_columns():
    truth, scores = random_problem(200, 3)
    (found,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=200)
    for tag in range(3):
        (alone,) = bootstrap.bootstrap(
            [System(truth[:, [tag]], scores[:, [tag]])], generator=generator(), n_resamples=200
        )
        assert bootstrap.tag_intervals(found)["ROC-AUC"][tag] == bootstrap.intervals(alone)["ROC-AUC-macro"]


def rare_problem(positives, tracks=300):
    """One tag with so many positives, and a system that knows nothing."""
    truth = np.arange(tracks)[:, None] < positives
    return truth, np.random.default_rng(positives).random((tracks, 1))


@pytest.mark.parametrize(
    ("positives", "tracks", "enough"),
    [(1, 4_231, False), (4, 300, False), (296, 300, False), (9, 19, False), (5, 300, True), (295, 300, True)]
)  # fmt: skip
def test_on_too_few_tracks_there_are_no_intervals_and_no_p(positives, tracks, enough):
    truth, scores = rare_problem(positives, tracks)
    systems = [System(truth, each, decisions=each > 0.5, tags=("rare",)) for each in (scores, scores[::-1])]
    both = bootstrap.bootstrap(systems, generator=generator(), n_resamples=40)
    assert both[0].rare_tags == (() if enough else ("rare",))
    for found in (bootstrap.intervals(both[0]), {k: v[0] for k, v in bootstrap.tag_intervals(both[0]).items()}):
        assert all(np.isfinite(ends).all() == enough == np.isfinite(ends).any() for ends in found.values())
    for found in (bootstrap.compare(*both), {k: v[0] for k, v in bootstrap.compare_tags(*both).items()}):
        for each in found.values():
            assert np.isfinite(each.value)
            assert [np.isnan(end) for end in each[1:]] == [not enough] * 3


def test_a_rare_tag_takes_nothing_from_the_others():
    truth, scores = random_problem(200, 3)
    truth[:, 1] = np.arange(200) < 4
    (found,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=20)
    assert found.rare_tags == ("1",)
    assert [bool(np.isnan(ends).any()) for ends in bootstrap.tag_intervals(found)["PR-AUC"]] == [False, True, False]
    assert np.isfinite(bootstrap.intervals(found)["PR-AUC-macro"]).all()
    truth[:, 1] = False  # which has no numbers at all, and is named as undefined
    (found,) = bootstrap.bootstrap([System(truth, scores)], generator=generator(), n_resamples=20)
    assert found.rare_tags == ()


@pytest.mark.slow
@pytest.mark.parametrize("positives", [1, 2, 3, 5, 30])
def test_systems_that_know_nothing_rarely_differ_for_any_tag(positives):
    found = 0
    for seed in range(60):
        truth, _ = rare_problem(positives)
        systems = [System(truth, each) for each in generator(seed).random((2, 300, 1))]
        both = bootstrap.bootstrap(systems, generator=generator(seed + 999), n_resamples=200)
        found += bootstrap.compare_tags(*both)["ROC-AUC"][0].p < 0.05
    assert found <= 60 * 0.12


def test_an_interval_is_cut_at_the_ends_of_its_number():
    drawn = np.random.default_rng(0)
    cut = 0
    for _ in range(20):
        truth = np.arange(300)[:, None] < 5
        scores = drawn.random((300, 1))
        (found,) = bootstrap.bootstrap(
            [System(truth, scores, decisions=scores > 0.95)], generator=generator(), n_resamples=100
        )
        ends = np.array([*bootstrap.intervals(found).values()])
        assert ((ends >= 0) & (ends <= 1)).all()
        cut += (ends == 0).sum()
    assert cut
    worst = System(truth, -scores * truth, decisions=scores > 2)
    both = bootstrap.bootstrap([worst, System(truth, truth * 1.0)], generator=generator(), n_resamples=100)
    assert bootstrap.compare(*both)["PR-AUC-macro"].low < -0.5  # a difference has its own ends


@pytest.mark.slow
def test_intervals_hold_the_expected_number_of_other_tracks():
    """Of 50 data sets, about 95 % of the intervals hold the mean of all of them."""
    found = []
    for seed in range(50):
        system = System(*random_problem(800, 6, levels=None, seed=seed, share=0.05))
        (resampled,) = bootstrap.bootstrap([system], generator=generator(seed), n_resamples=300)
        found.append((system.report.macro["PR-AUC"], bootstrap.intervals(resampled)["PR-AUC-macro"]))
    mean = np.mean([value for value, _ in found])
    assert 0.89 <= np.mean([low <= mean <= high for _, (low, high) in found]) <= 0.99


# ---------------------------------------------------------------- paired tests


def compared(*systems, resamples=500):
    return bootstrap.compare(*bootstrap.bootstrap(systems, generator=generator(), n_resamples=resamples))


def test_a_system_does_not_differ_from_itself():
    truth, scores = random_problem()
    for each in compared(System(truth, scores), System(truth, 2 * scores)).values():
        assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_seen_from_both_sides():
    truth, scores = random_problem()
    good, bad = System(truth, scores), System(truth, np.random.default_rng(1).random(truth.shape))
    there, back = compared(good, bad)["PR-AUC-macro"], compared(bad, good)["PR-AUC-macro"]
    assert there.value == pytest.approx(good.report.macro["PR-AUC"] - bad.report.macro["PR-AUC"])
    assert 0 < there.low < there.value < there.high
    assert there.p == pytest.approx(2 / 501)
    assert (back.value, back.p) == (-there.value, there.p)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_pairs_are_surer_than_two_intervals():
    truth, scores = random_problem(levels=None)
    near = scores + 0.02 * np.random.default_rng(1).standard_normal(scores.shape)
    both = bootstrap.bootstrap([System(truth, scores), System(truth, near)], generator=generator(), n_resamples=300)
    alone, pair = bootstrap.intervals(both[0])["PR-AUC-macro"], bootstrap.compare(*both)["PR-AUC-macro"]
    assert pair.high - pair.low < (alone.high - alone.low) / 2


def test_only_numbers_that_both_have_are_compared():
    truth, scores = random_problem()
    found = compared(System(truth, scores, decisions=scores > 0.9), System(truth, scores), resamples=5)
    assert list(found) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]


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
def test_equal_systems_rarely_look_different():
    """Two systems with the same skill and independent noise: about 5 % of tests may say that they differ."""
    rare = 0
    for seed in range(50):
        truth, _ = random_problem(600, 6, seed=seed, share=0.05)
        drawn = np.random.default_rng(1_000 + seed)
        systems = [System(truth, drawn.standard_normal(truth.shape) + truth) for _ in range(2)]
        rare += compared(*systems, resamples=200)["PR-AUC-macro"].p < 0.05
    assert rare <= 50 * 0.12


# ---------------------------------------------------------------- refusals


def test_systems_that_judged_other_tracks_are_refused():
    systems = [System(*random_problem(30)), System(*random_problem(31))]
    with pytest.raises(ScoresError, match=r"\[30, 31\] tracks"):
        bootstrap.bootstrap(systems, generator=generator())
    with pytest.raises(ScoresError, match="one or more"):
        bootstrap.bootstrap([], generator=generator())
    with pytest.raises(ConfigError, match="resamples=0"):
        bootstrap.bootstrap(systems[:1], generator=generator(), n_resamples=0)


def test_scores_that_cannot_be_ranked_are_refused():
    with pytest.raises(ScoresError, match="not finite"):
        System(np.eye(2), np.full((2, 2), np.nan))


def test_an_interval_has_two_ends():
    assert Interval(1.0, 2.0) == (1.0, 2.0)

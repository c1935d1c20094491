"""Ensembles: means against SciPy, greedy selection against its paper, and published predictions."""

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import ensemble, metrics

AVERAGES = ("scores", "logits", "ranks")


def systems(count=3, tracks=60, tags=3, seed=0):
    """Truth, and members of decreasing quality."""
    drawn = np.random.default_rng(seed)
    truth = drawn.random((tracks, tags)) < 0.3
    members = [special.expit(drawn.standard_normal(truth.shape) + (2 - n) * truth) for n in range(count)]
    return truth, members


def macro(truth, scores):
    return metrics.evaluate(truth, scores).macro["PR-AUC"]


# ---------------------------------------------------------------- means


def test_mean_of_scores():
    _, members = systems()
    np.testing.assert_allclose(ensemble.mean(members), np.mean(members, axis=0), rtol=1e-14)
    weighted = ensemble.mean(members, weights=(1.0, 2.0, 5.0))
    np.testing.assert_allclose(weighted, np.average(members, axis=0, weights=(1.0, 2.0, 5.0)), rtol=1e-14)


@pytest.mark.parametrize("average", AVERAGES)
def test_a_mean_of_equal_members_is_not_rounded_beyond_them(average):
    member = np.array([[0.0, 0.1], [0.3, 0.7], [1.0, 1.0]])
    for count in (2, 9, 11, 18, 49):  # of which some sum to more than 1 after rounding
        for weights in (None, np.random.default_rng(count).random(count).tolist()):
            result = ensemble.mean([member] * count, weights=weights, average=average)
            np.testing.assert_array_equal(result.clip(0, 1), result)
            if average == "scores":
                np.testing.assert_array_equal(result, member)


def test_mean_of_logits():
    _, members = systems()
    wanted = special.expit(np.average(special.logit(members), axis=0, weights=(3.0, 0.0, 1.0)))
    np.testing.assert_allclose(ensemble.mean(members, weights=(3.0, 0.0, 1.0), average="logits"), wanted, rtol=1e-12)


def test_mean_of_ranks_against_scipy():
    _, members = systems()
    members = [np.round(each, 1) for each in members]  # with ties
    wanted = np.mean([(stats.rankdata(each, axis=0) - 1) / 59 for each in members], axis=0)
    np.testing.assert_allclose(ensemble.mean(members, average="ranks"), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("average", AVERAGES)
def test_an_ensemble_of_one_has_the_ranking_of_its_member(average):
    _, (member, *_) = systems()
    np.testing.assert_array_equal(
        stats.rankdata(ensemble.mean([member], average=average), axis=0), stats.rankdata(member, axis=0)
    )


@given(
    arrays.arrays(np.float64, (3, 4, 2), elements=st.floats(0, 1)),
    st.lists(st.floats(0, 9, allow_subnormal=False), min_size=3, max_size=3).filter(lambda weights: sum(weights) > 0.1),
    st.sampled_from(AVERAGES),
)
def test_a_mean_lies_between_its_members(members, weights, average):
    result = ensemble.mean(list(members), weights=weights, average=average)
    assert result.dtype == np.float64
    assert np.isfinite(result).all()
    if average != "ranks":
        assert (result >= members.min(axis=0) - 2e-9).all()
        assert (result <= members.max(axis=0) + 2e-9).all()
    np.testing.assert_allclose(
        ensemble.mean(list(members[::-1]), weights=weights[::-1], average=average), result, atol=1e-12
    )


def test_boolean_and_single_precision_members_are_taken():
    member = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(ensemble.mean([member, np.float32([[0, 0], [1, 1]])]), [[0.5, 0], [0.5, 1]])


# ---------------------------------------------------------------- greedy selection


def select_by_hand(truth, members, rounds):
    """Greedy selection, written as in the paper of the method."""
    drawn, best, kept = [], -1.0, []
    for _ in range(rounds):
        result = [macro(truth, np.mean([members[i] for i in [*drawn, n]], axis=0)) for n in range(len(members))]
        drawn.append(int(np.argmax(result)))
        if max(result) > best + 1e-12:
            best, kept = max(result), list(drawn)
    return kept, best


@pytest.mark.parametrize("seed", range(4))
def test_greedy_selection_against_its_paper(seed):
    truth, members = systems(4, seed=seed)
    result = ensemble.greedy_selection(truth, members, n_rounds=12)
    kept, best = select_by_hand(truth, members, 12)
    assert list(result.selected) == kept
    assert result.score == pytest.approx(best, abs=1e-12)
    assert result.weights == pytest.approx([kept.count(n) / len(kept) for n in range(4)])
    assert macro(truth, ensemble.mean(members, weights=result.weights)) == pytest.approx(result.score, abs=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_a_selection_is_at_least_as_good_as_the_best_member(average):
    truth, members = systems(3, seed=5)
    result = ensemble.greedy_selection(truth, members, n_rounds=8, average=average)
    assert result.score >= max(macro(truth, each) for each in members)
    assert result == ensemble.greedy_selection(truth, members, n_rounds=8, average=average)


def test_noise_is_not_selected_and_of_equals_the_first_is():
    truth, (good, *_) = systems(1)
    noise = np.random.default_rng(1).random(good.shape)
    assert ensemble.greedy_selection(truth, [noise, good, good], n_rounds=1).weights == (0, 1, 0)
    assert ensemble.greedy_selection(truth, [truth * 1.0, noise], n_rounds=5).selected == (
        0,
    )  # perfect at once: nothing is better


@pytest.mark.golden
def test_ensembles_of_published_systems_beat_the_best_of_2019(data):
    """CP-JKU's ensemble and any of the four networks of 2021, each half."""
    truth = np.load(data / "mediaeval2019/groundtruth.npy", allow_pickle=False)
    best = np.load(data / "mediaeval2019/CP-JKU/3_avg_ensemble/predictions.npy", allow_pickle=False)
    for path in sorted((data / "lileonardo2021").glob("*/test-last-swa-outputs.npy")):
        other = np.load(path, allow_pickle=False)
        assert macro(truth, ensemble.mean([best, other])) > max(0.154609, macro(truth, other))


# ---------------------------------------------------------------- errors


def test_members_that_cannot_be_averaged_raise():
    member = np.full((3, 2), 0.5)
    with pytest.raises(ScoresError, match="at least one system"):
        ensemble.mean([])
    with pytest.raises(ScoresError, match="system 2"):
        ensemble.mean([member, member[:2]])
    with pytest.raises(ScoresError, match=r"system 2.*finite"):
        ensemble.mean([member, member * np.nan])
    with pytest.raises(ScoresError, match=r"6 scores.*logit"):
        ensemble.mean([member + 1], average="logits")
    for weights in ((1.0,), (2.0, -1.0), (0.0, 0.0), (1.0, np.nan)):
        with pytest.raises(ConfigError, match="for 2 systems"):
            ensemble.mean([member, member], weights=weights)
    with pytest.raises(ConfigError, match="rounds=0"):
        ensemble.greedy_selection(member > 0, [member], n_rounds=0)
    with pytest.raises(ScoresError, match="no positives for any tag"):
        ensemble.greedy_selection(member > 1, [member])


def test_tags_without_positives_are_ignored():
    truth, members = systems(2)
    result = ensemble.greedy_selection(truth & [True, False, True], members, n_rounds=6)
    assert result == ensemble.greedy_selection(truth[:, [0, 2]], [each[:, [0, 2]] for each in members], n_rounds=6)


def test_an_unknown_average_raises(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are checked in tests only
    with pytest.raises(ConfigError, match="'mode'"):
        ensemble.mean([np.zeros((2, 1))], average="mode")

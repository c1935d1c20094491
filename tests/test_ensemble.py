"""Means of three kinds, and weights chosen greedily: by hand, against SciPy, and on published predictions."""

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import ensemble, metrics

KINDS = ("scores", "logits", "ranks")


def systems(count=3, tracks=60, tags=3, seed=0):
    """Truth, and members of which the later ones know less."""
    drawn = np.random.default_rng(seed)
    truth = drawn.random((tracks, tags)) < 0.3
    members = [special.expit(drawn.standard_normal(truth.shape) + (2 - n) * truth) for n in range(count)]
    return truth, members


def macro(truth, scores):
    return metrics.evaluate(truth, scores).macro["PR-AUC"]


# ---------------------------------------------------------------- means


def test_scores_are_averaged_as_they_are():
    _, members = systems()
    np.testing.assert_allclose(ensemble.mean(members), np.mean(members, axis=0), rtol=1e-14)
    weighted = ensemble.mean(members, weights=(1.0, 2.0, 5.0))
    np.testing.assert_allclose(weighted, np.average(members, axis=0, weights=(1.0, 2.0, 5.0)), rtol=1e-14)


@pytest.mark.parametrize("of", KINDS)
def test_a_mean_never_leaves_the_range_of_its_members(of):
    member = np.array([[0.0, 0.1], [0.3, 0.7], [1.0, 1.0]])
    for count in (2, 9, 11, 18, 49):  # of which some sum to more than 1 after rounding
        for weights in (None, np.random.default_rng(count).random(count).tolist()):
            found = ensemble.mean([member] * count, weights=weights, average=of)
            np.testing.assert_array_equal(found.clip(0, 1), found)
            if of == "scores":
                np.testing.assert_array_equal(found, member)


def test_logits_are_averaged_before_the_sigmoid():
    _, members = systems()
    wanted = special.expit(np.average(special.logit(members), axis=0, weights=(3.0, 0.0, 1.0)))
    np.testing.assert_allclose(ensemble.mean(members, weights=(3.0, 0.0, 1.0), average="logits"), wanted, rtol=1e-12)


def test_ranks_are_those_of_scipy_within_each_tag():
    _, members = systems()
    members = [np.round(each, 1) for each in members]  # with ties
    wanted = np.mean([(stats.rankdata(each, axis=0) - 1) / 59 for each in members], axis=0)
    np.testing.assert_allclose(ensemble.mean(members, average="ranks"), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("of", KINDS)
def test_an_ensemble_of_one_ranks_as_its_member_does(of):
    _, (member, *_) = systems()
    np.testing.assert_array_equal(
        stats.rankdata(ensemble.mean([member], average=of), axis=0), stats.rankdata(member, axis=0)
    )


@given(
    arrays.arrays(np.float64, (3, 4, 2), elements=st.floats(0, 1)),
    st.lists(st.floats(0, 9, allow_subnormal=False), min_size=3, max_size=3).filter(lambda weights: sum(weights) > 0.1),
    st.sampled_from(KINDS),
)
def test_a_mean_lies_between_its_members_whatever_they_are(members, weights, of):
    found = ensemble.mean(list(members), weights=weights, average=of)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    if of != "ranks":
        assert (found >= members.min(axis=0) - 2e-9).all()
        assert (found <= members.max(axis=0) + 2e-9).all()
    np.testing.assert_allclose(ensemble.mean(list(members[::-1]), weights=weights[::-1], average=of), found, atol=1e-12)


def test_boolean_and_single_precision_members_are_taken():
    member = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(ensemble.mean([member, np.float32([[0, 0], [1, 1]])]), [[0.5, 0], [0.5, 1]])


# ---------------------------------------------------------------- greedy selection


def by_hand(truth, members, rounds):
    """The same, written as the paper of the method tells it."""
    drawn, best, kept = [], -1.0, []
    for _ in range(rounds):
        found = [macro(truth, np.mean([members[i] for i in [*drawn, n]], axis=0)) for n in range(len(members))]
        drawn.append(int(np.argmax(found)))
        if max(found) > best + 1e-12:
            best, kept = max(found), list(drawn)
    return kept, best


@pytest.mark.parametrize("seed", range(4))
def test_greedy_selection_is_that_of_the_paper(seed):
    truth, members = systems(4, seed=seed)
    found = ensemble.greedy_selection(truth, members, n_rounds=12)
    kept, best = by_hand(truth, members, 12)
    assert list(found.selected) == kept
    assert found.score == pytest.approx(best, abs=1e-12)
    assert found.weights == pytest.approx([kept.count(n) / len(kept) for n in range(4)])
    assert macro(truth, ensemble.mean(members, weights=found.weights)) == pytest.approx(found.score, abs=1e-12)


@pytest.mark.parametrize("of", KINDS)
def test_selection_is_never_worse_than_the_best_member_on_the_data_it_was_made_on(of):
    truth, members = systems(3, seed=5)
    found = ensemble.greedy_selection(truth, members, n_rounds=8, average=of)
    assert found.score >= max(macro(truth, each) for each in members)
    assert found == ensemble.greedy_selection(truth, members, n_rounds=8, average=of)


def test_a_member_that_knows_nothing_is_not_drawn_and_of_equals_the_first_is():
    truth, (good, *_) = systems(1)
    noise = np.random.default_rng(1).random(good.shape)
    assert ensemble.greedy_selection(truth, [noise, good, good], n_rounds=1).weights == (0, 1, 0)
    assert ensemble.greedy_selection(truth, [truth * 1.0, noise], n_rounds=5).selected == (
        0,
    )  # perfect at once: nothing is better


@pytest.mark.golden
def test_published_systems_together_pass_the_best_of_2019(data):
    """CP-JKU's ensemble and any of the four networks of 2021, each half."""
    truth = np.load(data / "mediaeval2019/groundtruth.npy", allow_pickle=False)
    best = np.load(data / "mediaeval2019/CP-JKU/3_avg_ensemble/predictions.npy", allow_pickle=False)
    for path in sorted((data / "lileonardo2021").glob("*/test-last-swa-outputs.npy")):
        other = np.load(path, allow_pickle=False)
        assert macro(truth, ensemble.mean([best, other])) > max(0.154609, macro(truth, other))


# ---------------------------------------------------------------- refusals


def test_what_cannot_be_averaged_is_refused():
    member = np.full((3, 2), 0.5)
    with pytest.raises(ScoresError, match="at least one system"):
        ensemble.mean([])
    with pytest.raises(ScoresError, match=r"scores of system 2 came as float64 of shape \(2, 2\)"):
        ensemble.mean([member, member[:2]])
    with pytest.raises(ScoresError, match=r"scores of system 2.*not finite"):
        ensemble.mean([member, member * np.nan])
    with pytest.raises(ScoresError, match="6 scores are outside 0 … 1 and have no logit"):
        ensemble.mean([member + 1], average="logits")
    for weights in ((1.0,), (2.0, -1.0), (0.0, 0.0), (1.0, np.nan)):
        with pytest.raises(ConfigError, match="for 2 systems"):
            ensemble.mean([member, member], weights=weights)
    with pytest.raises(ConfigError, match="rounds=0"):
        ensemble.greedy_selection(member > 0, [member], n_rounds=0)
    with pytest.raises(ScoresError, match="no positives for any tag"):
        ensemble.greedy_selection(member > 1, [member])


def test_tags_without_positives_do_not_count():
    truth, members = systems(2)
    found = ensemble.greedy_selection(truth & [True, False, True], members, n_rounds=6)
    assert found == ensemble.greedy_selection(truth[:, [0, 2]], [each[:, [0, 2]] for each in members], n_rounds=6)


def test_an_unknown_kind_of_mean_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests, where types are not checked
    with pytest.raises(ConfigError, match="of='mode' is unknown; average scores, logits, ranks"):
        ensemble.mean([np.zeros((2, 1))], average="mode")

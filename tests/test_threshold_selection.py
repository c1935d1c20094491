"""Thresholds selected without truth, and statistics of decisions."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from moodfield import calibration
from moodfield.evaluation import metrics, threshold_selection


def scores_of(n_tracks: int, n_tags: int, seed: int = 0) -> np.ndarray:
    """Scores of correlated tags, some of which are high everywhere."""
    generator = np.random.default_rng(seed)
    factors = generator.normal(0, 1.5, (n_tracks, 6)) @ generator.normal(0, 1, (6, n_tags))
    return calibration.sigmoid(factors + generator.normal(-2, 1, n_tags))


def test_agreement_statistics():
    teacher = scores_of(60, 30)
    student = calibration.sigmoid(calibration.logit(teacher) + np.random.default_rng(1).normal(0, 0.3, teacher.shape))
    decided = teacher > np.quantile(teacher, 0.8, axis=0)
    decided[:, :4] = teacher[:, :4] >= np.sort(teacher[:, :4], axis=0)[-np.array([1, 4, 5, 6]), np.arange(4)]
    priors = teacher.mean(axis=0).tolist()
    statistics = threshold_selection.agreement_statistics(teacher, student, decided, priors=priors)
    ranks = [threshold_selection.rank_tags(scores, priors) < 5 for scores in (teacher, student)]
    assert (
        statistics["shared by the five tags with the largest evidence of teacher and student"]
        == (ranks[0] & ranks[1]).sum(axis=1).mean()
        > 3
    )
    constant = statistics["the same if the student had the same five for every track"]
    assert constant == pytest.approx(np.sort(ranks[0].mean(axis=0))[-5:].sum())
    assert constant < statistics["shared by the five tags with the largest evidence of teacher and student"]
    assert statistics["tags that the teacher decides for 5 tracks or more"] == 28
    areas = [average_precision_score(decided[:, tag], student[:, tag]) for tag in range(2, 30)]
    assert statistics["PR-AUC against the teacher's decisions, mean over these tags"] == pytest.approx(np.mean(areas))
    assert statistics["PR-AUC against the teacher's decisions, worst of these tags"] == pytest.approx(min(areas))
    none = threshold_selection.agreement_statistics(teacher, student, np.zeros_like(decided), priors=priors)
    assert none.keys() == {name for name in statistics if "decisions" not in name and "decides" not in name}


@pytest.mark.parametrize("seed", range(3))
def test_most_tracks_get_a_few_tags_and_no_tag_a_whole_group(seed):
    scores, groups = scores_of(300, 40, seed), np.repeat(["games", "songs"], [200, 100])
    priors = np.random.default_rng(seed).uniform(0.01, 0.2, 40)
    decided = scores > threshold_selection.select_thresholds(scores, priors=priors.tolist(), groups=groups)
    counts = decided.sum(axis=1)
    assert ((counts >= 1) & (counts <= threshold_selection.MAX_FREE_TAGS)).mean() > 0.7
    assert (counts == 0).mean() < 0.1
    assert decided.any(axis=0).all(), "every tag is used"
    for group in np.unique(groups):
        assert decided[groups == group].mean(axis=0).max() <= threshold_selection.MAX_SHARE
    evidence = calibration.logit(scores) - calibration.logit(priors)
    ranks = np.argsort(np.argsort(-evidence, axis=1), axis=1)
    assert ranks[decided].mean() < 8, "by chance it is 19.5"
    equal_priors = scores > threshold_selection.select_thresholds(
        scores, priors=np.full(40, 0.1).tolist(), groups=groups
    )
    assert (equal_priors != decided).any(), "the ranks depend on the priors"


def test_thresholds_are_never_below_priors():
    scores = scores_of(300, 40)
    priors = np.quantile(scores, 0.97, axis=0)  # of every tag only nine tracks are above them
    decided = scores > threshold_selection.select_thresholds(scores, priors=priors.tolist())
    assert decided.any(axis=0).all()
    assert (scores > priors)[decided].all()


def test_a_tag_is_not_common_in_a_group():
    scores = scores_of(200, 20)
    groups = np.arange(200) < 40
    scores[groups, 3] = np.linspace(0.9, 0.99, 40)  # everywhere in the small group
    without, within = (scores > threshold_selection.select_thresholds(scores, groups=value) for value in (None, groups))
    assert without[groups, 3].mean() > threshold_selection.MAX_SHARE
    assert within[groups, 3].mean() <= threshold_selection.MAX_SHARE


def test_a_group_of_two_tracks_gets_tags_and_constant_scores_do_not():
    scores = scores_of(60, 12)
    scores[:, 0] = 0.5
    decided = scores > threshold_selection.select_thresholds(scores, groups=np.arange(60) < 2)
    assert decided[:2].any()
    assert not decided[:, 0].any()


@pytest.mark.parametrize("seed", range(3))
def test_counts_stay_near_the_reference(seed):
    teacher, groups = scores_of(300, 40, seed), np.arange(300) < 100
    noise = np.random.default_rng(seed).normal(0, 0.5, teacher.shape)
    student = calibration.sigmoid(calibration.logit(teacher) + noise)
    reference = metrics.decide(teacher, threshold_selection.select_thresholds(teacher, groups=groups))
    alone, near = (
        metrics.decide(student, threshold_selection.select_thresholds(student, groups=groups, reference=like))
        for like in (None, reference)
    )
    assert (
        threshold_selection.jaccard(reference, near).mean() > threshold_selection.jaccard(reference, alone).mean() + 0.1
    )
    counts, own = reference.sum(axis=0), near.sum(axis=0)
    assert (own <= np.ceil(counts * threshold_selection.MAX_COUNT_RATIO)).all()
    order, least = np.argsort(-student, axis=0), np.ceil(threshold_selection.MIN_SHARE * 300)
    shares = [
        np.cumsum(group[order], axis=0) <= threshold_selection.MAX_SHARE * group.sum() for group in (groups, ~groups)
    ]
    allowed = np.logical_and(*shares).sum(axis=0)  # before a tag is common in a group
    assert (own >= np.maximum(np.floor(np.minimum(counts, allowed) / threshold_selection.MAX_COUNT_RATIO), least)).all()
    for group in (groups, ~groups):
        assert near[group].mean(axis=0).max() <= threshold_selection.MAX_SHARE


def test_jaccard():
    a = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    b = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_allclose(threshold_selection.jaccard(a, b), [1 / 3, 1, 1, 0])


def test_rank_by_agreement():
    reference = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    decided = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]], bool)
    scores = np.random.default_rng(0).uniform(0.1, 0.9, (5, 3))
    student = scores.copy()
    student[2] = 1 - scores[2]  # neither decides a tag, and scores differ
    order = threshold_selection.rank_by_agreement(scores, student, reference, decided)
    assert order.tolist()[:3] == [3, 2, 1], "both of two; none of none; one of two"
    assert set(order.tolist()[3:]) == {0, 4}

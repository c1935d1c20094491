"""Agreement of scores and decisions, and statistics of decisions."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from moodfield import calibration
from moodfield.evaluation import agreement


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
    evidence = [calibration.logit(scores) - calibration.logit(teacher.mean(axis=0)) for scores in (teacher, student)]
    statistics = agreement.agreement_statistics(*evidence, decided)
    ranks = [values >= np.sort(values, axis=1)[:, -5:-4] for values in evidence]
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
    none = agreement.agreement_statistics(*evidence, np.zeros_like(decided))
    assert none.keys() == {name for name in statistics if "decisions" not in name and "decides" not in name}


def test_jaccard():
    a = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
    b = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_allclose(agreement.jaccard(a, b), [1 / 3, 1, 1, 0])


def test_rank_by_agreement():
    reference = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    decided = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]], bool)
    scores = np.random.default_rng(0).uniform(0.1, 0.9, (5, 3))
    student = scores.copy()
    student[2] = 1 - scores[2]  # neither decides a tag, and scores differ
    order = agreement.rank_by_agreement(scores, student, reference, decided)
    assert order.tolist()[:3] == [3, 2, 1], "both of two; none of none; one of two"
    assert set(order.tolist()[3:]) == {0, 4}

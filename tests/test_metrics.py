"""Metrics and thresholds against scikit-learn, SciPy and the published results, with ties."""

import csv
import warnings
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn import metrics as oracle

from moodfield.errors import ConfigError, ScoresError
from moodfield.evaluation import metrics

OFFICIAL = (
    "PR-AUC-macro ROC-AUC-macro F-score-macro precision-macro recall-macro "
    "PR-AUC-micro ROC-AUC-micro F-score-micro precision-micro recall-micro"
).split()
SUBMISSIONS = ("1_shakefaresnet", "2_faresnet", "3_avg_ensemble", "4_crnn", "5_resnet34")

TIED = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
ANY = st.one_of(TIED, st.floats(allow_nan=False, allow_infinity=False))
SINGLE = st.one_of(TIED, st.floats(width=32, allow_nan=False, allow_infinity=False))


@st.composite
def problems(draw, values=ANY):
    """Truth and scores, with many ties, constant columns and tags without positives or negatives."""
    shape = draw(st.tuples(st.integers(1, 25), st.integers(1, 4)))
    truth = draw(arrays.arrays(bool, shape))
    scores = draw(arrays.arrays(np.float32 if values is SINGLE else np.float64, shape, elements=values))
    return truth, scores


def random_problem(tracks: int, tags: int, *, levels: int):
    generator = np.random.default_rng(7)
    truth = generator.random((tracks, tags)) < 0.1
    scores = (generator.integers(0, levels, (tracks, tags)) + levels // 4 * truth) / levels
    return truth, scores


def f_by_hand(truth: np.ndarray, decisions: np.ndarray) -> float:
    return oracle.f1_score(truth, decisions, zero_division=0)


# ---------------------------------------------------------------- areas


@settings(deadline=None)
@given(problems())
def test_average_precision_against_scikit_learn(problem):
    truth, scores = problem
    result = metrics.average_precision(truth, scores)
    for tag, value in enumerate(result):
        if truth[:, tag].any():
            expected = oracle.average_precision_score(truth[:, tag], scores[:, tag])
            assert value == pytest.approx(expected, rel=0, abs=1e-12)
        else:
            assert np.isnan(value)


@settings(deadline=None)
@given(problems(SINGLE))
def test_roc_auc_against_scikit_learn(problem):
    truth, scores = problem
    result = metrics.roc_auc(truth, scores)
    for tag, value in enumerate(result):
        if truth[:, tag].any() and not truth[:, tag].all():
            expected = oracle.roc_auc_score(truth[:, tag], scores[:, tag])
            assert value == pytest.approx(expected, rel=0, abs=1e-12)
        else:
            assert np.isnan(value)


@pytest.mark.parametrize("levels", [3, 1000, 10**9])
def test_areas_of_many_tracks(levels):
    truth, scores = random_problem(20_000, 5, levels=levels)
    precision = [oracle.average_precision_score(truth[:, tag], scores[:, tag]) for tag in range(5)]
    roc = [oracle.roc_auc_score(truth[:, tag], scores[:, tag]) for tag in range(5)]
    np.testing.assert_allclose(metrics.average_precision(truth, scores), precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(metrics.roc_auc(truth, scores), roc, rtol=0, atol=1e-12)


def test_areas_of_constant_scores():
    truth = np.array([[1], [0], [0], [0]])
    assert metrics.average_precision(truth, np.full((4, 1), 0.3))[0] == 0.25
    assert metrics.roc_auc(truth, np.full((4, 1), 0.3))[0] == 0.5


def test_the_order_of_tracks_does_not_matter():
    truth, scores = random_problem(500, 3, levels=20)
    turn = np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(metrics.roc_auc(truth, scores), metrics.roc_auc(truth[turn], scores[turn]))
    np.testing.assert_allclose(
        metrics.average_precision(truth, scores), metrics.average_precision(truth[turn], scores[turn]), rtol=1e-13
    )


# ---------------------------------------------------------------- reports


@settings(deadline=None)
@given(problems(TIED), st.data())
def test_report_against_scikit_learn_over_the_tags_with_positives(problem, more):
    truth, scores = problem
    decisions = more.draw(arrays.arrays(bool, truth.shape))
    report = metrics.evaluate(truth, scores, decisions=decisions)
    defined = truth.any(axis=0)
    assert list(report.to_dict()) == OFFICIAL
    assert report.without_positives == tuple(str(tag) for tag in np.flatnonzero(~defined))
    for mean in ("macro", "micro"):
        labels, decided = (truth[:, defined], decisions[:, defined]) if mean == "macro" else (truth, decisions)
        result = [report.to_dict()[f"{name}-{mean}"] for name in ("precision", "recall", "F-score")]
        if mean == "macro" and not defined.any():
            assert np.isnan(result).all()
            continue
        # One column at a time or all pooled: scikit-learn takes a single column for a two-class problem.
        columns = zip(labels.T, decided.T, strict=True) if mean == "macro" else [(labels.ravel(), decided.ravel())]
        expected = np.mean(
            [oracle.precision_recall_fscore_support(*c, average="binary", zero_division=0)[:3] for c in columns], axis=0
        )
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_report_against_scikit_learn_where_every_tag_has_positives():
    truth, scores = random_problem(400, 6, levels=30)
    assert truth.any(axis=0).all()
    decisions = scores > [0.3, 0.5, 0.7, 0.9, 2.0, 0.0]
    result = metrics.evaluate(truth, scores, decisions=decisions).to_dict()
    for mean in ("macro", "micro"):
        p, r, f, _ = oracle.precision_recall_fscore_support(truth, decisions, average=mean, zero_division=0)
        assert [result[f"{name}-{mean}"] for name in ("precision", "recall", "F-score")] == pytest.approx([p, r, f])
        assert result[f"PR-AUC-{mean}"] == pytest.approx(oracle.average_precision_score(truth, scores, average=mean))
        assert result[f"ROC-AUC-{mean}"] == pytest.approx(oracle.roc_auc_score(truth, scores, average=mean))


def test_a_tag_without_positives_is_named_and_left_out():
    truth = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.6], [0.1, 0.3, 0.7]])
    decisions = scores > 0.15
    report = metrics.evaluate(truth, scores, decisions=decisions, tags=("happy", "sad", "calm"))
    assert report.without_positives == ("sad",)
    assert report.without_negatives == ("calm",)
    assert report.tags == ("happy", "sad", "calm")
    np.testing.assert_array_equal(report.per_tag["PR-AUC"], [1.0, np.nan, 1.0])
    np.testing.assert_array_equal(report.per_tag["ROC-AUC"], [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(report.per_tag["precision"], [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(report.per_tag["recall"], [1.0, np.nan, 1.0])
    assert report.macro == pytest.approx(
        {"PR-AUC": 1.0, "ROC-AUC": 1.0, "precision": 0.75, "recall": 1.0, "F-score": (2 / 3 + 1) / 2}
    )
    assert report.micro["precision"] == 4 / 7  # decisions for the tag without positives count among all pairs


def test_no_positives_at_all():
    report = metrics.evaluate(np.zeros((3, 2)), np.ones((3, 2)), decisions=np.ones((3, 2)))
    assert report.without_positives == ("0", "1")
    assert all(np.isnan(value) for value in report.macro.values())
    assert np.isnan([report.micro["PR-AUC"], report.micro["ROC-AUC"]]).all()
    assert [report.micro[name] for name in ("F-score", "precision", "recall")] == [0, 0, 0]


def test_without_decisions_there_are_four_metrics():
    report = metrics.evaluate(*random_problem(50, 2, levels=9))
    assert list(report.to_dict()) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]
    assert list(report.per_tag) == ["PR-AUC", "ROC-AUC"]


# ---------------------------------------------------------------- thresholds and decisions


@settings(deadline=None)
@given(problems())
def test_f_thresholds_have_the_best_f_score(problem):
    truth, scores = problem
    decisions = metrics.decide(scores, metrics.best_thresholds(truth, scores))
    for tag in range(truth.shape[1]):
        if not truth[:, tag].any():
            assert not decisions[:, tag].any()
            continue
        every = [scores[:, tag] > cut for cut in (-np.inf, *np.unique(scores[:, tag]))]
        best = max(f_by_hand(truth[:, tag], decided) for decided in every)
        assert f_by_hand(truth[:, tag], decisions[:, tag]) == pytest.approx(best, rel=0, abs=1e-12)


def test_f_thresholds_lie_midway_and_prefer_few_decisions():
    truth = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    scores = np.array([[0.9, 0.2, 0.3, 0.8], [0.5, 0.9, 0.2, 0.8], [0.1, 0.2, 0.1, 0.2], [0.1, 0.9, 0.9, 0.2]])
    # One clear gap; positives below all others; no positives; a tie of which one half is true.
    np.testing.assert_allclose(metrics.best_thresholds(truth, scores), [0.7, -np.inf, np.inf, 0.5])
    # F is 2/3 with one decision and with four: the single decision wins.
    few = metrics.best_thresholds(np.array([[1], [0], [0], [1]]), np.array([[0.9], [0.6], [0.4], [0.2]]))
    np.testing.assert_allclose(few, [0.75])


@pytest.mark.parametrize("low", [0.0, 0.3, 1.0, -1.0, 5e-324, -5e-324, -1.7e308])
@pytest.mark.parametrize("high", ["next", 1.7e308])
def test_f_thresholds_separate_any_two_scores(low, high):
    high = np.nextafter(low, np.inf) if high == "next" else high
    truth, scores = np.array([[True], [False]]), np.array([[high], [low]])
    threshold = metrics.best_thresholds(truth, scores)
    assert np.isfinite(threshold).all()
    np.testing.assert_array_equal(metrics.decide(scores, threshold), truth)


@settings(deadline=None)
@given(problems())
def test_official_thresholds_against_the_script(problem):
    truth, scores = problem
    result = metrics.best_thresholds(truth, scores, criterion="official")
    for tag, value in enumerate(result):
        if not truth[:, tag].any():
            assert value == np.inf
            continue
        precision, recall, cuts = oracle.precision_recall_curve(truth[:, tag], scores[:, tag])
        with np.errstate(invalid="ignore"):
            f = np.nan_to_num(2 * precision * recall / (precision + recall))
        assert value == cuts[np.argmax(f)]


def test_official_thresholds_prefer_many_decisions_and_omit_the_last():
    truth, scores = np.array([[1], [0], [0], [1]]), np.array([[0.9], [0.6], [0.4], [0.2]])
    result = metrics.best_thresholds(truth, scores, criterion="official")  # F is 2/3 with one decision and with four
    np.testing.assert_array_equal(result, [0.2])
    np.testing.assert_array_equal(metrics.decide(scores, result), [[True], [True], [True], [False]])


def test_decisions_are_strict():
    scores = np.array([[0.5, 0.5, 0.5], [0.6, 0.6, 0.6]], dtype=np.float32)
    decided = metrics.decide(scores, np.array([0.5, -np.inf, np.inf]))
    np.testing.assert_array_equal(decided, [[False, True, False], [True, True, False]])


def test_decisions_of_single_precision_scores_compare_exactly():
    score = np.float32(0.1)  # a little above the double 0.1
    assert metrics.decide(np.array([[score]]), np.array([0.1])).all()
    assert not metrics.decide(np.array([[score]]), np.array([score])).any()


# ---------------------------------------------------------------- rank correlation


@settings(deadline=None)
@given(problems(TIED), st.data())
def test_spearman_against_scipy(problem, more):
    a = problem[1]
    b = more.draw(arrays.arrays(np.float64, a.shape, elements=ANY))
    for tag, value in enumerate(metrics.spearman(a, b)):
        x, y = a[:, tag], b[:, tag]
        if (x == x[0]).all() or (y == y[0]).all():
            assert np.isnan(value)
        else:
            assert value == pytest.approx(stats.spearmanr(x, y).statistic, rel=0, abs=1e-12)


def test_spearman_of_equal_and_opposite_ranks():
    scores = random_problem(1000, 3, levels=50)[1]
    np.testing.assert_array_equal(metrics.spearman(scores, scores**3), [1, 1, 1])
    np.testing.assert_array_equal(metrics.spearman(scores, -scores), [-1, -1, -1])


@settings(deadline=None)
@given(problems())
def test_relative_ranks_against_scipy(problem):
    _, scores = problem
    expected = (
        (stats.rankdata(scores, axis=0) - 1) / (len(scores) - 1) if len(scores) > 1 else np.full(scores.shape, 0.5)
    )
    np.testing.assert_allclose(metrics.relative_ranks(scores), expected, rtol=0, atol=1e-14)


# ---------------------------------------------------------------- errors

GOOD = np.array([[True, False], [False, True], [True, True]])
HALF = np.full((3, 2), 0.5)
COMPARING = [metrics.average_precision, metrics.roc_auc, metrics.best_thresholds, metrics.evaluate]


def with_value(array: np.ndarray, value: float, *cells: tuple[int, int]) -> np.ndarray:
    array = array.astype(np.float64)
    for cell in cells:
        array[cell] = value
    return array


@pytest.mark.parametrize("compare", COMPARING)
@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [
        (GOOD, HALF[:2], r"scores.*\(2, 2\).*\(3, 2\)"),
        (GOOD, HALF.T, r"scores.*\(2, 3\).*\(3, 2\)"),
        (GOOD[:, 0], HALF[:, 0], r"truth.*\(3,\).*tracks × tags"),
        (GOOD, HALF[None], r"scores.*\(1, 3, 2\)"),
        (GOOD[:0], HALF[:0], r"truth.*\(0, 2\)"),
        (GOOD[:, :0], HALF[:, :0], r"shape \(3, 0\)"),
        (GOOD, with_value(HALF, np.nan, (1, 0), (2, 1)), r"2 of 6.*scores.*track 1, tag 0"),
        (GOOD, with_value(HALF, -np.inf, (2, 1)), r"-inf at track 2, tag 1"),
        (with_value(GOOD, 0.5, (0, 1)), HALF, r"truth.*0\.5 at track 0, tag 1"),
        (with_value(GOOD, np.nan, (0, 1)), HALF, r"nan at track 0, tag 1"),
        (GOOD.astype(int) * 2 - 1, HALF, r"2 of 6.*-1 at track 0"),
        (GOOD.astype(str), HALF, r"truth.*<U5"),
        (GOOD, HALF.astype(complex), r"scores.*complex128"),
    ],
)
def test_malformed_input_raises(compare, truth, scores, message):
    with pytest.raises(ScoresError, match=message):
        compare(truth, scores)


def test_malformed_decisions_names_and_thresholds_raise():
    with pytest.raises(ScoresError, match=r"6 of 6.*decisions"):
        metrics.evaluate(GOOD, HALF, decisions=HALF)
    with pytest.raises(ScoresError, match=r"decisions.*\(2, 2\)"):
        metrics.evaluate(GOOD, HALF, decisions=GOOD[:2])
    with pytest.raises(ScoresError, match="3 tag names"):
        metrics.evaluate(GOOD, HALF, tags=("a", "b", "c"))
    with pytest.raises(ScoresError, match=r"\(3,\).*2 numbers"):
        metrics.decide(HALF, np.zeros(3))
    with pytest.raises(ScoresError, match="NaN"):
        metrics.decide(HALF, np.array([0.5, np.nan]))
    with pytest.raises(ScoresError, match=r"1 of 6.*scores"):
        metrics.decide(with_value(HALF, np.nan, (0, 0)), np.zeros(2))
    with pytest.raises(ScoresError, match=r"b: .*\(2, 3\)"):
        metrics.spearman(HALF, HALF.T)
    with pytest.raises(ScoresError, match=r"values of a"):
        metrics.spearman(with_value(HALF, np.inf, (0, 0)), HALF)


def test_an_unknown_criterion_raises(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are checked in tests only
    with pytest.raises(ConfigError, match="youden"):
        metrics.best_thresholds(GOOD, HALF, criterion="youden")


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.float32, np.float64])
def test_truth_and_decisions_may_be_zeros_and_ones(kind):
    scores = random_problem(3, 2, levels=9)[1]
    plain = metrics.evaluate(GOOD, scores, decisions=GOOD)
    assert metrics.evaluate(GOOD.astype(kind), scores, decisions=GOOD.astype(kind)).to_dict() == plain.to_dict()


def test_input_is_not_modified():
    truth, scores = random_problem(40, 3, levels=5)
    copies = truth.copy(), scores.copy()
    metrics.evaluate(truth, scores, decisions=truth)
    metrics.best_thresholds(truth, scores)
    metrics.spearman(scores, scores)
    np.testing.assert_array_equal(truth, copies[0])
    np.testing.assert_array_equal(scores, copies[1])


def test_degenerate_input_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for truth in (np.zeros((1, 1)), np.ones((1, 1))):
            metrics.evaluate(truth, np.zeros((1, 1)), decisions=truth)
            metrics.best_thresholds(truth, np.zeros((1, 1)), criterion="official")
            metrics.spearman(truth, truth)


# ---------------------------------------------------------------- the published results


def published(table: Path, row: str) -> dict[str, float]:
    with table.open(newline="") as lines:
        rows = {line.pop(""): line for line in csv.DictReader(lines, delimiter="\t")}
    return {name: float(value) for name, value in rows[row].items()}


def load(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


@pytest.mark.golden
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_official_metrics_of_the_submissions(data, name):
    folder = data / "mediaeval2019"
    report = metrics.evaluate(
        load(folder / "groundtruth.npy"),
        load(folder / "CP-JKU" / name / "predictions.npy"),
        decisions=load(folder / "CP-JKU" / name / "decisions.npy"),
    )
    assert {key: round(value, 6) for key, value in report.to_dict().items()} == published(folder / "CP-JKU.tsv", name)
    assert report.without_positives == ()


@pytest.mark.golden
@pytest.mark.parametrize("name", ["popular", "vggish"])
def test_official_metrics_of_the_baselines(data, name):
    folder = data / "mediaeval2019"
    report = metrics.evaluate(
        load(folder / "groundtruth.npy"),
        load(folder / "baseline" / f"{name}_predictions.npy"),
        decisions=load(folder / "baseline" / f"{name}_decisions.npy"),
    )
    assert {key: round(value, 6) for key, value in report.to_dict().items()} == published(folder / "baseline.tsv", name)


@pytest.mark.golden
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_published_decisions_come_from_official_thresholds(data, name):
    folder = data / "mediaeval2019"
    truth = load(folder / "groundtruth.npy")
    scores = load(folder / "CP-JKU" / name / "predictions.npy")
    decisions = load(folder / "CP-JKU" / name / "decisions.npy")
    official = metrics.decide(scores, metrics.best_thresholds(truth, scores, criterion="official"))
    np.testing.assert_array_equal(official, decisions)
    best = metrics.evaluate(truth, scores, decisions=metrics.decide(scores, metrics.best_thresholds(truth, scores)))
    official_report = metrics.evaluate(truth, scores, decisions=decisions)
    assert (best.per_tag["F-score"] >= official_report.per_tag["F-score"]).all()
    assert best.macro["F-score"] > official_report.macro["F-score"] + 0.005


@pytest.mark.golden
def test_published_thresholds_of_the_baseline_are_official_ones(data):
    folder = data / "mediaeval2019"
    lines = (folder / "baseline" / "vggish_thresholds.txt").read_text().splitlines()
    expected = [float(line.split("\t")[1]) for line in lines]
    scores = load(folder / "baseline" / "vggish_predictions.npy")
    result = metrics.best_thresholds(load(folder / "groundtruth.npy"), scores, criterion="official")
    np.testing.assert_array_equal(result, expected)

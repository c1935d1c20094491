"""The MediaEval task: the published metrics, thresholds tuned on the truth, comparisons, leaks."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from moodfield.datasets.mtg_jamendo import HEADER
from moodfield.errors import DatasetError, MoodfieldWarning, ScoresError
from moodfield.evaluation import mediaeval, metrics, submissions
from moodfield.evaluation.submissions import Submission
from moodfield.tags import MOODS_AND_THEMES

TAGS = ("happy", "sad", "dark")
SYSTEMS = ("1_shakefaresnet", "2_faresnet", "3_avg_ensemble", "4_crnn", "5_resnet34")


def problem(tracks=300, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.random((tracks, 3)) < 0.2
    return truth, 0.6 * generator.random(truth.shape) + 0.2 * truth


def submission(seed=0):
    predictions = problem(seed=seed)[1]
    return submissions.make(predictions, np.array([0.5, 0.55, 0.6]), TAGS)


def rows(*numbers):
    return np.array(numbers, np.int64)


# ---------------------------------------------------------------- evaluate


def test_evaluate_has_the_metrics_and_optional_intervals():
    truth, predictions = problem()
    evaluation = mediaeval.evaluate(truth, submission(), vocabulary=TAGS)
    expected = metrics.evaluate(truth, predictions, decisions=submission().decisions, tags=TAGS)
    assert evaluation.report.to_dict() == expected.to_dict()
    assert (evaluation.intervals, evaluation.tag_intervals, evaluation.without_excluded, evaluation.n_tracks) == (
        {},
        {},
        None,
        300,
    )
    with_intervals = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, n_resamples=100)
    assert with_intervals.report.to_dict() == expected.to_dict()
    assert list(with_intervals.intervals) == list(expected.to_dict())
    for name, (low, high) in with_intervals.intervals.items():
        assert low < expected.to_dict()[name] < high
    assert [len(limits) for limits in with_intervals.tag_intervals.values()] == [3] * 5
    assert with_intervals.intervals == mediaeval.evaluate(truth, submission(), n_resamples=100).intervals
    assert with_intervals.intervals != mediaeval.evaluate(truth, submission(), n_resamples=100, seed=1).intervals


def test_metrics_without_excluded_tracks_are_reported_beside_the_official_ones():
    truth, predictions = problem()
    evaluation = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, exclude=rows(5, 0, 5))
    kept = np.r_[1:5, 6:300]
    expected = metrics.evaluate(truth[kept], predictions[kept], decisions=submission().decisions[kept])
    assert evaluation.report.to_dict() == mediaeval.evaluate(truth, submission()).report.to_dict()
    assert evaluation.without_excluded.report.to_dict() == expected.to_dict()
    assert (evaluation.n_tracks, evaluation.without_excluded.n_tracks) == (300, 298)
    assert evaluation.without_excluded.report.tags == TAGS
    assert mediaeval.evaluate(truth, submission(), exclude=rows()).without_excluded is None


@pytest.mark.parametrize("criterion", ["f", "official"])
def test_thresholds_tuned_on_the_truth_are_detected(criterion):
    truth, predictions = problem()
    other_thresholds = metrics.best_thresholds(*problem(seed=1), criterion=criterion)
    tuned_thresholds = metrics.best_thresholds(truth, predictions, criterion=criterion)
    untuned = mediaeval.evaluate(truth, submissions.make(predictions, other_thresholds, TAGS), vocabulary=TAGS)
    tuned = mediaeval.evaluate(truth, submissions.make(predictions, tuned_thresholds, TAGS), vocabulary=TAGS)
    assert (untuned.tuned_tags, untuned.is_tuned_on_truth) == ((), False)
    assert (tuned.tuned_tags, tuned.is_tuned_on_truth) == (TAGS, True)
    mixed = mediaeval.evaluate(
        truth, submissions.make(predictions, np.r_[tuned_thresholds[:1], other_thresholds[1:]], TAGS), vocabulary=TAGS
    )
    assert (mixed.tuned_tags, mixed.is_tuned_on_truth) == (("happy",), False)
    assert mediaeval.evaluate(truth, Submission(predictions)).is_tuned_on_truth is False
    with pytest.warns(MoodfieldWarning, match="the same for all"):  # no threshold can separate them
        assert mediaeval.evaluate(truth, Submission(0 * predictions, truth < 0)).tuned_tags == ()


@pytest.mark.parametrize("is_always_present", [False, True])
def test_tags_that_cannot_be_tuned_do_not_count_as_tuned(is_always_present):
    """Seven of ten tags have no positives, or no negatives; never or always deciding them does not count as tuned."""
    generator = np.random.default_rng(0)
    truth = generator.random((200, 10)) < 0.3
    predictions = 0.7 * generator.random(truth.shape) + 0.3 * truth
    truth[:, :7] = is_always_present
    predictions[:, :7] = 0.1 * generator.random((200, 7)) + 0.9 * is_always_present
    fixed = submissions.make(predictions, np.full(10, 0.5), list("abcdefghij"))
    assert fixed.decisions[:, :7].all() == fixed.decisions[:, :7].any() == is_always_present
    evaluation = mediaeval.evaluate(truth, fixed)
    assert (evaluation.tuned_tags, evaluation.n_tunable_tags, evaluation.is_tuned_on_truth) == ((), 3, False)
    tuned = submissions.make(predictions, metrics.best_thresholds(truth, predictions), list("abcdefghij"))
    evaluation = mediaeval.evaluate(truth, tuned)
    assert (evaluation.tuned_tags, evaluation.is_tuned_on_truth) == (("7", "8", "9"), True)
    untunable = mediaeval.evaluate(truth[:, :7], submissions.make(predictions[:, :7], np.full(7, 0.5), list("abcdefg")))
    assert (untunable.n_tunable_tags, untunable.is_tuned_on_truth) == (0, False)


def test_boolean_and_constant_predictions_warn():
    truth, _ = problem()
    decisions = submission().decisions
    with pytest.warns(MoodfieldWarning, match="boolean"):
        evaluation = mediaeval.evaluate(truth, Submission(decisions, decisions, name="it"))
    assert evaluation.report.to_dict() == metrics.evaluate(truth, decisions, decisions=decisions).to_dict()
    constant = problem()[1]
    constant[:, 1] = 0.7
    with pytest.warns(MoodfieldWarning, match="for sad"):
        evaluation = mediaeval.evaluate(truth, Submission(constant), vocabulary=TAGS)
    assert evaluation.report.per_tag["ROC-AUC"][1] == 0.5
    assert evaluation.report.per_tag["PR-AUC"][1] == pytest.approx(truth[:, 1].mean())
    with pytest.warns(MoodfieldWarning, match="4 and 51 more"):
        mediaeval.evaluate(np.eye(56), Submission(np.zeros((56, 56))))


def test_evaluation_to_dict_is_json():
    truth, _ = problem()
    truth[:, 1] = False
    evaluation = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, exclude=rows(0), n_resamples=20)
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert list(values)[:10] == list(evaluation.report.to_dict())
    assert values["PR-AUC-macro"] == evaluation.report.macro["PR-AUC"]  # every digit
    assert values["without_positives"] == ["sad"]
    assert values["tags"]["sad"]["PR-AUC"] is None
    assert values["tags"]["sad"]["PR-AUC-interval"] == [None, None]
    assert values["tags"]["dark"]["F-score"] == evaluation.report.per_tag["F-score"][2]
    assert values["intervals"]["recall-micro"] == list(evaluation.intervals["recall-micro"])
    assert values["without_excluded"]["tracks"] == 299
    assert values["tuned_tags"] == []


def test_mismatching_shapes_and_rows_raise():
    truth, _ = problem()
    with pytest.raises(ScoresError, match=r"\(300, 3\).*\(299, 3\)"):
        mediaeval.evaluate(truth[:-1], submission())
    other = Submission(submission().predictions, submission().decisions[:, :2], name="x")
    with pytest.raises(ScoresError, match="decisions of x"):
        mediaeval.evaluate(truth, other)
    with pytest.raises(ScoresError, match="decisions of x"):
        mediaeval.compare(truth, submission(), other)
    with pytest.raises(DatasetError, match="300, -1"):
        mediaeval.evaluate(truth, submission(), exclude=rows(7, 300, -1))
    with pytest.raises(DatasetError, match="all 300 tracks"):
        mediaeval.evaluate(truth, submission(), exclude=np.arange(300))


# ---------------------------------------------------------------- comparisons


def test_compare_is_paired_and_on_the_same_tracks():
    truth, predictions = problem()
    worse = submissions.make(predictions[::-1], np.array([0.5, 0.55, 0.6]), TAGS)
    comparison = mediaeval.compare(truth, submission(), worse, vocabulary=TAGS, n_resamples=200)
    difference = comparison.differences["PR-AUC-macro"]
    assert difference.value == pytest.approx(comparison.a.macro["PR-AUC"] - comparison.b.macro["PR-AUC"])
    assert difference.low > 0
    assert difference.p < 0.05
    assert list(comparison.differences) == list(comparison.a.to_dict())
    values = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert values["PR-AUC-macro"] == {
        "a": comparison.a.macro["PR-AUC"], "b": comparison.b.macro["PR-AUC"], **difference._asdict()
    }  # fmt: skip
    assert values["tags"]["sad"]["ROC-AUC"] == comparison.tag_differences["ROC-AUC"][1]._asdict()
    fewer = mediaeval.compare(truth, submission(), worse, n_resamples=20, exclude=np.arange(100))
    assert (
        fewer.a.macro == metrics.evaluate(truth[100:], predictions[100:], decisions=submission().decisions[100:]).macro
    )


# ---------------------------------------------------------------- truth


def test_read_truth_of_an_array_or_an_index(tmp_path, data):
    np.save(tmp_path / "truth.npy", np.eye(3, dtype=bool))
    truth, names = mediaeval.read_truth(tmp_path / "truth.npy")
    np.testing.assert_array_equal(truth, np.eye(3))
    assert names is None
    assert mediaeval.read_truth(tmp_path / "truth.npy", vocabulary=TAGS)[1] == TAGS
    published, official = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    listed, alphabet = mediaeval.read_truth(data / "mtg-jamendo/autotagging_moodtheme-test.tsv")
    np.testing.assert_array_equal(published, listed)
    assert official == alphabet


def test_an_index_that_lacks_tags_takes_those_of_the_thresholds(tmp_path):
    rows = [[str(n), "a", "b", f"{n}.mp3", "60", *tags] for n, tags in enumerate((["sad"], ["happy", "sad"], []))]
    index = tmp_path / "index.tsv"
    index.write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    submission_ = submissions.make(np.full((3, 3), 0.5), np.full(3, 0.4), TAGS)
    assert mediaeval.read_truth(index)[1] == ("happy", "sad")
    truth, names = mediaeval.read_truth(index, like=[submission_])
    assert (names, truth.tolist()) == (TAGS, [[False, True, False], [True, True, False], [False] * 3])
    assert mediaeval.read_truth(index, vocabulary=(*TAGS[::-1],), like=[submission_])[1] == TAGS[::-1]
    reversed_ = replace(submission_, thresholds=dict.fromkeys(TAGS[::-1], 0.4))
    other = replace(submission_, thresholds=dict.fromkeys(("happy", "dark", "film"), 0.4))
    for submissions_ in (
        [replace(submission_, thresholds={})],
        [other],
        [submission_, reversed_],
        [replace(submission_, thresholds={"sad": 1.0})],
    ):
        with pytest.raises(ScoresError, match=r"2 tags.*--tags"):
            mediaeval.read_truth(index, like=submissions_)
    with pytest.raises(ScoresError, match="--tags"):
        mediaeval.read_truth(index, vocabulary=("sad", "happy"), like=[submission_])
    official = replace(submission_, predictions=np.full((3, 56), 0.5), thresholds={})
    assert mediaeval.read_truth(index, like=[official])[1] == MOODS_AND_THEMES


# ---------------------------------------------------------------- the published results


def leaked(data):
    """Rows of the test split whose audio file is also in another split."""
    *train_indexes, test = (
        data / f"mtg-jamendo/autotagging_moodtheme-{part}.tsv" for part in ("train", "validation", "test")
    )
    checksums = data / "mtg-jamendo/autotagging_moodtheme_audio-low_sha256_tracks.txt"
    return mediaeval.find_leaks(test, train_indexes, checksums)


def test_find_leaks_warns_or_raises_for_missing_checksums(tmp_path):
    for name in ("test", "train"):
        lines = [list(HEADER), *([f"{name}{n}", "a", "b", f"{name}/{n}.mp3", "60", "happy"] for n in range(3))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(map("\t".join, lines)))
    index, train_indexes, checksums = tmp_path / "test.tsv", [tmp_path / "train.tsv"], tmp_path / "sums.txt"
    checksum_lines = [f"{n:064x} test/{n}.mp3" for n in range(3)] + [f"{n + 2:064x} train/{n}.mp3" for n in range(3)]
    checksums.write_text("\n".join(checksum_lines))
    assert mediaeval.find_leaks(index, train_indexes, checksums).tolist() == [2]
    assert mediaeval.find_leaks(index, [*train_indexes, index], checksums).tolist() == [0, 1, 2]
    checksums.write_text("\n".join(checksum_lines[1:]))
    with pytest.warns(MoodfieldWarning, match="1 of 6 tracks"):
        assert mediaeval.find_leaks(index, train_indexes, checksums).tolist() == [2]
    for part, name in ((checksum_lines[:3], "train"), (checksum_lines[3:], "test")):
        checksums.write_text("\n".join(part))
        with pytest.raises(DatasetError, match=rf"{name}\.tsv"):
            mediaeval.find_leaks(index, train_indexes, checksums)


@pytest.mark.golden
def test_metrics_without_leaked_tracks(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    leaks = leaked(data)
    assert leaks.tolist() == [81, 82, 83]
    evaluation = mediaeval.evaluate(
        truth, submissions.read(data / "mediaeval2019/CP-JKU/3_avg_ensemble"), exclude=leaks
    )
    kept = np.delete(np.arange(4_231), leaks)
    submission_ = submissions.read(data / "mediaeval2019/CP-JKU/3_avg_ensemble")
    expected = metrics.evaluate(truth[kept], submission_.predictions[kept], decisions=submission_.decisions[kept])
    assert f"{evaluation.report.macro['PR-AUC']:.6f}" == "0.154609"
    assert evaluation.without_excluded.n_tracks == 4_228
    assert evaluation.without_excluded.report.to_dict() == expected.to_dict()
    assert 0 < abs(evaluation.without_excluded.report.macro["PR-AUC"] - evaluation.report.macro["PR-AUC"]) < 0.001


@pytest.mark.golden
def test_the_published_decisions_were_tuned_on_the_test_split(data):
    truth, names = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    for system in SYSTEMS:
        submission_ = submissions.read(data / "mediaeval2019/CP-JKU" / system)
        evaluation = mediaeval.evaluate(truth, submission_, vocabulary=names)
        assert (len(evaluation.tuned_tags), evaluation.is_tuned_on_truth) == (56, True)
        official = metrics.best_thresholds(truth, submission_.predictions, criterion="official")
        np.testing.assert_array_equal(metrics.decide(submission_.predictions, official), submission_.decisions)


@pytest.mark.golden
def test_all_ten_published_numbers(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    with (data / "mediaeval2019/CP-JKU.tsv").open(encoding="utf-8") as file:
        published = {line.pop(""): line for line in csv.DictReader(file, delimiter="\t")}
    for system in SYSTEMS:
        evaluation = mediaeval.evaluate(truth, submissions.read(data / "mediaeval2019/CP-JKU" / system))
        assert {name: f"{value:.6f}" for name, value in evaluation.report.to_dict().items()} == published[system]


@pytest.mark.golden
def test_the_ensemble_is_significantly_better_and_the_first_two_submissions_do_not_differ(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    one, two, three = (submissions.read(data / "mediaeval2019/CP-JKU" / system) for system in SYSTEMS[:3])
    similar = mediaeval.compare(truth, one, two, n_resamples=100).differences["PR-AUC-macro"]
    better = mediaeval.compare(truth, three, one, n_resamples=100).differences["PR-AUC-macro"]
    assert similar.low < 0 < similar.high
    assert similar.p > 0.05
    assert better.low > 0
    assert better.p < 0.05

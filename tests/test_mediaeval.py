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
    drawn = np.random.default_rng(seed)
    truth = drawn.random((tracks, 3)) < 0.2
    return truth, 0.6 * drawn.random(truth.shape) + 0.2 * truth


def submission(seed=0):
    predictions = problem(seed=seed)[1]
    return submissions.make(predictions, np.array([0.5, 0.55, 0.6]), TAGS)


def rows(*numbers):
    return np.array(numbers, np.int64)


# ---------------------------------------------------------------- evaluate


def test_evaluate_has_the_metrics_and_optional_intervals():
    truth, predictions = problem()
    found = mediaeval.evaluate(truth, submission(), vocabulary=TAGS)
    wanted = metrics.evaluate(truth, predictions, decisions=submission().decisions, tags=TAGS)
    assert found.report.to_dict() == wanted.to_dict()
    assert (found.intervals, found.tag_intervals, found.without_excluded, found.n_tracks) == ({}, {}, None, 300)
    with_intervals = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, n_resamples=100)
    assert with_intervals.report.to_dict() == wanted.to_dict()
    assert list(with_intervals.intervals) == list(wanted.to_dict())
    for name, (low, high) in with_intervals.intervals.items():
        assert low < wanted.to_dict()[name] < high
    assert [len(each) for each in with_intervals.tag_intervals.values()] == [3] * 5
    assert with_intervals.intervals == mediaeval.evaluate(truth, submission(), n_resamples=100).intervals
    assert with_intervals.intervals != mediaeval.evaluate(truth, submission(), n_resamples=100, seed=1).intervals


def test_metrics_without_excluded_tracks_stand_beside_the_official_ones():
    truth, predictions = problem()
    found = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, exclude=rows(5, 0, 5))
    kept = np.r_[1:5, 6:300]
    wanted = metrics.evaluate(truth[kept], predictions[kept], decisions=submission().decisions[kept])
    assert found.report.to_dict() == mediaeval.evaluate(truth, submission()).report.to_dict()
    assert found.without_excluded.report.to_dict() == wanted.to_dict()
    assert (found.n_tracks, found.without_excluded.n_tracks) == (300, 298)
    assert found.without_excluded.report.tags == TAGS
    assert mediaeval.evaluate(truth, submission(), exclude=rows()).without_excluded is None


@pytest.mark.parametrize("criterion", ["f", "official"])
def test_thresholds_tuned_on_the_truth_are_detected(criterion):
    truth, predictions = problem()
    elsewhere = metrics.best_thresholds(*problem(seed=1), criterion=criterion)
    here = metrics.best_thresholds(truth, predictions, criterion=criterion)
    untuned = mediaeval.evaluate(truth, submissions.make(predictions, elsewhere, TAGS), vocabulary=TAGS)
    tuned = mediaeval.evaluate(truth, submissions.make(predictions, here, TAGS), vocabulary=TAGS)
    assert (untuned.tuned_tags, untuned.is_tuned_on_truth) == ((), False)
    assert (tuned.tuned_tags, tuned.is_tuned_on_truth) == (TAGS, True)
    mixed = mediaeval.evaluate(
        truth, submissions.make(predictions, np.r_[here[:1], elsewhere[1:]], TAGS), vocabulary=TAGS
    )
    assert (mixed.tuned_tags, mixed.is_tuned_on_truth) == (("happy",), False)
    assert mediaeval.evaluate(truth, Submission(predictions)).is_tuned_on_truth is False
    with pytest.warns(MoodfieldWarning, match="the same for all"):  # no threshold can separate them
        assert mediaeval.evaluate(truth, Submission(0 * predictions, truth < 0)).tuned_tags == ()


@pytest.mark.parametrize("everywhere", [False, True])
def test_tags_that_cannot_be_tuned_do_not_count_as_tuned(everywhere):
    """Of ten tags seven have no positives, or no negatives; never or always deciding them is no tuning."""
    drawn = np.random.default_rng(0)
    truth = drawn.random((200, 10)) < 0.3
    predictions = 0.7 * drawn.random(truth.shape) + 0.3 * truth
    truth[:, :7] = everywhere
    predictions[:, :7] = 0.1 * drawn.random((200, 7)) + 0.9 * everywhere
    fixed = submissions.make(predictions, np.full(10, 0.5), list("abcdefghij"))
    assert fixed.decisions[:, :7].all() == fixed.decisions[:, :7].any() == everywhere
    found = mediaeval.evaluate(truth, fixed)
    assert (found.tuned_tags, found.n_tunable_tags, found.is_tuned_on_truth) == ((), 3, False)
    tuned = submissions.make(predictions, metrics.best_thresholds(truth, predictions), list("abcdefghij"))
    found = mediaeval.evaluate(truth, tuned)
    assert (found.tuned_tags, found.is_tuned_on_truth) == (("7", "8", "9"), True)
    nowhere = mediaeval.evaluate(truth[:, :7], submissions.make(predictions[:, :7], np.full(7, 0.5), list("abcdefg")))
    assert (nowhere.n_tunable_tags, nowhere.is_tuned_on_truth) == (0, False)


def test_boolean_and_constant_predictions_warn():
    truth, _ = problem()
    decisions = submission().decisions
    with pytest.warns(MoodfieldWarning, match="it are boolean"):
        found = mediaeval.evaluate(truth, Submission(decisions, decisions, name="it"))
    assert found.report.to_dict() == metrics.evaluate(truth, decisions, decisions=decisions).to_dict()
    constant = problem()[1]
    constant[:, 1] = 0.7
    with pytest.warns(MoodfieldWarning, match="for sad"):
        found = mediaeval.evaluate(truth, Submission(constant), vocabulary=TAGS)
    assert found.report.per_tag["ROC-AUC"][1] == 0.5
    assert found.report.per_tag["PR-AUC"][1] == pytest.approx(truth[:, 1].mean())
    with pytest.warns(MoodfieldWarning, match="4 and 51 more"):
        mediaeval.evaluate(np.eye(56), Submission(np.zeros((56, 56))))


def test_evaluation_to_dict_is_json():
    truth, _ = problem()
    truth[:, 1] = False
    found = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, exclude=rows(0), n_resamples=20)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(plain)[:10] == list(found.report.to_dict())
    assert plain["PR-AUC-macro"] == found.report.macro["PR-AUC"]  # every digit
    assert plain["without_positives"] == ["sad"]
    assert plain["tags"]["sad"]["PR-AUC"] is None
    assert plain["tags"]["sad"]["PR-AUC-interval"] == [None, None]
    assert plain["tags"]["dark"]["F-score"] == found.report.per_tag["F-score"][2]
    assert plain["intervals"]["recall-micro"] == list(found.intervals["recall-micro"])
    assert plain["without_excluded"]["tracks"] == 299
    assert plain["tuned_tags"] == []


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
    found = mediaeval.compare(truth, submission(), worse, vocabulary=TAGS, n_resamples=200)
    ahead = found.differences["PR-AUC-macro"]
    assert ahead.value == pytest.approx(found.a.macro["PR-AUC"] - found.b.macro["PR-AUC"])
    assert ahead.low > 0
    assert ahead.p < 0.05
    assert list(found.differences) == list(found.a.to_dict())
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["PR-AUC-macro"] == {
        "a": found.a.macro["PR-AUC"], "b": found.b.macro["PR-AUC"], **ahead._asdict()
    }  # fmt: skip
    assert plain["tags"]["sad"]["ROC-AUC"] == found.tag_differences["ROC-AUC"][1]._asdict()
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
    given = submissions.make(np.full((3, 3), 0.5), np.full(3, 0.4), TAGS)
    assert mediaeval.read_truth(index)[1] == ("happy", "sad")
    truth, names = mediaeval.read_truth(index, like=[given])
    assert (names, truth.tolist()) == (TAGS, [[False, True, False], [True, True, False], [False] * 3])
    assert mediaeval.read_truth(index, vocabulary=(*TAGS[::-1],), like=[given])[1] == TAGS[::-1]
    turned = replace(given, thresholds=dict.fromkeys(TAGS[::-1], 0.4))
    other = replace(given, thresholds=dict.fromkeys(("happy", "dark", "film"), 0.4))
    for wrong in ([replace(given, thresholds={})], [other], [given, turned], [replace(given, thresholds={"sad": 1.0})]):
        with pytest.raises(ScoresError, match=r"2 tags.*--tags"):
            mediaeval.read_truth(index, like=wrong)
    with pytest.raises(ScoresError, match="--tags"):
        mediaeval.read_truth(index, vocabulary=("sad", "happy"), like=[given])
    official = replace(given, predictions=np.full((3, 56), 0.5), thresholds={})
    assert mediaeval.read_truth(index, like=[official])[1] == MOODS_AND_THEMES


# ---------------------------------------------------------------- the published results


def leaked(data):
    """Rows of the test split whose very file is also in another split."""
    *learned, test = (
        data / f"mtg-jamendo/autotagging_moodtheme-{part}.tsv" for part in ("train", "validation", "test")
    )
    sums = data / "mtg-jamendo/autotagging_moodtheme_audio-low_sha256_tracks.txt"
    return mediaeval.find_leaks(test, learned, sums)


def test_find_leaks_warns_or_raises_for_missing_checksums(tmp_path):
    for name in ("test", "train"):
        lines = [list(HEADER), *([f"{name}{n}", "a", "b", f"{name}/{n}.mp3", "60", "happy"] for n in range(3))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(map("\t".join, lines)))
    index, learned, sums = tmp_path / "test.tsv", [tmp_path / "train.tsv"], tmp_path / "sums.txt"
    known = [f"{n:064x} test/{n}.mp3" for n in range(3)] + [f"{n + 2:064x} train/{n}.mp3" for n in range(3)]
    sums.write_text("\n".join(known))
    assert mediaeval.find_leaks(index, learned, sums).tolist() == [2]
    sums.write_text("\n".join(known[1:]))
    with pytest.warns(MoodfieldWarning, match="1 of 6 tracks"):
        assert mediaeval.find_leaks(index, learned, sums).tolist() == [2]
    for part, name in ((known[:3], "train"), (known[3:], "test")):
        sums.write_text("\n".join(part))
        with pytest.raises(DatasetError, match=rf"{name}\.tsv"):
            mediaeval.find_leaks(index, learned, sums)


@pytest.mark.golden
def test_metrics_without_leaked_tracks(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    out = leaked(data)
    assert out.tolist() == [81, 82, 83]
    found = mediaeval.evaluate(truth, submissions.read(data / "mediaeval2019/CP-JKU/3_avg_ensemble"), exclude=out)
    kept = np.delete(np.arange(4_231), out)
    read = submissions.read(data / "mediaeval2019/CP-JKU/3_avg_ensemble")
    wanted = metrics.evaluate(truth[kept], read.predictions[kept], decisions=read.decisions[kept])
    assert f"{found.report.macro['PR-AUC']:.6f}" == "0.154609"
    assert found.without_excluded.n_tracks == 4_228
    assert found.without_excluded.report.to_dict() == wanted.to_dict()
    assert 0 < abs(found.without_excluded.report.macro["PR-AUC"] - found.report.macro["PR-AUC"]) < 0.001


@pytest.mark.golden
def test_the_published_decisions_were_tuned_on_the_test_split(data):
    truth, names = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    for system in SYSTEMS:
        read = submissions.read(data / "mediaeval2019/CP-JKU" / system)
        found = mediaeval.evaluate(truth, read, vocabulary=names)
        assert (len(found.tuned_tags), found.is_tuned_on_truth) == (56, True)
        official = metrics.best_thresholds(truth, read.predictions, criterion="official")
        np.testing.assert_array_equal(metrics.decide(read.predictions, official), read.decisions)


@pytest.mark.golden
def test_all_ten_published_numbers(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    with (data / "mediaeval2019/CP-JKU.tsv").open(encoding="utf-8") as file:
        published = {line.pop(""): line for line in csv.DictReader(file, delimiter="\t")}
    for system in SYSTEMS:
        found = mediaeval.evaluate(truth, submissions.read(data / "mediaeval2019/CP-JKU" / system))
        assert {name: f"{value:.6f}" for name, value in found.report.to_dict().items()} == published[system]


@pytest.mark.golden
def test_the_ensemble_is_significantly_better_and_the_first_two_submissions_do_not_differ(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    one, two, three = (submissions.read(data / "mediaeval2019/CP-JKU" / system) for system in SYSTEMS[:3])
    near = mediaeval.compare(truth, one, two, n_resamples=100).differences["PR-AUC-macro"]
    far = mediaeval.compare(truth, three, one, n_resamples=100).differences["PR-AUC-macro"]
    assert near.low < 0 < near.high
    assert near.p > 0.05
    assert far.low > 0
    assert far.p < 0.05

"""The task's numbers are the published ones; what flatters is said; an index is gathered once, whatever happens."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from moodfield.datasets.mtg_jamendo import HEADER, Track
from moodfield.errors import AudioError, ConfigError, DatasetError, MoodfieldWarning, ScoresError
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


# ---------------------------------------------------------------- scores


def test_a_score_has_the_numbers_of_metrics_and_intervals_if_asked():
    truth, predictions = problem()
    found = mediaeval.evaluate(truth, submission(), vocabulary=TAGS)
    wanted = metrics.evaluate(truth, predictions, decisions=submission().decisions, tags=TAGS)
    assert found.report.to_dict() == wanted.to_dict()
    assert (found.intervals, found.tag_intervals, found.without_excluded, found.n_tracks) == ({}, {}, None, 300)
    sure = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, n_resamples=100)
    assert sure.report.to_dict() == wanted.to_dict()
    assert list(sure.intervals) == list(wanted.to_dict())
    for name, (low, high) in sure.intervals.items():
        assert low < wanted.to_dict()[name] < high
    assert [len(each) for each in sure.tag_intervals.values()] == [3] * 5
    assert sure.intervals == mediaeval.evaluate(truth, submission(), n_resamples=100).intervals
    assert sure.intervals != mediaeval.evaluate(truth, submission(), n_resamples=100, seed=1).intervals


def test_left_out_tracks_are_left_out_beside_the_official_numbers():
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
def test_thresholds_that_were_tuned_on_the_truth_are_noticed(criterion):
    truth, predictions = problem()
    elsewhere = metrics.best_thresholds(*problem(seed=1), criterion=criterion)
    here = metrics.best_thresholds(truth, predictions, criterion=criterion)
    honest = mediaeval.evaluate(truth, submissions.make(predictions, elsewhere, TAGS), vocabulary=TAGS)
    tuned = mediaeval.evaluate(truth, submissions.make(predictions, here, TAGS), vocabulary=TAGS)
    assert (honest.tuned_tags, honest.is_tuned_on_truth) == ((), False)
    assert (tuned.tuned_tags, tuned.is_tuned_on_truth) == (TAGS, True)
    mixed = mediaeval.evaluate(
        truth, submissions.make(predictions, np.r_[here[:1], elsewhere[1:]], TAGS), vocabulary=TAGS
    )
    assert (mixed.tuned_tags, mixed.is_tuned_on_truth) == (("happy",), False)
    assert mediaeval.evaluate(truth, Submission(predictions)).is_tuned_on_truth is False
    with pytest.warns(MoodfieldWarning, match="the same for all tracks"):  # which no threshold can tell apart
        assert mediaeval.evaluate(truth, Submission(0 * predictions, truth < 0)).tuned_tags == ()


@pytest.mark.parametrize("everywhere", [False, True])
def test_tags_that_no_threshold_can_be_tuned_on_accuse_nobody(everywhere):
    """Of ten tags seven have no positives, or nothing else; never or always deciding them is no tuning."""
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


def test_boolean_and_constant_predictions_are_scored_with_a_warning():
    truth, _ = problem()
    decisions = submission().decisions
    with pytest.warns(MoodfieldWarning, match="predictions of it are boolean"):
        found = mediaeval.evaluate(truth, Submission(decisions, decisions, name="it"))
    assert found.report.to_dict() == metrics.evaluate(truth, decisions, decisions=decisions).to_dict()
    constant = problem()[1]
    constant[:, 1] = 0.7
    with pytest.warns(MoodfieldWarning, match=r"are the same for all tracks for sad: ROC-AUC is then 0\.5, PR-AUC"):
        found = mediaeval.evaluate(truth, Submission(constant), vocabulary=TAGS)
    assert found.report.per_tag["ROC-AUC"][1] == 0.5
    assert found.report.per_tag["PR-AUC"][1] == pytest.approx(truth[:, 1].mean())
    with pytest.warns(MoodfieldWarning, match="for 0, 1, 2, 3, 4 and 51 more"):
        mediaeval.evaluate(np.eye(56), Submission(np.zeros((56, 56))))


def test_plain_values_are_for_json():
    truth, _ = problem()
    truth[:, 1] = False
    found = mediaeval.evaluate(truth, submission(), vocabulary=TAGS, exclude=rows(0), n_resamples=20)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(plain)[:10] == list(found.report.to_dict())
    assert plain["PR-AUC-macro"] == found.report.macro["PR-AUC"]  # every digit
    assert plain["undefined"] == ["sad"]
    assert plain["tags"]["sad"]["PR-AUC"] is None
    assert plain["tags"]["sad"]["PR-AUC-interval"] == [None, None]
    assert plain["tags"]["dark"]["F-score"] == found.report.per_tag["F-score"][2]
    assert plain["intervals"]["recall-micro"] == list(found.intervals["recall-micro"])
    assert plain["without_left_out"]["tracks"] == 299
    assert plain["tuned_on_this_truth"] == []


def test_what_does_not_fit_is_refused():
    truth, _ = problem()
    with pytest.raises(
        ScoresError, match=r"predictions of the submission came as .*\(300, 3\), to compare with .*\(299, 3\)"
    ):
        mediaeval.evaluate(truth[:-1], submission())
    other = Submission(submission().predictions, submission().decisions[:, :2], name="x")
    with pytest.raises(ScoresError, match="decisions of x"):
        mediaeval.evaluate(truth, other)
    with pytest.raises(ScoresError, match="decisions of x"):
        mediaeval.compare(truth, submission(), other)
    with pytest.raises(DatasetError, match="there are no rows 300, -1 to leave out of 300 tracks"):
        mediaeval.evaluate(truth, submission(), exclude=rows(7, 300, -1))
    with pytest.raises(DatasetError, match="all 300 tracks are left out"):
        mediaeval.evaluate(truth, submission(), exclude=np.arange(300))


# ---------------------------------------------------------------- comparisons


def test_submissions_are_compared_on_the_same_tracks():
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
        "one": found.a.macro["PR-AUC"], "other": found.b.macro["PR-AUC"], **ahead._asdict()
    }  # fmt: skip
    assert plain["tags"]["sad"]["ROC-AUC"] == found.tag_differences["ROC-AUC"][1]._asdict()
    fewer = mediaeval.compare(truth, submission(), worse, n_resamples=20, exclude=np.arange(100))
    assert (
        fewer.a.macro == metrics.evaluate(truth[100:], predictions[100:], decisions=submission().decisions[100:]).macro
    )


# ---------------------------------------------------------------- truth


def test_truth_comes_from_an_array_or_an_index(tmp_path, data):
    np.save(tmp_path / "truth.npy", np.eye(3, dtype=bool))
    truth, names = mediaeval.read_truth(tmp_path / "truth.npy")
    np.testing.assert_array_equal(truth, np.eye(3))
    assert names is None
    assert mediaeval.read_truth(tmp_path / "truth.npy", vocabulary=TAGS)[1] == TAGS
    published, official = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    listed, alphabet = mediaeval.read_truth(data / "mtg-jamendo/autotagging_moodtheme-test.tsv")
    np.testing.assert_array_equal(published, listed)
    assert official == alphabet


def test_an_index_that_lacks_tags_has_those_of_the_thresholds(tmp_path):
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
        with pytest.raises(ScoresError, match=r"3 columns; there are 2 tags.*--tags"):
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


def test_a_list_that_lacks_checksums_does_not_pass_for_one_without_leaks(tmp_path):
    for name in ("test", "train"):
        lines = [list(HEADER), *([f"{name}{n}", "a", "b", f"{name}/{n}.mp3", "60", "happy"] for n in range(3))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(map("\t".join, lines)))
    index, learned, sums = tmp_path / "test.tsv", [tmp_path / "train.tsv"], tmp_path / "sums.txt"
    known = [f"{n:064x} test/{n}.mp3" for n in range(3)] + [f"{n + 2:064x} train/{n}.mp3" for n in range(3)]
    sums.write_text("\n".join(known))
    assert mediaeval.find_leaks(index, learned, sums).tolist() == [2]
    sums.write_text("\n".join(known[1:]))
    with pytest.warns(MoodfieldWarning, match=r"sums\.txt has no checksum for 1 of 6 tracks"):
        assert mediaeval.find_leaks(index, learned, sums).tolist() == [2]
    for part, name in ((known[:3], "train"), (known[3:], "test")):
        sums.write_text("\n".join(part))
        with pytest.raises(DatasetError, match=rf"no checksum for any track of \S*{name}\.tsv; name the list"):
            mediaeval.find_leaks(index, learned, sums)


@pytest.mark.golden
def test_scores_without_the_leaked_tracks_stand_beside_the_official_ones(data):
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
def test_the_first_two_submissions_cannot_be_told_apart_but_the_ensemble_can(data):
    truth, _ = mediaeval.read_truth(data / "mediaeval2019/groundtruth.npy")
    one, two, three = (submissions.read(data / "mediaeval2019/CP-JKU" / system) for system in SYSTEMS[:3])
    near = mediaeval.compare(truth, one, two, n_resamples=100).differences["PR-AUC-macro"]
    far = mediaeval.compare(truth, three, one, n_resamples=100).differences["PR-AUC-macro"]
    assert near.low < 0 < near.high
    assert near.p > 0.05
    assert far.low > 0
    assert far.p < 0.05


# ---------------------------------------------------------------- gathering


class Ears:
    """Hear tracks, some of which fail, and remember which were heard."""

    def __init__(self, *deaf, stop=None):
        self.deaf, self.stop, self.heard = deaf, stop, []

    def __call__(self, tracks):
        for track in tracks:
            if track.id == self.stop:
                raise KeyboardInterrupt
            self.heard.append(track.id)
            number = int(track.id)
            scores = np.array([number / 100, 0.25, 1 / 3], np.float32)
            yield track, AudioError("missing", f"no {track.id}") if track.id in self.deaf else scores


INDEX = [Track(str(n), f"{n}.mp3", 60.0, ()) for n in range(6)]


def gather(ears, tmp_path, *, model="m", vocabulary=("dark", "happy"), **more):
    return mediaeval.predict_index(
        INDEX, ears, tags=TAGS, vocabulary=vocabulary, cache=tmp_path / "new" / "kept.jsonl", model=model, **more
    )


def test_an_index_is_gathered_in_its_order_and_the_order_of_the_tags(tmp_path):
    told = []
    found = gather(Ears(), tmp_path, progress=lambda track, error: told.append((track.id, error)))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:, 1], np.float32(np.arange(6) / 100))
    np.testing.assert_array_equal(found[:, 0], np.full(6, np.float32(1 / 3)))  # every digit
    assert told == [(str(n), None) for n in range(6)]
    nowhere = mediaeval.predict_index(INDEX, Ears(), tags=TAGS, vocabulary=TAGS, cache=None, model="m")
    np.testing.assert_array_equal(nowhere[:, [2, 0]], found)


@pytest.mark.parametrize("cut", [0, 5])
def test_what_was_heard_is_not_heard_again(tmp_path, cut):
    with pytest.raises(KeyboardInterrupt):
        gather(Ears(stop="3"), tmp_path)
    kept = tmp_path / "new" / "kept.jsonl"
    if cut:  # killed in the middle of a line
        kept.write_bytes(kept.read_bytes()[:-cut])
    ears = Ears()
    found = gather(ears, tmp_path)
    assert ears.heard == (["2"] if cut else []) + ["3", "4", "5"]
    np.testing.assert_array_equal(found, gather(Ears(), tmp_path / "elsewhere"))
    again = Ears()
    told = []
    gather(again, tmp_path, progress=lambda track, error: told.append(track.id))
    assert again.heard == []
    assert told == ["0", "1", "2", "3", "4", "5"]


def test_what_was_heard_is_on_the_disk_at_once(tmp_path):
    kept, sizes = tmp_path / "new" / "kept.jsonl", []
    gather(Ears(), tmp_path, progress=lambda track, error: sizes.append(len(kept.read_bytes().splitlines())))
    assert sizes == [2, 3, 4, 5, 6, 7]


def test_tracks_that_cannot_be_heard_are_refused_together_and_tried_again(tmp_path):
    with pytest.raises(DatasetError, match=r"2 of 6 tracks could not be read.*1\.mp3: no 1; 4\.mp3: no 4; get these"):
        gather(Ears("1", "4"), tmp_path)
    ears = Ears()
    gather(ears, tmp_path)
    assert ears.heard == ["1", "4"]


def test_something_may_stand_for_tracks_that_cannot_be_heard(tmp_path):
    with pytest.warns(MoodfieldWarning, match=r"2 of 6 rows .*mean.*: 1\.mp3, 4\.mp3$"):
        mean = gather(Ears("1", "4"), tmp_path, fill="mean")
    np.testing.assert_allclose(mean[[1, 4], 1], np.mean([0, 0.02, 0.03, 0.05]))
    with pytest.warns(MoodfieldWarning, match="2 of 6 rows .*zeros"):
        zeros = gather(Ears("1", "4"), tmp_path, fill="zeros")
    np.testing.assert_array_equal(zeros[[1, 4]], np.zeros((2, 2)))
    with pytest.raises(DatasetError, match="6 of 6 tracks"):
        gather(Ears(*"012345"), tmp_path / "other", fill="mean")


@pytest.mark.parametrize(
    ("broken", "fill", "advised"), [("014", None, True), ("012345", None, False), ("012345", "zeros", False)]
)
def test_a_refusal_names_few_tracks_and_advises_what_helps(tmp_path, broken, fill, advised):
    with pytest.raises(DatasetError) as caught:
        gather(Ears(*broken), tmp_path, fill=fill, hint="give --this")
    assert ("--this" in str(caught.value)) is advised
    assert str(caught.value).count(".mp3: ") == min(len(broken), 5)
    assert ("and 1 more" in str(caught.value)) is (len(broken) == 6)


def test_a_file_without_scores_does_not_stay(tmp_path):
    with pytest.raises(DatasetError):
        gather(Ears(*"012345"), tmp_path)
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(KeyboardInterrupt):
        gather(Ears(stop="0"), tmp_path)
    assert not list((tmp_path / "new").iterdir())


def test_scores_of_another_model_and_files_that_are_no_scores_are_left_alone(tmp_path):
    gather(Ears(), tmp_path)
    kept = tmp_path / "new" / "kept.jsonl"
    before = kept.read_bytes()
    with pytest.raises(ConfigError, match="has scores of another model"):
        gather(Ears(), tmp_path, model="other")
    assert kept.read_bytes() == before
    kept.write_bytes(before + b"no json\n")
    with pytest.raises(ConfigError, match="lines that are no scores"):
        gather(Ears(), tmp_path)
    for scores in ("", ', "scores": [0.5]', ', "scores": [0.5, NaN, 0.5]', f', "scores": [0, 1, {10**400}]'):
        kept.write_bytes(before + b'{"track": "0"' + scores.encode() + b"}\n")
        with pytest.raises(ConfigError, match="lines that are no scores"):
            gather(Ears(), tmp_path)


@pytest.mark.parametrize("other", ["id", "path", "music"])
def test_scores_of_other_tracks_or_other_music_are_left_alone(tmp_path, other):
    gather(Ears(), tmp_path, audio="/here")
    index = [replace(track, **{other: f"{track.id}9"}) for track in INDEX] if other != "music" else INDEX
    ears, kept = Ears(), tmp_path / "new" / "kept.jsonl"
    with pytest.raises(ConfigError, match="of other tracks, or of music in another folder"):
        mediaeval.predict_index(
            index, ears, tags=TAGS, vocabulary=TAGS, cache=kept, model="m",
            audio="/there" if other == "music" else "/here",
        )  # fmt: skip
    assert ears.heard == []


def test_a_model_without_the_tags_is_refused_before_anything_is_heard(tmp_path):
    ears = Ears()
    with pytest.raises(ScoresError, match="the model has no scores for slow, epic"):
        gather(ears, tmp_path, vocabulary=("slow", "happy", "epic"))
    assert ears.heard == []

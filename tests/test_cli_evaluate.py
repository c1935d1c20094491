"""The commands that score and make predictions; the published numbers to every digit."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import models
from commands import invoke
from moodfield import tagger
from moodfield.datasets.mtg_jamendo import HEADER
from moodfield.evaluation import bootstrap, ensemble, mediaeval, metrics, submissions

SYSTEMS = ("1_shakefaresnet", "2_faresnet", "3_avg_ensemble", "4_crnn", "5_resnet34")
TAGS = ("happy", "film", "sad", "[dark]", "slow")
SHOW_WARNINGS = pytest.mark.filterwarnings("always::moodfield.errors.MoodfieldWarning")
"""warnings go to standard error, as outside of tests"""


@pytest.fixture(scope="module")
def published(data) -> Path:
    return data / "mediaeval2019"


@pytest.fixture
def submissions_dir(tmp_path) -> Path:
    """A folder with truth, an index of the same truth and two submissions, for test and validation."""
    generator = np.random.default_rng(0)
    (tmp_path / "tags.txt").write_text("".join(f"mood/theme---{tag}\n" for tag in TAGS))
    for part, tracks in (("test", 400), ("validation", 100)):
        truth = generator.random((tracks, 5)) < 0.3
        np.save(tmp_path / f"{part}.npy", truth)
        for name, gain in (("good", 0.4), ("bad", 0.1)):
            predictions = 0.5 * generator.random(truth.shape) + gain * truth
            np.save(tmp_path / f"{part}-{name}.npy", predictions)
            submission = submissions.make(predictions, np.full(5, 0.4), TAGS)
            submissions.write(submission, tmp_path / f"{part}-{name}", vocabulary=TAGS)
        rows = [
            [
                str(n),
                "a",
                "b",
                f"{n}.wav",
                "60",
                *(tag for tag, is_present in zip(TAGS, row, strict=True) if is_present),
            ]
            for n, row in enumerate(truth)
        ]
        (tmp_path / f"{part}.tsv").write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    return tmp_path


def run_json(*words):
    """Run a command with --json; return the object and standard error."""
    result = invoke(*words, "--json")
    assert result.code == 0, result.err
    (line,) = result.out.splitlines()
    return json.loads(line), result.err


# ---------------------------------------------------------------- the published results


def tsv(path):
    with path.open(encoding="utf-8") as file:
        return {line.pop(""): line for line in csv.DictReader(file, delimiter="\t")}


@pytest.mark.golden
@pytest.mark.parametrize("system", SYSTEMS)
def test_all_ten_numbers_of_all_submissions(published, system):
    values, err = run_json(
        "evaluate", published / "CP-JKU" / system, "--truth", published / "groundtruth.npy", "--intervals", 0
    )
    assert {name: f"{values[name]:.6f}" for name in list(values)[:10]} == tsv(published / "CP-JKU.tsv")[system]
    assert len(values["tuned_tags"]) == 56
    assert err == ""


@SHOW_WARNINGS
@pytest.mark.golden
@pytest.mark.parametrize("system", ["vggish", "popular"])
def test_all_ten_numbers_of_both_baselines(published, data, system):
    folder = published / "baseline"
    values, err = run_json(
        "evaluate", "--predictions", folder / f"{system}_predictions.npy", "--intervals", 0,
        "--decisions", folder / f"{system}_decisions.npy",
        "--truth", data / "mtg-jamendo/autotagging_moodtheme-test.tsv",
    )  # fmt: skip
    assert {name: f"{values[name]:.6f}" for name in list(values)[:10]} == tsv(published / "baseline.tsv")[system]
    are_warnings = [line.startswith("moodfield: predictions of ") for line in err.splitlines()]
    assert are_warnings == ([True, True] if system == "popular" else [])


@pytest.mark.golden
def test_official_thresholds_give_the_published_numbers_without_decisions(published, tmp_path):
    arguments = (published / "CP-JKU/5_resnet34" / "predictions.npy", "--truth", published / "groundtruth.npy")
    result = invoke(
        "thresholds", "--predictions", *arguments, "--criterion", "official", "-o", tmp_path / "thresholds.txt"
    )
    assert result.code == 0, result.err
    values, _ = run_json("evaluate", *arguments, "--thresholds", tmp_path / "thresholds.txt", "--intervals", 0)
    assert {name: f"{values[name]:.6f}" for name in list(values)[:10]} == tsv(published / "CP-JKU.tsv")["5_resnet34"]
    assert len(values["tuned_tags"]) == 56


# ---------------------------------------------------------------- evaluate


@SHOW_WARNINGS
def test_a_table_of_numbers_with_intervals(submissions_dir):
    words = (
        "evaluate",
        submissions_dir / "test-good",
        "--truth",
        submissions_dir / "test.tsv",
        "--intervals",
        50,
        "--per-tag",
    )
    result = invoke(*words, "--tags", submissions_dir / "tags.txt")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    score = mediaeval.evaluate(
        np.load(submissions_dir / "test.npy"), submissions.read(submissions_dir / "test-good"), n_resamples=50
    )
    macro, micro, low = (
        score.report.macro["F-score"],
        score.report.micro["F-score"],
        score.intervals["F-score-macro"][0],
    )
    assert result.out.startswith(f"{submissions_dir / 'test-good'}: 5 tags\n")
    f = next(row for row in rows if row[:1] == ["F-score"])
    assert (f[1], f[2], f[5]) == (f"{macro:.4f}", f"{low:.4f}", f"{micro:.4f}")
    assert [row[0] for row in rows[-5:]] == list(TAGS)
    assert "optimistic" not in result.out
    unsorted = invoke(*words)  # without --tags, an index is read in alphabetical order of tags
    assert [line.split()[0] for line in unsorted.out.splitlines()[-5:]] == sorted(TAGS)
    assert "in another order than the truth" in unsorted.err


def test_truth_as_an_array_needs_no_names_and_takes_a_list(submissions_dir):
    plain, _ = run_json(
        "evaluate", submissions_dir / "test-good.npy", "--truth", submissions_dir / "test.npy", "--intervals", 0
    )
    assert list(plain["tags"]) == ["0", "1", "2", "3", "4"]
    named, _ = run_json(
        "evaluate",
        submissions_dir / "test-good.npy",
        "--truth",
        submissions_dir / "test.npy",
        "--tags",
        submissions_dir / "tags.txt",
        "--intervals",
        9,
    )
    assert list(named["tags"]) == list(TAGS)
    assert named["PR-AUC-macro"] == plain["PR-AUC-macro"]
    assert list(named["intervals"]) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]
    assert "intervals" not in plain


def test_thresholds_are_chosen_on_validation_and_applied(submissions_dir):
    arguments = (
        "evaluate",
        submissions_dir / "test-good.npy",
        "--truth",
        submissions_dir / "test.npy",
        "--tags",
        submissions_dir / "tags.txt",
    )
    truth, predictions = np.load(submissions_dir / "test.npy"), np.load(submissions_dir / "test-good.npy")
    path = submissions_dir / "thresholds.txt"
    for part in ("validation", "test"):
        for criterion in ("f", "official"):
            sources = (
                "--truth",
                submissions_dir / f"{part}.npy",
                "--predictions",
                submissions_dir / f"{part}-good.npy",
            )
            result = invoke(
                "thresholds", *sources, "--criterion", criterion, "--tags", submissions_dir / "tags.txt", "-o", path
            )
            assert result.code == 0, result.err
            metrics_, _ = run_json(*arguments, "--thresholds", path)
            arrays = [np.load(submissions_dir / f"{part}{name}.npy") for name in ("", "-good")]
            thresholds = metrics.best_thresholds(*arrays, criterion=criterion)
            expected = metrics.evaluate(truth, predictions, decisions=metrics.decide(predictions, thresholds))
            assert {name: metrics_[name] for name in expected.to_dict()} == expected.to_dict()
            assert len(metrics_["tuned_tags"]) == (5 if part == "test" else 0)
            assert ("5 of 5 tags" in invoke(*arguments, "--thresholds", path).out) == (part == "test")
    without_names = ("--truth", submissions_dir / "test.npy", "--predictions", submissions_dir / "test-good.npy")
    assert invoke("thresholds", *without_names, "-o", path).code == 0
    assert list(submissions.read_thresholds(path)) == ["0", "1", "2", "3", "4"]
    assert invoke("evaluate", *without_names, "--thresholds", path).code == 0
    (submissions_dir / "few.txt").write_text("happy\t0.5\n")
    failure = invoke(*arguments, "--thresholds", submissions_dir / "few.txt")
    assert (failure.code, "'film'" in failure.err) == (1, True)
    for other in ("tags.txt", "test.npy"):
        assert invoke("thresholds", *without_names, "-o", submissions_dir / other).code == 2


def test_metrics_without_excluded_rows_stand_beside_the_official_numbers(submissions_dir):
    (submissions_dir / "rows.txt").write_text("3\n7\n")
    arguments = ("evaluate", submissions_dir / "test-good", "--truth", submissions_dir / "test.npy", "--intervals", 0)
    table = invoke(*arguments, "--exclude", submissions_dir / "rows.txt").out
    assert "400 tracks" in table
    assert "398 tracks" in table
    values, _ = run_json(*arguments, "--exclude", submissions_dir / "rows.txt")
    kept = np.delete(np.arange(400), [3, 7])
    expected = metrics.evaluate(
        np.load(submissions_dir / "test.npy")[kept], np.load(submissions_dir / "test-good.npy")[kept]
    )
    assert values["without_excluded"]["PR-AUC-micro"] == expected.micro["PR-AUC"]


@pytest.mark.parametrize(
    "words", [(), ("test-good", "--predictions", "test-good.npy"), ("test-good", "--model", "default")]
)
def test_wrong_arguments_of_evaluate(submissions_dir, words, monkeypatch):
    monkeypatch.chdir(submissions_dir)
    assert invoke("evaluate", *words, "--truth", "test.npy").code == 2


def test_unreadable_predictions_are_an_error(submissions_dir):
    np.save(submissions_dir / "objects.npy", np.array([[{}]], object), allow_pickle=True)
    result = invoke("evaluate", submissions_dir / "objects.npy", "--truth", submissions_dir / "test.npy")
    assert result.code == 1
    assert "objects.npy" in result.err
    assert invoke("evaluate", submissions_dir / "test-good", "--truth", submissions_dir / "validation.npy").code == 1
    assert "missing" in invoke("evaluate", submissions_dir / "missing", "--truth", submissions_dir / "test.npy").err


# ---------------------------------------------------------------- compare


def test_submissions_side_by_side(submissions_dir):
    words = (
        "compare",
        submissions_dir / "test-good",
        submissions_dir / "test-bad",
        "--truth",
        submissions_dir / "test.npy",
        "--intervals",
        100,
    )
    result = invoke(*words, "--per-tag")
    assert result.code == 0
    assert result.out.splitlines()[-1] == "By macro PR-AUC, 1 is better than 2."
    differences, _ = run_json(*words)
    systems = [
        bootstrap.System(np.load(submissions_dir / "test.npy"), np.load(submissions_dir / f"test-{name}.npy"))
        for name in ("good", "bad")
    ]
    resampled = bootstrap.bootstrap(systems, n_resamples=100, generator=np.random.default_rng(0))
    expected = bootstrap.compare(*resampled)["PR-AUC-macro"]
    assert differences["PR-AUC-macro"] == {
        "a": systems[0].report.macro["PR-AUC"], "b": systems[1].report.macro["PR-AUC"], **expected._asdict()
    }  # fmt: skip
    row = next(line for line in result.out.splitlines() if line.startswith("PR-AUC-macro")).split()
    assert row[3] == f"{expected.value:+.4f}"
    assert row[-1] == f"{expected.p:.3f}"
    swapped = invoke(
        "compare", submissions_dir / "test-bad", submissions_dir / "test-good", "--truth", submissions_dir / "test.npy"
    )
    assert swapped.out.splitlines()[-1] == "By macro PR-AUC, 2 is better than 1."
    same = invoke(
        "compare",
        submissions_dir / "test-bad",
        submissions_dir / "test-bad.npy",
        "--truth",
        submissions_dir / "test.npy",
    )
    assert same.out.splitlines()[-1] == "By macro PR-AUC, 1 and 2 do not differ significantly."


def test_tags_on_too_few_tracks_are_named_and_not_counted(submissions_dir):
    truth = np.load(submissions_dir / "test.npy")
    truth[:, 2:4] = np.arange(400)[:, None] < [3, 0]
    np.save(submissions_dir / "rare.npy", truth)
    words = (
        "compare",
        submissions_dir / "test-good",
        submissions_dir / "test-bad",
        "--truth",
        submissions_dir / "rare.npy",
        "--intervals",
        20,
    )
    result = invoke(*words, "--per-tag", "--tags", submissions_dir / "tags.txt")
    assert "Of 3 tags, about 0 have p < 0.05 by chance." in result.out
    assert "Too rare for an interval and p: sad\n" in result.out
    sad = next(line.split() for line in result.out.splitlines() if line.startswith("sad"))
    assert (sad[3][0] in "+-", sad[4:]) == (True, ["–", "–"])
    differences, _ = run_json(*words)
    assert differences["rare_tags"] == ["2"]
    assert differences["tags"]["2"]["PR-AUC"]["p"] is None
    arguments = ("evaluate", submissions_dir / "test-good", "--tags", submissions_dir / "tags.txt", "--intervals", 20)
    assert (
        "Too rare for intervals of their own: sad\n" in invoke(*arguments, "--truth", submissions_dir / "rare.npy").out
    )
    np.save(submissions_dir / "rare.npy", np.arange(400)[:, None] < np.full(5, 3))
    assert invoke(*words).out.splitlines()[-1].endswith("too few tracks for a test.")
    row = next(
        line
        for line in invoke(*arguments, "--truth", submissions_dir / "rare.npy").out.splitlines()
        if "F-score" in line
    )
    assert row.split()[2::2] == ["–", "–"]


# ---------------------------------------------------------------- submission check


def test_submission_check_reports_faults_and_exits_1(submissions_dir):
    arguments = ("submission", "check", "--tags", submissions_dir / "tags.txt")
    good = invoke(*arguments, submissions_dir / "test-good", "--truth", submissions_dir / "test.tsv")
    assert (good.code, good.out) == (0, f"{submissions_dir / 'test-good'}: in order\n")
    mismatch = invoke(*arguments, submissions_dir / "test-good", "--truth", submissions_dir / "validation.npy")
    assert mismatch.code == 1
    assert "400" in mismatch.out
    assert "100 tracks" in mismatch.out
    without_decisions = invoke(*arguments, submissions_dir / "test-good.npy", "--json")
    assert without_decisions.code == 1
    (fault,) = json.loads(without_decisions.out)["faults"]
    assert "decisions.npy" in fault
    official = invoke("submission", "check", submissions_dir / "test-good")
    assert "56 tags" in official.out


def test_truth_with_other_tags_is_an_error(submissions_dir):
    np.save(submissions_dir / "wide.npy", np.eye(400, 6) > 0)
    result = invoke(
        "submission",
        "check",
        submissions_dir / "test-good",
        "--truth",
        submissions_dir / "wide.npy",
        "--tags",
        submissions_dir / "tags.txt",
    )
    assert (result.code, "(400, 5)" in result.err) == (1, True)


def test_rows_in_another_order_are_found(submissions_dir):
    arguments = ("submission", "check", "--tags", submissions_dir / "tags.txt", "--truth")
    order = sorted(range(400), key=lambda row: f"{row}.wav")
    submission = submissions.make(np.load(submissions_dir / "test-good.npy")[order], np.full(5, 0.4), TAGS)
    submissions.write(submission, submissions_dir / "sorted", vocabulary=TAGS)
    assert "sorted by path" in invoke(*arguments, submissions_dir / "test.tsv", submissions_dir / "sorted").out
    untagged = "\n".join(
        "\t".join(line.split("\t")[:5]) for line in (submissions_dir / "test.tsv").read_text().splitlines()
    )
    (submissions_dir / "untagged.tsv").write_text(untagged.replace("DURATION", "DURATION\tTAGS"))
    assert invoke(*arguments, submissions_dir / "untagged.tsv", submissions_dir / "sorted").out.endswith(": in order\n")
    assert (
        "there are 400 tracks"
        in invoke(*arguments, submissions_dir / "untagged.tsv", submissions_dir / "validation-good").out
    )


# ---------------------------------------------------------------- ensembles


def test_an_ensemble_chosen_on_validation(submissions_dir):
    words = (
        "ensemble",
        submissions_dir / "test-good",
        submissions_dir / "test-bad.npy",
        "--tags",
        submissions_dir / "tags.txt",
    )
    validation = (
        "--validation-truth", submissions_dir / "validation.npy",
        "--validation-predictions", submissions_dir / "validation-good.npy",
        "--validation-predictions", submissions_dir / "validation-bad",
    )  # fmt: skip
    result = invoke(*words, *validation, "--greedy", "--average", "ranks", "-o", submissions_dir / "both")
    assert result.code == 0, result.err
    validation_scores = [np.load(submissions_dir / f"validation-{name}.npy") for name in ("good", "bad")]
    chosen = ensemble.greedy_selection(np.load(submissions_dir / "validation.npy"), validation_scores, average="ranks")
    members = [np.load(submissions_dir / f"test-{name}.npy") for name in ("good", "bad")]
    submission = submissions.read(submissions_dir / "both")
    np.testing.assert_array_equal(
        submission.predictions, ensemble.mean(members, weights=chosen.weights, average="ranks")
    )
    validation_mean = ensemble.mean(validation_scores, weights=chosen.weights, average="ranks")
    thresholds = metrics.best_thresholds(np.load(submissions_dir / "validation.npy"), validation_mean)
    np.testing.assert_array_equal(submission.decisions, metrics.decide(submission.predictions, thresholds))
    assert result.out.splitlines()[0] == f"{chosen.weights[0]:.3f}  {submissions_dir / 'test-good'}"
    assert f"PR-AUC-macro {chosen.score:.4f}" in result.out


def test_weights_and_greedy_contradict(submissions_dir):
    result = invoke(
        "ensemble", submissions_dir / "test-good.npy", submissions_dir / "test-bad.npy", "--weights", "5,1", "--greedy",
        "--validation-truth", submissions_dir / "validation.npy",
        "--validation-predictions", submissions_dir / "validation-good.npy",
        "--validation-predictions", submissions_dir / "validation-bad.npy", "-o", submissions_dir / "mean.npy",
    )  # fmt: skip
    assert (result.code, "--greedy" in result.err) == (2, True)
    assert not (submissions_dir / "mean.npy").exists()


def test_a_mean_of_predictions_needs_no_validation(submissions_dir):
    words = ("ensemble", submissions_dir / "test-good", submissions_dir / "test-bad.npy")
    assert invoke(*words, "--weights", "3,1", "-o", submissions_dir / "mean.npy").code == 0
    members = [np.load(submissions_dir / f"test-{name}.npy") for name in ("good", "bad")]
    np.testing.assert_array_equal(np.load(submissions_dir / "mean.npy"), ensemble.mean(members, weights=[3.0, 1.0]))
    for options in (("-o", submissions_dir / "folder"), ("--greedy", "-o", submissions_dir / "x.npy")):
        failure = invoke(*words, *options)
        assert (failure.code, "--validation-truth" in failure.err) == (2, True)
    assert "2 numbers" in invoke(*words, "--weights", "3;1", "-o", submissions_dir / "x.npy").err
    assert "2 numbers" in invoke(*words, "--weights", "3", "-o", submissions_dir / "x.npy").err
    assert not (submissions_dir / "x.npy").exists()
    assert not (submissions_dir / "folder").exists()


# ---------------------------------------------------------------- submissions and predictions from music


@pytest.fixture
def music_dir(tmp_path) -> Path:
    """An index of four tracks with their music."""
    (tmp_path / "music").mkdir()
    rows = []
    for number in range(4):
        models.save(tmp_path / "music" / f"{number}.wav", models.music(2 + number, seed=number))
        rows.append([f"track_{number}", "a", "b", f"{number}.wav", "3", TAGS[number % 3], TAGS[3]])
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    (tmp_path / "tags.txt").write_text("\n".join(["sad", "film", "happy", "[dark]"]))
    return tmp_path


def submit(music_dir, model, *options):
    return invoke(
        "submission", "make", music_dir / "index.tsv", "--audio", music_dir / "music", "--model", model.folder,
        "-o", music_dir / "mine", "--jobs", 1, *options,
    )  # fmt: skip


def predict(music_dir, model, *options):
    """Run `predict` on the index."""
    arguments = (music_dir / "index.tsv", "--audio", music_dir / "music", "--model", model.folder, "--jobs", 1)
    return invoke("predict", *arguments, "-o", music_dir / "preds.npy", *options)


def run_recommended(result):
    """Run the command that `submit` recommends, as it is printed."""
    _, _, command = result.out.rpartition("; try: moodfield ")
    return invoke(*shlex.split(command))


def test_a_model_makes_a_submission(music_dir, cp_model):
    result = submit(music_dir, cp_model)
    assert result.code == 0, result.err
    submission = submissions.read(music_dir / "mine")
    loaded = tagger.load(cp_model.folder)
    taggings = [loaded.tag(music_dir / "music" / f"{number}.wav") for number in range(4)]
    np.testing.assert_array_equal(submission.predictions, [tagging.scores for tagging in taggings])
    for row, tagging in zip(submission.decisions, taggings, strict=True):
        assert {tag for tag, is_decided in zip(models.VOCABULARY, row, strict=True) if is_decided} == set(
            tagging.decided
        )
    assert list(submission.thresholds) == list(models.VOCABULARY)
    assert sorted(path.name for path in music_dir.iterdir()) == ["index.tsv", "mine", "music", "tags.txt"]
    check = run_recommended(result)
    assert (check.code, check.out) == (0, f"{music_dir / 'mine'}: in order\n")


def test_low_bitrate_files_and_the_audios_folder_are_found(music_dir, cp_model):
    assert submit(music_dir, cp_model).code == 0
    expected = submissions.read(music_dir / "mine").predictions
    (music_dir / "music" / "audios").mkdir()
    (music_dir / "music" / "0.wav").rename(music_dir / "music" / "0.low.wav")
    (music_dir / "music" / "1.wav").rename(music_dir / "music" / "audios" / "1.low.wav")
    result = submit(music_dir, cp_model)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(submissions.read(music_dir / "mine").predictions, expected)


def test_tags_may_be_fewer_and_in_another_order_and_thresholds_others(music_dir, cp_model):
    (music_dir / "limits.txt").write_text("sad\t0.1\nfilm\t0.2\nhappy\t0.3\n[dark]\t0.999\n")
    result = submit(music_dir, cp_model, "--tags", music_dir / "tags.txt", "--thresholds", music_dir / "limits.txt")
    assert result.code == 0, result.err
    submission = submissions.read(music_dir / "mine")
    loaded = tagger.load(cp_model.folder)
    expected = loaded.tag(music_dir / "music" / "2.wav").scores[[2, 1, 0, 3]]
    np.testing.assert_array_equal(submission.predictions[2], expected)
    np.testing.assert_array_equal(submission.decisions[2], expected > [0.1, 0.2, 0.3, 0.999])


@SHOW_WARNINGS
def test_unreadable_files_are_named_and_tried_again(music_dir, cp_model, monkeypatch):
    good = (music_dir / "music" / "1.wav").read_bytes()
    (music_dir / "music" / "1.wav").write_bytes(b"broken")
    (music_dir / "music" / "3.wav").unlink()
    result = submit(music_dir, cp_model)
    assert result.code == 1
    assert "2 of 4 tracks" in result.err
    assert "1.wav: " in result.err
    assert "3.wav: " in result.err
    assert "--on-error mean" in result.err
    assert not (music_dir / "mine").exists()
    tagged_paths = []
    tag_files = tagger.tag_files
    monkeypatch.setattr(
        tagger,
        "tag_files",
        lambda files, *options, **keywords: tagged_paths.extend(files) or tag_files(files, *options, **keywords),
    )
    (music_dir / "music" / "1.wav").write_bytes(good)
    filled = submit(music_dir, cp_model, "--on-error", "mean")
    assert filled.code == 0, filled.err
    assert [path.name for path in tagged_paths] == ["1.wav", "3.wav"]
    predictions = submissions.read(music_dir / "mine").predictions
    np.testing.assert_allclose(predictions[3], predictions[:3].mean(axis=0))
    (line,) = filter(None, filled.err.splitlines())  # the bar may leave an empty one
    assert line.startswith("moodfield: 1 of 4 rows")
    assert "mean" in line
    assert line.endswith(": 3.wav")
    assert submit(music_dir, cp_model, "--on-error", "zeros").err.count("1 of 4 rows") == 1
    check = invoke("submission", "check", music_dir / "mine", "--model", cp_model.folder)
    assert (check.code, "1 of 4 rows: 3" in check.out) == (0, True)


def test_no_hint_if_no_track_can_be_read(music_dir, cp_model):
    for path in (music_dir / "music").iterdir():
        path.write_bytes(b"broken")
    for result in (
        submit(music_dir, cp_model),
        submit(music_dir, cp_model, "--on-error", "mean"),
        predict(music_dir, cp_model),
    ):
        assert (result.code, "4 of 4" in result.err) == (1, True)
        assert "fill" not in result.err
    assert sorted(path.name for path in music_dir.iterdir()) == ["index.tsv", "music", "tags.txt"]


def test_a_missing_audio_folder_is_one_usage_error(music_dir, cp_model, monkeypatch):
    monkeypatch.setattr(tagger, "load", lambda *_: pytest.fail("a model was loaded"))
    for path in ("/nowhere", music_dir / "index.tsv"):
        for command in (submit, predict):
            result = command(music_dir, cp_model, "--audio", path)
            assert (result.code, result.out) == (2, "")
            assert f"--audio {path}" in result.err
            assert len(result.err.splitlines()) == 1
    assert sorted(path.name for path in music_dir.iterdir()) == ["index.tsv", "music", "tags.txt"]


@pytest.mark.parametrize("tags", [(), ("--tags", "tags.txt")])
def test_predictions_do_not_depend_on_tags_of_the_index(music_dir, cp_model, monkeypatch, tags):
    monkeypatch.chdir(music_dir)
    assert submit(music_dir, cp_model, *tags).code == 0
    expected = submissions.read(music_dir / "mine").predictions
    (music_dir / "index.tsv").write_text((music_dir / "index.tsv").read_text().replace("film", "elsewhere"))
    result = submit(music_dir, cp_model, *tags)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(submissions.read(music_dir / "mine").predictions, expected)
    check = run_recommended(result)
    assert (check.code, "unusual: " in check.out, "not compared" in check.out) == (0, True, True)
    assert predict(music_dir, cp_model, *tags).code == 0
    evaluation = invoke("evaluate", "--truth", "index.tsv", "--predictions", "preds.npy", *tags)
    assert (evaluation.code, "elsewhere" in evaluation.err) == (1, True)


def test_a_submission_is_scored_on_an_index_that_lacks_tags(music_dir, cp_model):
    assert submit(music_dir, cp_model).code == 0
    arguments = ("--truth", music_dir / "index.tsv", "--intervals", 0)
    values, _ = run_json("evaluate", music_dir / "mine", *arguments, "--per-tag")
    assert list(values["tags"]) == list(models.VOCABULARY)
    (music_dir / "list.txt").write_text("\n".join(models.VOCABULARY))
    assert values == run_json("evaluate", music_dir / "mine", *arguments, "--tags", music_dir / "list.txt")[0]
    comparison = invoke("compare", music_dir / "mine", music_dir / "mine", *arguments[:2], "--intervals", 5)
    assert comparison.code == 0, comparison.err
    (music_dir / "mine" / "thresholds.txt").unlink()
    for words in (("evaluate", music_dir / "mine"), ("compare", music_dir / "mine", music_dir / "mine")):
        failure = invoke(*words, *arguments[:2])
        assert (failure.code, "--tags" in failure.err) == (1, True)


def test_a_folder_with_other_files_does_not_become_a_submission(music_dir, cp_model):
    (music_dir / "mine").mkdir()
    (music_dir / "mine" / "notes.txt").write_text("notes")
    result = submit(music_dir, cp_model)
    assert (result.code, result.out, "notes.txt" in result.err) == (2, "", True)
    assert [path.name for path in (music_dir / "mine").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in music_dir.iterdir()) == ["index.tsv", "mine", "music", "tags.txt"]


@pytest.mark.parametrize(
    "line",
    ["evaluate nothere --truth test.npy", "submission check nothere", "compare nothere test-good --truth test.npy",
     "compare test-good nothere --truth test.npy", "ensemble nothere test-good -o x.npy"],
)  # fmt: skip
def test_missing_files_are_errors(submissions_dir, monkeypatch, line):
    monkeypatch.chdir(submissions_dir)
    result = invoke(*line.split())
    assert (result.code, result.out) == (1, "")
    assert "nothere" in result.err
    assert "Errno" not in result.err


def test_the_cache_of_another_model_is_an_error(music_dir, cp_model, tmp_path):
    (music_dir / "music" / "1.wav").write_bytes(b"broken")
    assert submit(music_dir, cp_model).code == 1
    other = models.varied(cp_model, tmp_path / "other", name="other")
    arguments = ("--audio", music_dir / "music", "--model", other, "-o", music_dir / "mine")
    result = invoke("submission", "make", music_dir / "index.tsv", *arguments)
    assert result.code == 1
    assert "mine.scores.jsonl" in result.err


def test_the_cache_of_another_folder_is_an_error(music_dir, cp_model, monkeypatch):
    (music_dir / "music" / "1.wav").write_bytes(b"broken")
    assert submit(music_dir, cp_model).code == 1
    shutil.copytree(music_dir / "music", music_dir / "other")
    models.save(music_dir / "other" / "1.wav", models.music(2))
    result = submit(music_dir, cp_model, "--audio", music_dir / "other")
    assert result.code == 1
    assert "mine.scores.jsonl" in result.err
    monkeypatch.chdir(music_dir)
    models.save(music_dir / "music" / "1.wav", models.music(2))
    assert submit(music_dir, cp_model, "--audio", "music").code == 0  # the same folder by another name


def test_predictions_are_scored_as_a_submission(music_dir, cp_model):
    result = predict(music_dir, cp_model)
    assert (result.code, "4 tracks × 5 tags" in result.out) == (0, True), result.err
    assert not list(music_dir.glob("preds.npy.*"))
    submit(music_dir, cp_model)
    submission = submissions.read(music_dir / "mine")
    np.testing.assert_array_equal(np.load(music_dir / "preds.npy"), submission.predictions)
    (music_dir / "tags.txt").write_text("\n".join(models.VOCABULARY))
    words = (
        "--truth",
        music_dir / "index.tsv",
        "--predictions",
        music_dir / "preds.npy",
        "--tags",
        music_dir / "tags.txt",
    )
    values, _ = run_json("evaluate", *words, "--intervals", 0)
    truth, _ = mediaeval.read_truth(music_dir / "index.tsv", vocabulary=models.VOCABULARY)
    expected = metrics.evaluate(truth, submission.predictions, decisions=submission.decisions, tags=models.VOCABULARY)
    assert values["PR-AUC-macro"] == expected.macro["PR-AUC"]
    assert values["without_positives"] == list(expected.without_positives) == ["slow"]
    named, _ = run_json("evaluate", *words[:4], "--intervals", 0)  # by the names that `predict` wrote beside them
    assert named == values
    assert named["F-score-macro"] == expected.macro["F-score"]


def test_columns_are_evaluated_under_their_names(music_dir, cp_model, tmp_path):
    assert predict(music_dir, cp_model).code == 0
    assert submit(music_dir, cp_model).code == 0
    (music_dir / "reversed.txt").write_text("\n".join(reversed(models.VOCABULARY)))
    words = ("evaluate", "--truth", music_dir / "index.tsv", "--predictions", music_dir / "preds.npy", "--intervals", 0)
    straight, _ = run_json(*words)
    (music_dir / "preds.npy").rename(music_dir / "straight.npy")
    (music_dir / "preds.thresholds.txt").rename(music_dir / "straight.thresholds.txt")
    assert predict(music_dir, cp_model, "--tags", music_dir / "reversed.txt").code == 0
    reordered, _ = run_json(*words)
    assert {name: value for name, value in reordered.items() if "macro" in name} == pytest.approx(
        {name: value for name, value in straight.items() if "macro" in name}
    )
    pair = ("compare", music_dir / "preds.npy", music_dir / "straight.npy", "--truth", music_dir / "index.tsv")
    assert invoke(*pair).code == 1
    (music_dir / "preds.thresholds.txt").write_text("happy\t0.5\n")
    failure = invoke(*words)
    assert (failure.code, "preds.thresholds.txt" in failure.err) == (1, True)


def test_thresholds_do_not_replace_files_of_the_submission_they_are_chosen_for(music_dir, cp_model):
    assert submit(music_dir, cp_model).code == 0
    before = (music_dir / "mine" / "thresholds.txt").read_bytes()
    words = ("thresholds", "--truth", music_dir / "index.tsv", "--predictions", music_dir / "mine", "-o")
    assert invoke(*words, music_dir / "mine" / "thresholds.txt").code == 2
    assert (music_dir / "mine" / "thresholds.txt").read_bytes() == before


@SHOW_WARNINGS
def test_a_stopped_prediction_continues(music_dir, cp_model, monkeypatch):
    (music_dir / "music" / "3.wav").rename(music_dir / "3.wav")
    assert predict(music_dir, cp_model).code == 1
    assert len((music_dir / "preds.npy.scores.jsonl").read_text().splitlines()) == 4
    (music_dir / "3.wav").rename(music_dir / "music" / "3.wav")
    tagged_paths = []
    tag_files = tagger.tag_files
    monkeypatch.setattr(
        tagger,
        "tag_files",
        lambda paths, *options, **keywords: tagged_paths.extend(paths) or tag_files(paths, *options, **keywords),
    )
    assert predict(music_dir, cp_model).code == 0
    assert [path.name for path in tagged_paths] == ["3.wav"]
    (music_dir / "music" / "1.wav").unlink()
    assert predict(music_dir, cp_model, "--on-error", "zeros").code == 0
    assert not np.load(music_dir / "preds.npy")[1].any()
    for output in ("mine", "tags.txt", "index.tsv"):
        assert predict(music_dir, cp_model, "-o", music_dir / output).code == 2

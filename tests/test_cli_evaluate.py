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
AS_WORDS = pytest.mark.filterwarnings("always::moodfield.errors.MoodfieldWarning")
"""warnings are err, as they are outside of tests"""


@pytest.fixture(scope="module")
def published(data) -> Path:
    return data / "mediaeval2019"


@pytest.fixture
def small(tmp_path) -> Path:
    """Truth, an index with the same truth, two submissions and their likes for validation, in a folder."""
    drawn = np.random.default_rng(0)
    (tmp_path / "tags.txt").write_text("".join(f"mood/theme---{tag}\n" for tag in TAGS))
    for part, tracks in (("test", 400), ("validation", 100)):
        truth = drawn.random((tracks, 5)) < 0.3
        np.save(tmp_path / f"{part}.npy", truth)
        for name, gain in (("good", 0.4), ("bad", 0.1)):
            predictions = 0.5 * drawn.random(truth.shape) + gain * truth
            np.save(tmp_path / f"{part}-{name}.npy", predictions)
            made = submissions.make(predictions, np.full(5, 0.4), TAGS)
            submissions.write(made, tmp_path / f"{part}-{name}", vocabulary=TAGS)
        rows = [
            [str(n), "a", "b", f"{n}.wav", "60", *(tag for tag, there in zip(TAGS, row, strict=True) if there)]
            for n, row in enumerate(truth)
        ]
        (tmp_path / f"{part}.tsv").write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    return tmp_path


def evaluated(*words):
    """The JSON of a command that succeeds."""
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
    found, err = evaluated(
        "evaluate", published / "CP-JKU" / system, "--truth", published / "groundtruth.npy", "--intervals", 0
    )
    assert {name: f"{found[name]:.6f}" for name in list(found)[:10]} == tsv(published / "CP-JKU.tsv")[system]
    assert len(found["tuned_tags"]) == 56
    assert err == ""


@AS_WORDS
@pytest.mark.golden
@pytest.mark.parametrize("system", ["vggish", "popular"])
def test_all_ten_numbers_of_both_baselines(published, data, system):
    folder = published / "baseline"
    found, err = evaluated(
        "evaluate", "--predictions", folder / f"{system}_predictions.npy", "--intervals", 0,
        "--decisions", folder / f"{system}_decisions.npy",
        "--truth", data / "mtg-jamendo/autotagging_moodtheme-test.tsv",
    )  # fmt: skip
    assert {name: f"{found[name]:.6f}" for name in list(found)[:10]} == tsv(published / "baseline.tsv")[system]
    warned = [line.startswith("moodfield: predictions of ") for line in err.splitlines()]
    assert warned == ([True, True] if system == "popular" else [])


@pytest.mark.golden
def test_official_thresholds_give_the_published_numbers_without_decisions(published, tmp_path):
    given = (published / "CP-JKU/5_resnet34" / "predictions.npy", "--truth", published / "groundtruth.npy")
    chosen = invoke("thresholds", "--predictions", *given, "--criterion", "official", "-o", tmp_path / "thresholds.txt")
    assert chosen.code == 0, chosen.err
    found, _ = evaluated("evaluate", *given, "--thresholds", tmp_path / "thresholds.txt", "--intervals", 0)
    assert {name: f"{found[name]:.6f}" for name in list(found)[:10]} == tsv(published / "CP-JKU.tsv")["5_resnet34"]
    assert len(found["tuned_tags"]) == 56


# ---------------------------------------------------------------- evaluate


@AS_WORDS
def test_a_table_of_numbers_with_intervals(small):
    words = ("evaluate", small / "test-good", "--truth", small / "test.tsv", "--intervals", 50, "--per-tag")
    result = invoke(*words, "--tags", small / "tags.txt")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    score = mediaeval.evaluate(np.load(small / "test.npy"), submissions.read(small / "test-good"), n_resamples=50)
    macro, micro, low = (
        score.report.macro["F-score"],
        score.report.micro["F-score"],
        score.intervals["F-score-macro"][0],
    )
    assert result.out.startswith(f"{small / 'test-good'}: 5 tags\n")
    f = next(row for row in rows if row[:1] == ["F-score"])
    assert (f[1], f[2], f[5]) == (f"{macro:.4f}", f"{low:.4f}", f"{micro:.4f}")
    assert [row[0] for row in rows[-5:]] == list(TAGS)
    assert "optimistic" not in result.out
    unsorted = invoke(*words)  # an index alone means the tags by alphabet
    assert [line.split()[0] for line in unsorted.out.splitlines()[-5:]] == sorted(TAGS)
    assert "in another order than the truth" in unsorted.err


def test_truth_as_an_array_needs_no_names_and_takes_a_list(small):
    plain, _ = evaluated("evaluate", small / "test-good.npy", "--truth", small / "test.npy", "--intervals", 0)
    assert list(plain["tags"]) == ["0", "1", "2", "3", "4"]
    named, _ = evaluated(
        "evaluate",
        small / "test-good.npy",
        "--truth",
        small / "test.npy",
        "--tags",
        small / "tags.txt",
        "--intervals",
        9,
    )
    assert list(named["tags"]) == list(TAGS)
    assert named["PR-AUC-macro"] == plain["PR-AUC-macro"]
    assert list(named["intervals"]) == ["PR-AUC-macro", "ROC-AUC-macro", "PR-AUC-micro", "ROC-AUC-micro"]
    assert "intervals" not in plain


def test_thresholds_are_chosen_on_validation_and_applied(small):
    shared = ("evaluate", small / "test-good.npy", "--truth", small / "test.npy", "--tags", small / "tags.txt")
    truth, predictions = np.load(small / "test.npy"), np.load(small / "test-good.npy")
    path = small / "thresholds.txt"
    for part in ("validation", "test"):
        for criterion in ("f", "official"):
            given = ("--truth", small / f"{part}.npy", "--predictions", small / f"{part}-good.npy")
            result = invoke("thresholds", *given, "--criterion", criterion, "--tags", small / "tags.txt", "-o", path)
            assert result.code == 0, result.err
            found, _ = evaluated(*shared, "--thresholds", path)
            arrays = [np.load(small / f"{part}{name}.npy") for name in ("", "-good")]
            values = metrics.best_thresholds(*arrays, criterion=criterion)
            wanted = metrics.evaluate(truth, predictions, decisions=metrics.decide(predictions, values))
            assert {name: found[name] for name in wanted.to_dict()} == wanted.to_dict()
            assert len(found["tuned_tags"]) == (5 if part == "test" else 0)
            assert ("5 of 5 tags" in invoke(*shared, "--thresholds", path).out) == (part == "test")
    without_names = ("--truth", small / "test.npy", "--predictions", small / "test-good.npy")
    assert invoke("thresholds", *without_names, "-o", path).code == 0
    assert list(submissions.read_thresholds(path)) == ["0", "1", "2", "3", "4"]
    assert invoke("evaluate", *without_names, "--thresholds", path).code == 0
    (small / "few.txt").write_text("happy\t0.5\n")
    refused = invoke(*shared, "--thresholds", small / "few.txt")
    assert (refused.code, "'film'" in refused.err) == (1, True)
    for other in ("tags.txt", "test.npy"):
        assert invoke("thresholds", *without_names, "-o", small / other).code == 2


def test_metrics_without_excluded_rows_stand_beside_the_official_numbers(small):
    (small / "rows.txt").write_text("3\n7\n")
    shared = ("evaluate", small / "test-good", "--truth", small / "test.npy", "--intervals", 0)
    table = invoke(*shared, "--exclude", small / "rows.txt").out
    assert "400 tracks" in table
    assert "398 tracks" in table
    found, _ = evaluated(*shared, "--exclude", small / "rows.txt")
    kept = np.delete(np.arange(400), [3, 7])
    wanted = metrics.evaluate(np.load(small / "test.npy")[kept], np.load(small / "test-good.npy")[kept])
    assert found["without_excluded"]["PR-AUC-micro"] == wanted.micro["PR-AUC"]


@pytest.mark.parametrize(
    "words", [(), ("test-good", "--predictions", "test-good.npy"), ("test-good", "--model", "default")]
)
def test_wrong_arguments_of_evaluate(small, words, monkeypatch):
    monkeypatch.chdir(small)
    assert invoke("evaluate", *words, "--truth", "test.npy").code == 2


def test_unreadable_predictions_are_an_error(small):
    np.save(small / "objects.npy", np.array([[{}]], object), allow_pickle=True)
    result = invoke("evaluate", small / "objects.npy", "--truth", small / "test.npy")
    assert result.code == 1
    assert "objects.npy" in result.err
    assert invoke("evaluate", small / "test-good", "--truth", small / "validation.npy").code == 1
    assert "missing" in invoke("evaluate", small / "missing", "--truth", small / "test.npy").err


# ---------------------------------------------------------------- compare


def test_submissions_side_by_side(small):
    words = ("compare", small / "test-good", small / "test-bad", "--truth", small / "test.npy", "--intervals", 100)
    result = invoke(*words, "--per-tag")
    assert result.code == 0
    assert result.out.splitlines()[-1] == "By macro PR-AUC, 1 is better than 2."
    found, _ = evaluated(*words)
    systems = [
        bootstrap.System(np.load(small / "test.npy"), np.load(small / f"test-{name}.npy")) for name in ("good", "bad")
    ]
    both = bootstrap.bootstrap(systems, n_resamples=100, generator=np.random.default_rng(0))
    wanted = bootstrap.compare(*both)["PR-AUC-macro"]
    assert found["PR-AUC-macro"] == {
        "a": systems[0].report.macro["PR-AUC"], "b": systems[1].report.macro["PR-AUC"], **wanted._asdict()
    }  # fmt: skip
    row = next(line for line in result.out.splitlines() if line.startswith("PR-AUC-macro")).split()
    assert row[3] == f"{wanted.value:+.4f}"
    assert row[-1] == f"{wanted.p:.3f}"
    back = invoke("compare", small / "test-bad", small / "test-good", "--truth", small / "test.npy")
    assert back.out.splitlines()[-1] == "By macro PR-AUC, 2 is better than 1."
    same = invoke("compare", small / "test-bad", small / "test-bad.npy", "--truth", small / "test.npy")
    assert same.out.splitlines()[-1] == "By macro PR-AUC, 1 and 2 do not differ significantly."


def test_tags_on_too_few_tracks_are_named_and_not_counted(small):
    truth = np.load(small / "test.npy")
    truth[:, 2:4] = np.arange(400)[:, None] < [3, 0]
    np.save(small / "rare.npy", truth)
    words = ("compare", small / "test-good", small / "test-bad", "--truth", small / "rare.npy", "--intervals", 20)
    result = invoke(*words, "--per-tag", "--tags", small / "tags.txt")
    assert "Of 3 tags, about 0 have p < 0.05 by chance." in result.out
    assert "Too rare for an interval and p: sad\n" in result.out
    sad = next(line.split() for line in result.out.splitlines() if line.startswith("sad"))
    assert (sad[3][0] in "+-", sad[4:]) == (True, ["–", "–"])
    found, _ = evaluated(*words)
    assert found["rare_tags"] == ["2"]
    assert found["tags"]["2"]["PR-AUC"]["p"] is None
    shared = ("evaluate", small / "test-good", "--tags", small / "tags.txt", "--intervals", 20)
    assert "Too rare for intervals of their own: sad\n" in invoke(*shared, "--truth", small / "rare.npy").out
    np.save(small / "rare.npy", np.arange(400)[:, None] < np.full(5, 3))
    assert invoke(*words).out.splitlines()[-1].endswith("too few tracks for a test.")
    row = next(line for line in invoke(*shared, "--truth", small / "rare.npy").out.splitlines() if "F-score" in line)
    assert row.split()[2::2] == ["–", "–"]


# ---------------------------------------------------------------- submission check


def test_a_submission_in_order_and_one_that_is_not(small):
    shared = ("submission", "check", "--tags", small / "tags.txt")
    good = invoke(*shared, small / "test-good", "--truth", small / "test.tsv")
    assert (good.code, good.out) == (0, f"{small / 'test-good'}: in order\n")
    wrong = invoke(*shared, small / "test-good", "--truth", small / "validation.npy")
    assert wrong.code == 1
    assert "400" in wrong.out
    assert "100 tracks" in wrong.out
    told = invoke(*shared, small / "test-good.npy", "--json")
    assert told.code == 1
    (fault,) = json.loads(told.out)["faults"]
    assert "decisions.npy" in fault
    official = invoke("submission", "check", small / "test-good")
    assert "56 tags" in official.out


def test_a_truth_of_other_tags_is_an_error(small):
    np.save(small / "wide.npy", np.eye(400, 6) > 0)
    result = invoke(
        "submission", "check", small / "test-good", "--truth", small / "wide.npy", "--tags", small / "tags.txt"
    )
    assert (result.code, "(400, 5)" in result.err) == (1, True)


def test_rows_in_another_order_are_found(small):
    shared = ("submission", "check", "--tags", small / "tags.txt", "--truth")
    order = sorted(range(400), key=lambda row: f"{row}.wav")
    made = submissions.make(np.load(small / "test-good.npy")[order], np.full(5, 0.4), TAGS)
    submissions.write(made, small / "sorted", vocabulary=TAGS)
    assert "sorted by path" in invoke(*shared, small / "test.tsv", small / "sorted").out
    untold = "\n".join("\t".join(line.split("\t")[:5]) for line in (small / "test.tsv").read_text().splitlines())
    (small / "untold.tsv").write_text(untold.replace("DURATION", "DURATION\tTAGS"))
    assert invoke(*shared, small / "untold.tsv", small / "sorted").out.endswith(": in order\n")
    assert "there are 400 tracks" in invoke(*shared, small / "untold.tsv", small / "validation-good").out


# ---------------------------------------------------------------- ensembles


def test_an_ensemble_chosen_on_validation(small):
    words = ("ensemble", small / "test-good", small / "test-bad.npy", "--tags", small / "tags.txt")
    validation = (
        "--validation-truth", small / "validation.npy", "--validation-predictions", small / "validation-good.npy",
        "--validation-predictions", small / "validation-bad",
    )  # fmt: skip
    result = invoke(*words, *validation, "--greedy", "--average", "ranks", "-o", small / "both")
    assert result.code == 0, result.err
    judged = [np.load(small / f"validation-{name}.npy") for name in ("good", "bad")]
    chosen = ensemble.greedy_selection(np.load(small / "validation.npy"), judged, average="ranks")
    members = [np.load(small / f"test-{name}.npy") for name in ("good", "bad")]
    found = submissions.read(small / "both")
    np.testing.assert_array_equal(found.predictions, ensemble.mean(members, weights=chosen.weights, average="ranks"))
    there = ensemble.mean(judged, weights=chosen.weights, average="ranks")
    limits = metrics.best_thresholds(np.load(small / "validation.npy"), there)
    np.testing.assert_array_equal(found.decisions, metrics.decide(found.predictions, limits))
    assert result.out.splitlines()[0] == f"{chosen.weights[0]:.3f}  {small / 'test-good'}"
    assert f"PR-AUC-macro {chosen.score:.4f}" in result.out


def test_weights_and_greedy_contradict(small):
    result = invoke(
        "ensemble", small / "test-good.npy", small / "test-bad.npy", "--weights", "5,1", "--greedy",
        "--validation-truth", small / "validation.npy", "--validation-predictions", small / "validation-good.npy",
        "--validation-predictions", small / "validation-bad.npy", "-o", small / "mean.npy",
    )  # fmt: skip
    assert (result.code, "--greedy" in result.err) == (2, True)
    assert not (small / "mean.npy").exists()


def test_a_mean_of_predictions_needs_no_validation(small):
    words = ("ensemble", small / "test-good", small / "test-bad.npy")
    assert invoke(*words, "--weights", "3,1", "-o", small / "mean.npy").code == 0
    members = [np.load(small / f"test-{name}.npy") for name in ("good", "bad")]
    np.testing.assert_array_equal(np.load(small / "mean.npy"), ensemble.mean(members, weights=[3.0, 1.0]))
    for more in (("-o", small / "folder"), ("--greedy", "-o", small / "x.npy")):
        refused = invoke(*words, *more)
        assert (refused.code, "--validation-truth" in refused.err) == (2, True)
    assert "2 numbers" in invoke(*words, "--weights", "3;1", "-o", small / "x.npy").err
    assert "2 numbers" in invoke(*words, "--weights", "3", "-o", small / "x.npy").err
    assert not (small / "x.npy").exists()
    assert not (small / "folder").exists()


# ---------------------------------------------------------------- from music


@pytest.fixture
def indexed(tmp_path) -> Path:
    """An index of four tracks with their music, one of which is broken."""
    (tmp_path / "music").mkdir()
    rows = []
    for number in range(4):
        models.save(tmp_path / "music" / f"{number}.wav", models.music(2 + number, seed=number))
        rows.append([f"track_{number}", "a", "b", f"{number}.wav", "3", TAGS[number % 3], TAGS[3]])
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    (tmp_path / "tags.txt").write_text("\n".join(["sad", "film", "happy", "[dark]"]))
    return tmp_path


def submit(indexed, model, *more):
    return invoke(
        "submission", "make", indexed / "index.tsv", "--audio", indexed / "music", "--model", model.folder,
        "-o", indexed / "mine", "--jobs", 1, *more,
    )  # fmt: skip


def predict(indexed, model, *more):
    """A command line that predicts the index."""
    given = (indexed / "index.tsv", "--audio", indexed / "music", "--model", model.folder, "--jobs", 1)
    return invoke("predict", *given, "-o", indexed / "preds.npy", *more)


def recommended(result):
    """The command that `submit` recommends, run as it is printed."""
    _, _, command = result.out.rpartition("; try: moodfield ")
    return invoke(*shlex.split(command))


def test_a_model_makes_a_submission(indexed, cp_model):
    result = submit(indexed, cp_model)
    assert result.code == 0, result.err
    found = submissions.read(indexed / "mine")
    loaded = tagger.load(cp_model.folder)
    taggings = [loaded.tag(indexed / "music" / f"{number}.wav") for number in range(4)]
    np.testing.assert_array_equal(found.predictions, [each.scores for each in taggings])
    for row, each in zip(found.decisions, taggings, strict=True):
        assert {tag for tag, yes in zip(models.VOCABULARY, row, strict=True) if yes} == set(each.decided)
    assert list(found.thresholds) == list(models.VOCABULARY)
    assert sorted(path.name for path in indexed.iterdir()) == ["index.tsv", "mine", "music", "tags.txt"]
    checked = recommended(result)
    assert (checked.code, checked.out) == (0, f"{indexed / 'mine'}: in order\n")


def test_x_where_the_dataset_has_it(indexed, cp_model):
    assert submit(indexed, cp_model).code == 0
    wanted = submissions.read(indexed / "mine").predictions
    (indexed / "music" / "audios").mkdir()
    (indexed / "music" / "0.wav").rename(indexed / "music" / "0.low.wav")
    (indexed / "music" / "1.wav").rename(indexed / "music" / "audios" / "1.low.wav")
    result = submit(indexed, cp_model)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(submissions.read(indexed / "mine").predictions, wanted)


def test_tags_may_be_fewer_and_in_another_order_and_thresholds_others(indexed, cp_model):
    (indexed / "limits.txt").write_text("sad\t0.1\nfilm\t0.2\nhappy\t0.3\n[dark]\t0.999\n")
    result = submit(indexed, cp_model, "--tags", indexed / "tags.txt", "--thresholds", indexed / "limits.txt")
    assert result.code == 0, result.err
    found = submissions.read(indexed / "mine")
    loaded = tagger.load(cp_model.folder)
    wanted = loaded.tag(indexed / "music" / "2.wav").scores[[2, 1, 0, 3]]
    np.testing.assert_array_equal(found.predictions[2], wanted)
    np.testing.assert_array_equal(found.decisions[2], wanted > [0.1, 0.2, 0.3, 0.999])


@AS_WORDS
def test_unreadable_files_are_named_and_tried_again(indexed, cp_model, monkeypatch):
    good = (indexed / "music" / "1.wav").read_bytes()
    (indexed / "music" / "1.wav").write_bytes(b"broken")
    (indexed / "music" / "3.wav").unlink()
    result = submit(indexed, cp_model)
    assert result.code == 1
    assert "2 of 4 tracks" in result.err
    assert "1.wav: " in result.err
    assert "3.wav: " in result.err
    assert "--on-error mean" in result.err
    assert not (indexed / "mine").exists()
    asked = []
    listen = tagger.tag_files
    monkeypatch.setattr(
        tagger, "tag_files", lambda files, *more, **how: asked.extend(files) or listen(files, *more, **how)
    )
    (indexed / "music" / "1.wav").write_bytes(good)
    filled = submit(indexed, cp_model, "--on-error", "mean")
    assert filled.code == 0, filled.err
    assert [path.name for path in asked] == ["1.wav", "3.wav"]
    found = submissions.read(indexed / "mine").predictions
    np.testing.assert_allclose(found[3], found[:3].mean(axis=0))
    (line,) = filter(None, filled.err.splitlines())  # the bar may leave an empty one
    assert line.startswith("moodfield: 1 of 4 rows")
    assert "mean" in line
    assert line.endswith(": 3.wav")
    assert submit(indexed, cp_model, "--on-error", "zeros").err.count("1 of 4 rows") == 1
    checked = invoke("submission", "check", indexed / "mine", "--model", cp_model.folder)
    assert (checked.code, "1 of 4 rows: 3" in checked.out) == (0, True)


def test_no_useless_advice_if_no_track_can_be_read(indexed, cp_model):
    for path in (indexed / "music").iterdir():
        path.write_bytes(b"broken")
    for result in (
        submit(indexed, cp_model),
        submit(indexed, cp_model, "--on-error", "mean"),
        predict(indexed, cp_model),
    ):
        assert (result.code, "4 of 4" in result.err) == (1, True)
        assert "fill" not in result.err
    assert sorted(path.name for path in indexed.iterdir()) == ["index.tsv", "music", "tags.txt"]


def test_a_missing_audio_folder_is_one_usage_error(indexed, cp_model, monkeypatch):
    monkeypatch.setattr(tagger, "load", lambda *_: pytest.fail("it began"))
    for nowhere in ("/nowhere", indexed / "index.tsv"):
        for command in (submit, predict):
            result = command(indexed, cp_model, "--audio", nowhere)
            assert (result.code, result.out) == (2, "")
            assert f"--audio {nowhere}" in result.err
            assert len(result.err.splitlines()) == 1
    assert sorted(path.name for path in indexed.iterdir()) == ["index.tsv", "music", "tags.txt"]


@pytest.mark.parametrize("tags", [(), ("--tags", "tags.txt")])
def test_predictions_do_not_depend_on_tags_of_the_index(indexed, cp_model, monkeypatch, tags):
    monkeypatch.chdir(indexed)
    assert submit(indexed, cp_model, *tags).code == 0
    wanted = submissions.read(indexed / "mine").predictions
    (indexed / "index.tsv").write_text((indexed / "index.tsv").read_text().replace("film", "elsewhere"))
    result = submit(indexed, cp_model, *tags)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(submissions.read(indexed / "mine").predictions, wanted)
    checked = recommended(result)
    assert (checked.code, "unusual: " in checked.out, "not compared" in checked.out) == (0, True, True)
    assert predict(indexed, cp_model, *tags).code == 0
    scored = invoke("evaluate", "--truth", "index.tsv", "--predictions", "preds.npy", *tags)
    assert (scored.code, "elsewhere" in scored.err) == (1, bool(tags))


def test_a_submission_is_scored_on_an_index_that_lacks_tags(indexed, cp_model):
    assert submit(indexed, cp_model).code == 0
    shared = ("--truth", indexed / "index.tsv", "--intervals", 0)
    found, _ = evaluated("evaluate", indexed / "mine", *shared, "--per-tag")
    assert list(found["tags"]) == list(models.VOCABULARY)
    (indexed / "list.txt").write_text("\n".join(models.VOCABULARY))
    assert found == evaluated("evaluate", indexed / "mine", *shared, "--tags", indexed / "list.txt")[0]
    compared = invoke("compare", indexed / "mine", indexed / "mine", *shared[:2], "--intervals", 5)
    assert compared.code == 0, compared.err
    (indexed / "mine" / "thresholds.txt").unlink()
    for words in (("evaluate", indexed / "mine"), ("compare", indexed / "mine", indexed / "mine")):
        refused = invoke(*words, *shared[:2])
        assert (refused.code, "--tags" in refused.err) == (1, True)


def test_a_folder_with_other_files_does_not_become_a_submission(indexed, cp_model):
    (indexed / "mine").mkdir()
    (indexed / "mine" / "notes.txt").write_text("notes")
    result = submit(indexed, cp_model)
    assert (result.code, result.out, "notes.txt" in result.err) == (2, "", True)
    assert [path.name for path in (indexed / "mine").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in indexed.iterdir()) == ["index.tsv", "mine", "music", "tags.txt"]


@pytest.mark.parametrize(
    "line",
    ["evaluate nothere --truth test.npy", "submission check nothere", "compare nothere test-good --truth test.npy",
     "compare test-good nothere --truth test.npy", "ensemble nothere test-good -o x.npy"],
)  # fmt: skip
def test_missing_files_are_errors(small, monkeypatch, line):
    monkeypatch.chdir(small)
    result = invoke(*line.split())
    assert (result.code, result.out) == (1, "")
    assert "nothere" in result.err
    assert "Errno" not in result.err


def test_the_cache_of_another_model_is_an_error(indexed, cp_model, tmp_path):
    (indexed / "music" / "1.wav").write_bytes(b"broken")
    assert submit(indexed, cp_model).code == 1
    other = models.varied(cp_model, tmp_path / "other", name="other")
    given = ("--audio", indexed / "music", "--model", other, "-o", indexed / "mine")
    result = invoke("submission", "make", indexed / "index.tsv", *given)
    assert result.code == 1
    assert "mine.scores.jsonl" in result.err


def test_the_cache_of_another_folder_is_an_error(indexed, cp_model, monkeypatch):
    (indexed / "music" / "1.wav").write_bytes(b"broken")
    assert submit(indexed, cp_model).code == 1
    shutil.copytree(indexed / "music", indexed / "other")
    models.save(indexed / "other" / "1.wav", models.music(2))
    result = submit(indexed, cp_model, "--audio", indexed / "other")
    assert result.code == 1
    assert "mine.scores.jsonl" in result.err
    monkeypatch.chdir(indexed)
    models.save(indexed / "music" / "1.wav", models.music(2))
    assert submit(indexed, cp_model, "--audio", "music").code == 0  # the same folder by another name


def test_predictions_are_scored_as_a_submission(indexed, cp_model):
    result = predict(indexed, cp_model)
    assert (result.code, "4 tracks × 5 tags" in result.out) == (0, True), result.err
    assert not list(indexed.glob("preds.npy.*"))
    submit(indexed, cp_model)
    made = submissions.read(indexed / "mine")
    np.testing.assert_array_equal(np.load(indexed / "preds.npy"), made.predictions)
    (indexed / "tags.txt").write_text("\n".join(models.VOCABULARY))
    words = ("--truth", indexed / "index.tsv", "--predictions", indexed / "preds.npy", "--tags", indexed / "tags.txt")
    found, _ = evaluated("evaluate", *words, "--intervals", 0)
    truth, _ = mediaeval.read_truth(indexed / "index.tsv", vocabulary=models.VOCABULARY)
    wanted = metrics.evaluate(truth, made.predictions, decisions=made.decisions, tags=models.VOCABULARY)
    assert found["PR-AUC-macro"] == wanted.macro["PR-AUC"]
    assert found["without_positives"] == list(wanted.without_positives) == ["slow"]


@AS_WORDS
def test_a_stopped_prediction_continues(indexed, cp_model, monkeypatch):
    (indexed / "music" / "3.wav").rename(indexed / "3.wav")
    assert predict(indexed, cp_model).code == 1
    assert len((indexed / "preds.npy.scores.jsonl").read_text().splitlines()) == 4
    (indexed / "3.wav").rename(indexed / "music" / "3.wav")
    read = []
    tag_files = tagger.tag_files
    monkeypatch.setattr(
        tagger, "tag_files", lambda paths, *more, **how: read.extend(paths) or tag_files(paths, *more, **how)
    )
    assert predict(indexed, cp_model).code == 0
    assert [path.name for path in read] == ["3.wav"]
    (indexed / "music" / "1.wav").unlink()
    assert predict(indexed, cp_model, "--on-error", "zeros").code == 0
    assert not np.load(indexed / "preds.npy")[1].any()
    for output in ("mine", "tags.txt", "index.tsv"):
        assert predict(indexed, cp_model, "-o", indexed / output).code == 2

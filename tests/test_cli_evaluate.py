"""The commands about submissions: the published numbers to every digit, and one made from music to the last file."""

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


def resulted(*words):
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
    found, err = resulted(
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
    found, err = resulted(
        "evaluate", "--predictions", folder / f"{system}_predictions.npy", "--intervals", 0,
        "--decisions", folder / f"{system}_decisions.npy",
        "--truth", data / "mtg-jamendo/autotagging_moodtheme-test.tsv",
    )  # fmt: skip
    assert {name: f"{found[name]:.6f}" for name in list(found)[:10]} == tsv(published / "baseline.tsv")[system]
    warned = [line.startswith("moodfield: predictions of ") for line in err.splitlines()]
    assert warned == ([True, True] if system == "popular" else [])


@pytest.mark.golden
def test_the_official_thresholds_by_name_give_the_published_numbers_without_decisions(published):
    folder = published / "CP-JKU/5_resnet34"
    found, _ = resulted(
        "evaluate", folder / "predictions.npy", "--truth", published / "groundtruth.npy", "--thresholds", "official",
        "--intervals", 0,
    )  # fmt: skip
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
    assert "flatter" not in result.out
    unsorted = invoke(*words)  # an index alone means the tags by alphabet
    assert [line.split()[0] for line in unsorted.out.splitlines()[-5:]] == sorted(TAGS)
    assert "in another order than the truth" in unsorted.err


def test_truth_as_an_array_needs_no_names_and_takes_a_list(small):
    plain, _ = resulted("evaluate", small / "test-good.npy", "--truth", small / "test.npy", "--intervals", 0)
    assert list(plain["tags"]) == ["0", "1", "2", "3", "4"]
    named, _ = resulted(
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


def test_thresholds_are_chosen_on_validation_and_said_to_flatter_when_they_are_not(small):
    shared = ("evaluate", small / "test-good.npy", "--truth", small / "test.npy", "--tags", small / "tags.txt")
    tune = ("--tune-truth", small / "validation.npy", "--tune-predictions", small / "validation-good.npy")
    truth, predictions = np.load(small / "test.npy"), np.load(small / "test-good.npy")
    for criterion in ("f", "official"):
        honest, _ = resulted(*shared, "--thresholds", criterion, *tune)
        limits = metrics.best_thresholds(
            np.load(small / "validation.npy"), np.load(small / "validation-good.npy"), criterion=criterion
        )
        wanted = metrics.evaluate(truth, predictions, decisions=metrics.decide(predictions, limits))
        assert {name: honest[name] for name in wanted.to_dict()} == wanted.to_dict()
        assert honest["tuned_tags"] == []
        flattered = invoke(*shared, "--thresholds", criterion)
        assert "The decisions for 5 of 5 tags are those of thresholds tuned on this very truth" in flattered.out
    assert resulted(*shared, *tune)[0] == resulted(*shared, "--thresholds", "f", *tune)[0]
    listed, _ = resulted(*shared, "--thresholds", small / "test-bad" / "thresholds.txt")
    assert listed["recall-micro"] == metrics.evaluate(truth, predictions, decisions=predictions > 0.4).micro["recall"]
    assert invoke(*shared, *tune[:2]).code == 2
    (small / "few.txt").write_text("happy\t0.5\n")
    refused = invoke(*shared, "--thresholds", small / "few.txt")
    assert (refused.code, "no thresholds for 'film'" in refused.err) == (1, True)


def test_left_out_rows_stand_beside_the_official_numbers(small):
    (small / "rows.txt").write_text("3\n7\n")
    shared = ("evaluate", small / "test-good", "--truth", small / "test.npy", "--intervals", 0)
    table = invoke(*shared, "--exclude", small / "rows.txt").out
    assert "400 tracks" in table
    assert "398 tracks" in table
    found, _ = resulted(*shared, "--exclude", small / "rows.txt")
    kept = np.delete(np.arange(400), [3, 7])
    wanted = metrics.evaluate(np.load(small / "test.npy")[kept], np.load(small / "test-good.npy")[kept])
    assert found["without_excluded"]["PR-AUC-micro"] == wanted.micro["PR-AUC"]


def test_tracks_that_were_learned_from_are_found_and_left_out(small, tmp_path):
    (tmp_path / "learned.tsv").write_text("\n".join(map("\t".join, [HEADER, ("x", "a", "b", "x.mp3", "1", "happy")])))
    lines = [f"{row % 399:064x} {row}.wav" for row in range(400)]
    (tmp_path / "sums.txt").write_text("\n".join([*lines, f"{0:064x} x.mp3"]))
    shared = (
        "evaluate",
        small / "test-good",
        "--truth",
        small / "test.tsv",
        "--tags",
        small / "tags.txt",
        "--intervals",
        0,
    )
    given = ("--learned", tmp_path / "learned.tsv", "--checksums", tmp_path / "sums.txt")
    found, _ = resulted(*shared, *given)
    (tmp_path / "rows.txt").write_text("0\n399\n")
    assert found == resulted(*shared, "--exclude", tmp_path / "rows.txt")[0]
    assert found["without_excluded"]["tracks"] == 398
    assert invoke(*shared, *given).err.startswith("moodfield: 2 leaks: tracks of ")
    (tmp_path / "sums.txt").write_text("\n".join([*lines, f"{999:064x} x.mp3"]))
    nothing = invoke(*shared, *given)
    assert (nothing.code, "0 leaks: tracks of" in nothing.err, nothing.out.count("400 tracks")) == (0, True, 1)
    for odd in (given[:2], given[2:], (*given, "--exclude", tmp_path / "rows.txt")):
        assert invoke(*shared, *odd).code == 2


@pytest.mark.parametrize(
    "words", [(), ("test-good", "--predictions", "test-good.npy"), ("--model", "default"), ("--audio", "music")]
)
def test_one_thing_is_scored_at_a_time(small, words, monkeypatch):
    monkeypatch.chdir(small)
    assert invoke("evaluate", *words, "--truth", "test.npy").code == 2


def test_what_cannot_be_read_is_refused_in_a_sentence(small):
    np.save(small / "objects.npy", np.array([[{}]], object), allow_pickle=True)
    result = invoke("evaluate", small / "objects.npy", "--truth", small / "test.npy")
    assert result.code == 1
    assert result.err.startswith(f"moodfield: {small / 'objects.npy'} cannot be read as an array")
    assert invoke("evaluate", small / "test-good", "--truth", small / "validation.npy").code == 1
    assert "missing" in invoke("evaluate", small / "missing", "--truth", small / "test.npy").err


# ---------------------------------------------------------------- compare


def test_submissions_side_by_side(small):
    words = ("compare", small / "test-good", small / "test-bad", "--truth", small / "test.npy", "--intervals", 100)
    result = invoke(*words, "--per-tag")
    assert result.code == 0
    assert result.out.splitlines()[-1] == "By macro PR-AUC, 1 is ahead of 2."
    found, _ = resulted(*words)
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
    assert back.out.splitlines()[-1] == "By macro PR-AUC, 2 is ahead of 1."
    same = invoke("compare", small / "test-bad", small / "test-bad.npy", "--truth", small / "test.npy")
    assert same.out.splitlines()[-1] == "By macro PR-AUC, 1 and 2 cannot be told apart."


def test_tags_on_too_few_tracks_are_named_and_not_counted(small):
    truth = np.load(small / "test.npy")
    truth[:, 2:4] = np.arange(400)[:, None] < [3, 0]
    np.save(small / "rare.npy", truth)
    words = ("compare", small / "test-good", small / "test-bad", "--truth", small / "rare.npy", "--intervals", 20)
    result = invoke(*words, "--per-tag", "--tags", small / "tags.txt")
    assert "Of 3 tags, about 0 have p < 0.05 by chance." in result.out
    assert "On too few tracks for an interval and p: sad\n" in result.out
    sad = next(line.split() for line in result.out.splitlines() if line.startswith("sad"))
    assert (sad[3][0] in "+-", sad[4:]) == (True, ["–", "–"])
    found, _ = resulted(*words)
    assert found["rare_tags"] == ["2"]
    assert found["tags"]["2"]["PR-AUC"]["p"] is None
    shared = ("evaluate", small / "test-good", "--tags", small / "tags.txt", "--intervals", 20)
    assert "On too few tracks for intervals of their own: sad\n" in invoke(*shared, "--truth", small / "rare.npy").out
    np.save(small / "rare.npy", np.arange(400)[:, None] < np.full(5, 3))
    assert invoke(*words).out.splitlines()[-1].endswith("nothing can be told: there are too few tracks.")
    row = next(line for line in invoke(*shared, "--truth", small / "rare.npy").out.splitlines() if "F-score" in line)
    assert row.split()[2::2] == ["–", "–"]


# ---------------------------------------------------------------- submission check


def test_a_submission_in_order_and_one_that_is_not(small):
    shared = ("submission", "check", "--tags", small / "tags.txt")
    good = invoke(*shared, small / "test-good", "--truth", small / "test.tsv")
    assert (good.code, good.out) == (0, f"{small / 'test-good'}: in order\n")
    wrong = invoke(*shared, small / "test-good", "--truth", small / "validation.npy")
    assert wrong.code == 1
    assert wrong.out.splitlines()[0].endswith(": predictions have 400 rows; there are 100 tracks")
    told = invoke(*shared, small / "test-good.npy", "--json")
    assert told.code == 1
    assert json.loads(told.out)["faults"] == [
        "there are no decisions: put them beside the predictions, as decisions.npy"
    ]
    official = invoke("submission", "check", small / "test-good")
    assert "predictions have 5 columns; there are 56 tags" in official.out


def test_a_truth_of_other_tags_is_refused_in_a_sentence(small):
    np.save(small / "wide.npy", np.eye(400, 6) > 0)
    result = invoke(
        "submission", "check", small / "test-good", "--truth", small / "wide.npy", "--tags", small / "tags.txt"
    )
    assert (result.code, "to compare with shape (400, 5)" in result.err) == (1, True)


def test_the_order_of_an_index_is_known_and_its_tags_may_be_untold(small):
    shared = ("submission", "check", "--tags", small / "tags.txt", "--truth")
    order = sorted(range(400), key=lambda row: f"{row}.wav")
    made = submissions.make(np.load(small / "test-good.npy")[order], np.full(5, 0.4), TAGS)
    submissions.write(made, small / "sorted", vocabulary=TAGS)
    assert "rows seem to be sorted by path" in invoke(*shared, small / "test.tsv", small / "sorted").out
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
    assert f"validation PR-AUC-macro {chosen.score:.4f}" in result.out


def test_weights_are_given_or_chosen_but_never_dropped(small):
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
    assert "are not 2 numbers" in invoke(*words, "--weights", "3;1", "-o", small / "x.npy").err
    assert "are not 2 numbers" in invoke(*words, "--weights", "3", "-o", small / "x.npy").err
    assert not (small / "x.npy").exists()
    assert not (small / "folder").exists()


# ---------------------------------------------------------------- from music


@pytest.fixture
def heard(tmp_path) -> Path:
    """An index of four tracks with their music, one of which is broken."""
    (tmp_path / "music").mkdir()
    rows = []
    for number in range(4):
        models.save(tmp_path / "music" / f"{number}.wav", models.music(2 + number, seed=number))
        rows.append([f"track_{number}", "a", "b", f"{number}.wav", "3", TAGS[number % 3], TAGS[3]])
    (tmp_path / "index.tsv").write_text("\n".join("\t".join(row) for row in [HEADER, *rows]))
    (tmp_path / "tags.txt").write_text("\n".join(["sad", "film", "happy", "[dark]"]))
    return tmp_path


def submit(heard, model, *more):
    return invoke(
        "submission", "make", "--model", model.folder, "--truth", heard / "index.tsv", "--audio", heard / "music",
        "-o", heard / "mine", "--jobs", 1, *more,
    )  # fmt: skip


def recommended(result):
    """The command that `submit` recommends, run as it is printed."""
    _, _, command = result.out.rpartition("; try: moodfield ")
    return invoke(*shlex.split(command))


def test_a_model_makes_a_submission(heard, cp_model):
    result = submit(heard, cp_model)
    assert result.code == 0, result.err
    found = submissions.read(heard / "mine")
    loaded = tagger.load(cp_model.folder)
    taggings = [loaded.tag(heard / "music" / f"{number}.wav") for number in range(4)]
    np.testing.assert_array_equal(found.predictions, [each.scores for each in taggings])
    for row, each in zip(found.decisions, taggings, strict=True):
        assert {tag for tag, yes in zip(models.VOCABULARY, row, strict=True) if yes} == set(each.decided)
    assert list(found.thresholds) == list(models.VOCABULARY)
    assert sorted(path.name for path in heard.iterdir()) == ["index.tsv", "mine", "music", "tags.txt"]
    checked = recommended(result)
    assert (checked.code, checked.out) == (0, f"{heard / 'mine'}: in order\n")


def test_music_is_heard_where_the_dataset_has_it(heard, cp_model):
    assert submit(heard, cp_model).code == 0
    wanted = submissions.read(heard / "mine").predictions
    (heard / "music" / "audios").mkdir()
    (heard / "music" / "0.wav").rename(heard / "music" / "0.low.wav")
    (heard / "music" / "1.wav").rename(heard / "music" / "audios" / "1.low.wav")
    result = submit(heard, cp_model)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(submissions.read(heard / "mine").predictions, wanted)


def test_tags_may_be_fewer_and_in_another_order_and_thresholds_others(heard, cp_model):
    (heard / "limits.txt").write_text("sad\t0.1\nfilm\t0.2\nhappy\t0.3\n[dark]\t0.999\n")
    result = submit(heard, cp_model, "--tags", heard / "tags.txt", "--thresholds", heard / "limits.txt")
    assert result.code == 0, result.err
    found = submissions.read(heard / "mine")
    loaded = tagger.load(cp_model.folder)
    wanted = loaded.tag(heard / "music" / "2.wav").scores[[2, 1, 0, 3]]
    np.testing.assert_array_equal(found.predictions[2], wanted)
    np.testing.assert_array_equal(found.decisions[2], wanted > [0.1, 0.2, 0.3, 0.999])


@AS_WORDS
def test_files_that_cannot_be_heard_are_named_and_only_they_are_tried_again(heard, cp_model, monkeypatch):
    good = (heard / "music" / "1.wav").read_bytes()
    (heard / "music" / "1.wav").write_bytes(b"broken")
    (heard / "music" / "3.wav").unlink()
    result = submit(heard, cp_model)
    assert result.code == 1
    assert "2 of 4 tracks could not be read" in result.err
    assert "1.wav: " in result.err
    assert "3.wav: " in result.err
    assert "--fill mean" in result.err
    assert not (heard / "mine").exists()
    asked = []
    listen = tagger.tag_files
    monkeypatch.setattr(
        tagger, "tag_files", lambda files, *more, **how: asked.extend(files) or listen(files, *more, **how)
    )
    (heard / "music" / "1.wav").write_bytes(good)
    filled = submit(heard, cp_model, "--on-error", "mean")
    assert filled.code == 0, filled.err
    assert [path.name for path in asked] == ["1.wav", "3.wav"]
    found = submissions.read(heard / "mine").predictions
    np.testing.assert_allclose(found[3], found[:3].mean(axis=0))
    (line,) = filter(None, filled.err.splitlines())  # the bar may leave an empty one
    assert line.startswith("moodfield: 1 of 4 rows")
    assert "mean" in line
    assert line.endswith(": 3.wav")
    assert submit(heard, cp_model, "--on-error", "zeros").err.count("1 of 4 rows are filled with zeros") == 1
    checked = invoke("submission", "check", heard / "mine", "--model", cp_model.folder)
    assert (checked.code, "1 of 4 rows: 3" in checked.out) == (0, True)


def test_nothing_is_advised_that_does_not_help(heard, cp_model):
    for path in (heard / "music").iterdir():
        path.write_bytes(b"broken")
    evaluate = ("evaluate", "--model", cp_model.folder, "--truth", heard / "index.tsv", "--audio", heard / "music")
    for result in (
        submit(heard, cp_model),
        submit(heard, cp_model, "--on-error", "mean"),
        invoke(*evaluate, "--jobs", 1),
    ):
        assert (result.code, "4 of 4" in result.err) == (1, True)
        assert "fill" not in result.err
    assert sorted(path.name for path in heard.iterdir()) == ["index.tsv", "music", "tags.txt"]


def test_a_folder_of_music_that_is_not_there_is_one_usage_error(heard, cp_model, monkeypatch):
    monkeypatch.setattr(tagger, "load", lambda *_: pytest.fail("it began"))
    evaluate = ("evaluate", "--model", cp_model.folder, "--truth", heard / "index.tsv", "--keep", heard / "kept.jsonl")
    for nowhere in ("/nowhere", heard / "index.tsv"):
        for result in (submit(heard, cp_model, "--audio", nowhere), invoke(*evaluate, "--audio", nowhere)):
            assert (result.code, result.out) == (2, "")
            assert f"--audio {nowhere}" in result.err
            assert len(result.err.splitlines()) == 1
    assert sorted(path.name for path in heard.iterdir()) == ["index.tsv", "music", "tags.txt"]


@pytest.mark.parametrize("tags", [(), ("--tags", "tags.txt")])
def test_predictions_do_not_depend_on_tags_of_the_index(heard, cp_model, monkeypatch, tags):
    monkeypatch.chdir(heard)
    assert submit(heard, cp_model, *tags).code == 0
    wanted = submissions.read(heard / "mine").predictions
    (heard / "index.tsv").write_text((heard / "index.tsv").read_text().replace("film", "elsewhere"))
    result = submit(heard, cp_model, *tags)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(submissions.read(heard / "mine").predictions, wanted)
    checked = recommended(result)
    assert (checked.code, "odd: " in checked.out, "truth is not compared" in checked.out) == (0, True, True)
    evaluate = ("evaluate", "--model", cp_model.folder, "--truth", "index.tsv", "--audio", "music", "--jobs", 1)
    refused = invoke(*evaluate)
    assert (refused.code, "elsewhere" in refused.err) == (1, True)


def test_a_submission_is_scored_on_an_index_that_lacks_tags(heard, cp_model):
    assert submit(heard, cp_model).code == 0
    shared = ("--truth", heard / "index.tsv", "--intervals", 0)
    found, _ = resulted("evaluate", heard / "mine", *shared, "--per-tag")
    assert list(found["tags"]) == list(models.VOCABULARY)
    (heard / "list.txt").write_text("\n".join(models.VOCABULARY))
    assert found == resulted("evaluate", heard / "mine", *shared, "--tags", heard / "list.txt")[0]
    compared = invoke("compare", heard / "mine", heard / "mine", *shared[:2], "--intervals", 5)
    assert compared.code == 0, compared.err
    (heard / "mine" / "thresholds.txt").unlink()
    for words in (("evaluate", heard / "mine"), ("compare", heard / "mine", heard / "mine")):
        refused = invoke(*words, *shared[:2])
        assert (refused.code, "--tags" in refused.err) == (1, True)


def test_a_folder_with_other_things_does_not_become_a_submission(heard, cp_model):
    (heard / "mine").mkdir()
    (heard / "mine" / "notes.txt").write_text("notes")
    result = submit(heard, cp_model)
    assert (result.code, result.out, "notes.txt" in result.err) == (2, "", True)
    assert [path.name for path in (heard / "mine").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in heard.iterdir()) == ["index.tsv", "mine", "music", "tags.txt"]


@pytest.mark.parametrize(
    "line",
    ["evaluate nothere --truth test.npy", "submission check nothere", "compare nothere test-good --truth test.npy",
     "compare test-good nothere --truth test.npy", "ensemble nothere test-good --to x.npy"],
)  # fmt: skip
def test_what_is_not_there_is_called_so(small, monkeypatch, line):
    monkeypatch.chdir(small)
    result = invoke(*line.split())
    assert (result.code, result.out) == (1, "")
    assert "there is no folder or file nothere" in result.err
    assert "Errno" not in result.err


def test_scores_of_one_model_are_not_taken_for_those_of_another(heard, cp_model, tmp_path):
    (heard / "music" / "1.wav").write_bytes(b"broken")
    assert submit(heard, cp_model).code == 1
    other = models.varied(cp_model, tmp_path / "other", name="other")
    result = invoke(
        "submission",
        "make",
        "--model",
        other,
        "--truth",
        heard / "index.tsv",
        "--audio",
        heard / "music",
        "-o",
        heard / "mine",
    )
    assert result.code == 1
    assert "mine.scores.jsonl has scores of another model" in result.err


def test_scores_of_one_folder_of_music_are_not_taken_for_those_of_another(heard, cp_model, monkeypatch):
    (heard / "music" / "1.wav").write_bytes(b"broken")
    assert submit(heard, cp_model).code == 1
    shutil.copytree(heard / "music", heard / "other")
    models.save(heard / "other" / "1.wav", models.music(2))
    result = submit(heard, cp_model, "--audio", heard / "other")
    assert result.code == 1
    assert "music in another folder" in result.err
    monkeypatch.chdir(heard)
    models.save(heard / "music" / "1.wav", models.music(2))
    assert submit(heard, cp_model, "--audio", "music").code == 0  # the same folder by another name


def test_a_model_is_scored_on_an_index_and_its_music(heard, cp_model):
    words = ("evaluate", "--model", cp_model.folder, "--audio", heard / "music", "--jobs", 1)
    found, _ = resulted(*words, "--truth", heard / "index.tsv", "--keep", heard / "kept.jsonl", "--intervals", 0)
    submit(heard, cp_model)
    made = submissions.read(heard / "mine")
    truth, _ = mediaeval.read_truth(heard / "index.tsv", vocabulary=models.VOCABULARY)
    wanted = metrics.evaluate(truth, made.predictions, decisions=made.decisions, tags=models.VOCABULARY)
    assert found["PR-AUC-macro"] == wanted.macro["PR-AUC"]
    assert found["without_positives"] == list(wanted.without_positives) == ["slow"]
    assert len((heard / "kept.jsonl").read_text().splitlines()) == 5

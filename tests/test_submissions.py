"""Submissions are written whole, read without trust, and every fault is said in words."""

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moodfield import files, tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, OutputError, ScoresError
from moodfield.evaluation import metrics, submissions
from moodfield.evaluation.submissions import Submission

TAGS = ("happy", "sad", "dark", "film")


def scores(tracks=200, count=4, seed=0):
    """Truth, and predictions that know it well."""
    drawn = np.random.default_rng(seed)
    truth = drawn.random((tracks, count)) < 0.25
    return truth, 0.6 * drawn.random(truth.shape) + 0.3 * truth


def made(**changes):
    _, predictions = scores()
    return replace(submissions.make(predictions, np.full(4, 0.5), TAGS), **changes)


def faults(submission, **about):
    return submissions.find_errors(submission, vocabulary=TAGS, **about)


def one_fault(submission, **about):
    (fault,) = faults(submission, **about)
    return fault


def with_value(values, value, *places):
    values = values.copy()
    for place in places:
        values[place] = value
    return values


# ---------------------------------------------------------------- written and read


@pytest.mark.parametrize("vocabulary", [TAGS, tags.MOODS_AND_THEMES])
def test_what_is_written_is_read(tmp_path, vocabulary):
    _, predictions = scores(count=len(vocabulary))
    limits = np.linspace(0.1, 0.9, len(vocabulary)) ** 3
    limits[0], limits[1] = np.inf, -np.inf
    submission = submissions.make(predictions, limits, vocabulary)
    submissions.write(submission, tmp_path / "new" / "one", vocabulary=vocabulary)
    found = submissions.read(tmp_path / "new" / "one")
    assert sorted(path.name for path in (tmp_path / "new" / "one").iterdir()) == [
        "decisions.npy",
        "predictions.npy",
        "thresholds.txt",
    ]
    assert (found.predictions.dtype, found.decisions.dtype) == (np.float64, bool)
    np.testing.assert_array_equal(found.predictions, predictions)
    np.testing.assert_array_equal(found.decisions, predictions > limits)
    assert found.thresholds == dict(zip(vocabulary, limits, strict=True))
    assert found.name == str(tmp_path / "new" / "one")
    assert faults(found) == [] if vocabulary == TAGS else submissions.find_errors(found, vocabulary=vocabulary) == []
    first = (tmp_path / "new" / "one" / "thresholds.txt").read_text().splitlines()[2]
    assert first.startswith("dark\t" if vocabulary == TAGS else "mood/theme---advertising\t")


def test_what_does_not_fit_makes_no_submission():
    with pytest.raises(ScoresError, match="wanted 4 numbers"):
        submissions.make(scores()[1], np.full(3, 0.5), TAGS)
    with pytest.raises(ScoresError, match="3 tags came for 4 columns"):
        submissions.make(scores()[1], np.full(4, 0.5), TAGS[:3])


def test_a_file_of_predictions_is_a_submission_without_decisions(tmp_path):
    np.save(tmp_path / "p.npy", np.eye(3))
    found = submissions.read(tmp_path / "p.npy")
    assert found.decisions is None
    assert found.thresholds == {}
    np.testing.assert_array_equal(found.predictions, np.eye(3))


def test_some_tracks_of_a_submission():
    found = made().take(np.array([3, 1]))
    np.testing.assert_array_equal(found.predictions, made().predictions[[3, 1]])
    np.testing.assert_array_equal(found.decisions, made().decisions[[3, 1]])
    assert made(decisions=None).take(np.array([0])).decisions is None


@pytest.mark.parametrize("broken", ["predictions.npy", "decisions.npy", "thresholds.txt"])
def test_new_predictions_never_stand_beside_old_decisions(tmp_path, monkeypatch, broken):
    """A disk that fails at the last moment leaves no submission, and a full one the old submission."""
    old, new = made(), made(predictions=made().predictions[::-1], decisions=made().decisions[::-1])
    whole = files.atomic_path

    @contextmanager
    def failing(path):
        with whole(path) as half:
            yield half
            if path.name == broken:
                raise OSError("the disk failed")

    @contextmanager
    def full(path):
        if path.name == broken:
            raise OSError("the disk is full")
        with whole(path) as half:
            yield half

    for fault, left in ((failing, False), (full, True)):
        submissions.write(old, tmp_path, vocabulary=TAGS)
        monkeypatch.setattr(files, "atomic_path", fault)
        with pytest.raises(OSError, match="the disk"):
            submissions.write(new, tmp_path, vocabulary=TAGS)
        monkeypatch.setattr(files, "atomic_path", whole)
        assert (tmp_path / "predictions.npy").exists() is left
        assert not list(tmp_path.glob("*.part"))
        if left:
            np.testing.assert_array_equal(submissions.read(tmp_path).predictions, old.predictions)
            np.testing.assert_array_equal(submissions.read(tmp_path).decisions, old.decisions)


def test_predictions_take_their_place_last(tmp_path, monkeypatch):
    order, replace_ = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda half, path: order.append(path.name) or replace_(half, path))
    submissions.write(made(), tmp_path, vocabulary=TAGS)
    assert order == ["thresholds.txt", "decisions.npy", "predictions.npy"]


def test_a_faulty_submission_is_not_written(tmp_path):
    with pytest.raises(ScoresError, match=r"the submission cannot be submitted: 1 predictions are not a number"):
        submissions.write(
            made(predictions=with_value(made().predictions, np.nan, (0, 0)), name="the submission"),
            tmp_path, vocabulary=TAGS,
        )  # fmt: skip
    with pytest.raises(ScoresError, match="it has no thresholds"):
        submissions.write(made(thresholds={}), tmp_path, vocabulary=TAGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threshold", [-1.0, 0.1, 2.0])
def test_what_is_only_odd_is_written_and_noticed(tmp_path, threshold):
    odd = submissions.make(np.full((2, 4), 0.5), np.full(4, threshold), TAGS)
    submissions.write(odd, tmp_path, vocabulary=TAGS)
    constant, decided = submissions.find_warnings(submissions.read(tmp_path), TAGS)
    assert faults(submissions.read(tmp_path)) == []
    assert constant.startswith("predictions are the same for every track for 'happy', 'sad', 'dark', 'film'")
    assert decided == f"{'no' if threshold > 1 else 'every'} tag is decided, for all tracks"


def test_rows_of_zeros_are_odd():
    predictions = made().predictions.copy()
    predictions[[3, *range(10, 16)]] = 0
    (odd,) = submissions.find_warnings(Submission(predictions), TAGS)
    assert "7 of 200 rows: 3, 10, 11, 12, 13 and 2 more" in odd
    assert faults(submissions.make(predictions, np.full(4, 0.5), TAGS)) == []
    assert not list(submissions.find_warnings(made(), TAGS))


def test_what_is_not_there_is_called_so(tmp_path):
    with pytest.raises(ScoresError, match="no folder or file") as caught:
        submissions.read(tmp_path / "nothere")
    assert "Errno" not in str(caught.value)


# ---------------------------------------------------------------- files that cannot be trusted


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'shape': (1,",
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({'-' * 9_000}1, 1), }}",
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': {'(' * 4_000}{')' * 4_000}, }}",
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**70}, 1), }}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True, True), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 1), }",
        "{'descr': [('a', '<f8')] * 3, 'fortran_order': False, 'shape': (1, 1), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1), 'more': 1}",
        "\0", "", "{}", "1",
    ],
    ids=range(12),
)  # fmt: skip
def test_headers_that_were_made_to_harm_are_refused(tmp_path, header):
    content = header.encode() + b"\n"
    path = tmp_path / "p.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + bytes(8))
    for read in (submissions.read_array, submissions.read_rows):
        with pytest.raises(ScoresError, match=r"p\.npy cannot be read as an array"):
            read(path)


def test_files_that_are_no_matrix_of_numbers_are_refused(tmp_path):
    class Acts:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "acted"),)

    np.save(tmp_path / "objects.npy", np.array([[Acts()]], object), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    np.save(tmp_path / "complex.npy", np.array([[1j]]))
    np.save(tmp_path / "line.npy", np.arange(3.0))
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    np.savez(tmp_path / "many.npz", a=np.eye(2))
    (tmp_path / "text.npy").write_text("0.5 0.5")
    (tmp_path / "nothing.npy").touch()
    np.save(tmp_path / "whole.npy", np.eye(50))
    (tmp_path / "half.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:4_000])
    huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (999999999, 99999), }".ljust(117) + "\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + huge.encode())
    wrong = sorted(path.name for path in tmp_path.iterdir() if path.name != "whole.npy")
    assert len(wrong) == 10
    with pytest.raises(ScoresError, match=r"there is no file .*missing\.npy"):
        submissions.read_array(tmp_path / "missing.npy")
    for name in wrong:
        with pytest.raises(ScoresError, match=f"{name} (cannot be read|holds).*save (it|them) with numpy.save"):
            submissions.read_array(tmp_path / name)
    assert not (tmp_path / "acted").exists()


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint16, np.float16, np.float32, np.float64, ">f8"])
def test_every_kind_of_number_is_read(tmp_path, kind):
    np.save(tmp_path / "p.npy", np.asfortranarray(np.eye(3).astype(kind)))
    found = submissions.read_array(tmp_path / "p.npy")
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, np.eye(3))


def test_thresholds_with_faults_are_refused_with_all_of_them(tmp_path):
    path = tmp_path / "thresholds.txt"
    path.write_text("a\t0.5\nb 0.5\nc\tnan\nmood/theme---a\t1\n\t2\n")
    with pytest.raises(DatasetError, match=r"line 2 is 'b 0.5', line 3 is .*, line 4 is .*, line 5 is") as caught:
        submissions.read_thresholds(path)
    assert "line 1" not in str(caught.value)
    path.write_text("")
    with pytest.raises(DatasetError, match="it is empty"):
        submissions.read_thresholds(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="text file"):
        submissions.read_thresholds(path)


def test_rows_are_read_from_text_and_arrays(tmp_path):
    (tmp_path / "rows.txt").write_text("7\n\n 12 \n")
    np.save(tmp_path / "rows.npy", np.array([7, 12], np.uint16))
    np.testing.assert_array_equal(submissions.read_rows(tmp_path / "rows.txt"), [7, 12])
    np.testing.assert_array_equal(submissions.read_rows(tmp_path / "rows.npy"), [7, 12])
    (tmp_path / "rows.txt").write_text("7\n-1\ntrack_3\n")
    with pytest.raises(DatasetError, match="has '-1', 'track_3'"):
        submissions.read_rows(tmp_path / "rows.txt")
    (tmp_path / "rows.txt").write_text("7\n99999999999999999999\n")
    with pytest.raises(DatasetError, match="has '99999999999999999999'"):
        submissions.read_rows(tmp_path / "rows.txt")
    np.save(tmp_path / "rows.npy", np.array([0.5]))
    with pytest.raises(ScoresError, match="a list of whole numbers"):
        submissions.read_rows(tmp_path / "rows.npy")


# ---------------------------------------------------------------- form


def test_a_submission_in_order_has_no_faults():
    truth, _ = scores()
    assert faults(made()) == []
    assert faults(made(), truth=truth, rows=200) == []
    assert faults(made(thresholds={})) == []


def test_shapes():
    assert faults(made(), rows=150) == [
        "predictions have 200 rows; there are 150 tracks", "decisions have 200 rows; there are 150 tracks"
    ]  # fmt: skip
    turned = made(predictions=made().predictions.T)
    assert one_fault(turned, rows=200) == "predictions lie on their side, 4 × 200: transpose them to tracks × tags"
    validation = Submission(np.full((3_802, 4), 0.5), np.zeros((3_802, 4), bool))
    assert faults(validation, rows=4_231)[0] == (
        "predictions have 3,802 rows, as many as the validation split of the task; there are 4,231 tracks"
    )
    assert one_fault(made(decisions=made().decisions[:, :3])) == "decisions have 3 columns; there are 4 tags"


@pytest.mark.parametrize(
    ("places", "value", "fault"),
    [
        (((3, 1), (0, 2)), np.nan, "2 predictions are not a number, the first in row 0 for 'dark'"),
        (((3, 1),), np.inf, "1 predictions are infinite, the first in row 3 for 'sad'"),
        (((3, 1),), 1.5, "1 predictions are outside 0 … 1 (they span"),
    ],
)
def test_values(places, value, fault):
    predictions = with_value(made().predictions, value, *places)
    assert one_fault(Submission(predictions, predictions > 0.5)).startswith(fault)


def test_kinds_of_numbers():
    assert one_fault(made(predictions=made().predictions.astype(np.float32))).startswith("predictions are float32; the")
    assert one_fault(made(decisions=made().decisions.astype(int))) == "decisions are int64; the task wants bool"
    whole = made(predictions=made().decisions, thresholds={})
    assert one_fault(whole).startswith("predictions are bool; the task wants float64")


def test_decisions_and_thresholds():
    submission = made()
    assert one_fault(replace(submission, decisions=None)).startswith("there are no decisions")
    none = replace(submission, decisions=np.zeros((200, 4), bool), thresholds={})
    assert faults(none) == []
    assert list(submissions.find_warnings(none, TAGS)) == ["no tag is decided, for all tracks"]
    every = replace(none, decisions=~none.decisions)
    assert list(submissions.find_warnings(every, TAGS)) == ["every tag is decided, for all tracks"]
    other = replace(submission, thresholds=submission.thresholds | {"sad": 0.55})
    count = ((submission.predictions[:, 1] > 0.5) & (submission.predictions[:, 1] <= 0.55)).sum()
    assert one_fault(other) == f"{count} decisions are not those of the thresholds (strictly above): see 'sad'"
    highest, lowest = submission.predictions[:, 3].argmax(), submission.predictions[:, 3].argmin()
    turned = submission.decisions.copy()
    turned[[highest, lowest], 3] = turned[[lowest, highest], 3]
    assert one_fault(replace(submission, decisions=turned, thresholds={})) == (
        "no threshold makes these decisions of the predictions for 'film'"
    )
    mixed = dict(sorted(submission.thresholds.items()))
    assert one_fault(replace(submission, thresholds=mixed)).startswith("thresholds list the tags in another order")
    tied = submission.predictions.copy()
    tied[lowest, 3] = tied[highest, 3]  # one is decided, the other is not
    assert "for 'film'" in one_fault(replace(submission, predictions=tied, thresholds={}))
    limits = {"happy": 0.5, "sad": 0.5, "dark": 0.5, "slow": 0.5}
    assert faults(replace(submission, thresholds=limits)) == [
        "there are no thresholds for 'film'", "there are thresholds for 'slow', which are no tags of the task"
    ]  # fmt: skip


def test_all_faults_come_at_once():
    predictions = with_value(made().predictions * 2, np.nan, (0, 0))
    assert len(faults(Submission(predictions.astype(np.float32), None))) == 4


def test_a_fault_names_few_of_many():
    (fault,) = submissions.find_warnings(Submission(np.full((3, 56), 0.5), None), tags.MOODS_AND_THEMES)
    assert "'action', 'adventure', 'advertising', 'background', 'ballad' and 51 more" in fault


# ---------------------------------------------------------------- order


def tracks_of(count):
    """Tracks whose paths are in another order than they are."""
    return [Track(f"track_{n:05}", f"{n % 7:02}/{n}.mp3", 60.0, ()) for n in range(count)]


def test_columns_in_another_order_are_noticed_beside_truth():
    truth, predictions = scores(1_000)
    swapped = predictions[:, [0, 3, 2, 1]]
    fault = one_fault(Submission(swapped, swapped > 0.5), truth=truth)
    own, better = metrics.roc_auc(truth, swapped), metrics.roc_auc(truth, predictions)
    assert fault == (
        "columns would fit far better in each other's place: 'sad' and 'film' would have ROC-AUC "
        f"{better[1]:.2f} and {better[3]:.2f}, not {own[1]:.2f} and {own[3]:.2f}; are they in the order of the tags?"
    )
    assert faults(Submission(swapped, swapped > 0.5)) == []  # without truth nothing can be known


@pytest.mark.parametrize("what", ["sorted by path", "backwards"])
def test_rows_in_another_order_are_noticed_beside_truth(what):
    truth, predictions = scores(1_000)
    tracks = tracks_of(1_000)
    paths = [track.path for track in tracks]
    rows = np.argsort(paths, kind="stable") if what == "sorted by path" else np.arange(1_000)[::-1]
    turned = predictions[rows]
    fault = one_fault(Submission(turned, turned > 0.5), truth=truth, tracks=tracks)
    assert fault.startswith(f"rows seem to be {what}: so read, macro ROC-AUC is 0.87 instead of 0.")


def test_rows_in_no_order_are_noticed_beside_truth():
    truth, predictions = scores(1_000)
    turned = predictions[np.random.default_rng(1).permutation(1_000)]
    assert "which is chance: are rows in the order of the index?" in one_fault(
        Submission(turned, turned > 0.5), truth=truth, tracks=tracks_of(1_000)
    )


def test_a_truth_that_is_none_is_refused():
    truth, _ = scores()
    with pytest.raises(ScoresError, match=r"truth came as bool of shape \(200, 3\), to compare with shape \(200, 4\)"):
        faults(made(), truth=truth[:, :3])
    for value in (0.5, np.nan):
        with pytest.raises(
            ScoresError, match=r"values of truth \(the first: .* at track 3, tag 1\) are neither 0 nor 1"
        ):
            faults(made(), truth=with_value(truth.astype(float), value, (3, 1)))


def test_few_tracks_say_nothing_about_an_order():
    """By chance alone a good system has a ROC-AUC below 0.5, or other columns that fit better."""
    for seed in range(40):
        truth, predictions = scores(6, seed=seed)
        assert faults(Submission(predictions, predictions > 0.5), truth=truth, tracks=tracks_of(6)) == []


def test_a_folder_of_others_is_refused_and_one_of_ours_is_replaced(tmp_path):
    submissions.check_output(tmp_path / "new" / "folder")
    submissions.check_output(tmp_path)
    submissions.write(made(), tmp_path / "ours", vocabulary=TAGS)
    submissions.check_output(tmp_path / "ours")
    submissions.write(made(), tmp_path / "ours", vocabulary=TAGS)
    refused = {"input": tmp_path / "ours"}
    for name, content in (
        ("predictions.npy", b"text"),
        ("decisions.npy", b"text"),
        ("thresholds.txt", b"a shopping list"),
    ):
        (tmp_path / name.replace(".", "-")).mkdir()
        (tmp_path / name.replace(".", "-") / name).write_bytes(content)
        refused[name] = tmp_path / name.replace(".", "-")
    (tmp_path / "predicted").mkdir()
    np.save(tmp_path / "predicted" / "predictions.npy", made().predictions)
    refused["of somebody else"] = tmp_path / "predicted"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").touch()
    submissions.check_output(tmp_path / "notes", shared=True)
    with pytest.raises(OutputError, match=r"notes\.txt"):
        submissions.check_output(tmp_path / "notes")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "predictions.npy.0123456789abcdef.part").touch()
    submissions.check_output(tmp_path / "cut")  # what a killed process left
    refused["an option"] = Path("--fill")
    (tmp_path / "file").touch()
    refused |= {"file": tmp_path / "file", "below a file": tmp_path / "file" / "mine"}
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    refused["a link to an input"] = tmp_path / "link"
    for folder in refused.values():
        with pytest.raises(OutputError):
            submissions.check_output(folder, inputs=[tmp_path / "ours"])
    with pytest.raises(OutputError):
        submissions.check_output(tmp_path / "ours", inputs=[tmp_path / "ours" / "predictions.npy"])
    with pytest.raises(OutputError):
        submissions.write(made(), refused["thresholds.txt"], vocabulary=TAGS)
    assert (refused["thresholds.txt"] / "thresholds.txt").read_bytes() == b"a shopping list"


def test_tags_without_positives_do_not_disturb():
    truth, predictions = scores(1_000)
    truth[:, 2] = False
    assert faults(Submission(predictions, predictions > 0.5), truth=truth) == []


# ---------------------------------------------------------------- the published submissions


def published(data):
    for folder in sorted((data / "mediaeval2019/CP-JKU").iterdir()):
        yield submissions.read(folder)
    for path in sorted((data / "lileonardo2021").glob("*/test-*.npy")):
        yield submissions.read(path)


@pytest.mark.golden
def test_published_submissions_are_in_order_but_for_their_precision(data):
    split = mtg_jamendo.read(data / "mtg-jamendo/autotagging_moodtheme-test.tsv")
    for submission in published(data):
        found = submissions.find_errors(submission, vocabulary=split.vocabulary, tracks=split.tracks, truth=split.truth)
        excused = ("predictions are float32", "there are no decisions")
        assert [fault for fault in found if not fault.startswith(excused)] == []
        assert not found or submission.predictions.dtype == np.float32


@pytest.mark.golden
def test_published_columns_that_are_exchanged_are_mostly_noticed(data):
    split = mtg_jamendo.read(data / "mtg-jamendo/autotagging_moodtheme-test.tsv")
    submission = submissions.read(data / "mediaeval2019/CP-JKU/3_avg_ensemble")
    drawn, noticed = np.random.default_rng(0), 0
    for _ in range(10):
        order = np.arange(56)
        pair = drawn.choice(56, 2, replace=False)
        order[pair] = order[pair[::-1]]
        turned = replace(submission, predictions=submission.predictions[:, order], decisions=None)
        found = submissions.find_errors(turned, vocabulary=split.vocabulary, truth=split.truth)
        noticed += any("would fit far better" in fault for fault in found)
    assert noticed >= 7


@pytest.mark.golden
def test_the_baselines_thresholds_make_its_decisions(data):
    folder = data / "mediaeval2019/baseline"
    baseline = Submission(
        submissions.read_array(folder / "vggish_predictions.npy").astype(np.float64),
        submissions.read_array(folder / "vggish_decisions.npy"),
        submissions.read_thresholds(folder / "vggish_thresholds.txt"),
    )
    assert submissions.find_errors(baseline, vocabulary=tags.MOODS_AND_THEMES) == []

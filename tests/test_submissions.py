"""Submissions: written atomically, read safely, and checked."""

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
from moodfield.evaluation import metrics, submission_checks, submissions
from moodfield.evaluation.submissions import Submission

TAGS = ("happy", "sad", "dark", "film")


def problem(tracks=200, count=4, seed=0):
    """Truth, and good predictions of it."""
    drawn = np.random.default_rng(seed)
    truth = drawn.random((tracks, count)) < 0.25
    return truth, 0.6 * drawn.random(truth.shape) + 0.3 * truth


def submission_of(**changes):
    _, predictions = problem()
    return replace(submissions.make(predictions, np.full(4, 0.5), TAGS), **changes)


def errors_of(submission, **about):
    return submission_checks.find_errors(submission, vocabulary=TAGS, **about)


def only_error(submission, **about):
    (error,) = errors_of(submission, **about)
    return error


def with_value(values, value, *cells):
    values = values.copy()
    for cell in cells:
        values[cell] = value
    return values


# ---------------------------------------------------------------- written and read


@pytest.mark.parametrize("vocabulary", [TAGS, tags.MOODS_AND_THEMES])
def test_write_then_read(tmp_path, vocabulary):
    _, predictions = problem(count=len(vocabulary))
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
    assert (
        errors_of(found) == []
        if vocabulary == TAGS
        else submission_checks.find_errors(found, vocabulary=vocabulary) == []
    )
    first = (tmp_path / "new" / "one" / "thresholds.txt").read_text().splitlines()[2]
    assert first.startswith("dark\t" if vocabulary == TAGS else "mood/theme---advertising\t")


def test_make_raises_for_mismatching_sizes():
    with pytest.raises(ScoresError, match="thresholds"):
        submissions.make(problem()[1], np.full(3, 0.5), TAGS)
    with pytest.raises(ScoresError, match="3 tags for 4"):
        submissions.make(problem()[1], np.full(4, 0.5), TAGS[:3])


def test_a_predictions_file_is_a_submission_without_decisions(tmp_path):
    np.save(tmp_path / "p.npy", np.eye(3))
    found = submissions.read(tmp_path / "p.npy")
    assert found.decisions is None
    assert found.thresholds == {}
    np.testing.assert_array_equal(found.predictions, np.eye(3))


def test_take():
    found = submission_of().take(np.array([3, 1]))
    np.testing.assert_array_equal(found.predictions, submission_of().predictions[[3, 1]])
    np.testing.assert_array_equal(found.decisions, submission_of().decisions[[3, 1]])
    assert submission_of(decisions=None).take(np.array([0])).decisions is None


@pytest.mark.parametrize("broken", ["predictions.npy", "decisions.npy", "thresholds.txt"])
def test_new_predictions_never_lie_beside_old_decisions(tmp_path, monkeypatch, broken):
    """A disk that fails at the last moment leaves no submission, and a full one the old submission."""
    old, new = (
        submission_of(),
        submission_of(predictions=submission_of().predictions[::-1], decisions=submission_of().decisions[::-1]),
    )
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

    for broken_path, remains in ((failing, False), (full, True)):
        submissions.write(old, tmp_path, vocabulary=TAGS)
        monkeypatch.setattr(files, "atomic_path", broken_path)
        with pytest.raises(OSError, match="the disk"):
            submissions.write(new, tmp_path, vocabulary=TAGS)
        monkeypatch.setattr(files, "atomic_path", whole)
        assert (tmp_path / "predictions.npy").exists() is remains
        assert not list(tmp_path.glob("*.part"))
        if remains:
            np.testing.assert_array_equal(submissions.read(tmp_path).predictions, old.predictions)
            np.testing.assert_array_equal(submissions.read(tmp_path).decisions, old.decisions)


def test_predictions_are_renamed_last(tmp_path, monkeypatch):
    order, replace_ = [], Path.replace

    def record(partial, path):
        if not path.name.endswith(".part"):
            order.append(path.name)
        return replace_(partial, path)

    monkeypatch.setattr(Path, "replace", record)
    submissions.write(submission_of(), tmp_path, vocabulary=TAGS)
    assert order == ["thresholds.txt", "decisions.npy", "predictions.npy"]


def test_a_submission_with_errors_is_not_written(tmp_path):
    with pytest.raises(ScoresError, match="1 predictions are"):
        submissions.write(
            submission_of(predictions=with_value(submission_of().predictions, np.nan, (0, 0)), name="the submission"),
            tmp_path, vocabulary=TAGS,
        )  # fmt: skip
    with pytest.raises(ScoresError, match="no thresholds"):
        submissions.write(submission_of(thresholds={}), tmp_path, vocabulary=TAGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threshold", [-1.0, 0.1, 2.0])
def test_a_suspicious_submission_is_written_with_warnings(tmp_path, threshold):
    odd = submissions.make(np.full((2, 4), 0.5), np.full(4, threshold), TAGS)
    submissions.write(odd, tmp_path, vocabulary=TAGS)
    constant, decided = submission_checks.find_warnings(submissions.read(tmp_path), TAGS)
    assert errors_of(submissions.read(tmp_path)) == []
    assert "the same for every track" in constant
    assert "'happy', 'sad', 'dark', 'film'" in constant
    assert decided == f"{'no' if threshold > 1 else 'every'} tag is decided, for all tracks"


def test_rows_of_zeros_are_a_warning():
    predictions = submission_of().predictions.copy()
    predictions[[3, *range(10, 16)]] = 0
    (odd,) = submission_checks.find_warnings(Submission(predictions), TAGS)
    assert "7 of 200 rows: 3, 10, 11, 12, 13 and 2 more" in odd
    assert errors_of(submissions.make(predictions, np.full(4, 0.5), TAGS)) == []
    assert not list(submission_checks.find_warnings(submission_of(), TAGS))


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ScoresError, match="nothere") as caught:
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
def test_malicious_headers_raise(tmp_path, header):
    content = header.encode() + b"\n"
    path = tmp_path / "p.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + bytes(8))
    for read in (submissions.read_array, submissions.read_rows):
        with pytest.raises(ScoresError, match=r"p\.npy"):
            read(path)


def test_files_without_a_matrix_of_numbers_raise(tmp_path):
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
    with pytest.raises(ScoresError, match=r"missing\.npy"):
        submissions.read_array(tmp_path / "missing.npy")
    for name in wrong:
        with pytest.raises(ScoresError, match=f"{name}.*numpy.save"):
            submissions.read_array(tmp_path / name)
    assert not (tmp_path / "acted").exists()


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint16, np.float16, np.float32, np.float64, ">f8"])
def test_every_number_type_is_read(tmp_path, kind):
    np.save(tmp_path / "p.npy", np.asfortranarray(np.eye(3).astype(kind)))
    found = submissions.read_array(tmp_path / "p.npy")
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, np.eye(3))


def test_threshold_files_raise_with_all_errors(tmp_path):
    path = tmp_path / "thresholds.txt"
    path.write_text("a\t0.5\nb 0.5\nc\tnan\nmood/theme---a\t1\n\t2\n")
    with pytest.raises(DatasetError, match=r"line 2.*3.*4.*5") as caught:
        submissions.read_thresholds(path)
    assert "line 1" not in str(caught.value)
    path.write_text("")
    with pytest.raises(DatasetError, match="it is empty"):
        submissions.read_thresholds(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="text file"):
        submissions.read_thresholds(path)


def test_read_rows(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros(0, np.int64))
    assert submissions.read_rows(tmp_path / "none.npy").tolist() == []
    (tmp_path / "rows.txt").write_text("7\n\n 12 \n")
    np.save(tmp_path / "rows.npy", np.array([7, 12], np.uint16))
    np.testing.assert_array_equal(submissions.read_rows(tmp_path / "rows.txt"), [7, 12])
    np.testing.assert_array_equal(submissions.read_rows(tmp_path / "rows.npy"), [7, 12])
    (tmp_path / "rows.txt").write_text("7\n-1\ntrack_3\n")
    with pytest.raises(DatasetError, match="'-1', 'track_3'"):
        submissions.read_rows(tmp_path / "rows.txt")
    (tmp_path / "rows.txt").write_text("7\n99999999999999999999\n")
    with pytest.raises(DatasetError, match=r"9{20}"):
        submissions.read_rows(tmp_path / "rows.txt")
    np.save(tmp_path / "rows.npy", np.array([0.5]))
    with pytest.raises(ScoresError, match="whole numbers"):
        submissions.read_rows(tmp_path / "rows.npy")


# ---------------------------------------------------------------- form


def test_a_correct_submission_has_no_errors():
    truth, _ = problem()
    assert errors_of(submission_of()) == []
    assert errors_of(submission_of(), truth=truth) == []
    assert errors_of(submission_of(thresholds={})) == []


def test_shapes():
    assert errors_of(submission_of(), tracks=tracks_of(150)) == [
        "predictions have 200 rows; there are 150 tracks", "decisions have 200 rows; there are 150 tracks"
    ]  # fmt: skip
    turned = submission_of(predictions=submission_of().predictions.T)
    assert (
        only_error(turned, tracks=tracks_of(200))
        == "predictions are 4 × 200, which is tags × tracks: transpose them to tracks × tags"
    )
    validation = Submission(np.full((3_802, 4), 0.5), np.zeros((3_802, 4), bool))
    assert errors_of(validation, tracks=tracks_of(4_231))[0] == (
        "predictions have 3,802 rows, as many as the validation split of the task; there are 4,231 tracks"
    )
    assert (
        only_error(submission_of(decisions=submission_of().decisions[:, :3]))
        == "decisions have 3 columns; there are 4 tags"
    )


@pytest.mark.parametrize(
    ("cells", "value", "message"),
    [
        (((3, 1), (0, 2)), np.nan, "2 predictions are not a number, the first in row 0 for 'dark'"),
        (((3, 1),), np.inf, "1 predictions are infinite, the first in row 3 for 'sad'"),
        (((3, 1),), 1.5, "1 predictions are outside 0 … 1 (they span"),
    ],
)
def test_values(cells, value, message):
    predictions = with_value(submission_of().predictions, value, *cells)
    assert only_error(Submission(predictions, predictions > 0.5)).startswith(message)


def test_number_types():
    assert only_error(submission_of(predictions=submission_of().predictions.astype(np.float32))).startswith(
        "predictions are float32"
    )
    assert (
        only_error(submission_of(decisions=submission_of().decisions.astype(int)))
        == "decisions are int64; the task requires bool"
    )
    whole = submission_of(predictions=submission_of().decisions, thresholds={})
    assert only_error(whole).startswith("predictions are bool")


def test_decisions_and_thresholds():
    submission = submission_of()
    assert only_error(replace(submission, decisions=None)).startswith("there are no decisions")
    none = replace(submission, decisions=np.zeros((200, 4), bool), thresholds={})
    assert errors_of(none) == []
    assert list(submission_checks.find_warnings(none, TAGS)) == ["no tag is decided, for all tracks"]
    every = replace(none, decisions=~none.decisions)
    assert list(submission_checks.find_warnings(every, TAGS)) == ["every tag is decided, for all tracks"]
    other = replace(submission, thresholds=submission.thresholds | {"sad": 0.55})
    count = ((submission.predictions[:, 1] > 0.5) & (submission.predictions[:, 1] <= 0.55)).sum()
    assert only_error(other) == f"{count} decisions are not those of the thresholds (strictly above): see 'sad'"
    highest, lowest = submission.predictions[:, 3].argmax(), submission.predictions[:, 3].argmin()
    turned = submission.decisions.copy()
    turned[[highest, lowest], 3] = turned[[lowest, highest], 3]
    assert only_error(replace(submission, decisions=turned, thresholds={})) == (
        "no threshold makes these decisions of the predictions for 'film'"
    )
    mixed = dict(sorted(submission.thresholds.items()))
    assert only_error(replace(submission, thresholds=mixed)).startswith("thresholds list the tags in another order")
    tied = submission.predictions.copy()
    tied[lowest, 3] = tied[highest, 3]  # one is decided, the other is not
    assert "for 'film'" in only_error(replace(submission, predictions=tied, thresholds={}))
    limits = {"happy": 0.5, "sad": 0.5, "dark": 0.5, "slow": 0.5}
    assert errors_of(replace(submission, thresholds=limits)) == [
        "there are no thresholds for 'film'", "there are thresholds for 'slow', which are no tags of the task"
    ]  # fmt: skip


def test_all_errors_are_reported_together():
    predictions = with_value(submission_of().predictions * 2, np.nan, (0, 0))
    assert len(errors_of(Submission(predictions.astype(np.float32), None))) == 4


def test_a_message_lists_few_of_many_tags():
    (error,) = submission_checks.find_warnings(Submission(np.full((3, 56), 0.5), None), tags.MOODS_AND_THEMES)
    assert "'action', 'adventure', 'advertising', 'background', 'ballad' and 51 more" in error


# ---------------------------------------------------------------- order


def tracks_of(count):
    """Tracks whose paths are in another order than they are."""
    return [Track(f"track_{n:05}", f"{n % 7:02}/{n}.mp3", 60.0, ()) for n in range(count)]


def test_swapped_columns_are_found_with_truth():
    truth, predictions = problem(1_000)
    swapped = predictions[:, [0, 3, 2, 1]]
    error = only_error(Submission(swapped, swapped > 0.5), truth=truth)
    own, better = metrics.roc_auc(truth, swapped), metrics.roc_auc(truth, predictions)
    assert "'sad' and 'film'" in error
    assert f"{better[1]:.2f} and {better[3]:.2f}, not {own[1]:.2f} and {own[3]:.2f}" in error
    assert errors_of(Submission(swapped, swapped > 0.5)) == []  # without truth it cannot be found


@pytest.mark.parametrize("what", ["sorted by path", "backwards"])
def test_sorted_or_reversed_rows_are_found_with_truth(what):
    truth, predictions = problem(1_000)
    tracks = tracks_of(1_000)
    paths = [track.path for track in tracks]
    rows = np.argsort(paths, kind="stable") if what == "sorted by path" else np.arange(1_000)[::-1]
    turned = predictions[rows]
    error = only_error(Submission(turned, turned > 0.5), truth=truth, tracks=tracks)
    assert f"rows seem to be {what}" in error
    assert "ROC-AUC is 0.87 instead of 0." in error


def test_shuffled_rows_are_found_with_truth():
    truth, predictions = problem(1_000)
    turned = predictions[np.random.default_rng(1).permutation(1_000)]
    assert "chance" in only_error(Submission(turned, turned > 0.5), truth=truth, tracks=tracks_of(1_000))


def test_malformed_truth_raises():
    truth, _ = problem()
    with pytest.raises(ScoresError, match=r"truth.*\(200, 3\)"):
        errors_of(submission_of(), truth=truth[:, :3])
    for value in (0.5, np.nan):
        with pytest.raises(ScoresError, match=r"truth.*track 3, tag 1"):
            errors_of(submission_of(), truth=with_value(truth.astype(float), value, (3, 1)))


def test_few_tracks_are_no_evidence_of_an_order():
    """By chance alone a good system has a ROC-AUC below 0.5, or other columns that fit better."""
    for seed in range(40):
        truth, predictions = problem(6, seed=seed)
        assert errors_of(Submission(predictions, predictions > 0.5), truth=truth, tracks=tracks_of(6)) == []


def test_check_output(tmp_path):
    submissions.check_output(tmp_path / "new" / "folder")
    submissions.check_output(tmp_path)
    submissions.write(submission_of(), tmp_path / "ours", vocabulary=TAGS)
    submissions.check_output(tmp_path / "ours")
    submissions.write(submission_of(), tmp_path / "ours", vocabulary=TAGS)
    refused = {"input": tmp_path / "ours"}
    for name, content in (
        ("predictions.npy", b"text"),
        ("decisions.npy", b"text"),
        ("thresholds.txt", b"other text"),
    ):
        (tmp_path / name.replace(".", "-")).mkdir()
        (tmp_path / name.replace(".", "-") / name).write_bytes(content)
        refused[name] = tmp_path / name.replace(".", "-")
    (tmp_path / "predicted").mkdir()
    np.save(tmp_path / "predicted" / "predictions.npy", submission_of().predictions)
    refused["predictions alone"] = tmp_path / "predicted"
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
        submissions.write(submission_of(), refused["thresholds.txt"], vocabulary=TAGS)
    assert (refused["thresholds.txt"] / "thresholds.txt").read_bytes() == b"other text"


def test_tags_without_positives_have_no_column_errors():
    truth, predictions = problem(1_000)
    truth[:, 2] = False
    assert errors_of(Submission(predictions, predictions > 0.5), truth=truth) == []


# ---------------------------------------------------------------- the published submissions


def published(data):
    for folder in sorted((data / "mediaeval2019/CP-JKU").iterdir()):
        yield submissions.read(folder)
    for path in sorted((data / "lileonardo2021").glob("*/test-*.npy")):
        yield submissions.read(path)


@pytest.mark.golden
def test_published_submissions_have_no_errors_but_their_precision(data):
    split = mtg_jamendo.read(data / "mtg-jamendo/autotagging_moodtheme-test.tsv")
    for submission in published(data):
        found = submission_checks.find_errors(
            submission, vocabulary=split.vocabulary, tracks=split.tracks, truth=split.truth
        )
        excused = ("predictions are float32", "there are no decisions")
        assert [error for error in found if not error.startswith(excused)] == []
        assert not found or submission.predictions.dtype == np.float32


@pytest.mark.golden
def test_swapped_columns_of_a_published_submission_are_mostly_found(data):
    split = mtg_jamendo.read(data / "mtg-jamendo/autotagging_moodtheme-test.tsv")
    submission = submissions.read(data / "mediaeval2019/CP-JKU/3_avg_ensemble")
    drawn, noticed = np.random.default_rng(0), 0
    for _ in range(10):
        order = np.arange(56)
        pair = drawn.choice(56, 2, replace=False)
        order[pair] = order[pair[::-1]]
        turned = replace(submission, predictions=submission.predictions[:, order], decisions=None)
        found = submission_checks.find_errors(turned, vocabulary=split.vocabulary, truth=split.truth)
        noticed += any("if swapped" in error for error in found)
    assert noticed >= 7


@pytest.mark.golden
def test_the_thresholds_of_the_baseline_match_its_decisions(data):
    folder = data / "mediaeval2019/baseline"
    baseline = Submission(
        submissions.read_array(folder / "vggish_predictions.npy").astype(np.float64),
        submissions.read_array(folder / "vggish_decisions.npy"),
        submissions.read_thresholds(folder / "vggish_thresholds.txt"),
    )
    assert submission_checks.find_errors(baseline, vocabulary=tags.MOODS_AND_THEMES) == []

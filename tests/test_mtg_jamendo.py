"""The MTG-Jamendo index: tracks, truth, faults, paths, checksums, folders."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodfield import tags
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.errors import DatasetError

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
LINES = (
    "track_0000002\tartist_1\talbum_1\t02/2.mp3\t200.5\tmood/theme---sad\tmood/theme---dark",
    "track_0000001\tartist_1\talbum_1\t01/1.mp3\t100\tmood/theme---happy",
    "track_0000003\tartist_2\talbum_2\t03/3.mp3\t61.25\tmood/theme---dark\tmood/theme---dark",
)


def index(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "index.tsv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def line(track: str = "track_9", path: str = "9.mp3", seconds: str = "60", *names: str) -> str:
    return "\t".join([track, "artist", "album", path, seconds, *(names or ("mood/theme---happy",))])


def refusal(path: Path, **more: object) -> str:
    with pytest.raises(DatasetError) as caught:
        mtg_jamendo.read(path, **more)
    return str(caught.value)


# ---------------------------------------------------------------- read


def test_read_keeps_order_of_file(tmp_path):
    split = mtg_jamendo.read(index(tmp_path, *LINES))
    assert split.tracks[0] == Track("track_0000002", "02/2.mp3", 200.5, ("sad", "dark"), "artist_1")
    assert [track.id for track in split.tracks] == ["track_0000002", "track_0000001", "track_0000003"]
    assert split.tracks[2].tags == ("dark",)  # listed twice
    assert split.vocabulary == ("dark", "happy", "sad")
    np.testing.assert_array_equal(split.truth, [[True, False, True], [False, True, False], [True, False, False]])
    assert split.truth.dtype == bool
    np.testing.assert_allclose(split.priors, [2 / 3, 1 / 3, 1 / 3])
    assert [track.artist for track in split.tracks] == ["artist_1", "artist_1", "artist_2"]


def test_read_with_given_vocabulary(tmp_path):
    split = mtg_jamendo.read(str(index(tmp_path, *LINES)), vocabulary=["sad", "mood/theme---happy", "epic", "dark"])
    assert split.vocabulary == ("sad", "happy", "epic", "dark")
    np.testing.assert_array_equal(split.truth.astype(int), [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]])


def test_windows_line_ends_and_untagged_tracks(tmp_path):
    path = tmp_path / "index.tsv"
    path.write_bytes("\r\n".join([HEADER, *LINES, line("track_4", "4.mp3", "60", "")]).encode())
    split = mtg_jamendo.read(path)
    assert split.tracks[:3] == mtg_jamendo.read(index(tmp_path, *LINES)).tracks
    assert split.tracks[3].tags == ()
    assert not split.truth[3].any()


def test_take_selects_rows(tmp_path):
    split = mtg_jamendo.read(index(tmp_path, *LINES))
    taken = split.take([2, 0])
    assert taken.tracks == (split.tracks[2], split.tracks[0])
    assert taken.vocabulary == split.vocabulary
    np.testing.assert_array_equal(taken.truth, split.truth[[2, 0]])
    assert split.take([]).truth.shape == (0, 3)
    assert split.take(np.flatnonzero(split.truth[:, 0]).tolist()).truth.shape == (2, 3)


def test_byte_order_mark_and_unicode_line_separators(tmp_path):
    path = index(tmp_path, line("track_1", "a\u2028b\x85c.mp3", "60", "x\x0by"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    [track] = mtg_jamendo.read(path).tracks
    assert (track.path, track.tags) == ("a\u2028b\x85c.mp3", ("x\x0by",))


# ---------------------------------------------------------------- refused


def test_message_lists_all_faults(tmp_path):
    path = index(
        tmp_path,
        LINES[0],
        "track_4\tartist",
        line("track_0000002", "x.mp3", "60"),
        line("track_5", "../x.mp3", "60"),
        line("track_6", "/x.mp3", "60"),
        line("track_7", "x.mp3", "long"),
        line("track_8", "x.mp3", "60", "mood/theme---"),
        line("track_9", "x.mp3", "60", "mood/theme---angry", "mood/theme---epic"),
        line("track_10", "a/../../x.mp3", "nan"),
    )
    message = refusal(path, vocabulary=["happy", "sad", "dark"])
    faults = message.removeprefix(f"{path} cannot be used: ").split("; ")
    expected = [
        ("line 3", "columns"), ("line 4", "track_0000002"), ("line 5", "'../x.mp3'"), ("line 6", "'/x.mp3'"),
        ("line 7", "'long'"), ("line 8", "tag"), ("line 10", "'nan'"), ("line 10", "'a/../../x.mp3'"),
        ("", "angry, epic"),
    ]  # fmt: skip
    for fault, (line_number, token) in zip(faults, expected, strict=True):
        assert fault.startswith(line_number)
        assert token in fault


@pytest.mark.parametrize("seconds", ["-1", "inf", "", "1:30"])
def test_invalid_duration_raises(tmp_path, seconds):
    assert f"line 2: duration {seconds!r} is not" in refusal(index(tmp_path, line(seconds=seconds)))


def test_long_list_of_faults_is_shortened(tmp_path):
    message = refusal(index(tmp_path, *["x"] * 50))
    assert message.count("columns") == 20
    assert message.endswith("; and 31 more faults")  # 50 lines, and that there are no tracks


@pytest.mark.parametrize("header", ["", "track\tpath", HEADER.replace("\t", ","), LINES[0]])
def test_wrong_header_raises(tmp_path, header):
    message = refusal(index(tmp_path, *LINES, header=header))
    assert "TRACK_ID ARTIST_ID ALBUM_ID PATH DURATION TAGS" in message


def test_empty_index_raises(tmp_path):
    (tmp_path / "empty.tsv").write_text("")
    assert "header" in refusal(tmp_path / "empty.tsv")
    assert "it lists no tracks" in refusal(index(tmp_path))


def test_binary_file_raises(tmp_path):
    (tmp_path / "noise.tsv").write_bytes(bytes(range(256)))
    for path in (tmp_path / "noise.tsv", tmp_path, tmp_path / "none.tsv"):
        assert "text file" in refusal(path)


def test_empty_vocabulary_raises(tmp_path):
    assert "it has no tags" in refusal(index(tmp_path, *LINES), vocabulary=[])


# ---------------------------------------------------------------- vocabularies


def test_read_vocabulary_keeps_order(tmp_path):
    (tmp_path / "tags.txt").write_text("mood/theme---sad\n\nhappy\n  dark \n")
    assert mtg_jamendo.read_vocabulary(tmp_path / "tags.txt") == ("sad", "happy", "dark")


def test_invalid_tag_list_raises(tmp_path):
    (tmp_path / "tags.txt").write_text("happy\nsad\nmood---happy\n")
    with pytest.raises(DatasetError, match="'happy' is listed"):
        mtg_jamendo.read_vocabulary(tmp_path / "tags.txt")
    (tmp_path / "tags.txt").write_text("\n\n")
    with pytest.raises(DatasetError, match="it has no tags"):
        mtg_jamendo.read_vocabulary(tmp_path / "tags.txt")
    with pytest.raises(DatasetError, match="text file"):
        mtg_jamendo.read_vocabulary(tmp_path / "none.txt")


# ---------------------------------------------------------------- files and checksums


@pytest.mark.parametrize("there", ["24/3524.mp3", "24/3524.low.mp3", "audios/24/3524.mp3", "audios/24/3524.low.mp3"])
def test_locate_in_both_bitrates_and_layouts(tmp_path, there):
    assert mtg_jamendo.locate(tmp_path, "24/3524.mp3") == tmp_path / "24/3524.mp3"  # nowhere
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).write_bytes(b"")
    assert mtg_jamendo.locate(str(tmp_path), "24/3524.mp3") == tmp_path / there


def test_locate_prefers_path_of_index(tmp_path):
    for path in ("a.low.ogg", "audios/a.ogg", "a.ogg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    assert mtg_jamendo.locate(tmp_path, "a.ogg") == tmp_path / "a.ogg"


@given(st.text(max_size=20))
def test_locate_any_path(path):
    assert mtg_jamendo.locate("/nowhere", path) == Path("/nowhere", path)
    assert isinstance(mtg_jamendo.checksum_of(path, {"x": "y"}), str | None)


def test_parse_returns_tracks_and_faults(tmp_path):
    path = index(tmp_path, LINES[0], "x", line("track_9", "9.mp3", "long", "mood/theme---angry"))
    tracks, faults = mtg_jamendo.parse(path)
    assert [track.tags for track in tracks] == [("sad", "dark"), ("angry",)]
    assert len(faults) == 2
    assert "line 3" in faults[0]
    assert "line 4" in faults[1]


A, B = "a" * 64, "0123456789abcdef" * 4


def test_read_checksums_of_both_formats(tmp_path):
    (tmp_path / "sums.txt").write_text(f"{A} 02/2.low.mp3\n{B}  1.mp3\n{A} *with space.mp3\n{A} 02/2.low.mp3\n")
    sums = mtg_jamendo.read_checksums(tmp_path / "sums.txt")
    assert sums == {"02/2.low.mp3": A, "1.mp3": B, "with space.mp3": A}
    assert next(iter(sums)) == "02/2.low.mp3"
    assert mtg_jamendo.checksum_of("02/2.mp3", sums) == A
    assert mtg_jamendo.checksum_of("1.mp3", sums) == B
    assert mtg_jamendo.checksum_of("3.mp3", sums) is None


def test_invalid_list_of_checksums_raises_all_faults(tmp_path):
    (tmp_path / "sums.txt").write_text(f"{A} a\n{A[1:]} b\n{A}\n{A.upper()} c\n{B} a\n\n")
    with pytest.raises(DatasetError) as caught:
        mtg_jamendo.read_checksums(tmp_path / "sums.txt")
    faults = str(caught.value).split("checksums: ")[1].split("; ")
    assert [re.match(r"line (\d)", fault)[1] for fault in faults] == ["2", "3", "4", "5", "6"]
    assert "two checksums" in faults[3]
    (tmp_path / "sums.txt").write_text("")
    with pytest.raises(DatasetError, match="it is empty"):
        mtg_jamendo.read_checksums(tmp_path / "sums.txt")


# ---------------------------------------------------------------- as published


@pytest.fixture
def official(data: Path) -> dict[str, Split]:
    names = ("train", "validation", "test")
    return {name: mtg_jamendo.read(data / "mtg-jamendo" / f"autotagging_moodtheme-{name}.tsv") for name in names}


@pytest.mark.golden
def test_official_split(official):
    assert {name: len(split.tracks) for name, split in official.items()} == {
        "train": 9_949, "validation": 3_802, "test": 4_231,
    }  # fmt: skip
    assert all(split.vocabulary == tags.MOODS_AND_THEMES for split in official.values())
    ids = [track.id for split in official.values() for track in split.tracks]
    assert len(set(ids)) == len(ids) == 17_982
    first = official["train"].tracks[0]
    assert (first.id, first.path) == ("track_0000948", "48/948.mp3")


@pytest.mark.golden
def test_truth_equals_published_truth(official, data):
    truth = np.load(data / "mediaeval2019" / "groundtruth.npy", allow_pickle=False)
    np.testing.assert_array_equal(official["test"].truth, truth)


@pytest.mark.golden
def test_priors_equal_popularity_baseline(official, data):
    """Their popular baseline scores every track alike, so its PR-AUC is the share of tracks that have a tag."""
    published = (data / "mediaeval2019" / "baseline.tsv").read_text().splitlines()
    macro = float(next(row for row in published if row.startswith("popular")).split("\t")[1])
    assert official["test"].truth.mean() == pytest.approx(macro, abs=1e-6)
    assert official["train"].truth.any(axis=0).all()


@pytest.mark.golden
def test_emotify_has_its_own_vocabulary(data):
    vocabulary = mtg_jamendo.read_vocabulary(data / "emotify" / "tags.txt")
    assert vocabulary == tuple(sorted(vocabulary))
    assert len(vocabulary) == 9
    learn, judge = (
        mtg_jamendo.read(data / "emotify" / f"emotify-{name}.tsv", vocabulary=vocabulary)
        for name in ("train", "validation")
    )
    assert (len(learn.tracks), len(judge.tracks)) == (240, 60)
    assert learn.truth.any(axis=0).all()
    assert judge.truth.any(axis=0).all()
    assert not {track.id for track in learn.tracks} & {track.id for track in judge.tracks}
    assert all((data / "emotify" / "audio" / track.path).is_file() for track in learn.tracks + judge.tracks)


def dataset(folder: Path, name: str, **parts: int) -> Path:
    """Indexes with so many tracks each."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in parts.items():
        lines = [line(f"{part}_{row}", f"{part}/{row}.mp3") for row in range(count)]
        (folder / f"{name}-{part}.tsv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder


def with_audio(folder: Path, suffix: str = ".mp3") -> Path:
    """A folder of audio that has at least one of the tracks."""
    (folder / "train").mkdir(parents=True)
    (folder / "train" / f"1{suffix}").touch()
    return folder


def ids(split: Split) -> list[str]:
    return [track.id for track in split.tracks]


def test_find_dataset_in_folder(tmp_path):
    dataset(tmp_path, "mine", train=3, validation=2, test=4)
    (tmp_path / "tags.txt").write_text("mood/theme---sad\nmood/theme---happy\n")
    with_audio(tmp_path / "audio-low", ".low.mp3")
    (tmp_path / "audio").mkdir()
    found = mtg_jamendo.find(tmp_path)
    assert {part: len(split.tracks) for part, split in found.splits.items()} == {"train": 3, "validation": 2, "test": 4}
    assert all(split.vocabulary == ("sad", "happy") for split in found.splits.values())
    assert (found.name, found.audio, found.note) == ("mine", tmp_path / "audio-low", "")
    some = found.take({"train": [2, 0], "validation": [1], "test": []})
    assert ids(some.train) == ["train_2", "train_0"]
    assert (ids(some.validation), ids(some.test)) == (["validation_1"], [])
    with_audio(tmp_path / "audio")
    assert mtg_jamendo.find(tmp_path).audio == tmp_path / "audio"
    assert mtg_jamendo.find(tmp_path, audio=tmp_path / "audio-low").audio == tmp_path / "audio-low"


def test_find_raises_for_several_datasets(tmp_path):
    for name in ("zebra", "apple"):
        dataset(tmp_path, name, train=1, validation=1, test=1)
    with pytest.raises(DatasetError, match=r"apple-train\.tsv"):
        mtg_jamendo.find(tmp_path)


def test_find_moods_and_themes_in_clone(tmp_path):
    place = tmp_path / "data" / "splits" / "split-0"
    for name in ("autotagging", "autotagging_genre", "autotagging_moodtheme"):
        dataset(place, name, train=2, validation=1, test=1)
    (tmp_path / "data" / "tags").mkdir()
    (tmp_path / "data" / "tags" / "moodtheme_split.txt").write_text("mood/theme---happy\nmood/theme---sad\n")
    with_audio(tmp_path)
    found = mtg_jamendo.find(tmp_path)
    assert found.audio == tmp_path
    assert (found.name, found.train.vocabulary) == ("autotagging_moodtheme", ("happy", "sad"))


def test_validation_split_is_taken_from_training_without_test_split(tmp_path):
    with_audio(dataset(tmp_path, "two", train=11, validation=3))
    found = mtg_jamendo.find(tmp_path)
    assert ids(found.test) == ["validation_0", "validation_1", "validation_2"]
    assert ids(found.validation) == ["train_2", "train_7"]
    assert sorted(ids(found.train) + ids(found.validation)) == sorted(f"train_{row}" for row in range(11))
    assert "two-test.tsv" in found.note


def test_find_raises_without_dataset_or_audio(tmp_path):
    with pytest.raises(DatasetError, match=r"NAME-train\.tsv"):
        mtg_jamendo.find(tmp_path)
    dataset(tmp_path, "mine", train=1, validation=1, test=1)
    with pytest.raises(DatasetError, match="audio file"):
        mtg_jamendo.find(tmp_path)
    with pytest.raises(DatasetError, match="elsewhere"):
        mtg_jamendo.find(tmp_path, audio=tmp_path / "elsewhere")


@pytest.mark.golden
def test_find_published_datasets(data, tmp_path):
    with_audio(tmp_path)
    (tmp_path / "48").mkdir()
    (tmp_path / "48" / "948.low.mp3").touch()
    found = mtg_jamendo.find(data, audio=tmp_path)
    assert {part: len(split.tracks) for part, split in found.splits.items()} == {
        "train": 9_949, "validation": 3_802, "test": 4_231
    }  # fmt: skip
    emotify = mtg_jamendo.find(data / "emotify")
    assert emotify.audio == data / "emotify" / "audio"
    assert [len(split.tracks) for split in emotify.splits.values()] == [192, 48, 60]


@pytest.mark.parametrize(
    "path",
    ["../a.mp3", "a/../../b.mp3", "/a.mp3", "..", "", ".", "a/", "..\\a.mp3", "a\\..\\..\\b.mp3", "C:\\a.mp3",
     "C:a.mp3", "c:/a.mp3", "\\\\server\\share\\a.mp3", "\\a.mp3", "//a.mp3", "a\0b.mp3"],
)  # fmt: skip
def test_unsafe_paths(path):
    assert mtg_jamendo.leaves_folder(path)


@pytest.mark.parametrize(
    "path", ["a.mp3", "00/1.mp3", "a/b/c.flac", "./a.mp3", "a..b.mp3", "...mp3", "1: a.mp3", "AC\\DC.mp3", "ü ö.mp3"]
)
def test_safe_paths(path):
    assert not mtg_jamendo.leaves_folder(path)

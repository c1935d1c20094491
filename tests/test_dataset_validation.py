"""Dataset validation, duplicates and statistics."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import noises
from moodfield import audio
from moodfield.datasets import duplicates, mtg_jamendo, statistics, validation
from moodfield.datasets.mtg_jamendo import Split, Track
from moodfield.datasets.validation import Fault, FaultKind
from moodfield.errors import AudioError, ConfigError, DatasetError, WorkerCrashedError


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A dataset of six noises of 1.5 s that nothing is wrong with: `noise.tsv` and `music`."""
    noises.write(tmp_path, "noise", 6, seed=1)
    return tmp_path


@pytest.fixture
def tracks(place: Path) -> list[Track]:
    found, faults = validation.read_indexes([place / "noise.tsv"])
    assert faults == []
    return found


def sums(place: Path) -> dict[str, str]:
    music = place / "music"
    return {str(path.relative_to(music)): sha256(path.read_bytes()) for path in music.rglob("*.wav")}


def faults(tracks: list[Track], place: Path, **more: object) -> list[Fault]:
    checked = list(validation.validate(tracks, place / "music", **more))
    assert [track for track, _ in checked] == tracks
    return [fault for _, wrong in checked for fault in wrong]


# ---------------------------------------------------------------- durations


def test_duration_is_decoded_duration(tmp_path):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (66_150, 2))
    for name, rate in (("a.wav", 44_100), ("a.flac", 44_100), ("b.wav", 8_000), ("a.ogg", 44_100), ("a.mp3", 44_100)):
        soundfile.write(tmp_path / name, noise, rate)
        assert audio.duration(tmp_path / name) == pytest.approx(66_150 / rate, abs=0.1 if name == "a.mp3" else 1e-9)
    cut = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(cut[: len(cut) * 5 // 6])  # its header still says 1.5 s
    assert audio.duration(tmp_path / "a.wav") == pytest.approx(1.25, abs=0.01)
    assert audio.duration(audio.Waveform(noise[:12_000, 0].astype(np.float32), 8_000)) == 1.5


def test_duration_of_invalid_file_raises(tmp_path):
    (tmp_path / "x.mp3").write_bytes(b"no music" * 99)
    for path in (tmp_path, tmp_path / "x.mp3", tmp_path / "none.mp3"):
        with pytest.raises(AudioError):
            audio.duration(path)


def test_duplicate_paths_and_ids_are_faults(tmp_path):
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
    one, two = tmp_path / "one.tsv", tmp_path / "two.tsv"
    one.write_text(header + "t1\ta\tb\t1.mp3\t60\tx\nt2\ta\tb\t1.mp3\t60\tx\n")
    two.write_text(header + "t1\ta\tb\t3.mp3\t60\tx\nt4\ta\tb\t1.mp3\t60\tx\n")
    found, wrong = validation.read_indexes([one, two, one])
    assert [(fault.track, fault.message) for fault in wrong] == [
        ("t2", f"{one} lists it twice"),
        ("t1", f"{one} has another track of this id"),
        ("t4", f"{two} lists it as well as {one}"),
    ]
    assert [track.path for track in found] == ["1.mp3", "3.mp3"]


def test_impossible_path_has_no_checksum(tmp_path):
    [(_, found)] = duplicates.compute_checksums([Track("t", "a\x00b.mp3", 60.0, ())], tmp_path)
    assert isinstance(found, AudioError)


# ---------------------------------------------------------------- check


def test_valid_dataset_has_no_faults(place, tracks):
    assert faults(tracks, place) == []
    assert faults(tracks, place, vocabulary=noises.TAGS, checksums=sums(place), tolerance=0.0) == []
    assert faults(tracks, place, checksums=sums(place), decode=False) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_faults_are_listed(place, tracks, jobs):
    listed, music = sums(place), place / "music" / "noise"
    (music / "0.wav").unlink()
    del listed["noise/0.wav"]  # which is the smaller fault
    (music / "1.wav").write_bytes(b"RIFF, but no music")
    soundfile.write(music / "2.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 24_000), 8_000)
    soundfile.write(music / "3.wav", np.zeros(12_000), 8_000)
    del listed["noise/4.wav"]
    found = faults(tracks, place, vocabulary=["high"], checksums=listed, jobs=jobs)
    low = [(FaultKind.TAG, track.path) for track in tracks if "low" in track.tags]
    assert Counter((fault.kind, fault.path) for fault in found) == Counter(
        [
            *low,
            (FaultKind.MISSING, "noise/0.wav"),
            (FaultKind.CHECKSUM, "noise/1.wav"),
            (FaultKind.UNREADABLE, "noise/1.wav"),
            (FaultKind.CHECKSUM, "noise/2.wav"),
            (FaultKind.DURATION, "noise/2.wav"),
            (FaultKind.CHECKSUM, "noise/3.wav"),
            (FaultKind.UNREADABLE, "noise/3.wav"),  # silence
            (FaultKind.CHECKSUM, "noise/4.wav"),
        ]
    )
    said = {(fault.kind, fault.path): fault.message for fault in found}
    assert said[FaultKind.MISSING, "noise/0.wav"] == f"{music}/0.wav does not exist"
    assert said[FaultKind.DURATION, "noise/2.wav"] == f"{music}/2.wav has a duration of 3.0 s; expected 1.5 s"
    assert said[FaultKind.CHECKSUM, "noise/4.wav"] == "4.wav is not in the list of checksums"
    assert said[low[0]] == "low not in the vocabulary"
    assert json.loads(json.dumps(found[0].to_dict()))["track"] in {track.id for track in tracks}
    quick = faults(tracks, place, checksums=listed, jobs=jobs, decode=False)
    assert Counter(fault.kind for fault in quick) == {FaultKind.MISSING: 1, FaultKind.CHECKSUM: 4}


def test_tolerance_of_durations(place, tracks, caplog):
    soundfile.write(place / "music/noise/0.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000), 8_000)
    assert faults(tracks, place) == faults(tracks, place, tolerance=0.51) == []
    assert [fault.kind for fault in faults(tracks, place, tolerance=0.49)] == [FaultKind.DURATION]
    caplog.set_level(logging.CRITICAL)
    whole = (place / "music/noise/0.wav").read_bytes()
    (place / "music/noise/0.wav").write_bytes(whole[: len(whole) * 5 // 8])  # 1.25 s of the 1.5 of the index
    assert [fault.kind for fault in faults(tracks, place, tolerance=0.2)] == [FaultKind.DURATION]


def test_file_without_permission_is_a_fault(place, tracks, monkeypatch):
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(validation.files, "sha256", refuse)
    found = faults(tracks, place, checksums=sums(place))
    assert {(fault.kind, fault.message.rpartition(": ")[2]) for fault in found} == {
        (FaultKind.UNREADABLE, "Permission denied")
    }
    assert len(found) == len(tracks)


def test_crashed_worker_is_a_fault(place, tracks, monkeypatch):
    def crash(_: object, items: Iterable[object], **__: object) -> Iterator[tuple[object, WorkerCrashedError]]:
        yield from ((item, WorkerCrashedError("it died")) for item in items)

    monkeypatch.setattr(validation.parallel, "map", crash)
    found = faults(tracks, place)
    assert [(fault.kind, fault.track, fault.message) for fault in found] == [
        (FaultKind.UNREADABLE, track.id, "it died") for track in tracks
    ]


def test_low_bitrate_audio_has_its_own_checksums(place, tracks):
    listed = {mtg_jamendo.low_bitrate_path(path): digest for path, digest in sums(place).items()}
    other = place / "other" / "audios"
    for track in tracks:
        (other / mtg_jamendo.low_bitrate_path(track.path)).parent.mkdir(parents=True, exist_ok=True)
        (other / mtg_jamendo.low_bitrate_path(track.path)).write_bytes((place / "music" / track.path).read_bytes())
    assert [wrong for _, wrong in validation.validate(tracks, place / "other", checksums=listed) if wrong] == []
    full = [wrong[0].message for _, wrong in validation.validate(tracks, place / "other", checksums=sums(place))]
    assert full == [f"{number}.low.wav is not in the list of checksums" for number in range(6)]


def test_faults_over_several_indexes(place):
    other = place / "other.tsv"
    lines = (place / "noise.tsv").read_text().splitlines()
    other.write_text("\n".join([lines[0], lines[2], "x", lines[1].replace("track_1000", "track_2000")]) + "\n")
    tracks, wrong = validation.read_indexes([place / "noise.tsv", other])
    assert len(tracks) == 6
    assert [(fault.track, fault.path, fault.message) for fault in wrong] == [
        ("", str(other), "line 3 has 1 columns, expected 5 and one for every tag"),
        ("track_1001", "noise/1.wav", f"{other} lists it as well as {place / 'noise.tsv'}"),
        ("track_2000", "noise/0.wav", f"{other} lists it as well as {place / 'noise.tsv'}"),
    ]
    (place / "other.txt").write_text("no index")
    with pytest.raises(DatasetError, match="header"):
        validation.read_indexes([place / "noise.tsv", place / "other.txt"])


def test_invalid_arguments_raise(place, tracks):
    with pytest.raises(DatasetError, match="not a folder"):
        list(validation.validate(tracks, place / "none"))
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="tolerance"):
            list(validation.validate(tracks, place / "music", tolerance=tolerance))
    with pytest.raises(DatasetError, match="comes 2 times"):
        list(validation.validate(tracks, place / "music", vocabulary=["a", "a"]))


# ---------------------------------------------------------------- the same audio


def test_compute_checksums(place, tracks):
    (place / "music" / "noise" / "3.wav").unlink()
    found = {track.path: each for track, each in duplicates.compute_checksums(tracks, place / "music", jobs=2)}
    assert isinstance(found.pop("noise/3.wav"), AudioError)
    assert found == sums(place)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcde")), unique_by=lambda pair: pair[0], max_size=20),
    st.sets(st.integers(0, 35)),
)
def test_duplicates_have_the_same_checksum(listed, some):
    """By definition: two paths are in one group if and only if they count and their checksums are the same."""
    for form in (str, lambda path: mtg_jamendo.low_bitrate_path(path)):
        sums = {form(f"{number}.mp3"): digest for number, digest in listed}
        paths = [f"{number}.mp3" for number in sorted(some)]
        known = {path: sums[form(path)] for path in paths if form(path) in sums}
        group_of = {path: group for group in duplicates.find_duplicate_paths(sums, paths) for path in group}
        for one in paths:
            for other in paths:
                same = one in known and known.get(one) == known.get(other)
                assert (one != other and same) == (one != other and other in group_of.get(one, ()))
        everything = duplicates.find_duplicate_paths(sums)
        assert Counter(map(len, everything)) == Counter(n for n in Counter(sums.values()).values() if n > 1)


def test_leaks_are_rows_of_test_split():
    sums = {"a.mp3": "1", "b.low.mp3": "2", "c.mp3": "1", "d.mp3": "2", "e.mp3": "3"}
    assert duplicates.find_leaks(["a.mp3", "b.mp3", "x.mp3"], ["e.mp3", "c.mp3", "x.mp3", "d.mp3", "y.mp3"], sums) == [
        1,
        2,
        3,
    ]
    assert duplicates.find_leaks([], ["a.mp3"], sums) == duplicates.find_leaks(["a.mp3"], [], sums) == []
    assert duplicates.find_leaks(["a.mp3"], ["c.mp3", "a.mp3"], {}) == [1]


def test_duplicate_groups_of_splits():
    def split(*tracks: tuple[str, tuple[str, ...]]) -> Split:
        return Split(tuple(Track(f"id {path}", path, 60.0, tags) for path, tags in tracks), ("dark", "sad"))

    splits = {
        "train": split(("a.mp3", ("dark", "sad")), ("b.mp3", ("dark",)), ("c.mp3", ())),
        "test": split(("d.mp3", ("sad", "dark")), ("e.mp3", ())),
    }
    found = duplicates.find_duplicates(splits, {"a.mp3": "1", "b.mp3": "2", "c.mp3": "2", "d.mp3": "1", "e.mp3": "3"})
    assert [(each.sha256, [track.path for _, track in each.members]) for each in found] == [
        ("1", ["a.mp3", "d.mp3"]), ("2", ["b.mp3", "c.mp3"]),
    ]  # fmt: skip
    assert [(each.across_splits, each.tags_differ) for each in found] == [(True, False), (False, True)]
    assert json.loads(json.dumps(found[1].to_dict())) == {
        "sha256": "2", "across_splits": False, "tags_differ": True,
        "tracks": [{"split": "train", "track": "id b.mp3", "path": "b.mp3", "tags": ["dark"]},
                   {"split": "train", "track": "id c.mp3", "path": "c.mp3", "tags": []}],
    }  # fmt: skip


# ---------------------------------------------------------------- counts


def test_statistics_of_split(tmp_path):
    path = tmp_path / "x.tsv"
    rows = [
        "a\tx\tx\ta\t60\tm---sad\tm---dark",
        "b\tx\tx\tb\t30.5\tm---dark",
        "c\tx\tx\tc\t1",
        "d\tx\tx\td\t0\tm---sad",
    ]
    path.write_text("\n".join([noises.HEADER, *rows]))
    found = statistics.statistics(mtg_jamendo.read(path, vocabulary=["sad", "epic", "dark"]))
    assert found.to_dict() == {
        "tracks": 4, "seconds": 91.5, "longest": 60.0, "untagged": 1, "tags_per_track": 1.0,
        "tags": {"sad": 2, "epic": 0, "dark": 2},
    }  # fmt: skip
    assert list(found.tags) == ["sad", "epic", "dark"]
    json.dumps(found.to_dict())


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=12))
def test_cooccurrence_counts_pairs(rows):
    truth = np.array(rows, bool).reshape(-1, 4)
    counted = statistics.cooccurrence(truth)
    for one in range(4):
        for other in range(4):
            assert counted[one, other] == sum(row[one] and row[other] for row in rows)


# ---------------------------------------------------------------- as published


@pytest.fixture(scope="module")
def official(data: Path) -> dict[str, Split]:
    names = ("train", "validation", "test")
    return {name: mtg_jamendo.read(data / "mtg-jamendo" / f"autotagging_moodtheme-{name}.tsv") for name in names}


@pytest.fixture(scope="module")
def checksums(data: Path) -> dict[str, str]:
    return mtg_jamendo.read_checksums(data / "mtg-jamendo" / "autotagging_moodtheme_audio-low_sha256_tracks.txt")


def paths(split: Split) -> list[str]:
    return [track.path for track in split.tracks]


@pytest.mark.golden
def test_duplicates_of_dataset(checksums):
    assert len(checksums) == 18_486
    groups = duplicates.find_duplicate_paths(checksums)
    assert (len(groups), sum(map(len, groups))) == (117, 243)


@pytest.mark.golden
def test_duplicates_of_mediaeval_split(official, checksums):
    """One of the 117 groups lies outside of the split: two of its tracks have none of the 56 tags."""
    found = duplicates.find_duplicates(official, checksums)
    assert (len(found), sum(len(each.members) for each in found)) == (116, 241)
    assert sum(each.tags_differ for each in found) == 96
    across = [each for each in found if each.across_splits]
    assert Counter(tuple(split for split, _ in each.members) for each in across) == {
        ("train", "test"): 3, ("train", "validation"): 1,
    }  # fmt: skip
    within = Counter(each.members[0][0] for each in found if not each.across_splits)
    assert within == {"train": 80, "validation": 18, "test": 14}


@pytest.mark.golden
def test_leaks_of_mediaeval_split(official, checksums):
    rows = duplicates.find_leaks(paths(official["train"]), paths(official["test"]), checksums)
    assert [paths(official["test"])[row] for row in rows] == ["35/24835.mp3", "36/24836.mp3", "37/24837.mp3"]
    rows = duplicates.find_leaks(paths(official["train"]), paths(official["validation"]), checksums)
    assert [paths(official["validation"])[row] for row in rows] == ["35/897135.mp3"]
    assert duplicates.find_leaks(paths(official["validation"]), paths(official["test"]), checksums) == []


@pytest.mark.golden
def test_statistics_of_mediaeval_split(official):
    found = {name: statistics.statistics(split) for name, split in official.items()}
    assert {name: each.tracks for name, each in found.items()} == {"train": 9_949, "validation": 3_802, "test": 4_231}
    assert round(sum(each.seconds for each in found.values()) / 3600) == 1_095
    assert found["test"].longest == pytest.approx(3_931, abs=1)
    assert all(each.untagged == 0 for each in found.values())
    prior = official["test"].truth.mean(axis=0)
    np.testing.assert_allclose([n / 4_231 for n in found["test"].tags.values()], prior)


@pytest.mark.golden
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_emotify_is_valid(data, quick):
    folder = data / "emotify"
    vocabulary = mtg_jamendo.read_vocabulary(folder / "tags.txt")
    tracks, wrong = validation.read_indexes([folder / f"emotify-{name}.tsv" for name in ("train", "validation")])
    assert len(tracks) == 300
    assert wrong == []
    some = tracks[::30] if quick else tracks
    found = [
        fault for _, wrong in validation.validate(some, folder / "audio", vocabulary=vocabulary) for fault in wrong
    ]
    assert found == []

"""Dataset validation, duplicates and statistics."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
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
def dataset_dir(tmp_path: Path) -> Path:
    """A valid dataset of six noises of 1.5 s: `noise.tsv` and `music`."""
    noises.write(tmp_path, "noise", 6, seed=1)
    return tmp_path


@pytest.fixture
def tracks(dataset_dir: Path) -> list[Track]:
    tracks_, faults = validation.read_indexes([dataset_dir / "noise.tsv"])
    assert faults == []
    return tracks_


def checksums_of(dataset_dir: Path) -> dict[str, str]:
    music = dataset_dir / "music"
    return {str(path.relative_to(music)): sha256(path.read_bytes()) for path in music.rglob("*.wav")}


def faults(tracks: list[Track], dataset_dir: Path, **options: object) -> list[Fault]:
    checked = list(validation.validate(tracks, dataset_dir / "music", **options))
    assert [track for track, _ in checked] == tracks
    return [fault for _, track_faults in checked for fault in track_faults]


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
    first, second = tmp_path / "one.tsv", tmp_path / "two.tsv"
    first.write_text(header + "t1\ta\tb\t1.mp3\t60\tx\nt2\ta\tb\t1.mp3\t60\tx\n")
    second.write_text(header + "t1\ta\tb\t3.mp3\t60\tx\nt4\ta\tb\t1.mp3\t60\tx\n")
    tracks, faults_ = validation.read_indexes([first, second, first])
    assert [(fault.track, fault.message) for fault in faults_] == [
        ("t2", f"{first} lists it twice"),
        ("t1", f"{first} has another track of this id"),
        ("t4", f"{second} lists it as well as {first}"),
    ]
    assert [track.path for track in tracks] == ["1.mp3", "3.mp3"]


def test_impossible_path_has_no_checksum(tmp_path):
    [(_, result)] = duplicates.compute_checksums([Track("t", "a\x00b.mp3", 60.0, ())], tmp_path)
    assert isinstance(result, AudioError)


# ---------------------------------------------------------------- check


def test_valid_dataset_has_no_faults(dataset_dir, tracks):
    assert faults(tracks, dataset_dir) == []
    assert faults(tracks, dataset_dir, vocabulary=noises.TAGS, checksums=checksums_of(dataset_dir), tolerance=0.0) == []
    assert faults(tracks, dataset_dir, checksums=checksums_of(dataset_dir), decode=False) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_faults_are_listed(dataset_dir, tracks, jobs):
    checksums, music = checksums_of(dataset_dir), dataset_dir / "music" / "noise"
    (music / "0.wav").unlink()
    del checksums["noise/0.wav"]  # a missing file is reported instead
    (music / "1.wav").write_bytes(b"RIFF, but no music")
    soundfile.write(music / "2.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 24_000), 8_000)
    soundfile.write(music / "3.wav", np.zeros(12_000), 8_000)
    del checksums["noise/4.wav"]
    found_faults = faults(tracks, dataset_dir, vocabulary=["high"], checksums=checksums, jobs=jobs)
    low = [(FaultKind.TAG, track.path) for track in tracks if "low" in track.tags]
    assert Counter((fault.kind, fault.path) for fault in found_faults) == Counter(
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
    messages = {(fault.kind, fault.path): fault.message for fault in found_faults}
    assert messages[FaultKind.MISSING, "noise/0.wav"] == f"{music}/0.wav does not exist"
    assert messages[FaultKind.DURATION, "noise/2.wav"] == f"{music}/2.wav has a duration of 3.0 s; expected 1.5 s"
    assert messages[FaultKind.CHECKSUM, "noise/4.wav"] == "4.wav is not in the list of checksums"
    assert messages[low[0]] == "low not in the vocabulary"
    assert json.loads(json.dumps(asdict(found_faults[0])))["track"] in {track.id for track in tracks}
    quick = faults(tracks, dataset_dir, checksums=checksums, jobs=jobs, decode=False)
    assert Counter(fault.kind for fault in quick) == {FaultKind.MISSING: 1, FaultKind.CHECKSUM: 4}


def test_tolerance_of_durations(dataset_dir, tracks, caplog):
    soundfile.write(dataset_dir / "music/noise/0.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 16_000), 8_000)
    assert faults(tracks, dataset_dir) == faults(tracks, dataset_dir, tolerance=0.51) == []
    assert [fault.kind for fault in faults(tracks, dataset_dir, tolerance=0.49)] == [FaultKind.DURATION]
    caplog.set_level(logging.CRITICAL)
    content = (dataset_dir / "music/noise/0.wav").read_bytes()
    (dataset_dir / "music/noise/0.wav").write_bytes(content[: len(content) * 5 // 8])  # 1.25 s of the 1.5 of the index
    assert [fault.kind for fault in faults(tracks, dataset_dir, tolerance=0.2)] == [FaultKind.DURATION]


def test_file_without_permission_is_a_fault(dataset_dir, tracks, monkeypatch):
    def deny(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(validation.files, "sha256", deny)
    found_faults = faults(tracks, dataset_dir, checksums=checksums_of(dataset_dir))
    assert {(fault.kind, fault.message.rpartition(": ")[2]) for fault in found_faults} == {
        (FaultKind.UNREADABLE, "Permission denied")
    }
    assert len(found_faults) == len(tracks)


def test_crashed_worker_is_a_fault(dataset_dir, tracks, monkeypatch):
    def crash(_: object, items: Iterable[object], **__: object) -> Iterator[tuple[object, WorkerCrashedError]]:
        yield from ((item, WorkerCrashedError("it died")) for item in items)

    monkeypatch.setattr(validation.parallel, "map", crash)
    found_faults = faults(tracks, dataset_dir)
    assert [(fault.kind, fault.track, fault.message) for fault in found_faults] == [
        (FaultKind.UNREADABLE, track.id, "it died") for track in tracks
    ]


def test_low_bitrate_audio_has_its_own_checksums(dataset_dir, tracks):
    checksums = {mtg_jamendo.low_bitrate_path(path): digest for path, digest in checksums_of(dataset_dir).items()}
    other = dataset_dir / "other" / "audios"
    for track in tracks:
        (other / mtg_jamendo.low_bitrate_path(track.path)).parent.mkdir(parents=True, exist_ok=True)
        (other / mtg_jamendo.low_bitrate_path(track.path)).write_bytes(
            (dataset_dir / "music" / track.path).read_bytes()
        )
    assert [
        track_faults
        for _, track_faults in validation.validate(tracks, dataset_dir / "other", checksums=checksums)
        if track_faults
    ] == []
    messages = [
        track_faults[0].message
        for _, track_faults in validation.validate(tracks, dataset_dir / "other", checksums=checksums_of(dataset_dir))
    ]
    assert messages == [f"{number}.low.wav is not in the list of checksums" for number in range(6)]


def test_faults_over_several_indexes(dataset_dir):
    other = dataset_dir / "other.tsv"
    lines = (dataset_dir / "noise.tsv").read_text().splitlines()
    other.write_text("\n".join([lines[0], lines[2], "x", lines[1].replace("track_1000", "track_2000")]) + "\n")
    tracks, found_faults = validation.read_indexes([dataset_dir / "noise.tsv", other])
    assert len(tracks) == 6
    assert [(fault.track, fault.path, fault.message) for fault in found_faults] == [
        ("", str(other), "line 3 has 1 columns, expected 5 and one for every tag"),
        ("track_1001", "noise/1.wav", f"{other} lists it as well as {dataset_dir / 'noise.tsv'}"),
        ("track_2000", "noise/0.wav", f"{other} lists it as well as {dataset_dir / 'noise.tsv'}"),
    ]
    (dataset_dir / "other.txt").write_text("no index")
    with pytest.raises(DatasetError, match="header"):
        validation.read_indexes([dataset_dir / "noise.tsv", dataset_dir / "other.txt"])


def test_invalid_arguments_raise(dataset_dir, tracks):
    with pytest.raises(DatasetError, match="not a folder"):
        list(validation.validate(tracks, dataset_dir / "none"))
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="tolerance"):
            list(validation.validate(tracks, dataset_dir / "music", tolerance=tolerance))
    with pytest.raises(DatasetError, match="2 times"):
        list(validation.validate(tracks, dataset_dir / "music", vocabulary=["a", "a"]))


# ---------------------------------------------------------------- duplicates


def test_compute_checksums(dataset_dir, tracks):
    (dataset_dir / "music" / "noise" / "3.wav").unlink()
    digests = {
        track.path: digest for track, digest in duplicates.compute_checksums(tracks, dataset_dir / "music", jobs=2)
    }
    assert isinstance(digests.pop("noise/3.wav"), AudioError)
    assert digests == checksums_of(dataset_dir)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcde")), unique_by=lambda pair: pair[0], max_size=20),
    st.sets(st.integers(0, 35)),
)
def test_duplicates_have_the_same_checksum(digests, numbers):
    """Two paths are in one group if and only if both are listed with the same checksum."""
    for file_name in (str, lambda path: mtg_jamendo.low_bitrate_path(path)):
        checksums = {file_name(f"{number}.mp3"): digest for number, digest in digests}
        paths = [f"{number}.mp3" for number in sorted(numbers)]
        digest_of = {path: checksums[file_name(path)] for path in paths if file_name(path) in checksums}
        group_of = {path: group for group in duplicates.find_duplicate_paths(checksums, paths) for path in group}
        for first in paths:
            for second in paths:
                same = first in digest_of and digest_of.get(first) == digest_of.get(second)
                assert (first != second and same) == (first != second and second in group_of.get(first, ()))
        all_groups = duplicates.find_duplicate_paths(checksums)
        assert Counter(map(len, all_groups)) == Counter(n for n in Counter(checksums.values()).values() if n > 1)


def test_leaks_are_rows_of_test_split():
    checksums_of = {"a.mp3": "1", "b.low.mp3": "2", "c.mp3": "1", "d.mp3": "2", "e.mp3": "3"}
    assert duplicates.find_leaks(
        ["a.mp3", "b.mp3", "x.mp3"], ["e.mp3", "c.mp3", "x.mp3", "d.mp3", "y.mp3"], checksums_of
    ) == [
        1,
        2,
        3,
    ]
    assert (
        duplicates.find_leaks([], ["a.mp3"], checksums_of) == duplicates.find_leaks(["a.mp3"], [], checksums_of) == []
    )
    assert duplicates.find_leaks(["a.mp3"], ["c.mp3", "a.mp3"], {}) == [1]


def test_duplicate_groups_of_splits():
    def split(*tracks: tuple[str, tuple[str, ...]]) -> Split:
        return Split(tuple(Track(f"id {path}", path, 60.0, tags) for path, tags in tracks), ("dark", "sad"))

    splits = {
        "train": split(("a.mp3", ("dark", "sad")), ("b.mp3", ("dark",)), ("c.mp3", ())),
        "test": split(("d.mp3", ("sad", "dark")), ("e.mp3", ())),
    }
    groups = duplicates.find_duplicates(splits, {"a.mp3": "1", "b.mp3": "2", "c.mp3": "2", "d.mp3": "1", "e.mp3": "3"})
    assert [(group.sha256, [track.path for _, track in group.members]) for group in groups] == [
        ("1", ["a.mp3", "d.mp3"]), ("2", ["b.mp3", "c.mp3"]),
    ]  # fmt: skip
    assert [(group.across_splits, group.tags_differ) for group in groups] == [(True, False), (False, True)]
    assert json.loads(json.dumps(groups[1].to_dict())) == {
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
    split_statistics = statistics.statistics(mtg_jamendo.read(path, vocabulary=["sad", "epic", "dark"]))
    assert split_statistics.to_dict() == {
        "tracks": 4, "seconds": 91.5, "longest": 60.0, "untagged": 1, "tags_per_track": 1.0,
        "tags": {"sad": 2, "epic": 0, "dark": 2},
    }  # fmt: skip
    assert list(split_statistics.tags) == ["sad", "epic", "dark"]
    json.dumps(split_statistics.to_dict())


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=12))
def test_cooccurrence_counts_pairs(rows):
    truth = np.array(rows, bool).reshape(-1, 4)
    counts = statistics.cooccurrence(truth)
    for first in range(4):
        for second in range(4):
            assert counts[first, second] == sum(row[first] and row[second] for row in rows)


# ---------------------------------------------------------------- published dataset


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
    groups = duplicates.find_duplicates(official, checksums)
    assert (len(groups), sum(len(group.members) for group in groups)) == (116, 241)
    assert sum(group.tags_differ for group in groups) == 96
    across = [group for group in groups if group.across_splits]
    assert Counter(tuple(split for split, _ in group.members) for group in across) == {
        ("train", "test"): 3, ("train", "validation"): 1,
    }  # fmt: skip
    within = Counter(group.members[0][0] for group in groups if not group.across_splits)
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
    statistics_of = {name: statistics.statistics(split) for name, split in official.items()}
    assert {name: split_statistics.tracks for name, split_statistics in statistics_of.items()} == {
        "train": 9_949,
        "validation": 3_802,
        "test": 4_231,
    }
    assert round(sum(split_statistics.seconds for split_statistics in statistics_of.values()) / 3600) == 1_095
    assert statistics_of["test"].longest == pytest.approx(3_931, abs=1)
    assert all(split_statistics.untagged == 0 for split_statistics in statistics_of.values())
    prior = official["test"].truth.mean(axis=0)
    np.testing.assert_allclose([n / 4_231 for n in statistics_of["test"].tags.values()], prior)


@pytest.mark.golden
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_emotify_is_valid(data, quick):
    folder = data / "emotify"
    vocabulary = mtg_jamendo.read_vocabulary(folder / "tags.txt")
    tracks, track_faults = validation.read_indexes([folder / f"emotify-{name}.tsv" for name in ("train", "validation")])
    assert len(tracks) == 300
    assert track_faults == []
    chosen = tracks[::30] if quick else tracks
    found_faults = [
        fault
        for _, track_faults in validation.validate(chosen, folder / "audio", vocabulary=vocabulary)
        for fault in track_faults
    ]
    assert found_faults == []

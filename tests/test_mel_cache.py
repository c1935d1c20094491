"""The mel cache: extraction, damage, changed audio, excerpts and statistics."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from disks import files_up_to
from moodfield import arrays, audio, mel
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import AudioError, DatasetError, MoodfieldError
from moodfield.mel import MelConfig
from moodfield.training import digests, mel_cache
from moodfield.training.mel_cache import MelCache, Statistics

CONFIG = MelConfig(sample_rate=8_000, n_fft=256, hop_length=128, n_mels=16)


def track(path: str) -> Track:
    """A track with this path."""
    return Track(path, path, 1.0, ())


def make_noise(samples: int, *, seed: int) -> np.ndarray:
    """Noise of growing volume."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(samples) * np.geomspace(1e-3, 0.2, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short WAV files in a subfolder."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "00").mkdir()
    for number in range(4):
        soundfile.write(folder / "00" / f"{number}.wav", make_noise(8_100 + 500 * number, seed=number), 8_000)
    return folder


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return [track(f"00/{number}.wav") for number in range(4)]


def results_by_path(results: Iterator[tuple[Track, Path | MoodfieldError]]) -> dict[str, Path | MoodfieldError]:
    return {track.path: result for track, result in results}


def stored_arrays(cache: MelCache) -> dict[str, np.ndarray]:
    """Every complete mel in a cache by its path."""
    return {
        path.relative_to(cache.folder).as_posix(): np.load(path, allow_pickle=False)
        for path in sorted(cache.folder.rglob("*.npy"))
    }


def assert_same(arrays_: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert arrays_.keys() == expected.keys()
    for name, array in arrays_.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


# ---------------------------------------------------------------- extraction


def test_a_stored_mel_is_the_mel_at_half_precision_frames_first(tmp_path, music, tracks):
    cache = MelCache(tmp_path, CONFIG, music)
    assert list(results_by_path(cache.extract(tracks))) == [track_.path for track_ in tracks]
    for track_ in tracks:
        expected = mel.spectrogram(audio.read(music / track_.path, sample_rate=CONFIG.sample_rate), CONFIG)
        stored = cache.open(track_)
        assert stored.dtype == np.float16
        assert stored.shape == expected.T.shape
        assert expected.std() > 0.1
        np.testing.assert_array_equal(stored, expected.T.astype(np.float16))
        np.testing.assert_allclose(stored, expected.T, rtol=2**-11, atol=1e-7)
        assert isinstance(stored, np.memmap)
        assert stored.flags.c_contiguous, "a clip is one piece of the file"
        assert not stored.flags.writeable


def test_cached_mels_are_not_written_again(tmp_path, music, tracks):
    cache = MelCache(tmp_path, CONFIG, music)
    list(cache.extract(tracks[:2]))
    before = {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*.npy")}
    assert len(before) == 2
    results = results_by_path(MelCache(tmp_path, CONFIG, music).extract(tracks))
    assert all(isinstance(result, Path) for result in results.values())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(cache.folder.rglob("*.npy"))) == 4
    assert not list(tmp_path.rglob("*.part"))


def test_an_unreadable_track_is_reported_and_others_are_extracted(tmp_path, music, tracks):
    (tmp_path / "music").symlink_to(music)
    (tmp_path / "music" / "bad.wav").write_bytes(b"RIFF nothing")
    cache = MelCache(tmp_path / "store", CONFIG, tmp_path / "music")
    requested = [tracks[0], track("missing.wav"), tracks[1], track("bad.wav"), tracks[2]]
    results = list(cache.extract(requested))
    assert [track_ for track_, _ in results] == requested
    assert [isinstance(result, AudioError) for _, result in results] == [False, True, False, True, False]
    assert results[1][1].reason == "missing"
    assert len(stored_arrays(cache)) == 3
    (music / "bad.wav").unlink()


def test_several_jobs_give_the_same_mels(tmp_path, music, tracks):
    serial, parallel = (MelCache(tmp_path / name, CONFIG, music) for name in "12")
    requested = [*tracks, track("missing.wav")]
    serial_results = list(serial.extract(requested, jobs=1))
    parallel_results = list(parallel.extract(requested, jobs=2))
    assert [track_ for track_, _ in serial_results] == [track_ for track_, _ in parallel_results]
    assert [str(result) for _, result in serial_results[4:]] == [str(result) for _, result in parallel_results[4:]]
    assert len(stored_arrays(serial)) == 4
    assert_same(stored_arrays(parallel), stored_arrays(serial))


@pytest.mark.parametrize("change", [{"hop_length": 64}, {"top_db": 60.0}, {"kind": "plain"}])
def test_mels_of_different_configs_are_separate(tmp_path, music, tracks, change):
    first, second = (MelCache(tmp_path, config, music) for config in (CONFIG, replace(CONFIG, **change)))
    assert first.folder != second.folder
    assert MelCache(tmp_path, replace(CONFIG), music).folder == first.folder
    list(first.extract(tracks[:1]))
    with pytest.raises(DatasetError, match="extract it again"):
        MelCache(tmp_path, replace(CONFIG, **change), music).open(tracks[0])


def test_blocks_of_a_mel_join_to_the_mel(tmp_path, music, tracks):
    cache = MelCache(tmp_path, CONFIG, music)
    list(cache.extract(tracks[:1]))
    stored = cache.open(tracks[0])
    pieces = list(mel_cache.blocks(stored, frames=7))
    assert all(piece.dtype == np.float32 and piece.flags.c_contiguous for piece in pieces)
    assert [piece.shape[1] for piece in pieces[:-1]] == [7] * (len(pieces) - 1)
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), stored.T.astype(np.float32))


# ---------------------------------------------------------------- interruptions and damage

EXTRACT_PROGRAM = """
import sys
from pathlib import Path
from moodfield.datasets.mtg_jamendo import Track
from moodfield.mel import MelConfig
from moodfield.training.mel_cache import MelCache
music = Path(sys.argv[2])
tracks = [Track(path.name, path.name, 1.0, ()) for path in sorted(music.iterdir())]
config = MelConfig(sample_rate=8_000, n_fft=256, hop_length=128, n_mels=16)
for _ in MelCache(sys.argv[1], config, music).extract(tracks): print("one", flush=True)
"""


def test_a_killed_extraction_leaves_whole_mels_and_continues(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for number in range(30):
        soundfile.write(music / f"{number:02}.wav", make_noise(160_000, seed=number), 8_000)
    tracks = [track(path.name) for path in sorted(music.iterdir())]
    whole, killed = (MelCache(tmp_path / name, CONFIG, music) for name in ("whole", "killed"))
    list(whole.extract(tracks))
    expected = stored_arrays(whole)
    generator, kills, n_stored = np.random.default_rng(0), 0, 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", EXTRACT_PROGRAM, str(tmp_path / "killed"), str(music)], stdout=subprocess.PIPE
        )
        for _ in range(n_stored + int(generator.integers(1, 4))):
            child.stdout.readline()
        time.sleep(generator.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child.stdout.close()
        stored = stored_arrays(killed)
        assert len(stored) >= n_stored
        assert_same(stored, {name: expected[name] for name in stored})
        n_stored = len(stored)
    assert kills >= 2, "the processes ended before they were killed"
    assert n_stored > 0
    list(killed.extract(tracks))
    assert_same(stored_arrays(killed), expected)


DAMAGES = {
    "empty": lambda whole: b"",
    "header alone": lambda whole: b"\x93NUMPY\x01\x00",
    "a zip": lambda whole: b"PK\x03\x04",
    "no array": lambda whole: b"no array",
    "cut": lambda whole: whole[:-1],
    "longer": lambda whole: whole + b"\0",
    "another type": lambda whole: whole.replace(b"<f2", b"<i2"),
    "objects": lambda whole: whole.replace(b"'<f2'", b"'|O' "),
    "another shape": lambda whole: whole.replace(b", 16)", b", 15)"),
    "absurd shape": lambda whole: whole.replace(b"'shape': (", b"'shape': (999999999999, "),
    "nested header": lambda whole: whole[:10] + b"(" * 118,
}
"""functions from the bytes of a mel to those of a damaged one"""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mel_raises_and_is_extracted_again(tmp_path, music, tracks, damage):
    cache = MelCache(tmp_path, CONFIG, music)
    path = dict(cache.extract(tracks[:1]))[tracks[0]]
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    assert path.read_bytes() != content
    with pytest.raises(DatasetError, match=r"00/0\.wav"):
        cache.open(tracks[0])
    second_cache = MelCache(tmp_path, CONFIG, music)
    assert results_by_path(second_cache.extract(tracks[:1])) == {tracks[0].path: path}
    assert path.read_bytes() == content


# ---------------------------------------------------------------- changed audio


@pytest.fixture
def music_copy(tmp_path, music) -> Path:
    """A copy of the music that a test may change."""
    shutil.copytree(music, tmp_path / "own")
    return tmp_path / "own"


def extract_mels(folder: Path, music: Path, tracks: list[Track]) -> list[np.ndarray]:
    """Mels that a new cache has of some music."""
    cache = MelCache(folder, CONFIG, music)
    assert all(isinstance(result, Path) for result in results_by_path(cache.extract(tracks)).values())
    return [np.array(MelCache(folder, CONFIG, music).open(track_)) for track_ in tracks]


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("audio was decoded")

    monkeypatch.setattr(audio, "blocks", fail)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_decoding(monkeypatch)

    def fail(*_: object) -> None:
        raise AssertionError("audio was read")

    monkeypatch.setattr(digests.files, "sha256", fail)


@pytest.mark.parametrize("keep_times", [False, True])
def test_replaced_audio_gets_a_new_mel(tmp_path, music_copy, tracks, keep_times):
    """Also if the new file has the size and the time of the old one."""
    before = extract_mels(tmp_path / "cache", music_copy, tracks)
    old, new = music_copy / "00" / "0.wav", music_copy / "new.wav"
    soundfile.write(new, make_noise(8_100, seed=99), 8_000)
    assert old.stat().st_size == new.stat().st_size
    if keep_times:
        os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    new.replace(old)
    after = extract_mels(tmp_path / "cache", music_copy, tracks)
    assert not np.array_equal(before[0], after[0])
    np.testing.assert_array_equal(
        after[0], mel.spectrogram(audio.read(old, sample_rate=8_000), CONFIG).T.astype(np.float16)
    )
    for old_mel, new_mel in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(old_mel, new_mel)


def test_opening_the_mel_of_changed_audio_raises(tmp_path, music_copy, tracks):
    cache = MelCache(tmp_path / "cache", CONFIG, music_copy)
    list(cache.extract(tracks))
    soundfile.write(music_copy / "00" / "0.wav", make_noise(9_000, seed=98), 8_000)
    with pytest.raises(DatasetError, match="has changed"):
        cache.open(tracks[0])
    with pytest.raises(DatasetError, match="has changed"):
        cache.statistics(tracks)


def test_removed_audio_is_missing_although_its_mel_is_cached(tmp_path, music_copy, tracks):
    cache = MelCache(tmp_path / "cache", CONFIG, music_copy)
    list(cache.extract(tracks))
    (music_copy / "00" / "0.wav").unlink()
    results = results_by_path(MelCache(tmp_path / "cache", CONFIG, music_copy).extract(tracks))
    assert [isinstance(result, AudioError) for result in results.values()] == [True, False, False, False]
    assert results["00/0.wav"].reason == "missing"


def test_unchanged_audio_is_not_read_again(tmp_path, music_copy, tracks, monkeypatch):
    before = extract_mels(tmp_path / "cache", music_copy, tracks)
    forbid_reading(monkeypatch)
    for first, second in zip(before, extract_mels(tmp_path / "cache", music_copy, tracks), strict=True):
        np.testing.assert_array_equal(first, second)


def test_touched_audio_is_read_but_not_decoded(tmp_path, music_copy, tracks, monkeypatch):
    extract_mels(tmp_path / "cache", music_copy, tracks)
    os.utime(music_copy / "00" / "0.wav")
    forbid_decoding(monkeypatch)
    extract_mels(tmp_path / "cache", music_copy, tracks)
    forbid_reading(monkeypatch)
    extract_mels(tmp_path / "cache", music_copy, tracks)


@pytest.mark.parametrize("relocate", [shutil.copytree, shutil.move])
def test_moved_music_keeps_its_mels(tmp_path, music_copy, tracks, monkeypatch, relocate):
    before = extract_mels(tmp_path / "cache", music_copy, tracks)
    relocate(music_copy, tmp_path / "elsewhere")
    forbid_decoding(monkeypatch)
    for first, second in zip(before, extract_mels(tmp_path / "cache", tmp_path / "elsewhere", tracks), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_moved_cache_keeps_its_mels(tmp_path, music_copy, tracks, monkeypatch):
    extract_mels(tmp_path / "cache", music_copy, tracks)
    shutil.move(tmp_path / "cache", tmp_path / "elsewhere")
    forbid_reading(monkeypatch)
    extract_mels(tmp_path / "elsewhere", music_copy, tracks)


def test_datasets_with_the_same_names_sizes_and_times_are_separate(tmp_path, music_copy, tracks):
    other = tmp_path / "other"
    shutil.copytree(music_copy, other)
    for number in range(4):
        path = other / "00" / f"{number}.wav"
        times = path.stat()
        soundfile.write(path, make_noise(8_100 + 500 * number, seed=50 + number), 8_000)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
    for _ in range(2):
        for folder in (music_copy, other):
            for track_, stored in zip(tracks, extract_mels(tmp_path / "cache", folder, tracks), strict=True):
                expected = mel.spectrogram(audio.read(folder / track_.path, sample_rate=8_000), CONFIG).T.astype(
                    np.float16
                )
                np.testing.assert_array_equal(stored, expected)
    ours, theirs = (MelCache(tmp_path / "cache", CONFIG, folder).statistics(tracks) for folder in (music_copy, other))
    assert not np.array_equal(ours.mean, theirs.mean)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"00/0.wav": [1, 2]}}', b"\xff"])
def test_damaged_digests_are_computed_again(tmp_path, music_copy, tracks, content):
    before = extract_mels(tmp_path / "cache", music_copy, tracks)
    [path] = (tmp_path / "cache" / digests.FOLDER).iterdir()
    path.write_bytes(content)
    for first, second in zip(before, extract_mels(tmp_path / "cache", music_copy, tracks), strict=True):
        np.testing.assert_array_equal(first, second)
    assert set(json.loads(path.read_text())["files"]) == {track_.path for track_ in tracks}


def test_concurrent_writers_of_digests_lose_none(tmp_path, music_copy, tracks):
    writers = [digests.Digests(tmp_path, music_copy) for _ in tracks]
    for writer, track_ in zip(writers, tracks, strict=True):
        path = writer.look_up(track_).path
        writer.add(path, digests.compute(path))
        writer.save()
    last = digests.Digests(tmp_path, music_copy)
    assert all(last.look_up(track_).digest for track_ in tracks)


def test_audio_that_grows_while_it_is_read_gives_an_error(tmp_path, music_copy, tracks, monkeypatch):
    sha256 = digests.files.sha256

    def grow(path: Path) -> str:
        digest = sha256(path)
        with path.open("ab") as file:
            file.write(b"more")
        return digest

    monkeypatch.setattr(digests.files, "sha256", grow)
    [(_, result)] = MelCache(tmp_path / "cache", CONFIG, music_copy).extract(tracks[:1])
    assert isinstance(result, AudioError)
    assert "being written" in str(result)


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_large_cache_is_checked_without_reading_audio_files(tmp_path, monkeypatch, count):
    """Only digests are looked up; the files are tiny."""
    music, config = tmp_path / "music", CONFIG
    music.mkdir()
    tracks_ = [track(f"{number}.wav") for number in range(count)]
    cache = MelCache(tmp_path / "cache", config, music)
    for track_ in tracks_:
        (music / track_.path).write_text(track_.path)
        digest = digests.compute(music / track_.path)
        cache._digests.add(music / track_.path, digest)
        arrays.write(mel_cache.entry_path(cache.folder, digest.sha256), np.zeros((1, config.n_mels), np.float16))
    cache._digests.save()

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(digests, "compute", fail)
    assert (
        sum(isinstance(result, Path) for _, result in MelCache(tmp_path / "cache", config, music).extract(tracks_))
        == count
    )


def test_low_bitrate_music_and_the_layout_of_mirdata_are_found(tmp_path, music, tracks):
    for layout in ("00/{}.low.wav", "audios/00/{}.wav"):
        other = tmp_path / layout.split("/")[0]
        for number in range(4):
            (other / layout.format(number)).parent.mkdir(parents=True, exist_ok=True)
            (other / layout.format(number)).write_bytes((music / "00" / f"{number}.wav").read_bytes())
        cache = MelCache(tmp_path / "mels" / layout.split("/")[0], CONFIG, other)
        assert all(isinstance(result, Path) for result in results_by_path(cache.extract(tracks)).values())


def test_a_full_disk_raises_and_leaves_no_partial_files(tmp_path, music, tracks):
    cache = MelCache(tmp_path, CONFIG, music)
    done = []
    with (
        files_up_to(1_536),
        pytest.raises(DatasetError, match="File too large"),
    ):
        done.extend(cache.extract(tracks))
    assert done == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["config.json"]
    assert len(results_by_path(cache.extract(tracks))) == 4


def test_a_file_as_cache_folder_raises(tmp_path, music, tracks):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DatasetError, match="store"):
        list(MelCache(tmp_path / "store", CONFIG, music).extract(tracks))


def test_a_missing_mel_raises(tmp_path, music, tracks):
    with pytest.raises(DatasetError, match=r"00/0\.wav"):
        MelCache(tmp_path, CONFIG, music).open(tracks[0])


# ---------------------------------------------------------------- excerpts


@pytest.mark.parametrize(
    ("length", "frames", "step", "starts"),
    [
        (100, 10, 30, [10, 40, 70]),
        (99, 10, 30, [10, 40, 70]),
        (79, 10, 30, [10, 40]),
        (50, 10, 10, [0, 10, 20, 30, 40]),
        (50, 20, 10, [0, 10, 20, 30]),
        (20, 10, 30, [5]),
        (10, 10, 30, [0]),
        (7, 10, 30, [0]),
        (1, 10, 30, [0]),
    ],
)
def test_excerpts_are_from_the_middle_of_every_step(length, frames, step, starts):
    stored = np.arange(length * 2, dtype=np.float16).reshape(length, 2)
    excerpts = list(mel_cache.excerpts(stored, frames, step))
    assert [int(excerpt[0, 0]) // 2 for excerpt in excerpts] == starts
    for start, excerpt in zip(starts, excerpts, strict=True):
        np.testing.assert_array_equal(excerpt, stored[start : start + frames].T)


# ---------------------------------------------------------------- statistics


def store_mels(cache: MelCache, mels: dict[str, np.ndarray]) -> list[Track]:
    """Write mels into a cache, each for a file that is no audio."""
    music = cache.folder.parent / "music"
    music.mkdir(exist_ok=True)
    for path, stored in mels.items():
        (music / path).write_text(path)
        digest = digests.compute(music / path)
        cache._digests.add(music / path, digest)
        arrays.write(mel_cache.entry_path(cache.folder, digest.sha256), stored.astype(np.float16))
    cache._digests.save()
    return [track(path) for path in mels]


def cache_in(folder: Path) -> MelCache:
    return MelCache(folder, CONFIG, folder / "music")


def numpy_statistics(cache: MelCache, tracks: list[Track]) -> Statistics:
    """Mean and standard deviation by NumPy over all frames."""
    frames = np.concatenate([np.asarray(cache.open(track_), np.float64) for track_ in tracks])
    return Statistics(frames.mean(axis=0), frames.std(axis=0, ddof=1))


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=6).filter(lambda lengths: sum(lengths) > 1),
    offset=st.sampled_from([0.0, -90.0, 1e4, -6e4]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_statistics_are_mean_and_std_of_all_frames(tmp_path_factory, lengths, offset, seed):
    cache, generator = cache_in(tmp_path_factory.mktemp("store")), np.random.default_rng(seed)
    spread = max(1.0, abs(offset) / 500)  # half precision cannot represent a smaller one beside the offset
    tracks = store_mels(
        cache,
        {
            f"{number}": generator.normal(offset + generator.normal() * spread, spread, (length, 16))
            for number, length in enumerate(lengths)
        },
    )
    statistics, expected = cache.statistics(tracks), numpy_statistics(cache, tracks)
    np.testing.assert_allclose(statistics.mean, expected.mean, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(statistics.std, expected.std, rtol=1e-6, atol=1e-9)


def test_long_tracks_weigh_more(tmp_path):
    cache = cache_in(tmp_path)
    statistics = cache.statistics(store_mels(cache, {"long": np.zeros((900, 16)), "short": np.ones((100, 16))}))
    np.testing.assert_allclose(statistics.mean, 0.1)
    np.testing.assert_allclose(statistics.std, np.sqrt(0.09 * 1000 / 999))


def test_statistics_are_cached(tmp_path):
    cache, generator = cache_in(tmp_path), np.random.default_rng(0)
    tracks = store_mels(cache, {str(number): generator.normal(size=(50, 16)) for number in range(3)})
    first = cache.statistics(tracks)
    fewer = cache.statistics(tracks[:2])
    assert not np.array_equal(first.mean, fewer.mean)
    for path in cache.folder.rglob("*.npy"):
        path.unlink()
    cached = cache_in(tmp_path).statistics(tracks)
    np.testing.assert_array_equal(cached.mean, first.mean)
    np.testing.assert_array_equal(cached.std, first.std)
    assert cached.mean.dtype == cached.std.dtype == np.float64
    with pytest.raises(DatasetError, match="extract it again"):
        cache.statistics(tracks[1:])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[[" * 9_999,
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"mean": [1], "spread": [1]}',
        b'{"mean": 1, "spread": "x"}',
    ],
)
def test_damaged_statistics_are_computed_again(tmp_path, content):
    cache = cache_in(tmp_path)
    tracks = store_mels(cache, {"a": np.random.default_rng(0).normal(size=(50, 16))})
    first = cache.statistics(tracks)
    [path] = cache.folder.glob("statistics-*.json")
    path.write_bytes(content)
    np.testing.assert_array_equal(cache_in(tmp_path).statistics(tracks).mean, first.mean)
    np.testing.assert_array_equal(cache_in(tmp_path).statistics(tracks).std, first.std)


@pytest.mark.parametrize("frames", [0, 1])
def test_statistics_of_fewer_than_two_frames_raise(tmp_path, frames):
    cache = cache_in(tmp_path)
    tracks = store_mels(cache, {"a": np.zeros((1, 16))} if frames else {})
    with pytest.raises(DatasetError, match="at least two frames"):
        cache.statistics(tracks)


OPEN_PROGRAM = """
import resource, sys
from moodfield.errors import DatasetError
from moodfield.datasets.mtg_jamendo import Track
from moodfield.mel import MelConfig
from moodfield.training.mel_cache import MelCache

resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[2])))
kept = MelCache(sys.argv[1], MelConfig(sample_rate=8_000, n_fft=256, hop_length=128, n_mels=16), sys.argv[4])
track = Track("a", sys.argv[3], 1.0, ())
try:
    opened = [kept.open(track) for _ in range(100)]
except DatasetError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("hard_limit", [256, 64])
def test_the_limit_of_open_files_is_raised_and_exceeding_it_raises(tmp_path, music, tracks, hard_limit):
    cache = MelCache(tmp_path, CONFIG, music)
    list(cache.extract(tracks[:1]))
    process = subprocess.run(
        [sys.executable, "-c", OPEN_PROGRAM, str(tmp_path), str(hard_limit), tracks[0].path, str(music)],
        capture_output=True,
        text=True,
    )
    if hard_limit > 100:
        assert (process.returncode, process.stderr) == (0, "")
    else:
        assert process.returncode == 1
        assert "hard limit" in process.stderr

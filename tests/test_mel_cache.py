"""Mels on disk: whole or not at all, written once, the same however they came to be; exact statistics."""

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
    """A track of which only the path matters."""
    return Track(path, path, 1.0, ())


def swell(samples: int, *, seed: int) -> np.ndarray:
    """Noise with a loud moment somewhere."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(samples) * np.geomspace(1e-3, 0.2, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short wavs, some of them deeper down."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "00").mkdir()
    for number in range(4):
        soundfile.write(folder / "00" / f"{number}.wav", swell(8_100 + 500 * number, seed=number), 8_000)
    return folder


@pytest.fixture(scope="module")
def tracks() -> list[Track]:
    return [track(f"00/{number}.wav") for number in range(4)]


def results(found: Iterator[tuple[Track, Path | MoodfieldError]]) -> dict[str, Path | MoodfieldError]:
    return {each.path: result for each, result in found}


def stored_arrays(kept: MelCache) -> dict[str, np.ndarray]:
    """Every mel in a store that has its final name."""
    return {
        path.relative_to(kept.folder).as_posix(): np.load(path, allow_pickle=False)
        for path in sorted(kept.folder.rglob("*.npy"))
    }


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


# ---------------------------------------------------------------- extraction


def test_a_stored_mel_is_the_mel_at_half_precision_frames_first(tmp_path, music, tracks):
    kept = MelCache(tmp_path, CONFIG, music)
    assert list(results(kept.extract(tracks))) == [each.path for each in tracks]
    for each in tracks:
        wanted = mel.spectrogram(audio.read(music / each.path, sample_rate=CONFIG.sample_rate), CONFIG)
        stored = kept.open(each)
        assert stored.dtype == np.float16
        assert stored.shape == wanted.T.shape
        assert wanted.std() > 0.1
        np.testing.assert_array_equal(stored, wanted.T.astype(np.float16))
        np.testing.assert_allclose(stored, wanted.T, rtol=2**-11, atol=1e-7)
        assert isinstance(stored, np.memmap)
        assert stored.flags.c_contiguous, "a clip is one piece of the file"
        assert not stored.flags.writeable


def test_what_is_there_is_left_alone(tmp_path, music, tracks):
    kept = MelCache(tmp_path, CONFIG, music)
    list(kept.extract(tracks[:2]))
    before = {path: path.stat().st_mtime_ns for path in kept.folder.rglob("*.npy")}
    assert len(before) == 2
    found = results(MelCache(tmp_path, CONFIG, music).extract(tracks))
    assert all(isinstance(result, Path) for result in found.values())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(kept.folder.rglob("*.npy"))) == 4
    assert not list(tmp_path.rglob("*.part"))


def test_a_track_that_cannot_be_read_is_reported_and_stops_nothing(tmp_path, music, tracks):
    (tmp_path / "music").symlink_to(music)
    (tmp_path / "music" / "bad.wav").write_bytes(b"RIFF nothing")
    kept = MelCache(tmp_path / "store", CONFIG, tmp_path / "music")
    asked = [tracks[0], track("missing.wav"), tracks[1], track("bad.wav"), tracks[2]]
    found = list(kept.extract(asked))
    assert [each for each, _ in found] == asked
    assert [isinstance(result, AudioError) for _, result in found] == [False, True, False, True, False]
    assert found[1][1].reason == "missing"
    assert len(stored_arrays(kept)) == 3
    (music / "bad.wav").unlink()


def test_several_jobs_do_what_one_does(tmp_path, music, tracks):
    alone, together = (MelCache(tmp_path / name, CONFIG, music) for name in "12")
    asked = [*tracks, track("missing.wav")]
    one = list(alone.extract(asked, jobs=1))
    two = list(together.extract(asked, jobs=2))
    assert [each for each, _ in one] == [each for each, _ in two]
    assert [str(result) for _, result in one[4:]] == [str(result) for _, result in two[4:]]
    assert len(stored_arrays(alone)) == 4
    assert_same(stored_arrays(together), stored_arrays(alone))


@pytest.mark.parametrize("change", [{"hop_length": 64}, {"top_db": 60.0}, {"kind": "plain"}])
def test_mels_of_different_configs_never_meet(tmp_path, music, tracks, change):
    first, second = (MelCache(tmp_path, config, music) for config in (CONFIG, replace(CONFIG, **change)))
    assert first.folder != second.folder
    assert MelCache(tmp_path, replace(CONFIG), music).folder == first.folder
    list(first.extract(tracks[:1]))
    with pytest.raises(DatasetError, match="extract it again"):
        MelCache(tmp_path, replace(CONFIG, **change), music).open(tracks[0])


def test_a_mel_in_pieces_is_the_mel(tmp_path, music, tracks):
    kept = MelCache(tmp_path, CONFIG, music)
    list(kept.extract(tracks[:1]))
    stored = kept.open(tracks[0])
    found = list(mel_cache.blocks(stored, frames=7))
    assert all(piece.dtype == np.float32 and piece.flags.c_contiguous for piece in found)
    assert [piece.shape[1] for piece in found[:-1]] == [7] * (len(found) - 1)
    np.testing.assert_array_equal(np.concatenate(found, axis=1), stored.T.astype(np.float32))


# ---------------------------------------------------------------- trouble

EXTRACTING = """
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


def test_extraction_killed_at_any_moment_leaves_whole_mels_and_goes_on(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for number in range(30):
        soundfile.write(music / f"{number:02}.wav", swell(160_000, seed=number), 8_000)
    tracks = [track(path.name) for path in sorted(music.iterdir())]
    whole, killed = (MelCache(tmp_path / name, CONFIG, music) for name in ("whole", "killed"))
    list(whole.extract(tracks))
    wanted = stored_arrays(whole)
    generator, kills, seen = np.random.default_rng(0), 0, 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", EXTRACTING, str(tmp_path / "killed"), str(music)], stdout=subprocess.PIPE
        )
        for _ in range(seen + int(generator.integers(1, 4))):
            child.stdout.readline()
        time.sleep(generator.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child.stdout.close()
        found = stored_arrays(killed)
        assert len(found) >= seen
        assert_same(found, {name: wanted[name] for name in found})
        seen = len(found)
    assert kills >= 2, "it was too quick to be killed"
    assert seen > 0
    list(killed.extract(tracks))
    assert_same(stored_arrays(killed), wanted)


DAMAGES = {
    "empty": lambda whole: b"",
    "header alone": lambda whole: b"\x93NUMPY\x01\x00",
    "a zip": lambda whole: b"PK\x03\x04",
    "no array": lambda whole: b"nothing",
    "cut": lambda whole: whole[:-1],
    "longer": lambda whole: whole + b"\0",
    "another type": lambda whole: whole.replace(b"<f2", b"<i2"),
    "objects": lambda whole: whole.replace(b"'<f2'", b"'|O' "),
    "another shape": lambda whole: whole.replace(b", 16)", b", 15)"),
    "absurd shape": lambda whole: whole.replace(b"'shape': (", b"'shape': (999999999999, "),
    "nested header": lambda whole: whole[:10] + b"(" * 118,
}
"""from the bytes of a whole mel to those of a damaged one"""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_mel_is_refused_and_made_again(tmp_path, music, tracks, damage):
    kept = MelCache(tmp_path, CONFIG, music)
    path = dict(kept.extract(tracks[:1]))[tracks[0]]
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole))
    assert path.read_bytes() != whole
    with pytest.raises(DatasetError, match=r"mel of 00/0\.wav"):
        kept.open(tracks[0])
    again = MelCache(tmp_path, CONFIG, music)
    assert results(again.extract(tracks[:1])) == {tracks[0].path: path}
    assert path.read_bytes() == whole


# ---------------------------------------------------------------- the audio that a mel is of


@pytest.fixture
def own(tmp_path, music) -> Path:
    """A copy of the music that may be changed."""
    shutil.copytree(music, tmp_path / "own")
    return tmp_path / "own"


def extracted(folder: Path, music: Path, tracks: list[Track]) -> list[np.ndarray]:
    """The mels that a new store has of some music."""
    kept = MelCache(folder, CONFIG, music)
    assert all(isinstance(result, Path) for result in results(kept.extract(tracks)).values())
    return [np.array(MelCache(folder, CONFIG, music).open(each)) for each in tracks]


def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("audio was decoded")

    monkeypatch.setattr(audio, "blocks", refuse)


def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_is_decoded(monkeypatch)

    def refuse(*_: object) -> None:
        raise AssertionError("audio was read")

    monkeypatch.setattr(digests.files, "sha256", refuse)


@pytest.mark.parametrize("keep_times", [False, True])
def test_audio_that_was_replaced_has_another_mel(tmp_path, own, tracks, keep_times):
    """Also if the new file has the size and the time of the old one."""
    before = extracted(tmp_path / "cache", own, tracks)
    old, new = own / "00" / "0.wav", own / "new.wav"
    soundfile.write(new, swell(8_100, seed=99), 8_000)
    assert old.stat().st_size == new.stat().st_size
    if keep_times:
        os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    new.replace(old)
    after = extracted(tmp_path / "cache", own, tracks)
    assert not np.array_equal(before[0], after[0])
    np.testing.assert_array_equal(
        after[0], mel.spectrogram(audio.read(old, sample_rate=8_000), CONFIG).T.astype(np.float16)
    )
    for one, other in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_audio_that_changed_is_not_taken_for_what_it_was(tmp_path, own, tracks):
    kept = MelCache(tmp_path / "cache", CONFIG, own)
    list(kept.extract(tracks))
    soundfile.write(own / "00" / "0.wav", swell(9_000, seed=98), 8_000)
    with pytest.raises(DatasetError, match="has changed"):
        kept.open(tracks[0])
    with pytest.raises(DatasetError, match="has changed"):
        kept.statistics(tracks)


def test_audio_that_is_gone_is_missing_whatever_the_cache_has(tmp_path, own, tracks):
    kept = MelCache(tmp_path / "cache", CONFIG, own)
    list(kept.extract(tracks))
    (own / "00" / "0.wav").unlink()
    found = results(MelCache(tmp_path / "cache", CONFIG, own).extract(tracks))
    assert [isinstance(result, AudioError) for result in found.values()] == [True, False, False, False]
    assert found["00/0.wav"].reason == "missing"


def test_the_second_time_audio_is_not_even_read(tmp_path, own, tracks, monkeypatch):
    before = extracted(tmp_path / "cache", own, tracks)
    nothing_is_read(monkeypatch)
    for one, other in zip(before, extracted(tmp_path / "cache", own, tracks), strict=True):
        np.testing.assert_array_equal(one, other)


def test_audio_that_was_touched_is_read_but_not_decoded(tmp_path, own, tracks, monkeypatch):
    extracted(tmp_path / "cache", own, tracks)
    os.utime(own / "00" / "0.wav")
    nothing_is_decoded(monkeypatch)
    extracted(tmp_path / "cache", own, tracks)
    nothing_is_read(monkeypatch)
    extracted(tmp_path / "cache", own, tracks)


@pytest.mark.parametrize("how", [shutil.copytree, shutil.move])
def test_music_that_was_moved_keeps_its_mels(tmp_path, own, tracks, monkeypatch, how):
    before = extracted(tmp_path / "cache", own, tracks)
    how(own, tmp_path / "elsewhere")
    nothing_is_decoded(monkeypatch)
    for one, other in zip(before, extracted(tmp_path / "cache", tmp_path / "elsewhere", tracks), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cache_that_was_moved_keeps_its_mels(tmp_path, own, tracks, monkeypatch):
    extracted(tmp_path / "cache", own, tracks)
    shutil.move(tmp_path / "cache", tmp_path / "elsewhere")
    nothing_is_read(monkeypatch)
    extracted(tmp_path / "elsewhere", own, tracks)


def test_two_datasets_with_the_same_names_sizes_and_times_are_two(tmp_path, own, tracks):
    other = tmp_path / "other"
    shutil.copytree(own, other)
    for number in range(4):
        path = other / "00" / f"{number}.wav"
        times = path.stat()
        soundfile.write(path, swell(8_100 + 500 * number, seed=50 + number), 8_000)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
    for _ in range(2):
        for folder in (own, other):
            for each, found in zip(tracks, extracted(tmp_path / "cache", folder, tracks), strict=True):
                wanted = mel.spectrogram(audio.read(folder / each.path, sample_rate=8_000), CONFIG).T.astype(np.float16)
                np.testing.assert_array_equal(found, wanted)
    ours, theirs = (MelCache(tmp_path / "cache", CONFIG, folder).statistics(tracks) for folder in (own, other))
    assert not np.array_equal(ours.mean, theirs.mean)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"00/0.wav": [1, 2]}}', b"\xff"])
def test_digests_that_are_damaged_are_computed_again(tmp_path, own, tracks, content):
    before = extracted(tmp_path / "cache", own, tracks)
    [path] = (tmp_path / "cache" / digests.FOLDER).iterdir()
    path.write_bytes(content)
    for one, other in zip(before, extracted(tmp_path / "cache", own, tracks), strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(json.loads(path.read_text())["files"]) == {each.path for each in tracks}


def test_processes_that_write_digests_at_once_lose_none(tmp_path, own, tracks):
    several = [digests.Digests(tmp_path, own) for _ in tracks]
    for known, each in zip(several, tracks, strict=True):
        path = known.look_up(each).path
        known.add(path, digests.compute(path))
        known.save()
    last = digests.Digests(tmp_path, own)
    assert all(last.look_up(each).digest for each in tracks)


def test_audio_that_grows_while_it_is_read_is_refused(tmp_path, own, tracks, monkeypatch):
    sha256 = digests.files.sha256

    def grow(path: Path) -> str:
        found = sha256(path)
        with path.open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(digests.files, "sha256", grow)
    [(_, result)] = MelCache(tmp_path / "cache", CONFIG, own).extract(tracks[:1])
    assert isinstance(result, AudioError)
    assert "being written" in str(result)


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_large_cache_is_checked_without_reading_audio(tmp_path, monkeypatch, count):
    """Looking up and checking alone: files as small as can be."""
    music, config = tmp_path / "music", CONFIG
    music.mkdir()
    many = [track(f"{number}.wav") for number in range(count)]
    kept = MelCache(tmp_path / "cache", config, music)
    for each in many:
        (music / each.path).write_text(each.path)
        found = digests.compute(music / each.path)
        kept._digests.add(music / each.path, found)
        arrays.write(mel_cache.entry_path(kept.folder, found.sha256), np.zeros((1, config.n_mels), np.float16))
    kept._digests.save()

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(digests, "compute", refuse)
    assert (
        sum(isinstance(result, Path) for _, result in MelCache(tmp_path / "cache", config, music).extract(many))
        == count
    )


def test_music_in_low_bitrate_or_in_the_layout_of_mirdata_is_found(tmp_path, music, tracks):
    for form in ("00/{}.low.wav", "audios/00/{}.wav"):
        other = tmp_path / form.split("/")[0]
        for number in range(4):
            (other / form.format(number)).parent.mkdir(parents=True, exist_ok=True)
            (other / form.format(number)).write_bytes((music / "00" / f"{number}.wav").read_bytes())
        kept = MelCache(tmp_path / "mels" / form.split("/")[0], CONFIG, other)
        assert all(isinstance(result, Path) for result in results(kept.extract(tracks)).values())


def test_a_full_disk_is_refused_and_left_tidy(tmp_path, music, tracks):
    kept = MelCache(tmp_path, CONFIG, music)
    done = []
    with (
        files_up_to(1_536),
        pytest.raises(DatasetError, match=r"File too large"),
    ):
        done.extend(kept.extract(tracks))
    assert done == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["config.json"]
    assert len(results(kept.extract(tracks))) == 4


def test_a_folder_that_cannot_be_is_refused(tmp_path, music, tracks):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DatasetError, match="mels cannot be kept in"):
        list(MelCache(tmp_path / "store", CONFIG, music).extract(tracks))


def test_a_missing_mel_is_refused(tmp_path, music, tracks):
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
    found = list(mel_cache.excerpts(stored, frames, step))
    assert [int(each[0, 0]) // 2 for each in found] == starts
    for start, each in zip(starts, found, strict=True):
        np.testing.assert_array_equal(each, stored[start : start + frames].T)


# ---------------------------------------------------------------- statistics


def keep(kept: MelCache, mels: dict[str, np.ndarray]) -> list[Track]:
    """Mels put into a store by hand, each for a file that is no audio."""
    music = kept.folder.parent / "music"
    music.mkdir(exist_ok=True)
    for path, stored in mels.items():
        (music / path).write_text(path)
        found = digests.compute(music / path)
        kept._digests.add(music / path, found)
        arrays.write(mel_cache.entry_path(kept.folder, found.sha256), stored.astype(np.float16))
    kept._digests.save()
    return [track(path) for path in mels]


def by_hand(folder: Path) -> MelCache:
    return MelCache(folder, CONFIG, folder / "music")


def numpys(kept: MelCache, tracks: list[Track]) -> Statistics:
    """The same in two lines, with all mels at hand."""
    frames = np.concatenate([np.asarray(kept.open(each), np.float64) for each in tracks])
    return Statistics(frames.mean(axis=0), frames.std(axis=0, ddof=1))


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=6).filter(lambda lengths: sum(lengths) > 1),
    offset=st.sampled_from([0.0, -90.0, 1e4, -6e4]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_statistics_are_those_of_all_frames(tmp_path_factory, lengths, offset, seed):
    kept, generator = by_hand(tmp_path_factory.mktemp("store")), np.random.default_rng(seed)
    spread = max(1.0, abs(offset) / 500)  # half precision keeps no smaller one beside the offset
    tracks = keep(
        kept,
        {
            f"{number}": generator.normal(offset + generator.normal() * spread, spread, (length, 16))
            for number, length in enumerate(lengths)
        },
    )
    found, wanted = kept.statistics(tracks), numpys(kept, tracks)
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.std, wanted.std, rtol=1e-6, atol=1e-9)


def test_long_tracks_weigh_more(tmp_path):
    kept = by_hand(tmp_path)
    found = kept.statistics(keep(kept, {"long": np.zeros((900, 16)), "short": np.ones((100, 16))}))
    np.testing.assert_allclose(found.mean, 0.1)
    np.testing.assert_allclose(found.std, np.sqrt(0.09 * 1000 / 999))


def test_statistics_are_kept(tmp_path):
    kept, generator = by_hand(tmp_path), np.random.default_rng(0)
    tracks = keep(kept, {str(number): generator.normal(size=(50, 16)) for number in range(3)})
    first = kept.statistics(tracks)
    fewer = kept.statistics(tracks[:2])
    assert not np.array_equal(first.mean, fewer.mean)
    for path in kept.folder.rglob("*.npy"):
        path.unlink()
    again = by_hand(tmp_path).statistics(tracks)
    np.testing.assert_array_equal(again.mean, first.mean)
    np.testing.assert_array_equal(again.std, first.std)
    assert again.mean.dtype == again.std.dtype == np.float64
    with pytest.raises(DatasetError, match="extract it again"):
        kept.statistics(tracks[1:])


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
def test_statistics_that_are_damaged_are_computed_again(tmp_path, content):
    kept = by_hand(tmp_path)
    tracks = keep(kept, {"a": np.random.default_rng(0).normal(size=(50, 16))})
    first = kept.statistics(tracks)
    [path] = kept.folder.glob("statistics-*.json")
    path.write_bytes(content)
    np.testing.assert_array_equal(by_hand(tmp_path).statistics(tracks).mean, first.mean)
    np.testing.assert_array_equal(by_hand(tmp_path).statistics(tracks).std, first.std)


@pytest.mark.parametrize("frames", [0, 1])
def test_statistics_of_next_to_nothing_are_refused(tmp_path, frames):
    kept = by_hand(tmp_path)
    tracks = keep(kept, {"a": np.zeros((1, 16))} if frames else {})
    with pytest.raises(DatasetError, match="at least two frames"):
        kept.statistics(tracks)


OPENING = """
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


@pytest.mark.parametrize("most", [256, 64])
def test_more_mels_are_open_than_a_shell_allows_and_too_many_are_refused_in_words(tmp_path, music, tracks, most):
    kept = MelCache(tmp_path, CONFIG, music)
    list(kept.extract(tracks[:1]))
    done = subprocess.run(
        [sys.executable, "-c", OPENING, str(tmp_path), str(most), tracks[0].path, str(music)],
        capture_output=True,
        text=True,
    )
    if most > 100:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 1
        assert "hard limit" in done.stderr

"""Speed perturbation: pitch and tempo of copies, caching, damaged copies."""

import numpy as np
import pytest

import models
from moodfield import audio
from moodfield.audio import Waveform
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import speed_perturbation
from moodfield.errors import AudioError, ConfigError

PITCH = 440.0


@pytest.fixture
def tone(tmp_path) -> Track:
    """Four seconds of one pitch that becomes louder step by step."""
    time = np.arange(4 * 44_100) / 44_100
    samples = (0.1 * (1 + time.astype(int)) * np.sin(2 * np.pi * PITCH * time)).astype(np.float32)
    (tmp_path / "songs").mkdir()
    models.save(tmp_path / "songs" / "tone.flac", Waveform(samples, 44_100))
    return Track("songs/tone.flac", "songs/tone.flac", 4.0, ())


@pytest.mark.parametrize("speed", [0.8, 1.25, 2.0])
def test_pitch_and_tempo_change_together(tmp_path, tone, speed):
    [(original, track)] = speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", speed)
    path = speed_perturbation.cache_folder(tmp_path / "cache", speed) / track.path
    assert original == tone
    assert track.id != tone.id
    samples = audio.read(path, sample_rate=speed_perturbation.SAMPLE_RATE).samples
    assert (
        len(samples) / speed_perturbation.SAMPLE_RATE
        == pytest.approx(4 / speed, abs=0.01)
        == pytest.approx(track.seconds, abs=0.01)
    )
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * speed_perturbation.SAMPLE_RATE / len(samples) == pytest.approx(PITCH * speed, rel=0.01)
    quarters = [part.std() for part in np.array_split(samples, 4)]
    np.testing.assert_allclose(quarters, 0.1 * np.arange(1, 5) / 2**0.5, rtol=0.03)  # as loud as before, in order


def test_copies_are_cached_and_failures_yield_errors(tmp_path, tone):
    tracks = [replace_path(tone, "songs/none.flac"), tone]
    (_, failed), (_, copy) = speed_perturbation.perturb(tracks, tmp_path, tmp_path / "cache", 0.9)
    assert isinstance(failed, AudioError)
    folder = speed_perturbation.cache_folder(tmp_path / "cache", 0.9)
    before = (folder / copy.path).stat().st_mtime_ns
    assert [result for _, result in speed_perturbation.perturb(tracks, tmp_path, tmp_path / "cache", 0.9)][1] == copy
    assert (folder / copy.path).stat().st_mtime_ns == before
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / copy.path]  # nothing of what failed


def test_nothing_is_written_to_the_music(tmp_path, tone):
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    songs = tmp_path / "songs"
    before = songs.stat().st_mtime_ns
    list(speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", 0.9))
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if "cache" not in path.parts} == names
    assert songs.stat().st_mtime_ns == before


def test_changed_audio_gets_a_new_copy(tmp_path, tone):
    [(_, before)] = speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", 0.9)
    samples = (0.1 * np.random.default_rng(0).standard_normal(4 * 44_100)).astype(np.float32)
    models.save(tmp_path / tone.path, Waveform(samples, 44_100))
    [(_, after)] = speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", 0.9)
    assert after.path != before.path
    assert after.id == before.id


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "no sound"])
def test_damaged_copy_is_written_again(tmp_path, tone, damage):
    [(_, copy)] = speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", 0.9)
    path = speed_perturbation.cache_folder(tmp_path / "cache", 0.9) / copy.path
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[:-2], "longer": whole + b"\0", "no sound": b"nothing"}[damage])
    assert list(speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", 0.9)) == [(tone, copy)]
    assert path.read_bytes() == whole


def test_overshoot_is_clipped(tmp_path):
    square = np.where(np.arange(44_100) // 4_410 % 2, -0.999, 0.999).astype(np.float32)
    models.save(tmp_path / "loud.wav", Waveform(square, 44_100))
    [(_, copy)] = speed_perturbation.perturb([Track("loud", "loud.wav", 1.0, ())], tmp_path, tmp_path / "cache", 0.5)
    path = speed_perturbation.cache_folder(tmp_path / "cache", 0.5) / copy.path
    samples = audio.read(path, sample_rate=speed_perturbation.SAMPLE_RATE).samples
    steps = samples[: len(samples) // 10 * 10].reshape(10, -1)
    signs = np.where(np.arange(10) % 2, -1, 1)[:, None]
    assert (signs * steps[:, 500:-500]).min() > 0.9
    assert (signs * steps[:, 5:-5]).min() > -0.1  # also where resampling overshoots, right beside a step


@pytest.mark.parametrize("speed", [0.0, 0.4, 1.0, 2.5, float("nan")])
def test_speed_out_of_range_raises(tmp_path, tone, speed):
    with pytest.raises(ConfigError, match="speed"):
        list(speed_perturbation.perturb([tone], tmp_path, tmp_path / "cache", speed))
    assert not (tmp_path / "cache").exists()


def replace_path(track: Track, path: str) -> Track:
    return Track(path, path, track.seconds, track.tags)

"""Audio: decoding, mixing, resampling, errors, and finding files."""

import builtins
import logging
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from moodfield import audio
from moodfield.audio import Waveform
from moodfield.decoding import decoders, downmix, sniffing
from moodfield.errors import AudioError, ConfigError

RATE = 44_100
BY_SOUNDFILE = ("wav", "flac", "ogg", "mp3", "opus")
BY_AV = {"m4a": "aac", "alac.m4a": "alac", "wma": "wmav2", "wv": "wavpack", "aac": "aac"}
LOSSLESS = ("wav", "flac", "alac.m4a", "wv")


def music(seconds: float = 2.0, *, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """A tone in noise, with its channels at different levels: `samples × channels`."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(7).standard_normal((time.size, channels))
    tone = np.sin(2 * np.pi * 440 * time)[:, None] / (1 + np.arange(channels))
    return (0.4 * tone + 0.02 * noise).astype(np.float32)


def save(path: Path, samples: np.ndarray, *, rate: int = RATE, **options: str) -> Path:
    """Written piece by piece: libvorbis crashes on long pieces."""
    with sf.SoundFile(path, "w", rate, samples.shape[1] if samples.ndim > 1 else 1, **options) as file:
        for start in range(0, len(samples), 2**15):
            file.write(samples[start : start + 2**15])
    return path


def encode(path: Path, codec: str, samples: np.ndarray, *, rate: int = RATE) -> Path:
    """Written by PyAV, for the kinds that libsndfile does not know."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 128_000
        stream.codec_context.format = "s16p" if codec in ("alac", "wavpack") else "fltp"
        for start in range(0, len(samples), 1024):
            piece = np.ascontiguousarray(samples[start : start + 1024].T)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_file(folder: Path, kind: str, samples: np.ndarray) -> Path:
    path = folder / f"music.{kind}"
    if kind in BY_AV:
        return encode(path, BY_AV[kind], samples)
    if kind == "opus":
        return save(path, soxr.resample(samples, RATE, 48_000), rate=48_000, format="OGG", subtype="OPUS")
    return save(path, samples)


def error_of(source: audio.Source, *, rate: int = RATE) -> AudioError:
    with pytest.raises(AudioError) as caught:
        audio.read(source, sample_rate=rate)
    assert caught.value.reason in audio.REASONS
    assert "expected" in str(caught.value)
    return caught.value


# decoding


@pytest.mark.parametrize("kind", [*BY_SOUNDFILE, *BY_AV])
def test_every_kind_of_file_is_read(tmp_path: Path, kind: str) -> None:
    samples = music()
    waveform = audio.read(make_file(tmp_path, kind, samples), sample_rate=RATE)
    assert waveform.sample_rate == RATE
    assert waveform.samples.dtype == np.float32
    assert waveform.duration == pytest.approx(2.0, abs=0.06)  # lossy codecs pad
    mono = samples.mean(axis=1)
    if kind in LOSSLESS:
        assert np.abs(waveform.samples - mono).max() <= 2.0**-15
    else:
        lag = np.correlate(waveform.samples[10_000:30_000], mono[12_400:27_400]).argmax() - 2_400
        aligned = waveform.samples[12_400 + lag :][:15_000]
        assert np.corrcoef(aligned, mono[12_400:27_400])[0, 1] > 0.99


@pytest.mark.parametrize(
    ("kind", "bits"), [("FLOAT", 24), ("DOUBLE", 24), ("PCM_16", 16), ("PCM_24", 24), ("PCM_U8", 8)]
)
def test_integers_are_scaled_to_one(tmp_path: Path, kind: str, bits: int) -> None:
    samples = music(channels=1)
    waveform = audio.read(save(tmp_path / "x.wav", samples, subtype=kind), sample_rate=RATE)
    assert np.abs(waveform.samples - samples[:, 0]).max() <= 2.0 ** (1 - bits)


@pytest.mark.parametrize(
    ("dtype", "layout", "scale", "middle"),
    [
        ("u1", "u8p", 128, 128),
        ("i2", "s16", 2**15, 0),
        ("i4", "s32p", 2**31, 0),
        ("f4", "flt", 1, 0),
        ("f8", "dblp", 1, 0),
    ],
)
def test_every_sample_format_of_pyav_is_scaled_to_one(dtype: str, layout: str, scale: float, middle: float) -> None:
    av = pytest.importorskip("av")
    expected = np.array([[-1.0, 0.5], [0.25, -0.5], [0.0, 0.75]], np.float32)  # samples × channels
    stored = (expected.astype(np.float64) * scale + middle).astype(dtype)
    shaped = np.ascontiguousarray(stored.T) if layout.endswith("p") else stored.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(shaped, format=layout, layout="stereo")
    np.testing.assert_array_equal(decoders._frame_samples(frame), expected)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 2), (48_000, 6), (96_000, 2)])
def test_rates_and_channels(tmp_path: Path, rate: int, channels: int) -> None:
    samples = music(rate=rate, channels=channels)
    path = save(tmp_path / "x.wav", samples, rate=rate, subtype="PCM_24")
    waveform = audio.read(path, sample_rate=RATE)
    decoded = sf.read(path, dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(waveform.samples, soxr.resample(decoded.mean(axis=1), rate, RATE, quality="HQ"))
    assert waveform.duration == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_real_music_equals_decoding_and_resampling_at_once(data: Path, rate: int) -> None:
    path = data / "emotify" / "audio" / "003.ogg"
    samples, file_rate = sf.read(path, dtype="float32", always_2d=True)
    expected = samples.mean(axis=1)
    if file_rate != rate:
        expected = soxr.resample(expected, file_rate, rate, quality="HQ")
    np.testing.assert_array_equal(audio.read(path, sample_rate=rate).samples, expected)


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "m4a"])
def test_read_joins_the_blocks_and_a_second_pass_is_equal(tmp_path: Path, kind: str) -> None:
    path = make_file(tmp_path, kind, music(5.0))
    first, second = (list(audio.blocks(path, sample_rate=16_000)) for _ in range(2))
    assert len(first) > 3
    np.testing.assert_array_equal(np.concatenate(first), audio.read(path, sample_rate=16_000).samples)
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


@pytest.mark.parametrize("kind", ["flac", "mp3", "m4a"])
def test_block_size_does_not_change_samples(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path, kind, music(3.0))
    expected = audio.read(path, sample_rate=16_000).samples
    monkeypatch.setattr(decoders, "BLOCK", 1_000)
    with path.open("rb") as file:
        assert len(list(decoders.decode(file, sniffing.streams(file), print))) > 40
    np.testing.assert_array_equal(audio.read(path, sample_rate=16_000).samples, expected)


def test_both_decoders_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path, "flac", music())
    by_soundfile = audio.read(path, sample_rate=RATE).samples

    def fail(path: Path) -> None:
        raise sf.LibsndfileError(1)

    pytest.importorskip("av")
    monkeypatch.setattr(decoders, "_ForwardOnly", fail)
    np.testing.assert_array_equal(audio.read(path, sample_rate=RATE).samples, by_soundfile)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("wav", "x.m4a"),
        ("m4a", "x.wav"),
        ("m4a", "x.mp3"),
        ("flac", "x.txt"),
        ("mp3", "x"),
        ("wav", "x.raw"),
        ("ogg", "x.raw"),
    ],
)
def test_the_format_is_detected_from_content_not_from_the_name(tmp_path: Path, kind: str, name: str) -> None:
    path = make_file(tmp_path, kind, music())
    expected = audio.read(path, sample_rate=RATE).samples
    renamed = audio.read(path.rename(tmp_path / name), sample_rate=RATE).samples
    np.testing.assert_allclose(renamed, expected, atol=1e-6)  # the two decoders of Ogg differ that much


@pytest.mark.parametrize("name", ["ünï %20 # ?.m4a", "-x:y.m4a", "file:z.m4a", "concat:a|b.wav"])
@pytest.mark.parametrize("kind", ["m4a", "wav"])
def test_names_like_urls_and_options_are_read(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(tmp_path, kind, music()).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert audio.read(name, sample_rate=RATE).duration == pytest.approx(2.0, abs=0.06)


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = make_file(tmp_path, "wav", music()).rename(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    assert audio.read(path, sample_rate=RATE).duration == 2.0


def test_a_waveform_is_a_source() -> None:
    samples = music(rate=22_050, channels=1)[:, 0]
    resampled = audio.read(Waveform(samples, 22_050), sample_rate=RATE)
    np.testing.assert_array_equal(resampled.samples, soxr.resample(samples, 22_050, RATE, quality="HQ"))
    np.testing.assert_array_equal(audio.read(Waveform(samples, 22_050), sample_rate=22_050).samples, samples)
    assert Waveform(samples, 22_050).duration == 2.0


def test_a_waveform_may_be_a_strided_or_read_only_view() -> None:
    samples = music(rate=22_050)
    samples.flags.writeable = False
    expected = soxr.resample(samples[:, 1].copy(), 22_050, RATE, quality="HQ")
    np.testing.assert_array_equal(audio.read(Waveform(samples[:, 1], 22_050), sample_rate=RATE).samples, expected)


# unusual files


def test_junk_before_the_first_frame_of_an_mp3_is_skipped(tmp_path: Path) -> None:
    path = make_file(tmp_path, "mp3", music())
    path.write_bytes(bytes(700) + path.read_bytes())
    assert audio.read(path, sample_rate=RATE).duration == pytest.approx(2.0, abs=0.1)


def test_a_wav_that_was_streamed_has_no_length_in_its_header(tmp_path: Path) -> None:
    path = make_file(tmp_path, "wav", music())
    expected = audio.read(path, sample_rate=RATE).samples
    content = bytearray(path.read_bytes())
    position = content.index(b"data")
    content[4:8] = content[position + 4 : position + 8] = b"\xff" * 4
    path.write_bytes(content)
    np.testing.assert_array_equal(audio.read(path, sample_rate=RATE).samples, expected)


def test_a_wrong_length_in_a_header_is_ignored(tmp_path: Path) -> None:
    path = make_file(tmp_path, "mp3", music())
    content = bytearray(path.read_bytes())
    position = max(content.find(b"Xing"), content.find(b"Info"))
    content[position + 8 : position + 12] = struct.pack(">I", 0x7FFF_FFFF)
    path.write_bytes(content)
    with sf.SoundFile(path) as file:
        assert file.frames > 10**12
    assert audio.read(path, sample_rate=RATE).duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("kind", ["wav", "ogg", "mp3", "flac", "aac", "wma"])
def test_a_truncated_file_is_decoded_up_to_its_end(tmp_path: Path, kind: str) -> None:
    path = make_file(tmp_path, kind, music(8.0))
    complete = audio.read(path, sample_rate=RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    cut = audio.read(path, sample_rate=RATE)
    assert 2.0 < cut.duration < 0.6 * complete.duration
    np.testing.assert_allclose(cut.samples[:RATE], complete.samples[:RATE], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "min_seconds"), [("flac", 7.4), ("wv", 7.5), ("ogg", 6.0), ("mp3", 6.0), ("aac", 6.0)]
)
def test_damage_in_the_middle_is_skipped_and_logged(
    tmp_path: Path, kind: str, min_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("av")
    path = make_file(tmp_path, kind, music(8.0))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 20] = bytes(len(content) // 20)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="moodfield"):
        waveform = audio.read(path, sample_rate=RATE)
    assert min_seconds <= waveform.duration < 7.99
    assert [record.getMessage().startswith(f"{path}: ") for record in caplog.records] == [True] * len(caplog.records)
    assert caplog.records


def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def import_without_av(name: str, *rest: object) -> object:
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", import_without_av)


def test_without_codecs_damaged_flac_is_read_up_to_the_damage_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_file(tmp_path, "flac", music(8.0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    without_pyav(monkeypatch)
    assert 2.0 < audio.read(path, sample_rate=RATE).duration < 5.0
    assert "moodfield[codecs]" in caplog.text


# errors


def without_data(content: bytes) -> bytes:
    position = content.index(b"data")
    return content[: position + 4] + bytes(4)


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a", "none"])
@pytest.mark.parametrize(
    "content",
    [b"This is no music at all.\n" * 500, np.random.default_rng(3).bytes(50_000), b"\x89PNG\r\n\x1a\n" + bytes(999)],
)
def test_other_files_raise_not_audio(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    pytest.importorskip("av")
    assert error_of(path).reason == "not-audio"


@pytest.mark.parametrize(
    "head", ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"]
)
def test_a_playlist_does_not_open_other_files(tmp_path: Path, head: str) -> None:
    make_file(tmp_path, "aac", music())
    path = tmp_path / "x.m3u8"
    path.write_text(head.format("music.aac"))
    assert error_of(path).reason == "not-audio"


def test_missing_and_misplaced_files(tmp_path: Path) -> None:
    (tmp_path / "link.mp3").symlink_to(tmp_path / "nowhere.mp3")
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    wav = make_file(tmp_path, "wav", music())
    reasons = {
        name: error_of(tmp_path / name).reason
        for name in ("no.wav", "link.mp3", "empty.wav", "pipe.wav", ".", f"{wav.name}/x.wav", "nul\0.wav")
    }
    assert reasons == {
        "no.wav": "missing",
        "link.mp3": "missing",
        "empty.wav": "empty",
        "pipe.wav": "not-a-file",
        ".": "directory",
        f"{wav.name}/x.wav": "missing",
        "nul\0.wav": "missing",
    }
    assert error_of("/dev/zero").reason == "not-a-file"
    assert error_of(tmp_path / ("x" * 300)).reason == "unreadable"
    assert "links to nothing" in str(error_of(tmp_path / "link.mp3"))


def test_no_permission() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        path, hidden = make_file(folder, "wav", music()), make_file(folder / "closed", "wav", music())
        assert audio.read(path, sample_rate=RATE).duration == 2.0
        path.chmod(0)
        (folder / "closed").chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65_534)  # root may read everything, nobody may not
        error = error_of(path)
        assert error.reason == "no-permission"
        assert isinstance(error.__cause__, PermissionError)
        assert error_of(hidden).reason == "no-permission"
        assert audio.find([hidden]) == [hidden]
        assert audio.find([folder]) == [folder / "closed", path]
    finally:
        os.seteuid(os.getuid())
        (folder / "closed").chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "not-finite"), (np.inf, "not-finite"), (1e38, "too-loud"), (300, "too-loud")]
)
@pytest.mark.parametrize("second", [0.0, 1.9])
def test_samples_out_of_range_raise(tmp_path: Path, value: float, reason: str, second: float) -> None:
    samples = music()
    samples[round(second * RATE), :] = value
    path = save(tmp_path / "x.wav", samples, subtype="FLOAT")
    assert error_of(path).reason == reason
    assert error_of(path, rate=16_000).reason == reason
    assert error_of(Waveform(samples[:, 0].copy(), RATE)).reason == reason


@pytest.mark.parametrize("value", [3e38, 1e300])
def test_overflow_raises_without_a_warning(tmp_path: Path, value: float) -> None:
    av = pytest.importorskip("av")
    samples = music().astype(np.float64)
    samples[5] = value
    assert error_of(save(tmp_path / "x.wav", samples, subtype="DOUBLE")).reason == "not-finite"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:9].T), format="dblp", layout="stereo")
    assert downmix.mix(decoders._frame_samples(frame), opposite=False)[5] == np.inf


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "opus", "m4a"])
def test_silence(tmp_path: Path, kind: str) -> None:
    error = error_of(make_file(tmp_path, kind, np.zeros((3 * RATE, 2), np.float32)))
    assert error.reason == "silent"


@pytest.mark.parametrize("position", [0, -1])
def test_one_small_sample_is_no_silence(tmp_path: Path, position: int) -> None:
    samples = np.zeros((5 * RATE, 1), np.float32)
    samples[position] = 2.0**-15
    assert audio.read(save(tmp_path / "x.wav", samples), sample_rate=RATE).duration == 5.0


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_channels_of_opposite_polarity_are_subtracted(tmp_path: Path, kind: str) -> None:
    """Their mean would be only rounding errors and codec noise."""
    mono = music(3.0, channels=1)
    noise = np.random.default_rng(1).uniform(-1, 1, mono.shape).astype(np.float32) * 2.0**-16
    path = save(tmp_path / f"x.{kind}", np.hstack([mono, noise - mono]))
    mixed = audio.read(path, sample_rate=RATE).samples
    lag = np.correlate(mixed[10_000:30_000], mono[12_400:27_400, 0]).argmax() - 2_400
    assert np.corrcoef(mixed[12_400 + lag :][:15_000], mono[12_400:27_400, 0])[0, 1] > 0.99


def test_only_channels_that_cancel_throughout_are_subtracted(tmp_path: Path) -> None:
    mono = music(3.0, channels=1)
    second_channel = np.vstack([-mono[:RATE], mono[RATE:]])
    mixed = audio.read(
        save(tmp_path / "x.wav", np.hstack([mono, second_channel]), subtype="FLOAT"), sample_rate=RATE
    ).samples
    np.testing.assert_array_equal(mixed, np.hstack([mono, second_channel]).mean(axis=1))


def test_channels_that_cancel_later_on_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mono = music(30.0, channels=1)
    second_channel = np.vstack([mono[: 2 * RATE], -mono[2 * RATE :]])
    path = save(tmp_path / "x.wav", np.hstack([mono, second_channel]), subtype="FLOAT")
    mixed = audio.read(path, sample_rate=RATE).samples
    assert np.abs(mixed[2 * RATE :]).max() == 0
    assert "cancel" in caplog.text
    assert str(path) in caplog.text


def test_wide_stereo_is_averaged(tmp_path: Path) -> None:
    left, right = music(2.0, channels=1), np.roll(music(2.0, channels=1), 17) * -0.4
    mixed = audio.read(save(tmp_path / "x.wav", np.hstack([left, right]), subtype="FLOAT"), sample_rate=RATE).samples
    np.testing.assert_array_equal(mixed, np.hstack([left, right]).mean(axis=1))


@pytest.mark.parametrize("value", [0.0, 0.25, -1.0])
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_constant_is_silence(tmp_path: Path, kind: str, value: float) -> None:
    path = save(tmp_path / f"x.{kind}", np.full((3 * RATE, 1), value, np.float32))
    assert error_of(path).reason == "silent"


def test_the_duration_of_a_short_file_is_not_rounded_up(tmp_path: Path) -> None:
    error = error_of(save(tmp_path / "x.wav", music()[: RATE - 3]))
    assert error.reason == "too-short"
    assert "0.999 s" in str(error)


def test_short_files(tmp_path: Path) -> None:
    samples = music(1.0)
    assert audio.read(save(tmp_path / "x.wav", samples), sample_rate=RATE).duration == 1.0
    assert error_of(save(tmp_path / "x.wav", samples[:-1])).reason == "too-short"
    assert error_of(save(tmp_path / "x.wav", samples[:0])).reason == "too-short"
    path = save(tmp_path / "x.wav", samples)
    path.write_bytes(without_data(path.read_bytes()))
    assert error_of(path).reason == "too-short"
    assert error_of(Waveform(np.zeros(0, np.float32), RATE)).reason == "too-short"


def test_long_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path, "flac", music(5.0))
    monkeypatch.setattr(audio, "MAX_SECONDS", 5.0)
    assert audio.read(path, sample_rate=RATE).duration == 5.0
    monkeypatch.setattr(audio, "MAX_SECONDS", 4.9)
    assert error_of(path).reason == "too-long"


def test_a_decoder_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path, "mp3", music())

    def stale(self: sf.SoundFile, out: np.ndarray) -> np.ndarray:
        out[:] = np.random.default_rng(0).random(out.shape)
        return out

    monkeypatch.setattr(sf.SoundFile, "read", stale)
    error = error_of(path)
    assert error.reason == "unreadable"
    assert "impossible" in str(error)


def test_a_sample_rate_out_of_range_raises(tmp_path: Path) -> None:
    path = make_file(tmp_path, "wav", music())
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", 2_000_000)
    path.write_bytes(content)
    assert error_of(path).reason == "bad-rate"
    with pytest.raises(AudioError, match="768000"):
        Waveform(music(channels=1)[:, 0], 0)
    with pytest.raises(ConfigError, match="sample_rate is 0"):
        audio.read(path, sample_rate=0)


def test_waveforms_of_other_shapes_and_types_raise() -> None:
    script = (  # a subprocess without the type checks of the tests
        "import numpy as np; from moodfield.audio import AudioError, Waveform\n"
        "for samples in (np.zeros((9, 2), np.float32), np.zeros(9, np.int16)):\n"
        "    try: Waveform(samples, 44100)\n"
        "    except AudioError as error: print(error.reason, error)\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shape, kind = process.stdout.splitlines()
    assert shape.startswith("not-mono a waveform of shape (9, 2): expected one channel")
    assert kind.startswith("not-float32 a waveform of int16: expected float32")


def test_damage_at_the_start_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("av")
    path = make_file(tmp_path, "flac", music(4.0))
    content = bytearray(path.read_bytes())
    content[9_000:60_000] = bytes(51_000)
    path.write_bytes(content)
    assert 3.0 < audio.read(path, sample_rate=RATE).duration < 4.0
    assert caplog.records


def test_undecodable_files_raise_with_a_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path, "flac", music(4.0))
    content = bytearray(path.read_bytes())
    content[9_000:] = bytes(len(content) - 9_000)
    path.write_bytes(content)
    error = error_of(path)
    assert error.reason in ("unreadable", "not-audio", "too-short")
    without_pyav(monkeypatch)
    error = error_of(path)
    assert error.reason == "needs-codecs"
    assert error.__cause__ is not None


def test_without_codecs_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path, "m4a", music())
    without_pyav(monkeypatch)
    error = error_of(path)
    assert error.reason == "needs-codecs"
    assert 'pip install "moodfield[codecs]"' in str(error)


# files are closed, memory is bounded


def open_files() -> list[str]:
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files can be listed on Linux only")
@pytest.mark.parametrize("kind", ["flac", "m4a"])
def test_files_are_closed_at_the_end_when_abandoned_and_after_errors(tmp_path: Path, kind: str) -> None:
    path = make_file(tmp_path, kind, music(6.0))

    def is_open() -> bool:
        return any(str(path) in name for name in open_files())

    audio.read(path, sample_rate=RATE)
    assert not is_open()
    stream = audio.blocks(path, sample_rate=RATE)
    next(stream)
    assert is_open()
    stream.close()
    assert not is_open()
    path = make_file(tmp_path, kind, np.zeros((3 * RATE, 2), np.float32))
    error_of(path)
    assert not is_open()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    script = (  # not getrusage, which counts the parent's memory from before the start
        "import re, sys; from moodfield import audio\n"
        "n = sum(len(block) for block in audio.blocks(sys.argv[1], sample_rate=16000))\n"
        "print(n, *re.findall(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()))"
    )
    peaks = []
    for minutes in (1, 6):
        path = save(tmp_path / "x.flac", np.tile(music(10.0), (6 * minutes, 1)))
        process = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
        samples, kilobytes = map(int, process.stdout.split())
        assert samples == 16_000 * 60 * minutes
        peaks.append(kilobytes / 1024)
    assert peaks[0] < 200
    assert peaks[1] <= peaks[0] + 10


def test_two_threads_read_at_once(tmp_path: Path) -> None:
    path = make_file(tmp_path, "ogg", music(5.0))
    expected = audio.read(path, sample_rate=16_000).samples
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(audio.read(path, sample_rate=16_000).samples)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(samples, expected) for samples in results)


# finding files


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_searched_in_natural_order(tmp_path: Path) -> None:
    tree(tmp_path, "b/10.mp3", "b/2.mp3", "b/1 x.FLAC", "A/z.ogg", "c.wav", "notes.txt", "b/cover.jpg", "²½.opus")
    tree(tmp_path, ".hidden/x.mp3", "b/.hidden.mp3", "b/._2.mp3")
    names = [str(path.relative_to(tmp_path)) for path in audio.find([tmp_path])]
    assert names == ["A/z.ogg", "b/1 x.FLAC", "b/2.mp3", "b/10.mp3", "c.wav", "²½.opus"]
    assert audio.find(tmp_path) == audio.find([str(tmp_path)])


def test_files_keep_their_order_and_are_listed_once(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp3", "b.mp3", "notes.txt")
    paths = [tmp_path / "notes.txt", tmp_path / "b.mp3", tmp_path, tmp_path / "missing.wav", tmp_path / "b.mp3"]
    assert [path.name for path in audio.find(paths)] == ["notes.txt", "b.mp3", "a.mp3", "missing.wav"]
    assert audio.find([]) == []


def test_a_relative_and_an_absolute_path_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.mp3")
    monkeypatch.chdir(tmp_path)
    assert audio.find(["a.mp3", tmp_path, "./a.mp3"]) == [Path("a.mp3")]


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    tree(tmp_path, "music/a.mp3", "elsewhere/b.mp3")
    (tmp_path / "music" / "round").symlink_to(tmp_path / "music")
    (tmp_path / "music" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "music" / "broken.mp3").symlink_to(tmp_path / "nowhere")
    names = [str(path.relative_to(tmp_path / "music")) for path in audio.find([tmp_path / "music"])]
    assert names == ["a.mp3", "broken.mp3", "more/b.mp3"]


# hostile files


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """The content truncated, with random bytes in its head or body, or with inserted noise."""
    damaged = bytearray(content)
    method = random.integers(4)
    if method == 0:
        return bytes(damaged[: random.integers(1, len(damaged))])
    reach = min(len(damaged), 600) if method == 1 else len(damaged)
    for _ in range(random.integers(1, 30)):
        damaged[random.integers(reach)] = random.integers(256)
    if method == 3:
        position = random.integers(len(damaged))
        damaged[position:position] = random.bytes(random.integers(1, 500))
    return bytes(damaged)


@pytest.mark.parametrize("kind", [*BY_SOUNDFILE, *BY_AV])
def test_damaged_files_are_read_or_raise_audio_error(tmp_path: Path, kind: str) -> None:
    content = make_file(tmp_path, kind, music()).read_bytes()
    path = tmp_path / "damaged"
    outcomes = set()
    for seed in range(40):
        path.write_bytes(mutated(content, np.random.default_rng(seed)))
        try:
            waveform = audio.read(path, sample_rate=16_000)
        except AudioError as error:
            outcomes.add(error.reason)
        else:
            assert np.isfinite(waveform.samples).all()
            assert waveform.duration >= 0.99
            outcomes.add("read")
    assert "read" in outcomes or kind == "m4a"  # one index describes all of an m4a, so most damage is fatal
    assert len(outcomes) > 1

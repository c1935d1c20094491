"""Mel spectrograms: compared with librosa and recorded vectors; whole, streamed and in two passes, bit for bit."""

import itertools
import tracemalloc
import warnings
from pathlib import Path

import jaxtyping
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodfield import audio, mel
from moodfield.audio import Waveform
from moodfield.errors import AudioError, ConfigError
from moodfield.mel import MelConfig

PLAIN = MelConfig(sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, kind="plain")
SMALL_CONFIGS = [
    MelConfig(sample_rate=8_000, n_fft=64, hop_length=16, n_mels=8),
    MelConfig(sample_rate=8_000, n_fft=64, hop_length=48, n_mels=8, top_db=30.0),
    MelConfig(sample_rate=4_000, n_fft=32, hop_length=32, n_mels=5),
    MelConfig(sample_rate=2_000, n_fft=66, hop_length=33, n_mels=6),
    MelConfig(sample_rate=8_000, n_fft=64, hop_length=32, n_mels=8, kind="plain"),
    MelConfig(sample_rate=8_000, n_fft=64, hop_length=64, n_mels=20, kind="plain"),
]
"""configs of both kinds, small enough for hundreds of tracks in a test"""


@pytest.fixture(scope="module")
def music(data: Path) -> list[Waveform]:
    """One minute each of a few real recordings."""
    files = sorted((data / "emotify" / "audio").glob("*.ogg"))
    assert len(files) > 200
    return [audio.read(file, sample_rate=44_100) for file in files[::120]]


def noise(samples: int, *, seed: int = 0) -> np.ndarray:
    """Noise of varying volume, so that the loudest cell is at a random time."""
    generator = np.random.default_rng(seed)
    swell = 10 ** np.interp(np.arange(samples), np.linspace(0, max(samples, 1), 9), generator.uniform(-4, 0, 9))
    return (generator.standard_normal(samples) * swell * 0.3).astype(np.float32)


def librosa_mel(waveform: Waveform, config: MelConfig) -> np.ndarray:
    """The perceptual mel as a chain of librosa's functions."""
    spectrum = librosa.stft(
        waveform.samples,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        window="hann",
        center=True,
        pad_mode="reflect",
    )
    hz = librosa.fft_frequencies(sr=config.sample_rate, n_fft=config.n_fft)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # librosa takes the logarithm of 0 Hz
        levels = librosa.perceptual_weighting(np.abs(spectrum) ** 2, hz, ref=1.0, amin=1e-10, top_db=config.top_db)
    return librosa.feature.melspectrogram(
        S=levels, sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=0, fmax=config.sample_rate / 2
    )


def stream_mel(samples: np.ndarray, sizes: list[int], config: MelConfig) -> np.ndarray:
    """The mel of blocks of these sizes; the last block has the remaining samples."""
    blocks = np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))
    return np.concatenate(list(mel.stream(lambda: blocks, config)), axis=1)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("hop", [512, 1536])
def test_spectrogram_equals_librosa_on_real_music(music, hop):
    config = MelConfig(hop_length=hop)
    assert config.hop_length == hop
    for waveform in music:
        result, expected = mel.spectrogram(waveform, config), librosa_mel(waveform, config)
        assert result.shape == expected.shape == (256, 1 + len(waveform.samples) // hop)
        assert result.dtype == np.float32
        assert expected.std() > 0.3
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", [config for config in SMALL_CONFIGS if config.kind == "perceptual"])
def test_spectrogram_equals_librosa_for_other_configs(config):
    waveform = Waveform(noise(5_000), config.sample_rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = librosa_mel(waveform, config)
    np.testing.assert_allclose(mel.spectrogram(waveform, config), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.golden
def test_spectrogram_equals_the_recorded_features(data):
    with np.load(data / "vectors" / "features_hop512.npz", allow_pickle=False) as vector:
        config = MelConfig(sample_rate=int(vector["sr"]))
        assert config.hop_length == vector["hop"]
        np.testing.assert_allclose(
            mel.spectrogram(Waveform(vector["y"], config.sample_rate), config), vector["mel"], rtol=0, atol=1e-4
        )
        np.testing.assert_allclose(mel.a_weighting(config), vector["aweight"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(mel.filterbank(config), vector["melfb"], rtol=0, atol=1e-8)


@pytest.mark.golden
def test_plain_spectrogram_equals_the_recorded_one(data):
    with np.load(data / "vectors" / "vggish_waveform.npz", allow_pickle=False) as vector:
        waveform = Waveform((vector["waveform_int16"] / 32768).astype(np.float32), int(vector["rate"]))
        result = mel.spectrogram(waveform, PLAIN)
        assert result.shape == vector["mel"].shape
        # cells 80 dB below the loudest one of their frame are rounding errors of float32
        np.testing.assert_allclose(result, vector["mel"], rtol=0, atol=0.03)
        assert np.quantile(np.abs(result - vector["mel"]), 0.99) < 2e-3


def test_a_weighting_equals_the_standard():
    weights, config = mel.a_weighting(MelConfig()), MelConfig()
    np.testing.assert_allclose(weights[:4], [-80, -48.494, -33.084, -25.801], atol=1e-3)
    hz = np.arange(1025) * config.sample_rate / config.n_fft
    third_octaves = {100: -19.1, 200: -10.9, 500: -3.2, 1000: 0.0, 2000: 1.2, 4000: 1.0, 8000: -1.1, 16000: -6.6}
    np.testing.assert_allclose(np.interp(list(third_octaves), hz, weights), list(third_octaves.values()), atol=0.2)


@pytest.mark.parametrize("config", [MelConfig(), PLAIN, *SMALL_CONFIGS])
def test_filter_bank_equals_librosa(config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=0)
    np.testing.assert_allclose(mel.filterbank(config), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("config", [MelConfig(), PLAIN, *SMALL_CONFIGS])
def test_bands_equal_the_product_with_the_filter_bank(config):
    values = np.random.default_rng(1).standard_normal((7, config.n_fft // 2 + 1)).astype(np.float32)
    expected = values.astype(np.float64) @ mel.filterbank(config).T.astype(np.float64)
    np.testing.assert_allclose(mel._bands(values, config), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("config", [MelConfig(), PLAIN, *SMALL_CONFIGS])
def test_band_centres_equal_librosa(config):
    expected = librosa.mel_frequencies(n_mels=config.n_mels + 2, fmin=0, fmax=config.sample_rate / 2)[1:-1]
    np.testing.assert_allclose(mel.band_hz(config), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["perceptual", "plain"])
def test_a_tone_is_loudest_in_its_band_and_at_its_time(kind):
    config = MelConfig(sample_rate=22_050, n_mels=128, kind=kind)
    time = np.arange(3 * config.sample_rate) / config.sample_rate
    tone = np.where((time > 1) & (time < 2), 0.5 * np.sin(2 * np.pi * 3_000 * time), 0).astype(np.float32)
    result = mel.spectrogram(Waveform(tone, config.sample_rate), config)
    band, frame = np.unravel_index(result.argmax(), result.shape)
    nearest = np.abs(mel.band_hz(config) - 3_000).argsort()[:2]
    assert band in nearest
    assert 1 < frame / config.frames_per_second < 2
    loud = result[band] > result[band].max() - np.ptp(result[band]) / 2
    np.testing.assert_allclose(np.flatnonzero(loud)[[0, -1]] / config.frames_per_second, [1, 2], atol=0.06)


# ---------------------------------------------------------------- the lower limit


def test_a_click_sets_the_lower_limit_of_the_whole_track():
    config, deeper = MelConfig(sample_rate=22_050, n_mels=64), MelConfig(sample_rate=22_050, n_mels=64, top_db=160.0)
    samples = noise(60_000) * np.float32(1e-5)
    position = 100 * config.hop_length
    before = slice(0, 95)
    without = mel.spectrogram(Waveform(samples, config.sample_rate), config)[:, before]
    samples[position] = 1.0  # in the middle of frame 100 all bins have the power 1, 0 dB
    result = mel.spectrogram(Waveform(samples, config.sample_rate), config)
    assert (result.argmax(axis=1) == 100).all()
    floor = mel.filterbank(config) @ (mel.a_weighting(config) - 80)
    np.testing.assert_allclose(result[:, before], np.repeat(floor[:, None], 95, axis=1), atol=0.01)
    assert np.abs(result[:, before] - without).max() > 0.5
    assert (
        mel.spectrogram(Waveform(samples, config.sample_rate), deeper)[:, before] < floor[:, None] - 0.5
    ).mean() > 0.5


@pytest.mark.parametrize("kind", ["perceptual", "plain"])
def test_digital_silence_in_part_of_a_track_is_finite_and_flat(kind):
    config = MelConfig(sample_rate=22_050, n_mels=64, kind=kind)
    samples = noise(80_000)
    samples[30_000:60_000] = 0
    result = mel.spectrogram(Waveform(samples, config.sample_rate), config)
    assert np.isfinite(result).all()
    silent = result[:, -(-31_024 // config.hop_length) : 58_976 // config.hop_length]
    assert np.ptp(silent, axis=1).max() < 1e-5
    if kind == "plain":
        np.testing.assert_allclose(silent, -100, rtol=1e-6)
    else:
        np.testing.assert_allclose(
            result, librosa_mel(Waveform(samples, config.sample_rate), config), rtol=0, atol=1e-4
        )


def test_silence_from_start_to_end_is_finite():
    result = mel.spectrogram(Waveform(np.zeros(44_100, np.float32), 44_100), MelConfig())
    expected = mel.filterbank(MelConfig()) @ (mel.a_weighting(MelConfig()) - 100)
    np.testing.assert_allclose(result, np.repeat(expected[:, None], result.shape[1], axis=1), rtol=1e-4)


def test_twice_the_volume_shifts_all_cells_of_a_band_equally(music):
    config = MelConfig(hop_length=1536)
    loud = mel.spectrogram(music[0], config)
    soft = mel.spectrogram(Waveform(music[0].samples / 2, 44_100), config)
    expected = mel.filterbank(config).sum(axis=1) * 20 * np.log10(2)
    np.testing.assert_allclose((loud - soft).mean(axis=1), expected, rtol=1e-3)


@pytest.mark.parametrize("config", [MelConfig(), MelConfig(n_mels=96, kind="plain")], ids=["perceptual", "plain"])
def test_half_precision_error_is_small_beside_the_std_of_a_band(music, config):
    result = mel.spectrogram(music[1], config)
    error = np.abs(result.astype(np.float16).astype(np.float32) - result)
    assert error.max() < 0.01 * np.median(result.std(axis=1))


# ---------------------------------------------------------------- blocks


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(SMALL_CONFIGS),
    st.integers(40, 6_000),
    st.lists(st.one_of(st.just(0), st.just(1), st.integers(0, 200), st.integers(0, 9_000)), max_size=30),
    st.sampled_from([1, 2_000, 2**28]),
)
def test_blocks_of_any_size_give_the_whole_bit_for_bit(config, samples, sizes, kept_bytes):
    waveform = Waveform(noise(samples, seed=samples), config.sample_rate)
    with pytest.MonkeyPatch.context() as patch:
        whole = mel.spectrogram(waveform, config)
        patch.setattr(mel, "KEPT_BYTES", kept_bytes)
        streamed = stream_mel(waveform.samples, sizes, config)
    assert streamed.tobytes() == whole.tobytes()


@pytest.mark.parametrize("config", SMALL_CONFIGS)
def test_blocks_of_one_sample_give_the_whole_bit_for_bit(config):
    samples = noise(2_000)
    assert (
        stream_mel(samples, [1] * 2_000, config).tobytes()
        == mel.spectrogram(Waveform(samples, config.sample_rate), config).tobytes()
    )


@pytest.mark.parametrize("config", [MelConfig(), MelConfig(hop_length=1536), PLAIN], ids=["512", "1536", "plain"])
@pytest.mark.parametrize("kept_bytes", [1, 10**7, 2**28], ids=["two passes", "too long to keep", "kept"])
def test_real_music_in_random_blocks_gives_the_whole_bit_for_bit(music, config, kept_bytes, monkeypatch):
    samples = music[2].samples[: 20 * 44_100]
    whole = mel.spectrogram(Waveform(samples, config.sample_rate), config)
    monkeypatch.setattr(mel, "KEPT_BYTES", kept_bytes)
    sizes = [int(size) for size in np.random.default_rng(5).choice([0, 1, 17, 1024, 4_096, 65_536, 300_000], 60)]
    assert stream_mel(samples, sizes, config).tobytes() == whole.tobytes()


@pytest.mark.parametrize("kept_bytes", [1, 2**28])
def test_samples_are_read_twice_only_if_too_long_to_keep(kept_bytes, monkeypatch):
    monkeypatch.setattr(mel, "KEPT_BYTES", kept_bytes)
    n_reads = 0

    def blocks():
        nonlocal n_reads
        n_reads += 1
        return iter(np.split(noise(5_000), 5))

    list(mel.stream(blocks, SMALL_CONFIGS[0]))
    assert n_reads == (2 if kept_bytes == 1 else 1)
    list(mel.stream(blocks, SMALL_CONFIGS[4]))
    assert n_reads == (3 if kept_bytes == 1 else 2)


@pytest.mark.parametrize("kind", ["perceptual", "plain"])
def test_memory_does_not_grow_with_the_length(kind, monkeypatch):
    monkeypatch.setattr(mel, "KEPT_BYTES", 2**19)
    config = MelConfig(sample_rate=8_000, n_fft=512, hop_length=384, n_mels=32, kind=kind)
    block = noise(2**15)

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in mel.stream(lambda: itertools.repeat(block, count), config):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    peak(1)  # filter banks are cached after this call
    assert peak(100) < 1.1 * peak(20)


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize("config", SMALL_CONFIGS)
def test_n_frames_is_the_number_of_frames(config):
    for hops in (2, 3, 5, 63, 64, 65, 127, 128, 129):
        for extra in (-config.n_fft // 2, -1, 0, 1, config.hop_length // 2):
            samples = hops * config.hop_length + extra
            if samples <= config.n_fft // 2:
                continue
            result = mel.spectrogram(Waveform(noise(samples), config.sample_rate), config)
            assert result.shape == (config.n_mels, mel.n_frames(samples, config))


@pytest.mark.parametrize("config", [MelConfig(), PLAIN, *SMALL_CONFIGS])
def test_a_waveform_of_half_a_window_raises_and_a_longer_one_does_not(config):
    half = config.n_fft // 2
    assert mel.spectrogram(Waveform(noise(half + 1), config.sample_rate), config).shape[1] == mel.n_frames(
        half + 1, config
    )
    for samples in (0, 1, half):
        with pytest.raises(AudioError, match=f"{samples} samples") as caught:
            mel.spectrogram(Waveform(noise(samples), config.sample_rate), config)
        assert caught.value.reason == "too-short"
    with pytest.raises(AudioError, match="0 samples"):
        list(mel.stream(list, config))


def test_a_waveform_of_another_sample_rate_raises():
    with pytest.raises(ConfigError, match="48000 Hz"):
        mel.spectrogram(Waveform(noise(5_000), 48_000), MelConfig())


# ---------------------------------------------------------------- the config


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"n_fft": 2_047}, "odd"),
        ({"n_fft": 14}, "< 16"),
        ({"sample_rate": 999}, "rate < 1000"),
        ({"n_mels": 0}, "no n_mels"),
        ({"top_db": 0.0}, "top_db"),
        ({"top_db": float("nan")}, "top_db"),
        ({"hop_length": 0}, "hop_length"),
        ({"hop_length": -512}, "hop_length"),
        ({"hop_length": 2_049}, "hop_length"),
    ],
)
def test_config_raises_for_numbers_out_of_range(numbers, match):
    with pytest.raises(ConfigError, match=match):
        MelConfig(**numbers)


def test_an_unknown_kind_raises(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are not checked outside of tests
    with pytest.raises(ConfigError, match="mfcc"):
        MelConfig(kind="mfcc")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["perceptual", "plain"])
def test_too_many_bands_for_the_window_raise(kind):
    config = MelConfig(n_fft=512, n_mels=256, kind=kind)
    with pytest.raises(ConfigError, match="n_mels=256"):
        mel.spectrogram(Waveform(noise(5_000), 44_100), config)


def test_configs_are_compared_by_value():
    assert MelConfig() == MelConfig(sample_rate=44_100)
    assert MelConfig() != MelConfig(hop_length=1536)
    assert len({MelConfig(), MelConfig(n_mels=256), PLAIN}) == 2
    assert MelConfig().frames_per_second == pytest.approx(86.1328125)
    with pytest.raises(AttributeError):
        MelConfig().sample_rate = 48_000  # type: ignore[misc]


def test_changing_a_result_does_not_change_later_results():
    waveform = Waveform(noise(10_000), 8_000)
    first = mel.spectrogram(waveform, SMALL_CONFIGS[0])
    copy = first.copy()
    first[:] = 7
    mel.a_weighting(SMALL_CONFIGS[0])[:] = 7
    assert mel.spectrogram(waveform, SMALL_CONFIGS[0]).tobytes() == copy.tobytes()

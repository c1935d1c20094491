"""Degraded copies: each effect, alignment of codecs, random chains, and the cached mels of copies."""

import sys
from dataclasses import replace

import numpy as np
import pytest

import models
from moodfield import audio, mel
from moodfield.audio import Waveform
from moodfield.datasets.mtg_jamendo import Track
from moodfield.distillation import degradation, lossy_codecs
from moodfield.distillation.degradation import SAMPLE_RATE, Band, Chain, Degradation
from moodfield.errors import AudioError, ConfigError
from moodfield.mel import MelConfig
from moodfield.training.mel_cache import MelCache, statistics

SECONDS = 5
MEL = MelConfig(sample_rate=12_000, n_fft=1_024, hop_length=768, n_mels=32, kind="plain")


@pytest.fixture(scope="module")
def noise() -> Waveform:
    samples = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * SAMPLE_RATE)
    return Waveform(samples.astype(np.float32), SAMPLE_RATE)


@pytest.fixture
def bursts() -> Waveform:
    """A melody with a click at every beat, by which delays are measured."""
    samples = models.music(SECONDS, rate=SAMPLE_RATE).samples.copy()
    samples[SAMPLE_RATE // 4 :: SAMPLE_RATE // 2] += 0.5
    return Waveform(samples, SAMPLE_RATE)


def measured_gain(original: Waveform, copy: Waveform, low: float, high: float) -> float:
    """Gain in dB between two frequencies; a window suppresses leakage."""
    window = np.hanning(len(original.samples))
    frequencies = np.fft.rfftfreq(len(original.samples), 1 / SAMPLE_RATE)
    band = (frequencies >= low) & (frequencies < high)
    before, after = (
        np.square(np.abs(np.fft.rfft(window * waveform.samples)))[band].sum() for waveform in (original, copy)
    )
    return float(10 * np.log10(after / before))


def delay(original: Waveform, copy: Waveform) -> int:
    """Samples by which a copy is late: where the cross-correlation is largest."""
    first, second = (np.fft.rfft(waveform.samples, 2 * len(original.samples)) for waveform in (original, copy))
    lag = int(np.fft.irfft(second * first.conj()).argmax())
    return lag if lag < len(original.samples) else lag - 2 * len(original.samples)


# ---------------------------------------------------------------- effects


def test_without_effects_a_copy_equals_its_original(bursts):
    np.testing.assert_allclose(degradation.degrade(bursts, Chain()).samples, bursts.samples, atol=1e-5)


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        (Band("peak", 1_000.0, 6.0, 1.0), {(30, 60): 0, (995, 1_005): 6, (9_000, 11_000): 0}),
        (Band("peak", 3_000.0, -5.0, 2.0), {(50, 200): 0, (2_990, 3_010): -5, (11_000, 11_900): 0}),
        (Band("low shelf", 400.0, -6.0), {(30, 60): -6, (398, 402): -3, (5_000, 10_000): 0}),
        (Band("high shelf", 3_000.0, 4.0), {(50, 300): 0, (2_990, 3_010): 2, (9_000, 11_900): 4}),
    ],
)
def test_equaliser_has_its_gain(noise, band, expected):
    copy = degradation.degrade(noise, Chain(bands=(band,)))
    for (low, high), decibels in expected.items():
        assert measured_gain(noise, copy, low, high) == pytest.approx(decibels, abs=0.3)


def test_equaliser_equals_the_recursive_filter():
    """The biquad of the Audio EQ Cookbook, run sample by sample, has the magnitudes of `gain`."""
    amplitude, angle, q = 10 ** (5 / 40), 2 * np.pi * 900 / SAMPLE_RATE, 1.3
    alpha = np.sin(angle) / (2 * q)
    impulse, response = np.zeros(4_096), np.zeros(4_096)
    impulse[2] = 1
    for n in range(2, 4_096):
        feedforward = (1 + alpha * amplitude) * impulse[n] + (1 - alpha * amplitude) * impulse[n - 2]
        feedback = (1 - alpha / amplitude) * response[n - 2] - 2 * np.cos(angle) * response[n - 1]
        response[n] = (feedforward - 2 * np.cos(angle) * impulse[n - 1] - feedback) / (1 + alpha / amplitude)
    computed = degradation.gain(Chain(bands=(Band("peak", 900.0, 5.0, q),)), np.fft.rfftfreq(4_096, 1 / SAMPLE_RATE))
    np.testing.assert_allclose(computed, np.abs(np.fft.rfft(response)), rtol=1e-6)


def test_band_limits_attenuate(noise):
    copy = degradation.degrade(noise, Chain(low_pass=4_000.0, high_pass=200.0))
    assert measured_gain(noise, copy, 600, 2_500) == pytest.approx(0, abs=0.1)
    assert measured_gain(noise, copy, 195, 205) == pytest.approx(-3, abs=0.5)
    assert measured_gain(noise, copy, 3_980, 4_020) == pytest.approx(-3, abs=0.5)
    assert measured_gain(noise, copy, 8_000, 12_000) < -45
    assert measured_gain(noise, copy, 10, 50) < -45


@pytest.mark.parametrize("level", [-20.0, 3.0])
def test_level_is_a_gain(noise, level):
    copy = degradation.degrade(noise, Chain(level=level))
    assert measured_gain(noise, copy, 0, 12_000) == pytest.approx(level, abs=0.01)


def test_share_of_samples_is_clipped(noise):
    padded = Waveform(np.concatenate([noise.samples, np.zeros(9 * len(noise.samples), np.float32)]), SAMPLE_RATE)
    for waveform in (noise, padded):  # silence does not count
        samples = np.abs(degradation.degrade(waveform, Chain(clipped=0.01)).samples)
        assert (samples == samples.max()).sum() / len(noise.samples) == pytest.approx(0.01, rel=0.1)


def test_full_scale_is_never_exceeded(noise):
    loud = Waveform(9 * noise.samples, SAMPLE_RATE)
    assert np.abs(degradation.degrade(loud, Chain(level=3.0)).samples).max() == 1


def test_blocks_of_the_filter_are_joined(bursts):
    chain = Chain(bands=(Band("peak", 1_000.0, 6.0),), low_pass=5_000.0)
    long = Waveform(np.tile(bursts.samples, 3), SAMPLE_RATE)
    assert len(long.samples) > 3 * degradation.BLOCK
    parts = degradation.degrade(long, chain).samples.reshape(3, -1)
    inner = slice(degradation.KERNEL, -degradation.KERNEL)
    whole = degradation.degrade(bursts, chain).samples
    for part in parts:
        np.testing.assert_allclose(part[inner], whole[inner], atol=1e-5)


def test_filters_do_not_delay(bursts):
    chain = Chain(
        bands=(Band("low shelf", 200.0, 6.0), Band("high shelf", 3_000.0, -6.0)), low_pass=4_000.0, high_pass=200.0
    )
    copy = degradation.degrade(bursts, chain)
    assert len(copy.samples) == len(bursts.samples)
    assert delay(bursts, copy) == 0


@pytest.mark.parametrize("bitrate", Degradation().bitrates)
@pytest.mark.parametrize("codec", lossy_codecs.ENCODERS)
def test_codecs_keep_time_and_length(bursts, codec, bitrate):
    pytest.importorskip("av")
    copy = degradation.degrade(bursts, Chain(codec=codec, bitrate=bitrate))
    assert len(copy.samples) == len(bursts.samples)
    assert abs(delay(bursts, copy)) <= SAMPLE_RATE // 1_000
    noise_of_codec = Waveform(copy.samples - bursts.samples, SAMPLE_RATE)
    assert -40 < measured_gain(bursts, noise_of_codec, 100, 3_000) < -8  # lossy, and not another signal


@pytest.mark.parametrize("codec", lossy_codecs.ENCODERS)
def test_codecs_lose_high_frequencies_at_low_bitrates(noise, codec):
    pytest.importorskip("av")
    errors = []
    for bitrate in (24_000, 64_000):
        copy = degradation.degrade(noise, Chain(codec=codec, bitrate=bitrate))
        difference = Waveform(copy.samples - noise.samples, SAMPLE_RATE)
        errors.append([measured_gain(noise, difference, *band) for band in ((100, 1_000), (9_000, 11_500))])
    (low, high), (low_better, high_better) = errors
    assert low < high - 3
    assert low_better < low
    assert high_better < high + 1


@pytest.mark.parametrize("codec", lossy_codecs.ENCODERS)
@pytest.mark.parametrize("size", [SAMPLE_RATE, SAMPLE_RATE + 1, 2**16 + 17])
def test_codecs_take_any_length(bursts, codec, size):
    pytest.importorskip("av")
    waveform = Waveform(bursts.samples[:size], SAMPLE_RATE)
    assert len(lossy_codecs.round_trip(waveform, codec, 32_000).samples) == size


def test_missing_pyav_raises(monkeypatch, noise):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match="codecs"):
        lossy_codecs.check_installed()
    with pytest.raises(ConfigError, match="codecs"):
        degradation.degrade(noise, Chain(codec="mp3", bitrate=32_000))


def test_missing_encoder_raises(monkeypatch):
    av = pytest.importorskip("av")
    lossy_codecs.check_installed()
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libopus"})
    with pytest.raises(ConfigError, match="libopus"):
        lossy_codecs.check_installed()


def test_other_sample_rate_raises(noise):
    with pytest.raises(ConfigError, match="44100"):
        degradation.degrade(Waveform(noise.samples, 44_100), Chain())


# ---------------------------------------------------------------- random chains


def test_chains_have_the_stated_probabilities_and_ranges():
    settings = Degradation()
    chains = [degradation.draw(settings, f"{number:064x}") for number in range(1_500)]
    shares = {
        settings.equalise: [bool(chain.bands) for chain in chains],
        settings.limit_high: [chain.low_pass is not None for chain in chains],
        settings.limit_low: [chain.high_pass is not None for chain in chains],
        settings.clip: [chain.clipped > 0 for chain in chains],
        settings.encode: [chain.codec is not None for chain in chains],
    }
    for probability, drawn in shares.items():
        assert np.mean(drawn) == pytest.approx(probability, abs=0.04)
    for codec in lossy_codecs.ENCODERS:
        assert np.mean([chain.codec == codec for chain in chains]) == pytest.approx(settings.encode / 3, abs=0.04)
    assert {chain.bitrate for chain in chains} == {0, *settings.bitrates}
    kinds = {kind: [band for chain in chains for band in chain.bands if band.kind == kind] for kind in
             ("low shelf", "peak", "high shelf")}  # fmt: skip
    drawn_by_range = [
        (settings.level, [chain.level for chain in chains]),
        (settings.gain, [band.gain for bands in kinds.values() for band in bands]),
        (settings.shelf_low, [band.frequency for band in kinds["low shelf"]]),
        (settings.peak, [band.frequency for band in kinds["peak"]]),
        (settings.q, [band.q for band in kinds["peak"]]),
        (settings.shelf_high, [band.frequency for band in kinds["high shelf"]]),
        (settings.low_pass, [chain.low_pass for chain in chains if chain.low_pass]),
        (settings.high_pass, [chain.high_pass for chain in chains if chain.high_pass]),
        (settings.clipped, [chain.clipped for chain in chains if chain.clipped]),
    ]
    for (low, high), drawn in drawn_by_range:
        assert low <= min(drawn) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(drawn) <= high


def test_a_probability_changes_no_other_effect():
    for number in range(50):
        chain = degradation.draw(Degradation(), f"{number:064x}")
        other = degradation.draw(Degradation(clip=0.0, encode=0.0), f"{number:064x}")
        assert other == replace(chain, clipped=0.0, codec=None, bitrate=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip": 1.5}, {"encode": float("nan")}, {"low_pass": (0.0, 100.0)}, {"peak": (500.0, 400.0)},
        {"clipped": (0.1, 0.9)}, {"gain": (6.0, -6.0)}, {"level": (-90.0, 0.0)}, {"low_pass": (4_000.0, 16_000.0)},
        {"seed": -1}, {"bitrates": ()}, {"bitrates": (320_000,)},
    ],
)  # fmt: skip
def test_invalid_settings_raise(changes):
    with pytest.raises(ConfigError, match="Degradation"):
        Degradation(**changes)


# ---------------------------------------------------------------- cached mels


@pytest.fixture
def tracks(tmp_path) -> list[Track]:
    """Two tracks, and one between them that is damaged."""
    (tmp_path / "songs").mkdir()
    for name, seed in (("a", 0), ("c", 1)):
        models.save(tmp_path / "songs" / f"{name}.wav", models.music(SECONDS, seed=seed, rate=44_100))
    (tmp_path / "songs" / "b.wav").write_bytes(b"nothing")
    return [Track(f"songs/{name}.wav", f"songs/{name}.wav", float(SECONDS), ()) for name in "abc"]


def cached(folder, settings, cache="cache") -> MelCache:
    return MelCache(folder / cache, MEL, folder, settings)


def test_mels_of_copies_are_deterministic(tmp_path, tracks):
    pytest.importorskip("av")
    track, settings = tracks[0], Degradation(encode=1.0)
    stored = []
    for name, used in (("first", settings), ("second", settings), ("other", replace(settings, seed=1)), ("none", None)):
        cache = cached(tmp_path, used, name)
        [(_, path)] = cache.extract([track])
        assert len(cache.open(track)) == pytest.approx(SECONDS * MEL.frames_per_second, abs=1)
        stored.append(path.read_bytes())
    assert stored[0] == stored[1]
    assert len(set(stored)) == 3


def test_mel_of_a_copy_is_that_of_its_waveform(tmp_path, tracks):
    settings = Degradation(encode=0.0, equalise=1.0)
    cache = cached(tmp_path, settings)
    [(_, _)] = cache.extract([tracks[0]])
    [sha256] = cache.digests([tracks[0]])
    copy = settings.apply(tmp_path / tracks[0].path, sha256)
    assert copy.sample_rate == SAMPLE_RATE
    expected = mel.spectrogram(audio.read(copy, sample_rate=MEL.sample_rate), MEL).T
    np.testing.assert_array_equal(cache.open(tracks[0]), expected.astype(np.float16))
    original = mel.spectrogram(audio.read(tmp_path / tracks[0].path, sample_rate=MEL.sample_rate), MEL).T
    assert np.corrcoef(original[:60].ravel(), expected[:60].ravel())[0, 1] > 0.8


def test_mels_of_copies_and_originals_have_folders_and_statistics_of_their_own(tmp_path, tracks):
    settings = Degradation(encode=0.0)
    caches = [cached(tmp_path, used) for used in (None, settings, replace(settings, seed=1))]
    assert len({cache.folder for cache in caches}) == 3
    for cache in caches:
        list(cache.extract(tracks))
    parts = [(cache, [tracks[0], tracks[2]]) for cache in caches]
    computed = [statistics([parts[0], part]).mean for part in parts[1:]]
    assert not np.allclose(*computed)
    frames = np.concatenate([cache.open(track) for cache, kept in parts[:2] for track in kept]).astype(np.float32)
    np.testing.assert_allclose(computed[0], frames.mean(axis=0), atol=1e-3)


def test_damaged_file_is_an_error_of_that_track_alone(tmp_path, tracks):
    results = [result for _, result in cached(tmp_path, Degradation(encode=0.0)).extract(tracks)]
    assert [isinstance(result, AudioError) for result in results] == [False, True, False]
    assert "b.wav" in str(results[1])


def test_encoder_that_fails_is_an_error_of_that_track_alone(tmp_path, tracks, monkeypatch):
    av = pytest.importorskip("av")
    calls = []

    class Stream:
        def encode(self, frame):
            raise av.error.InvalidDataError(1, "broken")

    add_stream = av.container.OutputContainer.add_stream

    class Container:
        def __init__(self, container):
            self.container = container

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def add_stream(self, *arguments, **options):
            calls.append(arguments)
            return Stream() if len(calls) == 1 else add_stream(self.container, *arguments, **options)

        def mux(self, packets):
            self.container.mux(packets)

    open_file = av.open

    def opened(file, mode="r", **options):
        return (
            Container(open_file(file, mode, **options))
            if mode == "w" and not calls
            else open_file(file, mode, **options)
        )

    monkeypatch.setattr(av, "open", opened)
    results = [result for _, result in cached(tmp_path, Degradation(encode=1.0)).extract([tracks[0], tracks[2]])]
    assert isinstance(results[0], AudioError)
    assert "a.wav" in str(results[0])
    assert results[1].is_file()


def test_interrupted_extraction_leaves_no_partial_file_and_goes_on(tmp_path, tracks, monkeypatch):
    cache, kept = cached(tmp_path, Degradation(encode=0.0)), [tracks[0], tracks[2]]
    results = cache.extract(kept)
    _, first = next(results)
    with monkeypatch.context() as patch:
        patch.setattr(degradation, "degrade", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(results)
    assert {path.name for path in cache.folder.rglob("*") if path.is_file()} == {"config.json", first.name}
    before = first.stat().st_mtime_ns
    assert [result.is_file() for _, result in cache.extract(kept)] == [True, True]
    assert first.stat().st_mtime_ns == before

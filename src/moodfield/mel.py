"""Log-mel spectrograms of waveforms, of a whole track at once or streamed in blocks.

The parameters have librosa's names. A `plain` mel is `librosa.power_to_db(melspectrogram(...), top_db=None)`. A
`perceptual` mel (§2.1) differs from `librosa.power_to_db` of a mel in two ways: decibels (with the A-weighting) are
computed for every frequency bin before the mel filter bank averages them, and `top_db` is relative to the loudest cell
of the whole track. It therefore takes two passes over the samples: one finds the loudest cell, one computes the bands.

Frames are always transformed in the same aligned groups, so that the size of the blocks never changes the result.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from moodfield.audio import RATES, Waveform
from moodfield.errors import AudioError, ConfigError

GROUP_FRAMES = 64
"""frames transformed together: their spectra fit in the cache of one core"""
PART_BANDS = 16
"""mel bands computed together: each covers neighbouring bins only, so most of the filter bank is zero and skipped"""
KEPT_BYTES = 2**27
"""power spectra up to this size are kept between the passes; of longer tracks they are computed twice"""
MAX_N_FFT = 2**16
"""largest `n_fft` and `n_mels`: an untrusted card must not exhaust the memory"""
MAX_CELLS = 2**24
"""largest `n_fft × n_mels`: the filter bank has half as many cells, and takes 34 MB"""
MAX_OVERLAPS = 64
"""largest `n_fft / hop_length`: with a hop of one sample a mel would be a thousand times as large as its waveform"""
MAX_DB = 1_000.0
"""largest `top_db`; float32 spans less than 800 dB"""
MIN_POWER = 1e-10
"""power below which decibels are not computed"""
MIN_WEIGHT_DB = -80.0
"""lower limit of the A-weighting, which affects the lowest bins"""

Samples = Float32[np.ndarray, "_samples"]  # with the underscore, since the blocks of one track differ in length
Windows = Float32[np.ndarray, "_frames samples"]
Power = Float32[np.ndarray, "_frames freq"]
Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True)
class MelConfig:
    """Settings of a mel spectrogram, with librosa's names (§2.1).

    Raises:
        ConfigError: A value is out of range.

    Example:
        >>> MelConfig(sample_rate=44_100, hop_length=441).frames_per_second
        100.0
    """

    sample_rate: int = 44_100
    """samples per second (§2.1)"""
    n_fft: int = 2_048
    """samples per frame, even (§2.1)"""
    hop_length: int = 512
    """samples from one frame to the next, 1 … n_fft; 1,536 for submissions 4 and 5 (§2.1: overlaps of 75 and 25 %)"""
    n_mels: int = 256
    """mel bands between 0 Hz and half the sample rate (§2.1)"""
    kind: Literal["perceptual", "plain"] = "perceptual"
    """`perceptual`: A-weighted decibels, then mel (§2.1); `plain`: mel, then decibels (the organisers' baseline)"""
    top_db: float = 80.0
    """of perceptual mels: power is clamped this many dB below the loudest cell of the track (the authors' code)"""

    def __post_init__(self) -> None:
        if self.kind not in ("perceptual", "plain"):
            raise ConfigError(f"mel kind is {self.kind!r}, expected 'perceptual' or 'plain'")
        if self.sample_rate < 1_000 or self.n_fft < 16 or self.n_fft % 2 or self.n_mels < 1 or not self.top_db > 0:
            raise ConfigError(f"{self} has a sample_rate < 1000, an odd n_fft or one < 16, no n_mels, or a top_db ≤ 0")
        if self.sample_rate > RATES[1] or max(self.n_fft, self.n_mels) > MAX_N_FFT or not self.top_db <= MAX_DB:
            raise ConfigError(f"{self} is beyond {RATES[1]} Hz, {MAX_N_FFT} samples or bands, or {MAX_DB:g} dB")
        if self.n_fft * self.n_mels > MAX_CELLS:
            raise ConfigError(f"{self} has a filter bank beyond {MAX_CELLS} samples × bands; use fewer bands")
        if not 1 <= self.hop_length <= self.n_fft:
            raise ConfigError(f"{self} has a hop_length outside 1 … n_fft; a quarter of n_fft is usual")
        if self.n_fft > MAX_OVERLAPS * self.hop_length:
            raise ConfigError(f"{self}: a sample is in more than {MAX_OVERLAPS} windows; raise hop_length")

    @property
    def frames_per_second(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


ORGANISERS = MelConfig(sample_rate=12_000, n_fft=512, hop_length=256, n_mels=96, kind="plain")
"""the mel of the baseline by the task's organisers"""


def spectrogram(waveform: Waveform, config: MelConfig) -> Mel:
    """Compute the mel spectrogram of a whole track; equal to the joined blocks of `stream`, bit for bit.

    Args:
        waveform: Mono samples at `config.sample_rate`.
        config: Settings of the mel.

    Returns:
        Shape (bands, frames). Frame `n` is centred on sample `n * hop_length`. Plain values are decibels; perceptual
        values are about 0.05 × decibels, since the filters have unit area.

    Raises:
        ConfigError: The waveform has another sample rate, or the config more bands than `n_fft` resolves.
        AudioError: The waveform is not longer than half of `n_fft`.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.1, 12_000).astype(np.float32)
        >>> spectrogram(Waveform(noise, 12_000), ORGANISERS).shape
        (96, 48)
    """
    if waveform.sample_rate != config.sample_rate:
        raise ConfigError(
            f"the waveform has {waveform.sample_rate} Hz; read it at a sample_rate of {config.sample_rate} Hz"
        )
    size = GROUP_FRAMES * config.hop_length
    blocks = [waveform.samples[start : start + size] for start in range(0, len(waveform.samples), size)]
    return np.concatenate(list(stream(lambda: blocks, config)), axis=1)


def stream(blocks: Callable[[], Iterable[Samples]], config: MelConfig) -> Iterator[Mel]:
    """Compute the mel spectrogram of a track block by block, in constant memory.

    Args:
        blocks: Returns the blocks of mono samples at `config.sample_rate`. It is called once for a plain mel or a short
            track, else twice, and must return the same samples both times.
        config: Settings of the mel.

    Yields:
        Blocks of shape (bands, up to `GROUP_FRAMES` frames), in order.

    Raises:
        AudioError: The samples are not longer than half of `n_fft`.
    """
    if config.kind == "plain":
        for power in _power(blocks(), config):
            yield _decibels(_bands(power, config), MIN_POWER).T
        return
    kept, loudest = _first_pass(blocks, config)
    floor = max(MIN_POWER, loudest * 10 ** (-config.top_db / 10))
    weight = (filterbank(config).astype(np.float64) @ a_weighting(config)).astype(np.float32)
    for power in kept if kept is not None else _power(blocks(), config):
        bands = _bands(_decibels(power, floor), config)
        bands += weight
        yield bands.T


def check(config: MelConfig) -> None:
    """Raise `ConfigError` if some mel band contains no frequency bin."""
    filterbank(config)


def n_frames(samples: int, config: MelConfig) -> int:
    """The number of frames of the mel of a number of samples.

    >>> n_frames(44_100, MelConfig())
    87
    """
    if config.kind == "plain":
        return -(-(samples + config.n_fft // 2) // config.hop_length)
    return 1 + samples // config.hop_length


def a_weighting(config: MelConfig) -> Float64[np.ndarray, "freq"]:
    """A-weighting of every frequency bin in decibels, at least −80; 0 dB at 1 kHz (IEC 61672)."""
    squared = _bin_hz(config)[1:] ** 2
    weights = np.full(config.n_fft // 2 + 1, MIN_WEIGHT_DB)
    gain = 12194.217**2 * squared**2 / ((squared + 12194.217**2) * (squared + 20.598997**2))
    gain /= np.sqrt((squared + 107.65265**2) * (squared + 737.86223**2))
    weights[1:] = np.maximum(2.0 + 20 * np.log10(gain), MIN_WEIGHT_DB)
    return weights


def edges_hz(config: MelConfig) -> Float64[np.ndarray, "freq"]:
    """0 Hz, the centre of every band, and half the sample rate: bands reach from one neighbour's centre to the other's.

    Slaney's mel scale: 200/3 Hz per mel up to 1 kHz, then 27 mel for every factor of 6.4.
    """
    highest = config.sample_rate / 2
    top = 3 * highest / 200 if highest < 1000 else 15 + 27 * np.log(highest / 1000) / np.log(6.4)
    mels = np.linspace(0, top, config.n_mels + 2)
    hz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    return np.minimum(hz, highest)


def band_hz(config: MelConfig) -> Float64[np.ndarray, "bands"]:
    """The centre of every mel band in hertz, on Slaney's scale."""
    return edges_hz(config)[1:-1]


@lru_cache(maxsize=8)
def filterbank(config: MelConfig) -> Float32[np.ndarray, "bands freq"]:
    """Triangles of unit area, equally spaced on Slaney's mel scale from 0 Hz to half the sample rate."""
    hz, edges = _bin_hz(config), edges_hz(config)[:, None]
    bank = np.empty((config.n_mels, len(hz)), np.float32)
    for first in range(0, config.n_mels, PART_BANDS):  # in parts, since float64 of all bands may fill the memory
        last = min(first + PART_BANDS, config.n_mels)
        low, centre, high = (edges[first + i : last + i] for i in range(3))
        rising, falling = (hz - low) / (centre - low), (high - hz) / (high - centre)
        triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
        if not triangles.any(axis=1).all():
            raise ConfigError(f"n_mels={config.n_mels} is too large for n_fft={config.n_fft}: a band contains no bin")
        bank[first:last] = triangles
    return bank


@lru_cache(maxsize=8)
def _parts(config: MelConfig) -> tuple[tuple[slice, Float32[np.ndarray, "freq bands"]], ...]:
    """The filter bank in parts of `PART_BANDS`, each with the bins in which it is not zero."""
    parts = []
    for first in range(0, config.n_mels, PART_BANDS):
        part = filterbank(config)[first : first + PART_BANDS]
        seen = np.flatnonzero(part.any(axis=0))
        bins = slice(int(seen[0]), int(seen[-1]) + 1)
        parts.append((bins, np.ascontiguousarray(part[:, bins].T)))
    return tuple(parts)


def _bands(values: Float32[np.ndarray, "frames freq"], config: MelConfig) -> Float32[np.ndarray, "frames bands"]:
    """The product with the filter bank."""
    return np.concatenate([values[:, bins] @ weights for bins, weights in _parts(config)], axis=1)


def _bin_hz(config: MelConfig) -> Float64[np.ndarray, "freq"]:
    return np.arange(config.n_fft // 2 + 1) * (config.sample_rate / config.n_fft)


def _first_pass(blocks: Callable[[], Iterable[Samples]], config: MelConfig) -> tuple[list[Power] | None, float]:
    """The power spectra, if they are small enough to keep, and the largest power of all cells."""
    kept: list[Power] | None = []
    size, loudest = 0, 0.0
    for power in _power(blocks(), config):
        loudest = max(loudest, float(power.max()))
        size += power.nbytes
        if size > KEPT_BYTES:
            kept = None
        elif kept is not None:
            kept.append(power)
    return kept, loudest


def _power(blocks: Iterable[Samples], config: MelConfig) -> Iterator[Float32[np.ndarray, "frames freq"]]:
    """Power spectra of windowed frames, in groups; the last group is computed in full and returned in part."""
    window = hann(config)
    for group, count in _groups(blocks, config):
        spectrum = np.fft.rfft(group * window, axis=1)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        yield power[:count]


@lru_cache(maxsize=8)
def hann(config: MelConfig) -> Float32[np.ndarray, "samples"]:
    """Hann window: periodic for `perceptual`, symmetric for `plain`, as in the two systems."""
    period = config.n_fft if config.kind == "perceptual" else config.n_fft - 1
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.n_fft) / period)).astype(np.float32)


def _groups(blocks: Iterable[Samples], config: MelConfig) -> Iterator[tuple[Windows, int]]:
    """Overlapping frames in groups of `GROUP_FRAMES`, each with the number of frames that belong to the track."""
    span = (GROUP_FRAMES - 1) * config.hop_length + config.n_fft
    step = GROUP_FRAMES * config.hop_length
    waiting = np.empty(0, np.float32)
    done = samples = 0
    for block, own in _padded(blocks, config):
        samples += own
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= span:
            count = GROUP_FRAMES if own else min(GROUP_FRAMES, n_frames(samples, config) - done)
            if count > 0:
                yield _strided(waiting[:span], config), count
            done += count
            waiting = waiting[step:]
    left = n_frames(samples, config) - done
    if left > 0:
        rest = np.zeros(span, np.float32)
        rest[: len(waiting)] = waiting
        yield _strided(rest, config), left


def _strided(samples: Samples, config: MelConfig) -> Windows:
    return np.lib.stride_tricks.sliding_window_view(samples, config.n_fft)[:: config.hop_length]


def _padded(blocks: Iterable[Samples], config: MelConfig) -> Iterator[tuple[Samples, int]]:
    """The blocks with half a window of padding at either end, each with its number of samples that are not padding.

    Perceptual mels reflect the track at its ends, plain mels pad it with zeros.
    """
    half = config.n_fft // 2
    reflects = config.kind == "perceptual"
    head = np.empty(0, np.float32)
    tail = head
    started = False
    for block in blocks:
        if not started:
            head = np.concatenate([head, block])
            if len(head) <= half:
                continue
            block, started = head, True
            yield (block[half:0:-1] if reflects else np.zeros(half, np.float32)), 0
        yield block, len(block)
        tail = np.concatenate([tail, block[-half - 1 :]])[-half - 1 :]
    if not started:
        raise AudioError("too-short", f"{len(head)} samples, expected more than n_fft / 2 ({half}); use longer audio")
    yield (tail[-2::-1] if reflects else np.zeros(config.n_fft, np.float32)), 0


def _decibels(power: Float32[np.ndarray, "frames freq"], floor: float) -> Float32[np.ndarray, "frames freq"]:
    """Decibels of power, clamped at the floor."""
    levels = np.log(np.maximum(power, np.float32(floor)))
    levels *= np.float32(10 / np.log(10))
    return levels

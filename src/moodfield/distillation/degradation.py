"""Degraded copies of music: equalised, band-limited, quiet or clipped, encoded at low bitrates.

They are music as people play it. A copy stays aligned with its original in time, so that targets of the original fit
it; only its mel is stored (docs/decisions/0033).
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from moodfield import audio
from moodfield.audio import Waveform
from moodfield.distillation import lossy_codecs
from moodfield.errors import AudioError, ConfigError

VERSION = 1
"""of the computation; mels of copies of another version are not found"""
SAMPLE_RATE = 24_000
"""sample rate of copies in Hz: one that MP3, AAC and Opus have, twice that of the bundled model"""
KERNEL = 2**13
"""taps of the filter of a copy: it resolves 3 Hz"""
BLOCK = 2**16 - KERNEL
"""samples that are filtered at a time"""
SHELF_Q = 0.5**0.5
"""of shelves: the steepest without overshoot"""
LOW_PASS_ORDER, HIGH_PASS_ORDER = 8, 4
"""order of band limits: 48 and 24 dB per octave"""
SILENCE = 1e-3
"""share of the peak, −60 dB, below which samples do not count as music when clipping is measured"""
RANGES = ("shelf_low", "peak", "shelf_high", "q", "low_pass", "high_pass", "clipped")
"""settings that are ranges of positive numbers, drawn on a logarithmic scale"""

Kind = Literal["low shelf", "peak", "high shelf"]
Range = tuple[float, float]
Gain = Float64[np.ndarray, "freq"]


@dataclass(frozen=True)
class Band:
    """A band of an equaliser."""

    kind: Kind
    """what it changes: all below its frequency, around it, or above it"""
    frequency: float
    """in Hz: the centre of a peak, or where a shelf has half its gain in dB"""
    gain: float
    """in dB"""
    q: float = SHELF_Q
    """frequency divided by bandwidth"""


@dataclass(frozen=True)
class Chain:
    """The effects on one copy, in the order in which they are applied; the default has none."""

    bands: tuple[Band, ...] = ()
    """bands of the equaliser"""
    low_pass: float | None = None
    """highest frequency in Hz, at −3 dB"""
    high_pass: float | None = None
    """lowest frequency in Hz, at −3 dB"""
    level: float = 0.0
    """gain in dB"""
    clipped: float = 0.0
    """share of the samples that is clipped; what exceeds full scale always is"""
    codec: str | None = None
    """name of a lossy codec"""
    bitrate: int = 0
    """of the codec, in bits per second"""


@dataclass(frozen=True)
class Degradation:
    """Probabilities and ranges of random effects; a transform of `MelCache`.

    Frequencies, Q and shares are drawn on a logarithmic scale, gains and levels on a linear one in dB.

    Raises:
        ConfigError: A probability or a range is invalid.
    """

    seed: int = 0
    """0 or more; another one gives every track other effects"""
    equalise: float = 0.8
    """probability of an equaliser: a low shelf, a peak and a high shelf"""
    gain: Range = (-6.0, 6.0)
    """gain of each of its bands in dB"""
    shelf_low: Range = (80.0, 400.0)
    """frequency of its low shelf in Hz"""
    peak: Range = (200.0, 5_000.0)
    """frequency of its peak in Hz"""
    shelf_high: Range = (2_000.0, 6_000.0)
    """frequency of its high shelf in Hz"""
    q: Range = (0.5, 2.0)
    """Q of its peak"""
    limit_high: float = 0.25
    """probability of a low-pass filter"""
    low_pass: Range = (3_500.0, 10_000.0)
    """its frequency in Hz"""
    limit_low: float = 0.25
    """probability of a high-pass filter"""
    high_pass: Range = (60.0, 300.0)
    """its frequency in Hz"""
    level: Range = (-20.0, 3.0)
    """gain of all copies in dB"""
    clip: float = 0.25
    """probability of clipping"""
    clipped: Range = (0.0005, 0.01)
    """share of the samples that is clipped"""
    encode: float = 0.6
    """probability of a lossy codec, each being equally likely"""
    bitrates: tuple[int, ...] = (24_000, 32_000, 48_000, 64_000)
    """bitrates in bits per second, for one channel of `SAMPLE_RATE`"""

    def __post_init__(self) -> None:
        probabilities = (self.equalise, self.limit_high, self.limit_low, self.clip, self.encode)
        if not all(0 <= probability <= 1 for probability in probabilities):
            raise ConfigError(f"{self} has a probability outside 0 … 1")
        ranges = [getattr(self, name) for name in RANGES]
        if not all(0 < low <= high for low, high in ranges) or self.clipped[1] > 0.5:
            raise ConfigError(f"{self} has a range that is not positive or not ascending, or clips more than half")
        if not all(-60 <= low <= high <= 60 for low, high in (self.gain, self.level)):
            raise ConfigError(f"{self} has a gain or level outside −60 … 60 dB, or a range that is not ascending")
        if (
            max(self.shelf_low[1], self.peak[1], self.shelf_high[1], self.low_pass[1], self.high_pass[1])
            > SAMPLE_RATE / 2
        ):
            raise ConfigError(f"{self} has a frequency above {SAMPLE_RATE / 2:g} Hz")
        if self.seed < 0 or not self.bitrates or not all(8_000 <= bitrate <= 128_000 for bitrate in self.bitrates):
            raise ConfigError(f"{self} has a seed below 0, no bitrates, or one outside 8000 … 128000 bit/s")

    @property
    def digest(self) -> str:
        """A digest of all settings, of which copies of other settings have another."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:12]

    def settings(self) -> dict[str, Any]:
        """All that determines a copy besides its original, for JSON."""
        return asdict(self) | {"name": "degradation", "version": VERSION, "sample_rate": SAMPLE_RATE}

    def apply(self, path: Path, sha256: str) -> Waveform:
        """The degraded copy of a file, whose SHA-256 is given; raises `AudioError` as `audio.read` does."""
        original = audio.read(path, sample_rate=SAMPLE_RATE)
        try:
            return degrade(original, draw(self, sha256))
        except AudioError as error:
            raise AudioError(error.reason, f"the degraded copy of {path}: {error}") from error


def draw(settings: Degradation, sha256: str) -> Chain:
    """Draw the effects on the copy of a track.

    All random numbers are drawn, whether they are used or not: another probability changes no other effect.

    Args:
        settings: Probabilities and ranges.
        sha256: Of the original audio; the same audio always has the same effects.

    Example:
        >>> draw(Degradation(), "ab12") == draw(Degradation(), "ab12") != draw(Degradation(seed=1), "ab12")
        True
    """
    generator = np.random.default_rng([settings.seed, int(sha256, 16)])
    linear, logarithmic = partial(_linear, generator), partial(_logarithmic, generator)
    equalise, limit_high, limit_low, clip, encode = generator.random(5)
    bands = (
        Band("low shelf", logarithmic(settings.shelf_low), linear(settings.gain)),
        Band("peak", logarithmic(settings.peak), linear(settings.gain), logarithmic(settings.q)),
        Band("high shelf", logarithmic(settings.shelf_high), linear(settings.gain)),
    )
    low_pass, high_pass = logarithmic(settings.low_pass), logarithmic(settings.high_pass)
    level, clipped = linear(settings.level), logarithmic(settings.clipped)
    codec = str(generator.choice(list(lossy_codecs.ENCODERS)))
    bitrate = int(generator.choice(settings.bitrates))
    return Chain(
        bands=bands if equalise < settings.equalise else (),
        low_pass=low_pass if limit_high < settings.limit_high else None,
        high_pass=high_pass if limit_low < settings.limit_low else None,
        level=level,
        clipped=clipped if clip < settings.clip else 0.0,
        codec=codec if encode < settings.encode else None,
        bitrate=bitrate if encode < settings.encode else 0,
    )


def _linear(generator: np.random.Generator, limits: Range) -> float:
    return float(generator.uniform(*limits))


def _logarithmic(generator: np.random.Generator, limits: Range) -> float:
    return float(np.exp(generator.uniform(*np.log(limits))))


def degrade(waveform: Waveform, chain: Chain) -> Waveform:
    """Apply effects to a waveform.

    Args:
        waveform: At `SAMPLE_RATE`.
        chain: The effects.

    Returns:
        A waveform of the same length and sample rate, aligned with the original.

    Raises:
        ConfigError: The waveform has another sample rate, or PyAV is not installed.
        AudioError: The result cannot be encoded.
    """
    if waveform.sample_rate != SAMPLE_RATE:
        raise ConfigError(f"the waveform has {waveform.sample_rate} Hz; read it at a sample_rate of {SAMPLE_RATE} Hz")
    samples = _clip(_filter(waveform.samples, _kernel(chain)), chain.clipped)
    degraded = Waveform(samples, SAMPLE_RATE)
    return lossy_codecs.round_trip(degraded, chain.codec, chain.bitrate) if chain.codec else degraded


def gain(chain: Chain, frequencies: Float64[np.ndarray, "freq"]) -> Gain:
    """The factor by which the linear effects of a chain change the amplitude of each frequency in Hz.

    Example:
        >>> gain(Chain(level=-20.0), np.array([100.0, 1_000.0])).round(3).tolist()
        [0.1, 0.1]
    """
    total = np.full(len(frequencies), 10 ** (chain.level / 20))
    for band in chain.bands:
        total *= _band_gain(band, frequencies)
    if chain.low_pass is not None:  # Butterworth filters
        total *= 1 / np.sqrt(1 + (frequencies / chain.low_pass) ** (2 * LOW_PASS_ORDER))
    if chain.high_pass is not None:
        powers = (frequencies / chain.high_pass) ** (2 * HIGH_PASS_ORDER)
        total *= np.sqrt(powers / (1 + powers))
    return total


def _band_gain(band: Band, frequencies: Float64[np.ndarray, "freq"]) -> Gain:
    """The amplitude response of a biquad (Bristow-Johnson, Audio EQ Cookbook)."""
    amplitude, angle = 10 ** (band.gain / 40), 2 * np.pi * band.frequency / SAMPLE_RATE
    cosine, alpha = np.cos(angle), np.sin(angle) / (2 * band.q)
    if band.kind == "peak":
        zeros = 1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude
        poles = 1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude
    else:
        sign = 1 if band.kind == "low shelf" else -1  # a high shelf is a low one, mirrored at half of Nyquist
        plus, minus, cosine = amplitude + 1, amplitude - 1, sign * cosine
        slope = 2 * amplitude**0.5 * alpha
        zeros = (
            amplitude * (plus - minus * cosine + slope),
            sign * 2 * amplitude * (minus - plus * cosine),
            amplitude * (plus - minus * cosine - slope),
        )
        poles = plus + minus * cosine + slope, sign * -2 * (minus + plus * cosine), plus + minus * cosine - slope
    delay = np.exp(-2j * np.pi * frequencies / SAMPLE_RATE)
    return np.abs(np.polyval(zeros[::-1], delay) / np.polyval(poles[::-1], delay))


def _kernel(chain: Chain) -> Float32[np.ndarray, "time"]:
    """The impulse response of the linear effects, symmetric around its middle: their phase is zero."""
    response = np.fft.irfft(gain(chain, np.fft.rfftfreq(KERNEL, 1 / SAMPLE_RATE)), KERNEL)
    return (np.roll(response, KERNEL // 2) * np.hanning(KERNEL + 1)[:-1]).astype(np.float32)


def _filter(
    samples: Float32[np.ndarray, "samples"], kernel: Float32[np.ndarray, "time"]
) -> Float32[np.ndarray, "samples"]:
    """Convolve samples with a kernel around its middle, by overlap-add."""
    size = BLOCK + KERNEL
    response = np.fft.rfft(kernel, size)
    filtered = np.zeros(len(samples) + size, np.float32)
    for start in range(0, len(samples), BLOCK):
        filtered[start : start + size] += np.fft.irfft(
            np.fft.rfft(samples[start : start + BLOCK], size) * response, size
        )
    return filtered[KERNEL // 2 : KERNEL // 2 + len(samples)]


def _clip(samples: Float32[np.ndarray, "samples"], share: float) -> Float32[np.ndarray, "samples"]:
    """Clip samples at full scale, or so low that this share of those that are not silent is clipped."""
    limit = 1.0
    if share:
        magnitudes = np.abs(samples)
        magnitudes = magnitudes[magnitudes > SILENCE * magnitudes.max()]
        if len(magnitudes):
            limit = min(limit, float(np.quantile(magnitudes, 1 - share)))
    return np.clip(samples, -limit, limit)

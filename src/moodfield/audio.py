"""Decode audio, mix it to mono and resample it, block by block; compute its peak envelope."""

import io
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soxr
from jaxtyping import Float32, Num

from moodfield.decoding import decoders, downmix, sniffing, sources
from moodfield.decoding.byte_ranges import BinaryFile, Stream
from moodfield.decoding.decoders import BLOCK, Block, Mono, Samples
from moodfield.errors import AudioError, ConfigError

MIN_SECONDS = 1.0
"""shortest audio that is accepted"""
MAX_SECONDS = 6 * 3600.0
"""longest audio that is accepted, whatever its header states"""
MAX_SAMPLES_PER_BYTE = 2_000
"""samples that one byte of a file may decode to; silence in Ogg reaches 460, so that more is a decoder error"""
RATES = (1_000, 768_000)
"""lowest and highest sample rate, of input and output"""
MAX_AMPLITUDE = 64.0
"""full scale is 1, and lossy codecs exceed it a little; 36 dB above it the samples have another unit"""
MIN_AMPLITUDE = 2.0**-24
"""half a step of 24 bits: a peak below it is the rounding noise of a codec around silence"""
MAX_CONSTANT_STD = 0.05
"""std of the samples divided by their mean, below which they are a constant with the ripple of a codec"""
MAX_RIPPLE = 5e-5
"""largest variance of such a ripple, 43 dB below full scale; more on a constant is music"""
SAMPLE_STEP = 16
"""every 16th sample is enough for these statistics"""
_SUFFIXES = ".aac.aif.aifc.aiff.alac.ape.au.caf.flac.m4a.m4b.mka.mp2.mp3.mpc.oga.ogg.opus.tta.w64.wav.wma.wv"
SUFFIXES = frozenset(re.findall(r"\.\w+", _SUFFIXES))
"""suffixes of audio files, for `find` alone; reading depends on the content alone"""
REASONS = {
    **sources.REASONS,
    "empty": "an audio file; export or download it again",
    "not-audio": "wav, flac, ogg, opus, mp3, m4a, wma or another audio file; check it, or export it again",
    "needs-codecs": 'wav, flac, ogg, opus or mp3; for m4a, alac, wma and others: pip install "moodfield[codecs]"',
    "encoded": 'PCM, or a DTS stream in a WAV file with "moodfield[codecs]"; decode it to PCM first',
    "bad-rate": f"{RATES[0]} to {RATES[1]} samples per second; export it again, at 44100 for instance",
    "not-mono": "one channel, of shape (samples,); take the mean over the axis of its channels",
    "not-float32": "float32 in −1…1; divide integers by their full scale, then `.astype(np.float32)`",
    "not-finite": "numbers in −1…1; export it again",
    "too-loud": "samples in −1…1; divide them by their full scale, or export again",
    "too-long": f"at most {MAX_SECONDS / 3600:g} hours; cut it",
    "too-short": f"at least {MIN_SECONDS:g} s; give a longer excerpt",
    "silent": "music; check the recording, and whether its channels cancel each other",
}
"""every `AudioError.reason` of this module, with what is expected and what to do"""
SPANS_PER_SECOND = 20
"""resolution of the peak envelope"""
_LOG = logging.getLogger("moodfield")


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono float32 samples, nominally in −1 … 1, and their sample rate.

    Raises:
        AudioError: The samples have another shape or type, or the sample rate is out of range.

    Example:
        >>> Waveform(np.zeros(22_050, np.float32), sample_rate=44_100).duration
        0.5
    """

    samples: Float32[np.ndarray, "samples"]
    """samples of one channel"""
    sample_rate: int
    """samples per second"""

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise _error("not-mono", f"a waveform of shape {self.samples.shape}")
        if self.samples.dtype != np.float32:
            raise _error("not-float32", f"a waveform of {self.samples.dtype}")
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise _error("bad-rate", f"a waveform with rate={self.sample_rate}")

    @property
    def duration(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.sample_rate


Source: TypeAlias = (
    str | Path | Waveform | bytes | bytearray | memoryview | BinaryFile | tuple[Num[np.ndarray, "..."], Any]
)
"""a path, the bytes of a file, a binary file object, a `Waveform`, or (samples, sample_rate)"""
Warn: TypeAlias = Callable[[str], object]
"""called with a message about each damaged part of a source that is left out"""


def read(source: Source, *, sample_rate: int) -> Waveform:
    """Read a source as mono samples at a sample rate: the joined `blocks`.

    Raises:
        AudioError: The source cannot be read; its `reason` is a key of `REASONS`.

    Example:
        >>> read((np.sin(np.arange(44_100)), 44_100), sample_rate=22_050).samples.shape
        (22050,)
    """
    return Waveform(np.concatenate(list(blocks(source, sample_rate=sample_rate))), sample_rate)


def blocks(source: Source, *, sample_rate: int, warn: Warn = _LOG.warning) -> Iterator[Float32[np.ndarray, "samples"]]:
    """Read a source as blocks of about 2¹⁶ mono samples, in constant memory.

    Channels are averaged; two channels of opposite polarity, which would cancel, are subtracted. The samples are
    resampled by soxr in high quality; the joined blocks equal, bit for bit, the result of resampling all at once. Two
    calls yield the same blocks.

    The format of a file is detected by its content, never by its name, and lengths in its header are not trusted.
    Consecutive streams in one file are all read. Damaged parts are left out.

    Args:
        source: A path, bytes, a binary file object, a `Waveform`, or (samples, sample_rate) with a NumPy array.
        sample_rate: Samples per second of the blocks.
        warn: Called with a message about each damaged part; by default the logger `moodfield` warns.

    Raises:
        AudioError: The source cannot be read; its `reason` is a key of `REASONS`. Whether a source is too short,
            silent, or damaged at its end is known only after the blocks before were yielded.
        ConfigError: The sample rate is out of range.
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise ConfigError(f"sample_rate is {sample_rate} Hz, expected {RATES[0]} … {RATES[1]} Hz, such as 44100")
    yield from _resample(_mono(source, warn), sample_rate)


def duration(source: Source) -> float:
    """The duration of a source in seconds; decodes it, since headers may be wrong. Raises as `blocks` does."""
    return sum(len(block) / rate for rate, block in _mono(source, _LOG.warning))


class Reader:
    """A callable that returns the blocks of a source, as `mel.stream` takes it; logs each warning once."""

    def __init__(self, source: Source, *, sample_rate: int) -> None:
        self.source, self.sample_rate = source, sample_rate
        self.warnings: list[str] = []
        """messages about damaged parts that were left out"""

    def __call__(self) -> Iterator[Float32[np.ndarray, "samples"]]:
        """The blocks; raises as `blocks` does."""
        return blocks(self.source, sample_rate=self.sample_rate, warn=self._warn)

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)
            _LOG.warning(message)


def source_name(source: Source) -> str:
    """The name of a source: its path, or `bytes`, `file` or `waveform`."""
    if isinstance(source, Waveform | tuple):
        return "waveform"
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", None)
    return name if isinstance(name, str) else "bytes" if isinstance(source, bytes | bytearray | memoryview) else "file"


def find(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Find audio files: the given files, and those in the given folders in natural order (2 before 10), each once.

    In folders only files with one of the `SUFFIXES` (in any case) are found; hidden files and folders are skipped,
    symbolic links are followed. Paths that do not exist or cannot be searched are returned, too, so that reading them
    raises the reason.
    """
    files: dict[Path, Path] = {}
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        # Path.is_dir would raise without permission; reading raises a better message, file by file
        for file in _find_in(path) if os.path.isdir(path) else [path]:  # noqa: PTH112
            files.setdefault(file.absolute(), file)
    return list(files.values())


def _find_in(folder: Path) -> list[Path]:
    """The audio files below a folder; a folder that is linked twice is searched once."""
    paths: list[Path] = []
    errors: list[OSError] = []
    visited: set[str] = set()
    for top, folders, names in os.walk(folder, onerror=errors.append, followlinks=True):
        if (real := os.path.realpath(top)) in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = (Path(top, name) for name in names if not name.startswith("."))
        paths += [file for file in files if file.suffix.lower() in SUFFIXES]
    return sorted([*paths, *(Path(error.filename) for error in errors)], key=_natural)


def _natural(path: Path) -> list[tuple[list[str | int], str]]:
    """A sorting key that compares numbers as numbers."""
    split = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    keys = [[int(text) if i % 2 else text for i, text in enumerate(texts)] for texts in split]
    return list(zip(keys, path.parts, strict=True))


def _error(reason: str, problem: str) -> AudioError:
    return AudioError(reason, f"{problem}: expected {REASONS[reason]}")


# ---------------------------------------------------------------- sources


@contextmanager
def _open(source: Source) -> Iterator[Callable[[Warn], Iterator[Block]]]:
    """A context with a function that decodes a source, any number of times, to samples of all channels."""
    if isinstance(source, Waveform):
        yield lambda _: _split(source.samples[:, None], source.sample_rate)
    elif isinstance(source, tuple):
        samples, rate = sources.array(source)
        yield lambda _: _split(samples, rate)
    else:
        name = source_name(source)
        with sources.open_file(source) as file:
            size = file.seek(0, io.SEEK_END)
            if not size:
                raise _error("empty", f"{name} has 0 bytes")
            with _audio_errors(name):
                streams = sniffing.streams(file)
            yield lambda warn: _decode(file, streams, name, size * MAX_SAMPLES_PER_BYTE, warn)


def _decode(file: BinaryFile, streams: list[Stream], name: str, max_samples: int, warn: Warn) -> Iterator[Block]:
    """The samples of a file, which cannot hold more than `max_samples`."""
    count = 0
    with _audio_errors(name):
        for rate, samples in decoders.decode(file, streams, lambda fault: warn(f"{name}: {fault}")):
            count += len(samples)
            if count > max_samples:
                raise _error("unreadable", f"{name} decodes to {count} samples or more, impossible for its size")
            yield rate, samples


def _split(samples: Samples, rate: int) -> Iterator[Block]:
    """Samples in memory, in blocks."""
    for start in range(0, len(samples), BLOCK):
        yield rate, samples[start : start + BLOCK]


@contextmanager
def _audio_errors(name: str) -> Iterator[None]:
    """Raise the errors of decoders as `AudioError` with the name of the source."""
    try:
        yield
    except decoders.MissingCodecsError as error:
        raise _error("needs-codecs", f"{name} has a format that libsndfile does not know") from error
    except decoders.UnknownFormatError as error:
        raise _error("not-audio", f"{name} is not audio that can be decoded") from error
    except decoders.EncodedError as error:
        raise _error("encoded", f"{name} holds DTS or another encoded stream as PCM samples") from error
    except decoders.DecodingError as error:
        raise _error("unreadable", f"{name} cannot be decoded ({error})") from error
    except OSError as error:
        raise _error("unreadable", f"{name} cannot be read ({error.strerror or error})") from error


# ---------------------------------------------------------------- mono


def _mono(source: Source, warn: Warn) -> Iterator[tuple[int, Mono]]:
    """The samples of a source mixed to mono, with their rate, checked; a block is overwritten by the next one."""
    name = source_name(source) if isinstance(source, str | Path) else f"the {source_name(source)}"
    seconds, lowest, highest = 0.0, math.inf, -math.inf
    count, total, squares, stereo = 0, 0.0, 0.0, 0.0
    buffer = np.empty(BLOCK, np.float32)
    with _open(source) as decode:
        opposite: bool | None = None
        for rate, samples in decode(warn):
            if opposite is None:  # the first block with sound nearly always excludes it; else all blocks are decoded
                opposite = downmix.may_be_opposite(samples)
                opposite = opposite and downmix.is_opposite(decode(lambda _: None))
            if not RATES[0] <= rate <= RATES[1]:
                raise _error("bad-rate", f"{name} has {rate} samples per second")
            mono = downmix.mix(samples, opposite=bool(opposite), out=buffer)
            seconds += len(mono) / rate
            low, high = float(mono.min(initial=math.inf)), float(mono.max(initial=-math.inf))
            if seconds > MAX_SECONDS:
                raise _error("too-long", f"{name} is longer")
            if len(mono) and not (math.isfinite(low) and math.isfinite(high)):
                raise _error("not-finite", f"{name} has NaN or infinite samples before {seconds:.1f} s")
            if max(-low, high) > MAX_AMPLITUDE:
                raise _error("too-loud", f"{name} has a sample of {max(-low, high):.4g} before {seconds:.1f} s")
            lowest, highest = min(lowest, low), max(highest, high)
            sparse = mono[::SAMPLE_STEP].astype(np.float64)
            count, total, squares = count + len(sparse), total + float(sparse.sum()), squares + float(sparse @ sparse)
            if samples.shape[1] == 2:
                stereo += float(np.square(samples[::SAMPLE_STEP], dtype=np.float64).sum()) / 2
            yield rate, mono
    if seconds < MIN_SECONDS:
        raise _error("too-short", f"{name} lasts {math.floor(seconds * 1000) / 1000:g} s")
    variance = squares / count - (total / count) ** 2
    if (highest - lowest) / 2 < MIN_AMPLITUDE or variance < min((MAX_CONSTANT_STD * total / count) ** 2, MAX_RIPPLE):
        raise _error("silent", f"{name} is silent, or one constant value, once its channels are averaged")
    if squares < downmix.OPPOSITE * stereo:
        share = f"{100 * squares / stereo:.2g} %"
        warn(f"{name}: its channels cancel each other: their mean has {share} of their energy")


def _resample(blocks: Iterator[tuple[int, Mono]], sample_rate: int) -> Iterator[Mono]:
    """Resample blocks; where their rate changes, one resampler is flushed and another one begins."""
    stream, current = None, 0
    for rate, block in blocks:
        if rate != current:
            yield from _flush(stream)
            current = rate
            stream = None
            if rate != sample_rate:
                stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        out = np.array(block) if stream is None else stream.resample_chunk(block)
        if len(out):
            yield out
    yield from _flush(stream)


def _flush(stream: Any) -> Iterator[Mono]:
    """The samples that a resampler still holds."""
    if stream is not None and len(out := stream.resample_chunk(np.zeros(0, np.float32), last=True)):
        yield out


# ---------------------------------------------------------------- peak envelope


@dataclass(frozen=True, eq=False)
class Envelope:
    """The peak amplitude of a waveform over time."""

    seconds: float
    """duration of each span; the last one may be shorter"""
    peaks: Float32[np.ndarray, "time"]
    """largest magnitude in each span, in 0 … 1; values above full scale are clipped to 1"""


class PeakEnvelope:
    """Computes the `Envelope` of a waveform that is passed in blocks; the size of the blocks changes nothing.

    >>> peaks = PeakEnvelope(sample_rate=8_000)
    >>> peaks.push(np.linspace(0, 1, 801, dtype=np.float32))
    >>> peaks.finish().peaks.round(2).tolist()
    [0.5, 1.0, 1.0]
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate, self._span = sample_rate, max(1, round(sample_rate / SPANS_PER_SECOND))
        self._rest: Float32[np.ndarray, "_samples"] = np.zeros(0, np.float32)
        self._peaks: list[Float32[np.ndarray, "_time"]] = []

    def push(self, block: Float32[np.ndarray, "samples"]) -> None:
        """Add the next samples, which must be finite."""
        joined = np.concatenate([self._rest, block]) if len(self._rest) else block
        whole = len(joined) - len(joined) % self._span
        self._peaks.append(_peaks(joined[:whole].reshape(-1, self._span)))
        self._rest = joined[whole:].copy()

    def finish(self) -> Envelope:
        """The envelope of all blocks."""
        last = [_peaks(self._rest[None])] if len(self._rest) else []
        return Envelope(self._span / self._sample_rate, np.concatenate([np.zeros(0, np.float32), *self._peaks, *last]))


def _peaks(spans: Float32[np.ndarray, "time samples"]) -> Float32[np.ndarray, "time"]:
    return np.minimum(np.maximum(spans.max(axis=1), -spans.min(axis=1)), np.float32(1))

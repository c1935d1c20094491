"""Audio: decoded, mixed to mono, resampled, block by block.

In: a path, bytes, a binary file object, or samples with their rate; the rate that is wanted. Out: mono float32 samples,
or a `AudioError` that says why not.
Knows nothing of: mels, networks, tags.
"""

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

LEAST_SECONDS = 1.0
"""anything shorter is refused: there is no music in it to judge"""
MOST_SECONDS = 6 * 3600.0
"""anything longer is refused, whatever its header says"""
MOST_SAMPLES_PER_BYTE = 2_000
"""what one byte of a file may become; silence in Ogg reaches 460, so more is a decoder that runs away"""
RATES = (1_000, 768_000)
"""lowest and highest rate in samples per second, of a source and of what is wanted"""
LOUDEST = 64.0
"""full scale is 1, and lossy codecs overshoot it a little; 36 dB above it the samples are in another unit"""
QUIETEST = 2.0**-24
"""half a step of 24 bits: a peak below it is the rounding noise of a codec around silence"""
CONSTANT = 0.05
"""standard deviation of the samples over their mean, below which they are a constant, with the ripple of a codec"""
RIPPLE = 5e-5
"""variance, 43 dB below full scale, that such a ripple has at most; more on a constant is music"""
EVERY = 16
"""one of so many samples is enough to know that"""
_MUSIC = ".aac.aif.aifc.aiff.alac.ape.au.caf.flac.m4a.m4b.mka.mp2.mp3.mpc.oga.ogg.opus.tta.w64.wav.wma.wv"
SUFFIXES = frozenset(re.findall(r"\.\w+", _MUSIC))
"""what `find` takes for audio in a folder; reading looks at the content alone"""
REASONS = {
    **sources.REASONS,
    "empty": "an audio file; export or download it again",
    "not-audio": "wav, flac, ogg, opus, mp3, m4a, wma or the like; check what it is, or export it again",
    "needs-codecs": 'wav, flac, ogg, opus or mp3; for m4a, alac, wma and others: pip install "moodfield[codecs]"',
    "encoded": 'PCM, or a DTS stream in a WAV file with "moodfield[codecs]"; decode it to PCM first',
    "bad-rate": f"{RATES[0]} to {RATES[1]} samples per second; export it again, at 44100 for instance",
    "not-mono": "one channel, of shape (samples,); take the mean over the axis of its channels",
    "not-float32": "float32 in −1…1; divide integers by their full scale, then `.astype(np.float32)`",
    "not-finite": "numbers in −1…1; export it again",
    "too-loud": "samples in −1…1; divide them by their full scale, or export again",
    "too-long": f"at most {MOST_SECONDS / 3600:g} hours; cut it",
    "too-short": f"at least {LEAST_SECONDS:g} s; give a longer excerpt",
    "silent": "music; check the recording, and whether its channels cancel each other",
}
"""every `AudioError.reason` of this module, with what is expected and what to do"""
SPANS_PER_SECOND = 20
"""resolution of the peak envelope"""
_LOG = logging.getLogger("moodfield")


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono float32 samples, nominally in −1…1, with their rate. Refuses other shapes and types with `AudioError`."""

    samples: Float32[np.ndarray, "samples"]
    """one channel"""
    sample_rate: int
    """samples per second"""

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise _bad("not-mono", f"a waveform of shape {self.samples.shape}")
        if self.samples.dtype != np.float32:
            raise _bad("not-float32", f"a waveform of {self.samples.dtype}")
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise _bad("bad-rate", f"a waveform with rate={self.sample_rate}")

    @property
    def duration(self) -> float:
        """The duration."""
        return len(self.samples) / self.sample_rate


Source: TypeAlias = (
    str | Path | Waveform | bytes | bytearray | memoryview | BinaryFile | tuple[Num[np.ndarray, "..."], Any]
)
"""a path; the bytes of a file; a binary file object, read from its start; samples, alone or with their rate"""
Report: TypeAlias = Callable[[str], object]
"""called with a line about each part of a source that is damaged and not used"""


def read(source: Source, *, sample_rate: int) -> Waveform:
    """The whole of `source` as one waveform of `rate` samples per second: `blocks`, joined.

    >>> import numpy as np
    >>> read((np.sin(np.arange(44_100)), 44_100), sample_rate=22_050).duration
    1.0
    """
    return Waveform(np.concatenate(list(blocks(source, sample_rate=sample_rate))), sample_rate)


def blocks(
    source: Source, *, sample_rate: int, report: Report = _LOG.warning
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """The samples of `source`, mono, at `rate` samples per second, in blocks of some 2¹⁶ samples.

    Channels are averaged; two channels of opposite polarity, which would cancel, are subtracted. Resampled by soxr in
    high quality; the blocks joined are, bit for bit, what resampling everything at once gives. Memory does not grow
    with the length. Two calls yield the same blocks.

    A file is known by its content, never by its name, and the lengths in its header are not believed. Streams that
    follow each other in one file are read one after the other. What is damaged is left out, and `report` is called with
    a line about it: by default the logger `moodfield` warns.

    Raises `AudioError`, whose `reason` is a key of `REASONS`. That a source is too short, silent, or bad further on is
    known only when the blocks before have been yielded.
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise ConfigError(
            f"rate={sample_rate} is out of range; give {RATES[0]} to {RATES[1]} samples per second, such as 44100"
        )
    yield from _resampled(_mono(source, report), sample_rate)


def duration(source: Source) -> float:
    """The duration of `source`: it is decoded, since a header may state anything. Raises as `blocks` does."""
    return sum(len(block) / rate for rate, block in _mono(source, _LOG.warning))


class Reader:
    """The blocks of a source, anew with every call; what is damaged is logged, and kept in `warnings`, once."""

    def __init__(self, source: Source, *, sample_rate: int) -> None:
        self.source, self.sample_rate = source, sample_rate
        self._known: set[str] = set()
        self.warnings: list[str] = []
        """a line about each part that is damaged and not used"""

    def __call__(self) -> Iterator[Float32[np.ndarray, "samples"]]:
        """The blocks; raises as `blocks` does."""
        return blocks(self.source, sample_rate=self.sample_rate, report=self._report)

    def _report(self, line: str) -> None:
        if line not in self._known:
            self._known.add(line)
            self.warnings.append(line)
            _LOG.warning(line)


def source_name(source: Source) -> str:
    """What a source is called: its path, or what it is."""
    if isinstance(source, Waveform | tuple):
        return "waveform"
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", None)
    return name if isinstance(name, str) else "bytes" if isinstance(source, bytes | bytearray | memoryview) else "file"


def find(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The audio files among `paths`, each once: files as given, folders searched, in natural order (2 before 10).

    In folders only known `SUFFIXES` count, whatever their case; hidden files and folders are skipped, links followed.
    What does not exist or cannot be searched stays in the list, so that reading it reports why.
    """
    found: dict[Path, Path] = {}
    for given in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(given)
        # Path.is_dir would raise where it may not look; reading reports that better, file by file
        for file in _inside(path) if os.path.isdir(path) else [path]:  # noqa: PTH112
            found.setdefault(file.absolute(), file)
    return list(found.values())


def _inside(folder: Path) -> list[Path]:
    """The audio files below `folder`; a folder that links lead to twice is searched once."""
    found: list[Path] = []
    refused: list[OSError] = []
    seen: set[str] = set()
    for top, folders, names in os.walk(folder, onerror=refused.append, followlinks=True):
        if (true := os.path.realpath(top)) in seen:
            folders.clear()
            continue
        seen.add(true)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = (Path(top, name) for name in names if not name.startswith("."))
        found += [file for file in files if file.suffix.lower() in SUFFIXES]
    return sorted([*found, *(Path(error.filename) for error in refused)], key=_natural)


def _natural(path: Path) -> list[tuple[list[str | int], str]]:
    """A sorting key in which numbers count as numbers."""
    split = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    keys = [[int(bit) if i % 2 else bit for i, bit in enumerate(bits)] for bits in split]
    return list(zip(keys, path.parts, strict=True))


def _bad(reason: str, came: str) -> AudioError:
    return AudioError(reason, f"{came}: wanted {REASONS[reason]}")


# ---------------------------------------------------------------- sources


@contextmanager
def _source(source: Source) -> Iterator[Callable[[Report], Iterator[Block]]]:
    """What decodes a source, any number of times: its samples, channel by channel, with their rate."""
    if isinstance(source, Waveform):
        yield lambda _: _cut(source.samples[:, None], source.sample_rate)
    elif isinstance(source, tuple):
        samples, rate = sources.array(source)
        yield lambda _: _cut(samples, rate)
    else:
        name = source_name(source)
        with sources.opened(source) as file:
            size = file.seek(0, io.SEEK_END)
            if not size:
                raise _bad("empty", f"{name} has 0 bytes")
            with _refusals(name):
                streams = sniffing.streams(file)
            yield lambda report: _decoded(file, streams, name, size * MOST_SAMPLES_PER_BYTE, report)


def _decoded(file: BinaryFile, streams: list[Stream], name: str, most: int, report: Report) -> Iterator[Block]:
    """The samples of a file, of which there can be `most` at most."""
    count = 0
    with _refusals(name):
        for rate, samples in decoders.decode(file, streams, lambda fault: report(f"{name}: {fault}")):
            count += len(samples)
            if count > most:
                raise _bad("unreadable", f"{name} decodes to {count} samples and more, which it cannot hold")
            yield rate, samples


def _cut(samples: Samples, rate: int) -> Iterator[Block]:
    """Samples that are there already, in blocks."""
    for start in range(0, len(samples), BLOCK):
        yield rate, samples[start : start + BLOCK]


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """The errors of decoders become refusals that name the source."""
    try:
        yield
    except decoders.MissingCodecsError as error:
        raise _bad("needs-codecs", f"{name} is unknown to libsndfile") from error
    except decoders.UnknownFormatError as error:
        raise _bad("not-audio", f"{name} is no audio that can be decoded") from error
    except decoders.EncodedError as error:
        raise _bad("encoded", f"{name} holds DTS or another encoded stream as PCM samples") from error
    except decoders.DecodingError as error:
        raise _bad("unreadable", f"{name} cannot be decoded ({error})") from error
    except OSError as error:
        raise _bad("unreadable", f"{name} cannot be read ({error.strerror or error})") from error


# ---------------------------------------------------------------- mono


def _mono(source: Source, report: Report) -> Iterator[tuple[int, Mono]]:
    """The samples of a source, mixed, with their rate, as long as they can be music; overwritten by the next ones."""
    name = source_name(source) if isinstance(source, str | Path) else f"the {source_name(source)}"
    lasted, lowest, highest = 0.0, math.inf, -math.inf
    count, total, squares, stereo = 0, 0.0, 0.0, 0.0
    buffer = np.empty(BLOCK, np.float32)
    with _source(source) as decode:
        opposite: bool | None = None
        for rate, samples in decode(report):
            if opposite is None:  # nearly always the first block with sound denies it; else all are decoded to know
                opposite = downmix.may_be_opposite(samples)
                opposite = opposite and downmix.is_opposite(decode(lambda _: None))
            if not RATES[0] <= rate <= RATES[1]:
                raise _bad("bad-rate", f"{name} with {rate} samples per second")
            mono = downmix.mixed(samples, opposite=bool(opposite), out=buffer)
            lasted += len(mono) / rate
            low, high = float(mono.min(initial=math.inf)), float(mono.max(initial=-math.inf))
            if lasted > MOST_SECONDS:
                raise _bad("too-long", f"{name} is longer")
            if len(mono) and not (math.isfinite(low) and math.isfinite(high)):
                raise _bad("not-finite", f"{name} with NaN or infinite samples before {lasted:.1f} s")
            if max(-low, high) > LOUDEST:
                raise _bad("too-loud", f"{name} with a sample of {max(-low, high):.4g} before {lasted:.1f} s")
            lowest, highest = min(lowest, low), max(highest, high)
            some = mono[::EVERY].astype(np.float64)
            count, total, squares = count + len(some), total + float(some.sum()), squares + float(some @ some)
            if samples.shape[1] == 2:
                stereo += float(np.square(samples[::EVERY], dtype=np.float64).sum()) / 2
            yield rate, mono
    if lasted < LEAST_SECONDS:
        raise _bad("too-short", f"{name} lasts {math.floor(lasted * 1000) / 1000:g} s")
    variance = squares / count - (total / count) ** 2
    if (highest - lowest) / 2 < QUIETEST or variance < min((CONSTANT * total / count) ** 2, RIPPLE):
        raise _bad("silent", f"{name} is silent, or one constant value, once its channels are averaged")
    if squares < downmix.OPPOSITE * stereo:
        share = f"{100 * squares / stereo:.2g} %"
        report(f"{name}: its channels cancel each other: their mean keeps {share} of the sound")


def _resampled(blocks: Iterator[tuple[int, Mono]], wanted: int) -> Iterator[Mono]:
    """The samples at another rate; where their own rate changes, the old one ends and a new one begins."""
    stream, current = None, 0
    for rate, block in blocks:
        if rate != current:
            yield from _end(stream)
            current = rate
            stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ") if rate != wanted else None
        out = np.array(block) if stream is None else stream.resample_chunk(block)
        if len(out):
            yield out
    yield from _end(stream)


def _end(stream: Any) -> Iterator[Mono]:
    """What a resampler still holds."""
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

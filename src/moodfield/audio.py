"""A file becomes a waveform, block by block.

In: a path, or a waveform that is already there, and the rate that is wanted. Out: mono float32 samples, or a `BadAudio`
that says why not.
Knows nothing of: mels, networks, tags.
"""

import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile as sf
import soxr
from jaxtyping import Float32

from moodfield.errors import BadAudio, BadConfig

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
BLOCK = 2**16
"""samples decoded at a time; all channels together at most four times as many"""
_MUSIC = ".aac.aif.aifc.aiff.alac.ape.au.caf.flac.m4a.m4b.mka.mp2.mp3.mpc.oga.ogg.opus.tta.w64.wav.wma.wv"
SUFFIXES = frozenset(re.findall(r"\.\w+", _MUSIC))
"""what `find` takes for audio in a folder; reading looks at the content alone"""
REASONS = {
    "bad-name": "a name in UTF-8; rename the file",
    "missing": "an audio file; check its name",
    "directory": "an audio file; name the file, or allow the folder to be searched",
    "not-a-file": "an audio file; save what it delivers to a file first",
    "no-permission": "a file that may be read; change its permissions",
    "empty": "an audio file; export or download it again",
    "not-audio": "wav, flac, ogg, opus, mp3, m4a, wma or the like; check what it is, or export it again",
    "needs-codecs": 'wav, flac, ogg, opus or mp3; for m4a, alac, wma and others: pip install "moodfield[codecs]"',
    "unreadable": "a file that plays; export or download it again",
    "bad-rate": f"{RATES[0]} to {RATES[1]} samples per second; export it again, at 44100 for instance",
    "not-mono": "one channel, of shape (samples,); take the mean over the axis of its channels",
    "not-float32": "float32 in −1…1; divide integers by their full scale, then `.astype(np.float32)`",
    "not-finite": "numbers in −1…1; export it again",
    "too-loud": "samples in −1…1; divide them by their full scale, or export again",
    "too-long": f"at most {MOST_SECONDS / 3600:g} hours; cut it",
    "too-short": f"at least {LEAST_SECONDS:g} s; give a longer excerpt",
    "silent": "music; check the recording, and whether its channels cancel each other",
}
"""every `BadAudio.reason` that this room gives, with what was wanted and what to do"""
_CONTAINERS = "aac,ac3,aiff,amr,ape,asf,caf,eac3,flac,matroska,webm,mov,mp4,m4a,3gp,mp3,mpc,mpc8,ogg,tak,tta,wav,wv"
"""what PyAV may take a file for: no playlists, which would make it open other files and addresses"""
_LOG = logging.getLogger("moodfield")

Mono: TypeAlias = Float32[np.ndarray, "samples"]


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono float32 samples, nominally in −1…1, with their rate. Refuses other shapes and types with `BadAudio`."""

    samples: Float32[np.ndarray, "samples"]
    """one channel"""
    rate: int
    """samples per second"""

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise _bad("not-mono", f"a waveform of shape {self.samples.shape}")
        if self.samples.dtype != np.float32:
            raise _bad("not-float32", f"a waveform of {self.samples.dtype}")
        if not RATES[0] <= self.rate <= RATES[1]:
            raise _bad("bad-rate", f"a waveform with rate={self.rate}")

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.samples) / self.rate


Source: TypeAlias = str | Path | Waveform


def read(source: Source, *, rate: int) -> Waveform:
    """The whole of `source` as one waveform of `rate` samples per second: `blocks`, joined."""
    return Waveform(np.concatenate(list(blocks(source, rate=rate))), rate)


def blocks(source: Source, *, rate: int) -> Iterator[Float32[np.ndarray, "samples"]]:
    """The samples of `source`, mono by channel mean, at `rate` samples per second, in blocks of some 2¹⁶ samples.

    Memory does not grow with the length. Two calls yield the same blocks. Resampled by soxr in high quality; the blocks
    joined are, bit for bit, what resampling everything at once gives. A file is known by its content, never by its
    name. Of a damaged or cut-off file, the blocks before the first fault are used if they last `LEAST_SECONDS`, and
    the logger `moodfield` warns.

    Refuses with `BadAudio`, whose `reason` is a key of `REASONS`. That a source is too short, silent, or bad further on
    is known only when the blocks before have been yielded: what a caller makes of them is worth something at the end.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise BadConfig(f"rate={rate} came; wanted {RATES[0]} to {RATES[1]} samples per second, 44100 for instance")
    with ExitStack() as stack:
        came, decoded = _decoded(source, stack)
        yield from _resampled(decoded, came, rate)


def seconds(source: Source) -> float:
    """How long the music of `source` lasts: it is decoded, a header may say anything. Refuses as `blocks` does."""
    with ExitStack() as stack:
        rate, decoded = _decoded(source, stack)
        return sum(map(len, decoded)) / rate


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


def _bad(reason: str, came: str) -> BadAudio:
    return BadAudio(reason, f"{came}: wanted {REASONS[reason]}")


def _decoded(source: Source, stack: ExitStack) -> tuple[int, Iterator[Mono]]:
    """The rate of `source` and its blocks, checked as they come; `stack` closes its file."""
    if isinstance(source, Waveform):
        name, rate, most = "the waveform", source.rate, len(source.samples)
        decoded: Iterator[Mono] = (source.samples[start : start + BLOCK] for start in range(0, most, BLOCK))
    else:
        name, path = str(source), Path(source)
        most = _size(path) * MOST_SAMPLES_PER_BYTE
        rate, decoded = _opened(path, stack)
    if not RATES[0] <= rate <= RATES[1]:
        raise _bad("bad-rate", f"{name} with {rate} samples per second")
    return rate, _checked(decoded, name=name, rate=rate, most=most)


class _DecoderError(Exception):
    """A decoder could not go on; its own error is the cause."""


def _checked(decoded: Iterator[Mono], *, name: str, rate: int, most: int) -> Iterator[Mono]:
    """The same blocks, as long as they can be music; `most` is how many samples there can possibly be."""
    count, peak = 0, 0.0
    try:
        for block in decoded:
            count += len(block)
            loudest = float(np.abs(block).max(initial=0.0))
            if count > MOST_SECONDS * rate:
                raise _bad("too-long", f"{name} lasts longer")
            if count > most:
                raise _bad("unreadable", f"{name} decodes to {count} samples and more, which it cannot hold")
            if not np.isfinite(loudest):
                raise _bad("not-finite", f"{name} with NaN or infinite samples before {count / rate:.1f} s")
            if loudest > LOUDEST:
                raise _bad("too-loud", f"{name} with a sample of {loudest:.4g} before {count / rate:.1f} s")
            peak = max(peak, loudest)
            yield block
    except _DecoderError as error:
        fault = f"{name} is damaged after {count / rate:.1f} s ({error.__cause__})"
        if count < LEAST_SECONDS * rate:
            raise _bad("unreadable", fault) from error.__cause__
        _LOG.warning("%s: only what comes before is used", fault)
    if count < LEAST_SECONDS * rate:
        raise _bad("too-short", f"{name} lasts {count / rate:.3g} s")
    if peak < QUIETEST:
        raise _bad("silent", f"{name} is silent from start to end once its channels are averaged")


def _resampled(blocks: Iterator[Mono], came: int, wanted: int) -> Iterator[Mono]:
    if came == wanted:
        yield from blocks
        return
    stream = soxr.ResampleStream(came, wanted, 1, dtype="float32", quality="HQ")
    for block in blocks:
        if len(out := stream.resample_chunk(block)):
            yield out
    if len(out := stream.resample_chunk(np.zeros(0, np.float32), last=True)):
        yield out


def _size(path: Path) -> int:
    """The bytes of a regular file that may be read and holds something."""
    try:
        str(path).encode()
        status = path.stat()  # before opening: that would wait for a pipe, and may set off a device
        if stat.S_ISDIR(status.st_mode):
            raise _bad("directory", f"{path} is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise _bad("not-a-file", f"{path} is a pipe, socket or device")
        if status.st_size == 0:
            raise _bad("empty", f"{path} has 0 bytes")
        path.open("rb").close()
    except UnicodeEncodeError as error:  # neither decoder takes such a name, and no message could be printed with it
        raise _bad("bad-name", f"{str(path)!a} came") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: no file can be called that
        broken = os.path.islink(path)  # noqa: PTH114
        raise _bad("missing", f"{path} links to nothing" if broken else f"{path} does not exist") from error
    except PermissionError as error:
        raise _bad("no-permission", f"{path} may not be read") from error
    except OSError as error:
        raise _bad("unreadable", f"{path} cannot be opened ({error.strerror})") from error
    return status.st_size


def _opened(path: Path, stack: ExitStack) -> tuple[int, Iterator[Mono]]:
    """The rate of a file and its blocks, from whichever decoder knows its content; `stack` closes it."""
    try:
        sound = stack.enter_context(sf.SoundFile(path))
    except (sf.SoundFileError, TypeError):  # TypeError: it believes the suffix .raw without looking inside
        return _opened_by_av(path, stack)
    return sound.samplerate, _blocks_of_soundfile(sound)


def _blocks_of_soundfile(sound: Any) -> Iterator[Mono]:
    frames = max(1, min(BLOCK, 4 * BLOCK // sound.channels))
    try:
        # not `SoundFile.blocks` or `sf.read`, which believe the length in the header: only what arrives counts
        while len(block := sound.read(frames, dtype="float32", always_2d=True)):
            yield _mixed(block)
    except (sf.SoundFileError, ValueError, MemoryError) as error:
        raise _DecoderError from error


def _opened_by_av(path: Path, stack: ExitStack) -> tuple[int, Iterator[Mono]]:
    try:
        import av  # optional: its wheels carry GPL codecs
    except ImportError as error:
        raise _bad("needs-codecs", f"{path} is unknown to libsndfile") from error
    faults = (av.FFmpegError, OSError, ValueError, LookupError, NotImplementedError, MemoryError)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        # a path, not an open file: where a damaged header makes PyAV seek before the start, it would print and go on
        url = f"file:{path.absolute()}"
        container: Any = stack.enter_context(av.open(url, metadata_errors="ignore", options=options))
        frames = container.decode(container.streams.audio[0])
        first = next(frames)
    except (*faults, StopIteration) as error:
        raise _bad("not-audio", f"{path} is no audio that can be decoded") from error
    return first.sample_rate, _blocks_of_av(first, frames, faults)


def _blocks_of_av(first: Any, frames: Iterator[Any], faults: tuple[type[Exception], ...]) -> Iterator[Mono]:
    """Decoded frames, some thousand samples each, gathered into blocks."""
    gathered: list[Mono] = []
    try:
        for frame in chain([first], frames):
            if frame.sample_rate != first.sample_rate:
                raise ValueError(f"its rate changes from {first.sample_rate} to {frame.sample_rate}")
            gathered.append(_mixed(_unpacked(frame)))
            if sum(map(len, gathered)) >= BLOCK:
                yield np.concatenate(gathered)
                gathered.clear()
    except faults as error:
        raise _DecoderError from error
    if gathered:
        yield np.concatenate(gathered)


def _unpacked(frame: Any) -> Float32[np.ndarray, "samples channels"]:
    """The samples of a frame that PyAV decoded, full scale made 1."""
    array: np.ndarray = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype.kind in "ui":
        full = 2.0 ** (8 * array.dtype.itemsize - 1)
        array = (array - full if array.dtype.kind == "u" else array) / full
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _mixed(block: Float32[np.ndarray, "samples channels"]) -> Mono:
    """The mean of the channels; what overflows becomes infinite and is refused later."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(block.mean(axis=1))

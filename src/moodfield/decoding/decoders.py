"""Decoders: libsndfile, and FFmpeg (through PyAV, if it is installed) for all other formats."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import SEEK_END, BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile as sf
from jaxtyping import Float32, Num

from moodfield.decoding import c_stderr
from moodfield.decoding.byte_ranges import BinaryFile, Pieces, Stream

BLOCK = 2**16
"""samples decoded at a time; all channels together at most four times as many"""
MAX_CHANNELS = 32
"""more channels indicate damage: the largest layout in use, 22.2 surround, has 24"""
TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""NumPy types of FFmpeg's sample formats"""
MAX_FAULTS = 5
"""damaged parts of a stream that are listed one by one"""
MAX_AMPLITUDE, LOSSY = 16.0, ("aac", "mp", "ac3", "eac3", "wma", "vorbis", "opus")
"""amplitude at which damaged frames of these codecs are clipped, so that the rest of the file can be used"""
MAX_LOST = 1_000
"""consecutive unreadable packets after which decoding ends"""
CHECKED_BLOCKS = 16
"""blocks of PCM that are searched for encoded data"""
MIN_SYNCS = 3
"""sync words in them that indicate encoded data"""
MAX_CORRELATION = 0.5
"""correlation of two channels above which they are not encoded data"""
SYNCS = ((0x7FFE, 0x8001), (0xFE7F, 0x0180), (0x1FFF, 0xE800), (0xFF1F, 0x00E8), (0xF872, 0x4E1F))
"""two 16-bit words, as samples, that begin each frame of DTS (16 and 14 bits, either byte order) and of IEC 61937,
which carries Dolby Digital, DTS and AAC"""
DESCRIPTORS = Path("/proc/self/fd")
"""where Linux lists the open files of a process"""
PCM = ("PCM_16", "PCM_24", "PCM_32")
"""subtypes of libsndfile that may carry encoded data"""
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,matroska,webm,mov,mp4,m4a,3gp,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tak,tta,w64,wav,wv"
)
"""demuxers of FFmpeg that may be used: no playlists, which would open other files and addresses"""

Samples: TypeAlias = Float32[np.ndarray, "samples channels"]
Mono: TypeAlias = Float32[np.ndarray, "samples"]
Block: TypeAlias = tuple[int, Samples]
"""sample rate, and samples; the next block may overwrite the array"""
Warn: TypeAlias = Callable[[str], object]
"""called with a description of a damaged part"""


class UnknownFormatError(Exception):
    """No decoder knows the format."""


class MissingCodecsError(Exception):
    """Libsndfile does not know the format, and PyAV is not installed."""


class EncodedError(Exception):
    """PCM samples that are encoded data, such as DTS."""


class DecodingError(Exception):
    """A stream that cannot be decoded at all; its cause is the error of the decoder."""


def decode(file: BinaryFile, streams: Sequence[Stream], warn: Warn) -> Iterator[Block]:
    """Decode the streams of a file, in blocks.

    Damaged parts are left out, and `warn` is called for each; what follows them is decoded. Raises the `OSError` of the
    file, and `UnknownFormatError`, `MissingCodecsError`, `EncodedError` or `DecodingError` if nothing can be decoded.
    """
    reason: Exception | None = None
    decoded = False
    for stream in streams:
        for fault in stream.faults[:MAX_FAULTS]:
            warn(fault)
        if len(stream.faults) > MAX_FAULTS:
            warn(f"{len(stream.faults) - MAX_FAULTS} more such parts are damaged")
        try:
            for block in _stream(file, stream, warn):
                decoded = True
                yield block
        except (UnknownFormatError, MissingCodecsError, DecodingError) as error:
            if decoded:
                warn(f"a stream in it cannot be decoded ({error or error.__cause__})")
            reason = reason or error
    if reason and not decoded:
        raise reason


def _stream(file: BinaryFile, stream: Stream, warn: Warn) -> Iterator[Block]:
    """Decode a stream by libsndfile as far as possible, then by FFmpeg."""
    count, pieces = 0, Pieces(file, stream.pieces)
    try:
        with _open(pieces) as sound:
            for samples in _read(sound, pieces):
                count += len(samples)
                if stream.format == "mpeg":
                    np.clip(samples, -MAX_AMPLITUDE, MAX_AMPLITUDE, out=samples)
                yield sound.samplerate, samples
    except EncodedError:
        if count:
            raise
        yield from _encoded(file, stream, warn)
        return
    except (sf.SoundFileError, MemoryError) as error:
        if not count or stream.samples != count:  # else what follows is no music
            yield from _rest(file, stream, count, error, warn)
        return
    if stream.samples and count < stream.samples:
        warn(f"it is cut off: {count:,} samples of {stream.samples:,} exist")


def _rest(file: BinaryFile, stream: Stream, skipped: int, error: Exception, warn: Warn) -> Iterator[Block]:
    """Decode the rest of a stream by FFmpeg, after an error of libsndfile."""
    count = skipped
    try:
        for rate, samples in _ffmpeg(file, stream, skipped, warn):
            count += len(samples)
            yield rate, samples
    except (UnknownFormatError, MissingCodecsError) as missing:
        if not skipped:
            raise missing from error
        remedy = ' (pip install "moodfield[codecs]" decodes more)' if isinstance(missing, MissingCodecsError) else ""
        warn(f"it is damaged after {skipped:,} samples ({_message(error)}); the rest of it is not used{remedy}")
        return
    if stream.samples and count < stream.samples:
        warn(f"it is damaged: {count:,} samples of {stream.samples:,} can be decoded ({_message(error)})")
    elif skipped and (not stream.samples or skipped + BLOCK < stream.samples):
        # later than that, it may be what follows the music
        warn(f"it is damaged after {skipped:,} samples ({_message(error)})")


def _encoded(file: BinaryFile, stream: Stream, warn: Warn) -> Iterator[Block]:
    """Decode encoded data in a WAV file."""
    try:
        yield from _ffmpeg(file, stream, 0, warn, excluded=("pcm", "flac"))
    except (UnknownFormatError, MissingCodecsError, DecodingError) as error:
        raise EncodedError from error


def _message(error: BaseException) -> str:
    """The message of an error, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


# ---------------------------------------------------------------- libsndfile


class _ForwardOnly(sf.SoundFile):  # type: ignore[misc]
    """A sound file that is read from start to end.

    After each read soundfile seeks to its current position, which takes up to a quarter of the time in Ogg and MP3, and
    fails if a seek table is wrong. An exception in a callback, such as Ctrl-C, would be printed and lost; here the
    pieces keep it, and `_raise_errors` raises it.
    """

    def seekable(self) -> bool:
        """False."""
        return False

    def _init_virtual_io(self, pieces: Pieces) -> Any:
        def seek(offset: int, whence: int, _: object) -> int:
            pieces.seek(offset, whence)
            return pieces.tell()

        functions: dict[str, Callable[..., int]] = {
            "get_filelen": lambda _: pieces.size,
            "seek": seek,
            "read": lambda pointer, count, _: pieces.readinto(sf._ffi.buffer(pointer, count)),
            "write": lambda *_: 0,
            "tell": lambda _: pieces.tell(),
        }
        self._virtual_io = {  # must live as long as the file
            name: sf._ffi.callback(f"sf_vio_{name}", function, error=0, onerror=pieces.keep)
            for name, function in functions.items()
        }
        return sf._ffi.new("SF_VIRTUAL_IO*", self._virtual_io)


@contextmanager
def _raise_errors(pieces: Pieces) -> Iterator[None]:
    """Raise errors of the file and interruptions that occurred in a callback."""
    try:
        with c_stderr.SUPPRESSED:
            yield
    finally:
        if pieces.error:
            raise pieces.error


@contextmanager
def _open(pieces: Pieces) -> Iterator[Any]:
    with _raise_errors(pieces):
        sound = _ForwardOnly(pieces)
    try:
        yield sound
    finally:
        with c_stderr.SUPPRESSED:
            sound.close()
        if pieces.error:
            raise pieces.error


def _read(sound: Any, pieces: Pieces) -> Iterator[Samples]:
    """Read the samples of an open file, whatever length its header states."""
    buffer = np.empty((max(1, min(BLOCK, 4 * BLOCK // sound.channels)), sound.channels), np.float32)
    checked = CHECKED_BLOCKS if sound.subtype in PCM else 0
    syncs = 0
    while True:
        with _raise_errors(pieces):
            samples = sound.read(out=buffer)
        if not len(samples):
            return
        if checked:
            checked -= 1
            syncs += _syncs(samples)
            if syncs >= MIN_SYNCS:
                raise EncodedError
        yield samples


def _syncs(samples: Samples) -> int:
    """Count the frames of encoded data that seem to begin in a block of two uncorrelated channels."""
    if samples.shape[1] != 2 or not len(samples):
        return 0
    left, right = samples.T
    if 2 * abs(float(np.vdot(left, right))) > MAX_CORRELATION * float(np.vdot(samples, samples)):
        return 0  # such pairs are frequent among samples of opposite polarity
    words = samples.reshape(-1)
    pairs = np.array(SYNCS, np.uint16).view(np.int16) / np.float32(2**15)
    return sum(int(((words[:-1] == first) & (words[1:] == second)).sum()) for first, second in pairs)


# ---------------------------------------------------------------- FFmpeg


def _ffmpeg(
    file: BinaryFile, stream: Stream, skipped: int, warn: Warn, *, excluded: tuple[str, ...] = ()
) -> Iterator[Block]:
    """Decode a file by FFmpeg after its first `skipped` samples, but no codecs whose names begin with `excluded`."""
    try:
        import av  # optional: its wheels carry GPL codecs
    except ImportError as error:
        raise MissingCodecsError("libsndfile does not know it, and PyAV is not installed") from error
    faults = (av.FFmpegError, OSError, ValueError, LookupError, NotImplementedError, MemoryError)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    pieces = Pieces(file, stream.pieces)
    try:
        container: Any = av.open(_url(file, stream) or pieces, metadata_errors="ignore", options=options)
    except faults as error:
        raise UnknownFormatError("no decoder knows it") from error
    lost: list[BaseException] = []
    count = 0
    with container:
        codec = container.streams.audio[0].codec_context if container.streams.audio else None
        if codec is None or codec.name.startswith(excluded or "\0"):
            raise UnknownFormatError("there is no audio in it")
        for rate, samples in _join_frames(_frames(container, faults, lost)):
            count += len(samples)
            if pieces.error:
                break
            if codec.name.startswith(LOSSY):
                np.clip(samples, -MAX_AMPLITUDE, MAX_AMPLITUDE, out=samples)
            if count > skipped:
                yield rate, samples[max(0, len(samples) - count + skipped) :]
    if pieces.error:
        raise pieces.error
    if not count:
        raise (DecodingError if lost else UnknownFormatError)(_message(lost[0]) if lost else "there is no audio in it")
    if lost:
        warn(f"{len(lost)} damaged packet{'s' if len(lost) > 1 else ''} ({_message(lost[0])})")


def _url(file: BinaryFile, stream: Stream) -> str | None:
    """A URL for FFmpeg if a stream is a complete plain file: then C does not call Python, which may raise."""
    if not isinstance(file, BufferedReader) or stream.pieces != ((0, file.seek(0, SEEK_END)),):
        return None
    path = DESCRIPTORS / str(file.fileno())
    return f"file:{path}" if path.exists() else None


def _frames(container: Any, faults: tuple[type[Exception], ...], lost: list[BaseException]) -> Iterator[Any]:
    """Decode the first audio stream to frames; unreadable packets are left out, and their errors appended to `lost`."""
    stream = container.streams.audio[0]
    packets, bad = container.demux(stream), 0
    while bad < MAX_LOST:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except faults as error:
            if isinstance(error, EOFError):
                return
            lost.append(error)
            packets, bad = container.demux(stream), bad + 1  # the generator ends after an exception
            continue
        try:
            frames = packet.decode()
        except faults as error:
            if not isinstance(error, EOFError):
                lost.append(error)
                bad += 1
            continue
        for frame in frames:
            if frame.layout.nb_channels <= MAX_CHANNELS and frame.sample_rate > 0:
                bad = 0
                yield frame
            else:
                lost.append(ValueError(f"{frame.layout.nb_channels} channels at {frame.sample_rate} Hz"))


def _join_frames(frames: Iterator[Any]) -> Iterator[Block]:
    """Join frames of some thousand samples to blocks of one sample rate and number of channels."""
    waiting: list[Samples] = []
    rate = count = 0
    for frame in frames:
        samples = _frame_samples(frame)
        if waiting and (frame.sample_rate != rate or samples.shape[1] != waiting[0].shape[1] or count >= BLOCK):
            yield rate, np.concatenate(waiting)
            waiting, count = [], 0
        waiting.append(samples)
        rate, count = frame.sample_rate, count + len(samples)
    if waiting:
        yield rate, np.concatenate(waiting)


def _frame_samples(frame: Any) -> Samples:
    """The samples of a frame, scaled to −1 … 1.

    Unlike `frame.to_ndarray` it does not read beyond the planes of a damaged frame with many channels.
    """
    channels, dtype = frame.layout.nb_channels, TYPES[frame.format.name.removesuffix("p")]
    if not frame.format.is_planar:
        return to_float32(np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels))
    planes = [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:channels]]
    return to_float32(np.stack(planes, axis=1))


def to_float32(samples: Num[np.ndarray, "samples channels"]) -> Samples:
    """Convert samples to float32; integers are divided by their full scale."""
    if samples.dtype.kind in "ui":
        full = 2.0 ** (8 * samples.dtype.itemsize - 1)
        samples = (samples - full if samples.dtype.kind == "u" else samples) / full
    with np.errstate(over="ignore"):
        return samples.astype(np.float32, copy=False)

"""Decoders: libsndfile for what it knows, FFmpeg (through PyAV, if it is installed) for everything else.

In: a binary file. Out: its samples, channel by channel, in blocks, and a report of what is damaged.
Knows nothing of: mono, resampling, or what is too short.
"""

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
MOST_CHANNELS = 32
"""more are damage: of formats in use 22.2 surround has most, 24"""
TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""FFmpeg's sample formats as NumPy's types"""
MOST_FAULTS = 5
"""damaged places of a stream that are reported one by one"""
LOUDEST, LOSSY = 16.0, ("aac", "mp", "ac3", "eac3", "wma", "vorbis", "opus")
"""what damaged frames of lossy codecs may decode to: beyond it they are clipped, and the rest of the file is used"""
MOST_LOST = 1_000
"""packets in a row that may be unreadable; after more, nothing good follows"""
CHECKED_BLOCKS = 16
"""blocks of PCM in which encoded data is looked for"""
FEWEST_SYNCS = 3
"""sync words in them that make it encoded data"""
MOST_ALIKE = 0.5
"""correlation of two channels above which they are no encoded data"""
SYNCS = ((0x7FFE, 0x8001), (0xFE7F, 0x0180), (0x1FFF, 0xE800), (0xFF1F, 0x00E8), (0xF872, 0x4E1F))
"""two 16-bit words, as samples, that begin each frame of DTS (16 and 14 bits, either byte order) and of IEC 61937,
which carries Dolby Digital, DTS and AAC"""
DESCRIPTORS = Path("/proc/self/fd")
"""where Linux has the open files of a process, whatever their names are"""
PCM = ("PCM_16", "PCM_24", "PCM_32")
"""subtypes of libsndfile that may carry encoded data"""
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,matroska,webm,mov,mp4,m4a,3gp,mp3,mpc,mpc8,mpeg,"
    "mpegts,ogg,rm,tak,tta,w64,wav,wv"
)
"""demuxers of FFmpeg that may be used: no playlists, which would make it open other files and addresses"""

Samples: TypeAlias = Float32[np.ndarray, "samples channels"]
Mono: TypeAlias = Float32[np.ndarray, "samples"]
Block: TypeAlias = tuple[int, Samples]
"""samples per second, and samples; the array is overwritten when the next block is decoded"""
Report: TypeAlias = Callable[[str], object]
"""called with what is damaged, in words"""


class UnknownFormatError(Exception):
    """No decoder knows the file."""


class MissingCodecsError(Exception):
    """Libsndfile does not know the file, and PyAV is not installed."""


class EncodedError(Exception):
    """PCM samples that are encoded data, DTS for instance: played as samples, they are noise."""


class DecodingError(Exception):
    """A stream of which nothing can be decoded; its cause is the decoder's own error."""


def decode(file: BinaryFile, streams: Sequence[Stream], report: Report) -> Iterator[Block]:
    """All samples of the streams of a file, in blocks.

    What is damaged is left out and reported; what follows it is decoded. Raises `UnknownFormatError`,
    `MissingCodecsError`, `EncodedError`, `DecodingError` if not a single sample can be decoded, and the `OSError` of
    the file.
    """
    reason: Exception | None = None
    decoded = False
    for stream in streams:
        for fault in stream.faults[:MOST_FAULTS]:
            report(fault)
        if len(stream.faults) > MOST_FAULTS:
            report(f"{len(stream.faults) - MOST_FAULTS} more places like these are damaged")
        try:
            for block in _stream(file, stream, report):
                decoded = True
                yield block
        except (UnknownFormatError, MissingCodecsError, DecodingError) as error:
            if decoded:
                report(f"a stream in it cannot be decoded ({error or error.__cause__})")
            reason = reason or error
    if reason and not decoded:
        raise reason


def _stream(file: BinaryFile, stream: Stream, report: Report) -> Iterator[Block]:
    """One stream: by libsndfile as far as it can, then by FFmpeg."""
    count, pieces = 0, Pieces(file, stream.pieces)
    try:
        with _open(pieces) as sound:
            for samples in _read(sound, pieces):
                count += len(samples)
                if stream.format == "mpeg":
                    np.clip(samples, -LOUDEST, LOUDEST, out=samples)
                yield sound.samplerate, samples
    except EncodedError:
        if count:
            raise
        yield from _encoded(file, stream, report)
        return
    except (sf.SoundFileError, MemoryError) as error:
        if not count or stream.samples != count:  # else what follows is no music
            yield from _rest(file, stream, count, error, report)
        return
    if stream.samples and count < stream.samples:
        report(f"it is cut off: {count:,} samples of {stream.samples:,} are there")


def _rest(file: BinaryFile, stream: Stream, skipped: int, error: Exception, report: Report) -> Iterator[Block]:
    """The samples of a stream that libsndfile could not decode, by FFmpeg."""
    count = skipped
    try:
        for rate, samples in _ffmpeg(file, stream, skipped, report):
            count += len(samples)
            yield rate, samples
    except (UnknownFormatError, MissingCodecsError) as missing:
        if not skipped:
            raise missing from error
        how = ' (pip install "moodfield[codecs]" decodes more of it)' if isinstance(missing, MissingCodecsError) else ""
        report(f"it is damaged after {skipped:,} samples ({_words(error)}); the rest of it is not used{how}")
        return
    if stream.samples and count < stream.samples:
        report(f"it is damaged: {count:,} samples of {stream.samples:,} can be decoded ({_words(error)})")
    elif skipped and (
        not stream.samples or skipped + BLOCK < stream.samples
    ):  # later, it may be what follows the music
        report(f"it is damaged after {skipped:,} samples ({_words(error)})")


def _encoded(file: BinaryFile, stream: Stream, report: Report) -> Iterator[Block]:
    """Encoded data in a WAV file, decoded."""
    try:
        yield from _ffmpeg(file, stream, 0, report, refused=("pcm", "flac"))
    except (UnknownFormatError, MissingCodecsError, DecodingError) as error:
        raise EncodedError from error


def _words(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


# ---------------------------------------------------------------- libsndfile


class _ForwardOnly(sf.SoundFile):  # type: ignore[misc]
    """A file that is read from its start to its end.

    After each read soundfile seeks to where it is already; in Ogg and MP3 that costs up to a quarter of decoding, and
    it fails where a seek table is wrong. What is raised in a callback, as Ctrl-C may be, soundfile would print and
    forget; here the pieces keep it, for `_raised` to raise.
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
        self._virtual_io = {  # which is to live as long as the file
            name: sf._ffi.callback(f"sf_vio_{name}", function, error=0, onerror=pieces.keep)
            for name, function in functions.items()
        }
        return sf._ffi.new("SF_VIRTUAL_IO*", self._virtual_io)


@contextmanager
def _raised(pieces: Pieces) -> Iterator[None]:
    """Errors of the file below, and interruptions, that were raised in a callback are raised after it."""
    try:
        with c_stderr.SILENT:
            yield
    finally:
        if pieces.error:
            raise pieces.error


@contextmanager
def _open(pieces: Pieces) -> Iterator[Any]:
    with _raised(pieces):
        sound = _ForwardOnly(pieces)
    try:
        yield sound
    finally:
        with c_stderr.SILENT:
            sound.close()
        if pieces.error:
            raise pieces.error


def _read(sound: Any, pieces: Pieces) -> Iterator[Samples]:
    """The samples of a file that libsndfile opened, whatever length its header states."""
    buffer = np.empty((max(1, min(BLOCK, 4 * BLOCK // sound.channels)), sound.channels), np.float32)
    checked = CHECKED_BLOCKS if sound.subtype in PCM else 0
    syncs = 0
    while True:
        with _raised(pieces):
            samples = sound.read(out=buffer)
        if not len(samples):
            return
        if checked:
            checked -= 1
            syncs += _syncs(samples)
            if syncs >= FEWEST_SYNCS:
                raise EncodedError
        yield samples


def _syncs(samples: Samples) -> int:
    """How many frames of encoded data seem to begin in a block: in two channels that have nothing in common."""
    if samples.shape[1] != 2 or not len(samples):
        return 0
    left, right = samples.T
    if 2 * abs(float(np.vdot(left, right))) > MOST_ALIKE * float(np.vdot(samples, samples)):
        return 0  # among samples of opposite polarity a pair of such words is no rarity
    words = samples.reshape(-1)
    pairs = np.array(SYNCS, np.uint16).view(np.int16) / np.float32(2**15)
    return sum(int(((words[:-1] == first) & (words[1:] == second)).sum()) for first, second in pairs)


# ---------------------------------------------------------------- FFmpeg


def _ffmpeg(
    file: BinaryFile, stream: Stream, skipped: int, report: Report, *, refused: tuple[str, ...] = ()
) -> Iterator[Block]:
    """The samples of a file but for the first ones, by FFmpeg; none of codecs whose names begin as `refused`."""
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
        if codec is None or codec.name.startswith(refused or "\0"):
            raise UnknownFormatError("there is no audio in it")
        for rate, samples in _gathered(_frames(container, faults, lost)):
            count += len(samples)
            if pieces.error:
                break
            if codec.name.startswith(LOSSY):
                np.clip(samples, -LOUDEST, LOUDEST, out=samples)
            if count > skipped:
                yield rate, samples[max(0, len(samples) - count + skipped) :]
    if pieces.error:
        raise pieces.error
    if not count:
        raise (DecodingError if lost else UnknownFormatError)(_words(lost[0]) if lost else "there is no audio in it")
    if lost:
        report(f"{len(lost)} damaged packet{'s' if len(lost) > 1 else ''} ({_words(lost[0])})")


def _url(file: BinaryFile, stream: Stream) -> str | None:
    """What FFmpeg opens by itself, if a stream is all of a plain file: then C calls no Python code, which may raise."""
    if not isinstance(file, BufferedReader) or stream.pieces != ((0, file.seek(0, SEEK_END)),):
        return None
    path = DESCRIPTORS / str(file.fileno())
    return f"file:{path}" if path.exists() else None


def _frames(container: Any, faults: tuple[type[Exception], ...], lost: list[BaseException]) -> Iterator[Any]:
    """The frames of the first audio stream; packets that cannot be read or decoded are left out and counted."""
    stream = container.streams.audio[0]
    packets, bad = container.demux(stream), 0
    while bad < MOST_LOST:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except faults as error:
            if isinstance(error, EOFError):
                return
            lost.append(error)
            packets, bad = container.demux(stream), bad + 1  # a generator that raised has ended
            continue
        try:
            frames = packet.decode()
        except faults as error:
            if not isinstance(error, EOFError):
                lost.append(error)
                bad += 1
            continue
        for frame in frames:
            if frame.layout.nb_channels <= MOST_CHANNELS and frame.sample_rate > 0:
                bad = 0
                yield frame
            else:
                lost.append(ValueError(f"{frame.layout.nb_channels} channels at {frame.sample_rate} Hz"))


def _gathered(frames: Iterator[Any]) -> Iterator[Block]:
    """Frames of some thousand samples, gathered into blocks of one rate and number of channels."""
    waiting: list[Samples] = []
    rate = count = 0
    for frame in frames:
        samples = _unpacked(frame)
        if waiting and (frame.sample_rate != rate or samples.shape[1] != waiting[0].shape[1] or count >= BLOCK):
            yield rate, np.concatenate(waiting)
            waiting, count = [], 0
        waiting.append(samples)
        rate, count = frame.sample_rate, count + len(samples)
    if waiting:
        yield rate, np.concatenate(waiting)


def _unpacked(frame: Any) -> Samples:
    """The samples of a frame that PyAV decoded, full scale made 1.

    Not `frame.to_ndarray`, which reads planes beyond those that there are when a damaged frame has many channels.
    """
    channels, dtype = frame.layout.nb_channels, TYPES[frame.format.name.removesuffix("p")]
    if not frame.format.is_planar:
        return full_scale(np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels))
    planes = [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:channels]]
    return full_scale(np.stack(planes, axis=1))


def full_scale(samples: Num[np.ndarray, "samples channels"]) -> Samples:
    """Samples of any type as float32; those of integers are divided by their full scale."""
    if samples.dtype.kind in "ui":
        full = 2.0 ** (8 * samples.dtype.itemsize - 1)
        samples = (samples - full if samples.dtype.kind == "u" else samples) / full
    with np.errstate(over="ignore"):
        return samples.astype(np.float32, copy=False)

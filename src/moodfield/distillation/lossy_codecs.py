"""Encode waveforms as MP3, AAC or Opus in memory, and decode them again, aligned in time."""

import io
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from moodfield import audio
from moodfield.audio import Waveform
from moodfield.errors import AudioError, ConfigError

BLOCK = 2**16
"""samples that are passed to an encoder at a time"""


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg and the container for its output, which states the delay of the encoder."""

    name: str
    """FFmpeg's name of the encoder"""
    container: str
    """FFmpeg's name of the container"""
    sample_format: str
    """samples that it takes"""
    options: tuple[tuple[str, str], ...]
    """options for speed: about as good as the defaults at these bitrates, and 2 to 4 times as fast"""


ENCODERS = MappingProxyType(
    {
        "mp3": Encoder("libmp3lame", "mp3", "fltp", (("compression_level", "7"),)),
        "aac": Encoder("aac", "ipod", "fltp", (("aac_coder", "fast"),)),
        "opus": Encoder("libopus", "ogg", "flt", (("compression_level", "0"),)),
    }
)
"""encoders by name of the codec"""


def check_installed() -> None:
    """Raise `ConfigError` unless PyAV is installed and has all encoders."""
    try:
        import av  # optional: its wheels carry GPL codecs
    except ImportError as error:
        raise ConfigError(
            'audio is encoded by PyAV, which is not installed: pip install "moodfield[codecs]"'
        ) from error
    missing = [encoder.name for encoder in ENCODERS.values() if encoder.name not in av.codecs_available]
    if missing:
        raise ConfigError(f"this PyAV has no {', '.join(missing)}; install its wheel: pip install av")


def round_trip(waveform: Waveform, codec: str, bitrate: int) -> Waveform:
    """Encode and decode a waveform.

    Args:
        waveform: At a sample rate that the encoder has; all have 12, 16 and 24 kHz.
        codec: Name of one of the `ENCODERS`.
        bitrate: Bits per second.

    Returns:
        A waveform of the same length and sample rate, without the delay and padding of the encoder.

    Raises:
        AudioError: The waveform cannot be encoded or decoded.
        ConfigError: PyAV is not installed, or lacks an encoder.
    """
    check_installed()
    size, rate = len(waveform.samples), waveform.sample_rate
    try:
        decoded = audio.read(_encode(waveform, ENCODERS[codec], bitrate), sample_rate=rate).samples[:size]
    except AudioError as error:
        raise AudioError(error.reason, f"encoded as {codec} with {bitrate} bit/s: {error}") from error
    return Waveform(np.pad(decoded, (0, size - len(decoded))), rate)


def _encode(waveform: Waveform, encoder: Encoder, bitrate: int) -> bytes:
    """The bytes of an encoded file."""
    import av

    output = io.BytesIO()
    try:
        with av.open(output, "w", format=encoder.container) as container:
            stream: Any = container.add_stream(
                encoder.name, waveform.sample_rate, options=dict(encoder.options), layout="mono", bit_rate=bitrate
            )
            for start in range(0, len(waveform.samples), BLOCK):
                block = np.ascontiguousarray(waveform.samples[None, start : start + BLOCK])
                frame = av.AudioFrame.from_ndarray(block, format=encoder.sample_format, layout="mono")
                frame.sample_rate, frame.pts = waveform.sample_rate, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise AudioError("unreadable", f"the encoder {encoder.name} failed: {error}") from error
    return output.getvalue()

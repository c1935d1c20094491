"""Sums the stems of a song to one 16-bit FLAC file."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile as sf
from faults import MusicError

VERSION = 1
"""of the sums; another one makes them again"""
BLOCK = 2**16
"""samples per channel that are summed at a time"""
HEADROOM = 10 ** (-1 / 20)
"""peak of a sum that would clip: −1 dBFS"""
FULL_SCALE = 32767
"""largest 16-bit sample"""


def mix(stems: Sequence[Path], target: Path) -> None:
    """Write the sum of stems as 16-bit FLAC; only if it would clip it is scaled, to a peak of −1 dBFS.

    Shorter stems end in silence. Mono stems are on every channel of the others.

    Raises:
        MusicError: A stem is not audio, or they differ in sample rate, or in channels with none of them mono.
        OSError: The file cannot be written.

    """
    formats = []
    for path in stems:
        try:
            formats.append(sf.info(path))
        except sf.LibsndfileError as error:
            raise MusicError(f"{path.name} is not audio that can be decoded: {error}") from error
    rates, channels = {info.samplerate for info in formats}, {info.channels for info in formats}
    if len(rates) != 1 or len(channels - {1}) > 1:
        described = ", ".join(f"{info.samplerate} Hz × {info.channels}" for info in formats)
        raise MusicError(f"stems of {described} cannot be summed; expected one sample rate, and equal channels or mono")
    peak = max((float(np.abs(block).max()) for block in _sums(stems, max(channels))), default=0.0)
    gain = HEADROOM / peak if peak > 1 else 1.0
    with sf.SoundFile(target, "w", rates.pop(), max(channels), format="FLAC", subtype="PCM_16") as file:
        for block in _sums(stems, max(channels)):
            file.write(np.rint(block * (gain * FULL_SCALE)).astype(np.int16))


def _sums(stems: Sequence[Path], channels: int) -> Iterator[np.ndarray]:
    """Blocks of the sum of the stems, (samples, channels), float64."""
    with ExitStack() as stack:
        readers = [stack.enter_context(sf.SoundFile(path)) for path in stems]
        while True:
            try:
                blocks = [reader.read(BLOCK, dtype="float64", always_2d=True) for reader in readers]
            except sf.LibsndfileError as error:
                raise MusicError(f"a stem is damaged: {error}") from error
            total = np.zeros((max(map(len, blocks)), channels))
            if not len(total):
                return
            for block in blocks:
                total[: len(block)] += block
            yield total

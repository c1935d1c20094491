"""Speed perturbation (Ko et al., 2015): copies of music at other speeds, as more training music.

Pitch and tempo change together, as by resampling. The teacher's logits are computed from each copy.
"""

import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from moodfield import audio, files
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import ConfigError, MoodfieldError
from moodfield.training import digests, mel_cache
from moodfield.training.digests import Digest, Digests
from moodfield.training.mel_cache import Entries

SAMPLE_RATE = 22_050
"""sample rate of copies in Hz: above those of the bundled model and its teachers"""
MIN_SPEED, MAX_SPEED = 0.5, 2.0
FULL_SCALE = 2**15 - 1
"""largest sample of 16 bits"""
HEADER_BYTES = 44
"""size of a WAV header, as Python writes it"""


def check_speed(speed: float) -> None:
    """Raise `ConfigError` if a speed is out of range, or 1."""
    if not MIN_SPEED <= speed <= MAX_SPEED or speed == 1:
        raise ConfigError(f"speed is {speed}; expected {MIN_SPEED} to {MAX_SPEED}, and not 1, which is always included")


def cache_folder(cache_dir: str | Path, speed: float) -> Path:
    """The folder of the copies at a speed, below that of the cache.

    Example:
        >>> cache_folder(".cache", 0.9).as_posix()
        '.cache/speed-0.9'
    """
    check_speed(speed)
    return Path(cache_dir) / f"speed-{float(speed)!r}"


def perturb(
    tracks: Sequence[Track], audio_dir: str | Path, cache_dir: str | Path, speed: float, *, jobs: int = 1
) -> Iterator[tuple[Track, Track | MoodfieldError]]:
    """Write copies of tracks at another speed, unless they are cached.

    Copies are cached by the SHA-256 of the original audio; damaged ones are written again. Nothing is written below
    `audio_dir`.

    Args:
        tracks: Tracks to copy.
        audio_dir: Folder that their paths are relative to.
        cache_dir: Folder of the cache.
        speed: Factor of pitch and tempo, 0.5 … 2, not 1.
        jobs: Number of processes.

    Yields:
        Every track with its copy, whose path is relative to `cache_folder`, or the error if it failed.
    """
    target = cache_folder(cache_dir, speed).absolute()
    entries = Entries(target, _is_complete, partial(_write_copy, speed), suffix=".wav")
    for track, result in mel_cache.compute_missing(tracks, Digests(cache_dir, audio_dir), entries, jobs=jobs):
        if isinstance(result, MoodfieldError):
            yield track, result
        else:
            path = result.relative_to(target).as_posix()
            yield track, replace(track, id=f"{track.id} × {speed:g}", path=path, seconds=track.seconds / speed)


def _is_complete(path: Path) -> bool:
    """Whether a file is a complete copy."""
    try:
        with wave.open(str(path), "rb") as file:
            encoding = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getcomptype())
            size = HEADER_BYTES + 2 * file.getnframes()
        return encoding == (1, 2, SAMPLE_RATE, "NONE") and size > HEADER_BYTES and path.stat().st_size == size
    except (OSError, EOFError, wave.Error, ValueError):
        return False


def _write_copy(speed: float, source: Path, digest: Digest, target: Path) -> None:
    """Write a copy: audio decoded at one sample rate and written as if it had another is faster by their ratio."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(target) as partial_path, partial_path.open("wb") as file, wave.open(file, "wb") as copy:
        copy.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        for block in audio.blocks(source, sample_rate=round(SAMPLE_RATE / speed)):
            copy.writeframes(np.rint(np.clip(block, -1, 1) * FULL_SCALE).astype("<i2").tobytes())
        digests.check_unchanged(source, digest)

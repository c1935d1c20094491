"""Speed perturbation: music played faster and slower becomes more music.

In: tracks of a folder, and a speed. Out: files in the folder of a cache with the same music at that speed, as tracks.
Knows nothing of: mels, or what the files are for.

Pitch and tempo change together, as of a record. The teacher's logits for the result are computed from the result: its
truth is its own, not that of the music as it was.
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
from moodfield.training.digests import AudioFile, Digest, Digests

RATE = 22_050
"""samples per second of the copies: more than the bundled model and its teacher use, whose mels are of 12 kHz"""
SLOWEST, FASTEST = 0.5, 2.0
FULL = 2**15 - 1
"""full scale of 16 bits"""
HEADER = 44
"""bytes of a WAV file before its samples, as Python writes it"""


def check(speed: float) -> None:
    """Refuse with `ConfigError` a speed that makes no music, or none that is not there already."""
    if not SLOWEST <= speed <= FASTEST or speed == 1:
        raise ConfigError(
            f"a speed of {speed} came, wanted is {SLOWEST} to {FASTEST}, and not 1, which is there already"
        )


def folder(cache: str | Path, speed: float) -> Path:
    """The folder of the copies at a speed, below that of a cache; paths of the tracks of `perturb` start there."""
    check(speed)
    return Path(cache) / f"speed-{float(speed)!r}"


def perturb(
    tracks: Sequence[Track], music: str | Path, cache: str | Path, speed: float, *, jobs: int = 1
) -> Iterator[tuple[Track, Track | MoodfieldError]]:
    """Every track with its copy at a speed, as a track below `folder`, or with the error if it cannot be read.

    A copy is filed under the SHA-256 of the audio that it was made from. Copies that are there are left alone, damaged
    ones are made again. Nothing is written below `music`.
    """
    target = folder(cache, speed).absolute()
    work = partial(_play, target, speed)
    found = mel_cache.compute_missing(tracks, Digests(cache, music), partial(_complete, target), work, jobs=jobs)
    for track, result in found:
        if isinstance(result, MoodfieldError):
            yield track, result
        else:
            path = result.relative_to(target).as_posix()
            yield track, replace(track, id=f"{track.id} × {speed:g}", path=path, seconds=track.seconds / speed)


def _complete(target: Path, digest: str) -> Path | None:
    """The copy of the audio with a digest, if there is one and it is complete."""
    path = mel_cache.entry_path(target, digest, ".wav")
    try:
        with wave.open(str(path), "rb") as copy:
            found = (copy.getnchannels(), copy.getsampwidth(), copy.getframerate(), copy.getcomptype())
            size = HEADER + 2 * copy.getnframes()
        complete = found == (1, 2, RATE, "NONE") and size > HEADER and path.stat().st_size == size
    except (OSError, EOFError, wave.Error, ValueError):
        return None
    return path if complete else None


def _play(target: Path, speed: float, source: AudioFile) -> tuple[Path, Digest]:
    """Write a copy: music read at one rate and written as if it were at another is faster by their ratio."""
    digest = digests.compute(source.path)
    if (path := _complete(target, digest.sha256)) is not None:
        return path, digest
    path = mel_cache.entry_path(target, digest.sha256, ".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(path) as partial_path, partial_path.open("wb") as file, wave.open(file, "wb") as written:
        written.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        for block in audio.blocks(source.path, sample_rate=round(RATE / speed)):
            written.writeframes(np.rint(np.clip(block, -1, 1) * FULL).astype("<i2").tobytes())
    digests.check_unchanged(source.path, digest)
    return path, digest

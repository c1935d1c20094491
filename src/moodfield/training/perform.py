"""Music is played faster and slower, and so becomes more music.

In: tracks of a folder, and a speed. Out: files in that folder with the same music at that speed, as tracks.
Knows nothing of: who is to hear it, or what for.

Pitch and tempo change together, as of a record. A teacher who hears the result says what *that* feels like: its truth
is its own, not that of the music as it was.
"""

import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from moodfield import audio, files, fleet
from moodfield.errors import BadConfig, MoodfieldError
from moodfield.jamendo import Track

RATE = 22_050
"""samples per second of what is written: more than the bundled model and its teacher hear, whose mels are of 12 kHz"""
SLOWEST, FASTEST = 0.5, 2.0
FULL = 2**15 - 1
"""full scale of 16 bits"""


def at(speed: float, tracks: Sequence[Track]) -> tuple[Track, ...]:
    """The tracks as they will be at a speed, below the same folder; refuses speeds that make no music."""
    if not SLOWEST <= speed <= FASTEST or speed == 1:
        raise BadConfig(f"a speed of {speed} came, wanted is {SLOWEST} to {FASTEST}, and not 1, which is there already")
    return tuple(
        replace(
            track,
            id=f"{track.id} × {speed:g}",
            path=f".speed-{speed:g}/{track.path}.wav",
            seconds=track.seconds / speed,
        )
        for track in tracks
    )


def play(
    tracks: Sequence[Track], music: Path, speed: float, *, jobs: int = 1
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """Write the files of `at`, unless they are there; failures come as their errors and stop nothing."""
    played = at(speed, tracks)
    work = [(music / track.path, music / other.path) for track, other in zip(tracks, played, strict=True)]
    for track, (_, result) in zip(played, fleet.each(partial(_play, speed), work, jobs=jobs), strict=True):
        yield track, result


def _play(speed: float, work: tuple[Path, Path]) -> Path:
    """Music read at one rate and written as if it were at another is faster by their ratio."""
    source, target = work
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(target) as half, half.open("wb") as file, wave.open(file, "wb") as written:
        written.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        for block in audio.blocks(source, rate=round(RATE / speed)):
            written.writeframes(np.rint(np.clip(block, -1, 1) * FULL).astype("<i2").tobytes())
    return target

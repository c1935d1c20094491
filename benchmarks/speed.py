"""Speed of a model on one core, from file to tags, with decoding as the lower bound; used by model.py.

Times are those of the processor, so that other work on the machine counts little.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from moodfield import audio, mel, tagger
from moodfield.datasets.mtg_jamendo import Track

FORMATS, SHORTEST, LONGEST = (".ogg", ".mp3", ".flac"), 200, 280
"""formats of the timed tracks, one of each, with their minimum and maximum duration in seconds"""
REPEATS = 3
"""repeats of every timing; the fastest counts"""
GOALS = {"AVX-512": 200, "AVX2": 150}
"""kind of processor → seconds of music per second on one core, from file to tags"""
FLAG = {"AVX-512": "avx512f", "AVX2": "avx2"}
"""kind of processor → how Linux names its instructions"""
HEAD = """
## Speed

One core with {kind}, processor time, warm, fastest of {repeats}. The goal is {goal} × real time; decoding is the lower
bound.
"""


@dataclass(frozen=True)
class SongTime:
    """Seconds for one track, each with all that comes before it."""

    title: str
    """title of the track"""
    duration: float
    """its duration"""
    decode: float
    """decoding"""
    mel: float
    """decoding and mel"""
    whole: float
    """everything"""


@dataclass(frozen=True)
class Times:
    """Times of a model."""

    songs: tuple[SongTime, ...]
    """of every track"""

    @property
    def real_time(self) -> float:
        """Seconds of music per second, median over tracks."""
        return float(np.median([song.duration / song.whole for song in self.songs]))


def songs(tracks: Sequence[Track], music: Path) -> list[Path]:
    """The files that are timed: of each format the first track of a usual length."""
    usual = [music / track.path for track in tracks if SHORTEST <= track.seconds <= LONGEST]
    return [path for suffix in FORMATS for path in [item for item in usual if item.suffix == suffix][:1]]


def measure(model: str, files: Sequence[Path]) -> Times:
    """Time a model on files."""
    single = tagger.load(model, threads=1)
    [loaded] = single.models
    config, timed = loaded.card.mel, []
    for path in files:
        rate, duration = soundfile.info(path).samplerate, soundfile.info(path).duration

        def samples(path: Path = path) -> object:
            return audio.blocks(path, sample_rate=config.sample_rate)

        decode = _fastest(lambda path=path, rate=rate: [len(block) for block in audio.blocks(path, sample_rate=rate)])
        mels = _fastest(lambda samples=samples: list(mel.stream(samples, config)))
        whole = _fastest(lambda path=path: single.tag(path))
        timed.append(SongTime(path.name, duration, decode, mels, whole))
    return Times(tuple(timed))


def kind() -> str:
    """The kind of this processor: the most that it has of `GOALS`."""
    path = Path("/proc/cpuinfo")
    flags = path.read_text().split() if path.is_file() else []
    return next((name for name, flag in FLAG.items() if flag in flags), list(GOALS)[-1])


def goal() -> int:
    """The goal on this processor."""
    return GOALS[kind()]


def page(model: str, times: Mapping[str, Times]) -> None:
    """Print the times of a model."""
    print(HEAD.format(kind=kind(), repeats=REPEATS, goal=goal()))
    print(f"| {model}: track | decode s | + mel s | + network s | × real time | × decoding |\n|---|{'--:|' * 5}")
    for song in times[model].songs:
        cells = [f"{value:.2f}" for value in (song.decode, song.mel, song.whole)]
        cells += [f"{song.duration / song.whole:.0f}", f"{song.whole / song.decode:.2f}"]
        print(f"| {song.title}, {song.duration:.0f} s | {' | '.join(cells)} |")


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)

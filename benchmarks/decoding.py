"""Decoding and mixing on one core against soundfile's own loop, alone and within tagging, on real music.

    python benchmarks/decoding.py [FILES AND FOLDERS] [--repeats 5]

The reference reads blocks with `SoundFile.read`, which seeks after each block, and mixes them by `mean(axis=1)`. Both
are interleaved, file by file; their samples are compared first. Files that libsndfile cannot read are left out.
"""
# ruff: noqa: E402

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is loaded

import numpy as np
import soundfile as sf

from moodfield import audio, tagger
from moodfield.audio import Source
from moodfield.decoding import decoders

FILES = 3
"""files of each format, at most"""


def mono(source: Source, report: object = None) -> Iterator[tuple[int, np.ndarray]]:
    """The reference: mono blocks, with their sample rate."""
    with sf.SoundFile(source) as sound:
        frames = max(1, min(decoders.BLOCK, 4 * decoders.BLOCK // sound.channels))
        while len(block := sound.read(frames, dtype="float32", always_2d=True)):
            samples = block.mean(axis=1)
            float(np.abs(samples).max())  # `audio` checks every block
            yield sound.samplerate, samples


def blocks(source: Source, *, sample_rate: int, warn: object = None) -> Iterator[np.ndarray]:
    """The reference for `audio.blocks`."""
    yield from audio._resample(mono(source), sample_rate)


def timed(work: Callable[[], object]) -> float:
    """Seconds of CPU time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def chosen(given: list[Path]) -> list[Path]:
    """The first stereo files of each format."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in audio.find(given):
        try:
            stereo = sf.info(path).channels == 2
        except sf.SoundFileError:
            continue
        if stereo and len(found[path.suffix]) < FILES:
            found[path.suffix].append(path)
    return [path for paths in found.values() for path in paths]


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("music", nargs="*", type=Path, help="default: more-music in MOODFIELD_DATA")
    arguments.add_argument("--repeats", type=int, default=5, help="repeats of every timing (default 5)")
    given = arguments.parse_args()
    model, ours = tagger.load(threads=1), audio.blocks
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in chosen(given.music or [Path(os.environ.get("MOODFIELD_DATA", ".")) / "more-music"]):
        same = np.concatenate([samples for _, samples in mono(path)])
        if not np.array_equal(same, np.concatenate([samples.copy() for _, samples in audio._mono(path, print)])):
            sys.exit(f"{path}: the samples differ; compare times only when they agree")
        kinds[path.suffix[1:]].append(path)
    print("## Decoding and mixing, one core\n")
    print("Seconds of CPU time for a minute of music, minimum per file; the reference is soundfile's loop.\n")
    print("| format | files | minutes | decoding | reference | ratio | tagging | reference | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, paths in kinds.items():
        least: dict[str, float] = defaultdict(float)
        minutes = sum(audio.duration(path) for path in paths) / 60
        for path in paths:
            best: dict[str, float] = defaultdict(lambda: float("inf"))
            for _ in range(given.repeats):
                best["own"] = min(best["own"], timed(lambda: sum(1 for _ in audio._mono(path, print))))  # noqa: B023
                best["peer"] = min(best["peer"], timed(lambda: sum(1 for _ in mono(path))))  # noqa: B023
                best["tag"] = min(best["tag"], timed(lambda: model.tag(path)))  # noqa: B023
                audio.blocks = blocks
                best["peer tag"] = min(best["peer tag"], timed(lambda: model.tag(path)))  # noqa: B023
                audio.blocks = ours
            for what, seconds in best.items():
                least[what] += seconds / minutes
        print(
            f"| {kind} | {len(paths)} | {minutes:.1f} | {least['own']:.3f} | {least['peer']:.3f} | "
            f"{least['own'] / least['peer']:.2f} | {least['tag']:.3f} | {least['peer tag']:.3f} | "
            f"{least['tag'] / least['peer tag']:.2f} |"
        )


if __name__ == "__main__":
    main()

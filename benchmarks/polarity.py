"""Stereo music with one channel inverted: energy of the mean, and tags when the channels are averaged or subtracted.

    python benchmarks/polarity.py [FILES AND FOLDERS]

The first minute of each track, unchanged and narrowed to 0.3 of its width. Agreement is intersection over union of the
decided tags with those before a channel was inverted.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import soundfile as sf

from moodfield import audio, tagger
from moodfield.decoding import downmix

SECONDS, WIDTH = 60, 0.3


def share(samples: np.ndarray) -> float:
    """Energy of the mean of two channels as a share of their energy."""
    mean = samples.mean(axis=1, dtype=np.float64)
    return float(mean @ mean / (np.square(samples, dtype=np.float64).sum() / 2))


def agreement(model: tagger.Tagger, samples: np.ndarray, rate: int, wanted: set[str], *, least: float) -> float:
    """Agreement of the tags with `wanted`; channels are subtracted below the share `least`."""
    usual, downmix.OPPOSITE = downmix.OPPOSITE, least
    decided = set(model.tag((samples, rate)).decided)
    downmix.OPPOSITE = usual
    return len(decided & wanted) / max(1, len(decided | wanted)) if decided | wanted else 1.0


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("music", nargs="*", type=Path, help="default: more-music in MOODFIELD_DATA")
    given = arguments.parse_args().music or [Path(os.environ.get("MOODFIELD_DATA", ".")) / "more-music"]
    model = tagger.load(threads=1)
    shares: list[float] = []
    blocks: list[float] = []
    found: dict[str, list[tuple[float, float, float]]] = {"unchanged": [], f"narrowed to {WIDTH}": []}
    for path in audio.find(given):
        samples, rate = sf.read(path, dtype="float32", always_2d=True, frames=SECONDS * 48_000)
        if samples.shape[1] != 2:
            continue
        shares.append(share(samples))
        blocks += [
            share(block)
            for block in np.split(samples, range(2**16, len(samples), 2**16))
            if np.square(block).mean() > 1e-6
        ]
        mean, half = samples.mean(axis=1), (samples[:, 0] - samples[:, 1]) / 2
        for what, width in zip(found, (1.0, WIDTH), strict=True):
            before = np.stack([mean + width * half, mean - width * half], axis=1)
            wanted = set(model.tag((before, rate)).decided)
            after = before * np.array([1, -1], np.float32)
            averaged, now = (agreement(model, after, rate, wanted, least=least) for least in (0.0, downmix.OPPOSITE))
            found[what].append((share(after), averaged, now))
    print("## Stereo with one channel inverted\n")
    print(
        f"{len(shares)} tracks. Before the inversion, their mean keeps {min(shares):.2f} … "
        f"{max(shares):.2f} of the energy, "
        f"{min(blocks):.2f} or more in each block of {2**16} samples.\n"
    )
    print(
        f"| music | tracks that keep less than {downmix.OPPOSITE} when inverted | same tags, averaged "
        f"| same tags, subtracted |"
    )
    print("|---|---|---|---|")
    for what, rows in found.items():
        below = [row for row in rows if row[0] < downmix.OPPOSITE]
        averaged, now = (np.mean([row[at] for row in below]) if below else np.nan for at in (1, 2))
        print(f"| {what} | {len(below)} | {100 * averaged:.0f} % | {100 * now:.0f} % |")


if __name__ == "__main__":
    main()

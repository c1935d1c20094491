"""A little dataset of noises, high and low, which anything can tell apart."""

from pathlib import Path

import numpy as np
import soundfile

from moodfield.datasets import mtg_jamendo

TAGS = ("high", "low")
COUNT = 12
"""files in each folder of `write_folders`"""
RATE = 22_050
"""their sample rate"""
HEADER = "\t".join(mtg_jamendo.HEADER)


def write(folder: Path, name: str, tracks: int, *, seed: int) -> Path:
    """Wavs of high, low and mixed noise in a folder of `music`, and their index in the form of MTG-Jamendo."""
    generator, lines = np.random.default_rng(seed), [HEADER]
    (folder / "music" / name).mkdir(parents=True)
    for number in range(tracks):
        tags = [tag for tag, has in zip(TAGS, generator.random(2) < 0.6, strict=True) if has]
        noise = generator.standard_normal(12_000)
        high = np.diff(noise, prepend=0) * (3 if "high" in tags else 0.2)
        low = np.cumsum(noise - noise.mean()) / 40 * (3 if "low" in tags else 0.2)
        soundfile.write(folder / "music" / name / f"{number}.wav", 0.05 * np.clip(high + low, -15, 15), 8_000)
        path = f"{name}/{number}.wav"
        lines.append(
            "\t".join([f"track_{seed}{number:03}", "a", "b", path, "1.5", *(f"mood/theme---{t}" for t in tags)])
        )
    index = folder / f"{name}.tsv"
    index.write_text("\n".join(lines) + "\n")
    return index


def write_folders(folder: Path) -> None:
    """Folders of wavs, `high` and `low`, with two seconds of such noises."""
    for kind in TAGS:
        (folder / kind).mkdir()
        for number in range(COUNT):
            save(folder / kind / f"{number}.wav", high=kind == "high", seed=number)


def save(path: Path, *, high: bool, seed: int, artist: str = "", album: str = "") -> Path:
    """Two seconds of high or low noise."""
    drawn = np.random.default_rng(seed)
    noise = drawn.standard_normal(2 * RATE)
    samples = np.diff(noise, prepend=0) if high else np.convolve(noise, np.ones(200) / 20, "same")
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        if artist:
            file.artist = artist
        if album:
            file.album = album
        file.write(drawn.uniform(0.02, 0.1) * samples)
    return path

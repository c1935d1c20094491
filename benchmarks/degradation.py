"""Degraded copies: time on one core, damage of codecs by bitrate and sample rate, and the bundled model on copies.

    python benchmarks/degradation.py [FILES AND FOLDERS]

Times are those of the processor, so that other work on the machine counts little.
"""
# ruff: noqa: E402

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is loaded: one core

import numpy as np

from moodfield import audio, files, mel, tagger
from moodfield.audio import Waveform
from moodfield.distillation import degradation, lossy_codecs
from moodfield.distillation.data import STUDENT
from moodfield.distillation.degradation import SAMPLE_RATE, Band, Chain, Degradation
from moodfield.tagger import Tagger

FILES = 12
"""files, at most"""
RATES = {"mp3": 44_100, "aac": 44_100, "opus": 48_000}
"""usual sample rate of each codec"""
BITRATES = (24_000, 32_000, 48_000, 64_000, 96_000)
BAND = 1_500, 6_000
"""frequencies between which damage is measured, in Hz"""
BANDS = Band("low shelf", 150.0, 6.0), Band("peak", 1_000.0, -6.0, 1.0), Band("high shelf", 3_000.0, 6.0)
CHAINS = {
    "none": Chain(),
    "low shelf +6 dB at 150 Hz, peak −6 dB at 1 kHz, high shelf +6 dB at 3 kHz": Chain(bands=BANDS),
    "low-pass filter at 3.5 kHz": Chain(low_pass=3_500.0),
    "high-pass filter at 300 Hz": Chain(high_pass=300.0),
    "level −20 dB": Chain(level=-20.0),
    "1 % of the samples clipped": Chain(clipped=0.01),
    **{
        f"{codec}, {bitrate // 1_000} kbit/s": Chain(codec=codec, bitrate=bitrate)
        for codec in lossy_codecs.ENCODERS
        for bitrate in (24_000, 64_000)
    },
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("music", nargs="*", help="files or folders; default: Emotify in MOODFIELD_DATA")
    tracks = found(arguments.parse_args().music)
    originals = [audio.read(track, sample_rate=SAMPLE_RATE) for track in tracks]
    minutes = sum(original.duration for original in originals) / 60
    print(f"## Degraded copies, one core\n\n{len(tracks)} {tracks[0].suffix} files, {minutes:.1f} min.\n")
    print_times(tracks, originals)
    print_codecs(tracks)
    print_scores(tracks, originals)


def found(music: Sequence[str]) -> list[Path]:
    """Files of `music`, evenly spaced."""
    data = os.environ.get("MOODFIELD_DATA")
    if not music and not data:
        sys.exit("name files or folders with music, or set MOODFIELD_DATA")
    tracks = audio.find(list(music) or [Path(str(data), "emotify", "audio")])
    return tracks[:: max(1, len(tracks) // FILES)][:FILES] or sys.exit(f"no music in {music or data}")


def print_times(tracks: Sequence[Path], originals: Sequence[Waveform]) -> None:
    """Print how many times faster than real time each part is."""
    seconds = sum(original.duration for original in originals)
    digests = [files.sha256(track) for track in tracks]
    rate = STUDENT.mel.sample_rate
    parts: dict[str, Callable[[], object]] = {
        "decoding": lambda: [audio.read(track, sample_rate=SAMPLE_RATE) for track in tracks],
        "filters and clipping": lambda: degrade(originals, Chain(bands=BANDS, low_pass=5_000.0, clipped=0.01)),
        **{
            f"{codec}, {bitrate // 1_000} kbit/s": lambda codec=codec, bitrate=bitrate: [
                lossy_codecs.round_trip(original, codec, bitrate) for original in originals
            ]
            for codec in lossy_codecs.ENCODERS
            for bitrate in (24_000, 64_000)
        },
        "mel of the bundled model": lambda: [as_mel(original, rate) for original in originals],
        "**a copy, from its file to its mel**": lambda: [
            as_mel(Degradation(seed=seed).apply(track, digest), rate)
            for seed in range(5)
            for track, digest in zip(tracks, digests, strict=True)
        ],
    }
    print("| part | × real time |\n|---|---|")
    for name, part in parts.items():
        start = time.process_time()
        part()
        repeats = 5 if name.startswith("**") else 1
        print(f"| {name} | {repeats * seconds / (time.process_time() - start):.0f} |")
    print()


def degrade(originals: Sequence[Waveform], chain: Chain) -> list[Waveform]:
    return [degradation.degrade(original, chain) for original in originals]


def as_mel(waveform: Waveform, sample_rate: int) -> np.ndarray:
    return mel.spectrogram(audio.read(waveform, sample_rate=sample_rate), STUDENT.mel)


def print_codecs(tracks: Sequence[Path]) -> None:
    """Print delay and damage of codecs, at the sample rate of copies and at the usual one."""
    print(f"Energy of the error of a codec from {BAND[0]} to {BAND[1]} Hz, relative to the music, dB; 20 s a file.\n")
    print(f"| codec | {' | '.join(f'{bitrate // 1_000} kbit/s' for bitrate in BITRATES)} | largest delay, samples |")
    print("|---|" + "---|" * (len(BITRATES) + 1))
    for codec, usual in RATES.items():
        for rate in (SAMPLE_RATE, usual):
            originals = [Waveform(audio.read(track, sample_rate=rate).samples[: 20 * rate], rate) for track in tracks]
            cells, delays = [], []
            for bitrate in BITRATES:
                copies = [lossy_codecs.round_trip(original, codec, bitrate) for original in originals]
                pairs = list(zip(originals, copies, strict=True))
                cells.append(f"{np.mean([damage(*pair) for pair in pairs]):.1f}")
                delays += [abs(delay(*pair)) for pair in pairs]
            print(f"| {codec}, {rate / 1_000:g} kHz | {' | '.join(cells)} | {max(delays)} |")
    print()


def damage(original: Waveform, copy: Waveform) -> float:
    frequencies = np.fft.rfftfreq(len(original.samples), 1 / original.sample_rate)
    band = (frequencies >= BAND[0]) & (frequencies < BAND[1])
    change, music = (
        np.square(np.abs(np.fft.rfft(samples)[band])).sum()
        for samples in (copy.samples - original.samples, original.samples)
    )
    return float(10 * np.log10(change / music))


def delay(original: Waveform, copy: Waveform) -> int:
    """Where the cross-correlation is largest."""
    size = 2**20
    first, second = (np.fft.rfft(waveform.samples[: size // 2], size) for waveform in (original, copy))
    lag = int(np.fft.irfft(second * first.conj()).argmax())
    return lag if lag < size // 2 else lag - size


def print_scores(tracks: Sequence[Path], originals: Sequence[Waveform]) -> None:
    """Print how the bundled model tags copies, compared with their originals."""
    model = tagger.load(threads=1)
    expected = [logits(model, original) for original in originals]
    print("The bundled model: change of its logits, and common tags of the first five.\n")
    print("| effect | mean change of a logit | of five tags in common |\n|---|---|---|")
    for name, chain in CHAINS.items():
        print_row(name, expected, [logits(model, copy) for copy in degrade(originals, chain)])
    digests = [files.sha256(track) for track in tracks]
    drawn = [Degradation().apply(track, digest) for track, digest in zip(tracks, digests, strict=True)]
    print_row("**as drawn for these tracks**", expected, [logits(model, copy) for copy in drawn])


def logits(model: Tagger, waveform: Waveform) -> np.ndarray:
    scores = np.array(model.tag(waveform).scores, np.float64)
    return np.log(scores / (1 - scores))


def print_row(name: str, expected: Sequence[np.ndarray], computed: Sequence[np.ndarray]) -> None:
    centre = np.mean(expected, axis=0)  # tags are ordered by what distinguishes a track from the others
    first, second = ([set(np.argsort(row - centre)[-5:].tolist()) for row in rows] for rows in (expected, computed))
    common = np.mean([len(one & other) for one, other in zip(first, second, strict=True)])
    print(f"| {name} | {np.mean(np.abs(np.array(computed) - np.array(expected))):.2f} | {common:.1f} |")


if __name__ == "__main__":
    main()

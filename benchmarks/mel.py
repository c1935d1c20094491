"""The mel on one core against the same computation in librosa, on real music, and against a lower bound.

    python benchmarks/mel.py [FILES AND FOLDERS] [--repeats 5]

Both compute the same mel (compared first) and are interleaved, file by file. The lower bound is the arithmetic at the
speed of this core's matrix product, or the samples and bands at that of its copy, whichever is longer.
"""
# ruff: noqa: E402

import argparse
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is loaded: one core for both

import librosa
import numpy as np

from moodfield import audio, mel
from moodfield.audio import Waveform
from moodfield.mel import MelConfig

FILES = 10
"""files, at most"""
HOPS = (512, 1536)


def main() -> None:
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("music", nargs="*", help="files or folders; default: Emotify in MOODFIELD_DATA")
    arguments.add_argument("--repeats", type=int, default=5, help="repeats of every timing (default 5)")
    given = arguments.parse_args()
    files = found(given.music)
    waveforms = [audio.read(file, sample_rate=MelConfig().sample_rate) for file in files]
    seconds = sum(waveform.duration for waveform in waveforms)
    print("## The mel, one core\n")
    print(
        f"{len(files)} {files[0].suffix} files, {seconds / 60:.1f} min; median of {given.repeats} interleaved repeats."
    )
    print(f"{machine()}\n")
    print("| hop | decoding | moodfield, ms per minute | librosa, ms per minute | librosa / moodfield |")
    print("|---|---|---|---|---|")
    alone: dict[int, float] = {}
    for hop in HOPS:
        config = MelConfig(hop_length=hop)
        worst = max(
            float(np.abs(mel.spectrogram(each, config) - chain(each.samples, config)).max()) for each in waveforms[:3]
        )
        if worst > 1e-4:
            sys.exit(f"hop {hop}: the mels differ by {worst}; compare times only when they agree")
        contests = {
            "excluded": (
                [partial(mel.spectrogram, each, config) for each in waveforms],
                [partial(chain, each.samples, config) for each in waveforms],
            ),
            "included": (
                [partial(ours_from, file, config) for file in files],
                [partial(theirs_from, file, config) for file in files],
            ),
        }
        for decoding, contest in contests.items():
            ours, theirs, ratio = raced(*contest, given.repeats)
            alone.setdefault(hop, 60 * ours / seconds)
            print(f"| {hop} | {decoding} | {60e3 * ours / seconds:.1f} | {60e3 * theirs / seconds:.1f} | {ratio:.2f} |")
    print()
    floor(waveforms[0], alone, given.repeats)


def found(music: Sequence[str]) -> list[Path]:
    """Files of `music`, evenly spaced."""
    data = os.environ.get("MOODFIELD_DATA")
    if not music and not data:
        sys.exit("name files or folders with music, or set MOODFIELD_DATA")
    files = audio.find(list(music) or [Path(str(data), "emotify", "audio")])
    return files[:: max(1, len(files) // FILES)][:FILES] or sys.exit(f"no music in {music or data}")


def chain(samples: np.ndarray, config: MelConfig) -> np.ndarray:
    """The same mel with librosa."""
    spectrum = librosa.stft(
        samples, n_fft=config.n_fft, hop_length=config.hop_length, window="hann", pad_mode="reflect"
    )
    hz = librosa.fft_frequencies(sr=config.sample_rate, n_fft=config.n_fft)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # librosa takes the logarithm of 0 Hz
        levels = librosa.perceptual_weighting(np.abs(spectrum) ** 2, hz, amin=1e-10, top_db=config.top_db)
    return librosa.feature.melspectrogram(
        S=levels, sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=0, fmax=config.sample_rate / 2
    )


def ours_from(file: Path, config: MelConfig) -> np.ndarray:
    return mel.spectrogram(audio.read(file, sample_rate=config.sample_rate), config)


def theirs_from(file: Path, config: MelConfig) -> np.ndarray:
    return chain(librosa.load(file, sr=config.sample_rate)[0], config)


def raced(
    ours: Sequence[Callable[[], object]], theirs: Sequence[Callable[[], object]], repeats: int
) -> tuple[float, float, float]:
    """Seconds for all files of each, and the median ratio; both are interleaved, file by file."""
    ours[0](), theirs[0]()
    rounds = []
    for _ in range(repeats):
        pairs = [(timed(one), timed(other)) for one, other in zip(ours, theirs, strict=True)]
        rounds.append([sum(times) for times in zip(*pairs, strict=True)])
    one, other = (statistics.median(times) for times in zip(*rounds, strict=True))
    return one, other, statistics.median(theirs / ours for ours, theirs in rounds)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def floor(waveform: Waveform, minute: dict[int, float], repeats: int) -> None:
    """Print a lower bound by arithmetic, the time of NumPy's FFT alone, and the measured time."""
    square = np.ones((512, 512), np.float32)
    line = np.ones(2**25, np.float32)
    copy = np.empty_like(line)
    peak = 2 * 512**3 / best(partial(np.matmul, square, square), 20 * repeats)
    bandwidth = 2 * line.nbytes / best(partial(np.copyto, copy, line), repeats)
    print(
        f"Measured on this core: {peak / 1e9:.0f} GFLOP/s in a matrix product, {bandwidth / 1e9:.1f} GB/s in a copy.\n"
    )
    rows: dict[str, list[str]] = {}
    for hop in HOPS:
        config = MelConfig(hop_length=hop)
        pace, bins = config.frames_per_second, config.n_fft // 2 + 1
        transform = 2.5 * config.n_fft * np.log2(config.n_fft) * pace
        product = 2 * np.count_nonzero(mel.filterbank(config)) * pace
        rest = (config.n_fft + 3 * bins) * pace
        moved = 4 * (config.sample_rate + config.n_mels * pace)
        least = 60 * max((transform + product + rest) / peak, moved / bandwidth)
        frames = np.ones((mel.GROUP_FRAMES, config.n_fft), np.float32)
        alone = statistics.median(timed(partial(np.fft.rfft, frames)) for _ in range(100 * repeats)) / mel.GROUP_FRAMES
        cells = {
            "FFT, 2.5 · N · log₂ N, Mop": f"{transform / 1e6:.2f}",
            "window and power, Mop": f"{rest / 1e6:.2f}",
            "filter bank, 2 per weight that is not 0, Mop": f"{product / 1e6:.2f}",
            "logarithms, thousands": f"{bins * pace / 1e3:.0f}",
            "samples in and bands out, kB": f"{moved / 1e3:.0f}",
            "lower bound at these peaks, ms per minute of music": f"{least * 1e3:.2f}",
            "NumPy's FFT alone, ms per minute of music": f"{60e3 * alone * pace:.1f}",
            "moodfield, times the lower bound": f"{minute[hop] / least:.0f}",
            "moodfield, times NumPy's FFT": f"{minute[hop] / (60 * alone * pace):.2f}",
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    print(f"| per second of music | {' | '.join(f'hop {hop}' for hop in HOPS)} |")
    print("|---|" + "---|" * len(HOPS))
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(row)} |")


def best(work: Callable[[], object], repeats: int) -> float:
    return min(timed(work) for _ in range(repeats + 1))


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(": ")[2] if names else platform.processor()
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, librosa {librosa.__version__}"
    return f"{name}, {platform.machine()}, one thread of {os.cpu_count()} cores; {versions}."


if __name__ == "__main__":
    main()

"""Measure peak memory of tagging ten minutes and two hours of stereo FLAC.

    python benchmarks/memory.py [MUSIC …]

Both files repeat the given music, or chords. Each is tagged in a new process, whose peak resident memory the kernel
reports. Prints a Markdown table.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from startup import make_song

LENGTHS = {"10 min": 600, "2 h": 7_200}
PEAK = """
import sys, moodfield
tagging = moodfield.load(threads=1).tag(sys.argv[1])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024, tagging.duration)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        music = [Path(path) for path in sys.argv[1:]] or [make_song(folder / "chords.flac")]
        print("## Peak memory of tagging\n")
        print("| stereo FLAC, 44.1 kHz | file MB | peak MB | seconds | × real time |\n|---|---|---|---|---|")
        peaks = []
        for length, seconds in LENGTHS.items():
            path = _long(folder / "long.flac", music, seconds)
            start = time.perf_counter()
            process = subprocess.run([sys.executable, "-c", PEAK, path], check=True, capture_output=True, text=True)
            seconds_taken = time.perf_counter() - start
            peak, duration = map(float, process.stdout.split())
            size = path.stat().st_size / 2**20
            peaks.append(peak)
            print(
                f"| {length} | {size:.0f} | {peak:.0f} | {seconds_taken:.1f} | {duration / seconds_taken:.0f} |",
                flush=True,
            )
        print(
            f"\nDifference of 2 h and 10 min: {peaks[1] - peaks[0]:+.0f} MB (goal: at most +100 MB, and 1 GB in total)."
        )


def _long(path: Path, music: list[Path], seconds: int) -> Path:
    """Write a file of `seconds` that repeats the music."""
    left = seconds * 44_100
    with soundfile.SoundFile(path, "w", 44_100, 2) as file:
        while left > 0:
            for source_path in music:
                with soundfile.SoundFile(source_path) as source:
                    while left > 0 and len(block := source.read(2**16, dtype="float32", always_2d=True)):
                        stereo = np.repeat(block, 2, axis=1)[:left, :2] if block.shape[1] == 1 else block[:left, :2]
                        file.write(stereo)
                        left -= len(stereo)
    return path


if __name__ == "__main__":
    main()

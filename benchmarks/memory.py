"""Memory does not grow with the length of the music: ten minutes against two hours of stereo FLAC.

    python benchmarks/memory.py [MUSIC …]

The two files are made of the music named (or of chords), repeated. Each is tagged in a fresh process, whose own peak of
resident memory is read from the kernel. Prints a Markdown table.
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
        music = [Path(each) for each in sys.argv[1:]] or [make_song(folder / "chords.flac")]
        print("## Peak memory of tagging\n")
        print("| stereo FLAC, 44.1 kHz | file MB | peak MB | seconds | × real time |\n|---|---|---|---|---|")
        peaks = []
        for length, seconds in LENGTHS.items():
            path = _long(folder / "long.flac", music, seconds)
            began = time.perf_counter()
            answer = subprocess.run([sys.executable, "-c", PEAK, path], check=True, capture_output=True, text=True)
            took = time.perf_counter() - began
            peak, heard = map(float, answer.stdout.split())
            size = path.stat().st_size / 2**20
            peaks.append(peak)
            times = heard / took
            print(f"| {length} | {size:.0f} | {peak:.0f} | {took:.1f} | {times:.0f} |", flush=True)
        print(
            f"\n2 h took {peaks[1] - peaks[0]:+.0f} MB against 10 min; the goals are at most +100 MB, and 1 GB in all."
        )


def _long(path: Path, music: list[Path], seconds: int) -> Path:
    """So many seconds of the music, over and over."""
    left = seconds * 44_100
    with soundfile.SoundFile(path, "w", 44_100, 2) as file:
        while left > 0:
            for each in music:
                with soundfile.SoundFile(each) as source:
                    while left > 0 and len(block := source.read(2**16, dtype="float32", always_2d=True)):
                        stereo = np.repeat(block, 2, axis=1)[:left, :2] if block.shape[1] == 1 else block[:left, :2]
                        file.write(stereo)
                        left -= len(stereo)
    return path


if __name__ == "__main__":
    main()

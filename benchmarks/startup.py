"""Measure cold starts: `import moodfield`, `moodfield --help`, and tagging a four-minute song on one core.

    python benchmarks/startup.py [SONG]

Every measurement is a new process. Prints the fastest and the median time as a Markdown table, with `python -c pass`
for comparison between machines. Without SONG, four minutes of chords are synthesised as FLAC.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

REPEATS = 7
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        song = Path(sys.argv[1]) if len(sys.argv) > 1 else make_song(Path(folder) / "chords.flac")
        moodfield = [sys.executable, "-m", "moodfield"]
        commands = {
            "`python -c pass`": ([sys.executable, "-c", "pass"], None),
            "`import moodfield`": ([sys.executable, "-c", "import moodfield"], 0.2),
            "`moodfield --help`": ([*moodfield, "--help"], 0.5),
            f"`moodfield tag` of {soundfile.info(song).duration:.0f} s of music": ([*moodfield, "tag", str(song)], 3.0),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, (command, _) in commands.items():
                times[name].append(_seconds(command))
    print("## Cold starts, one core\n")
    print("| command | fastest s | median s | goal s |\n|---|---|---|---|")
    for name, (_, goal) in commands.items():
        print(f"| {name} | {min(times[name]):.2f} | {statistics.median(times[name]):.2f} | {goal or ''} |")


def _seconds(command: list[str]) -> float:
    pinned = ["taskset", "-c", "0", *command]
    start = time.perf_counter()
    subprocess.run(pinned, check=True, capture_output=True, env={**os.environ, **ONE_CORE})
    return time.perf_counter() - start


def make_song(path: Path) -> Path:
    """Write four minutes of stereo chords in noise at 44.1 kHz, which compress like music."""
    rate, seconds = 44_100, 240
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", rate, 2) as file:
        for _ in range(seconds // 2):
            at = np.arange(2 * rate) / rate
            tones = generator.choice([220, 247, 277, 294, 330, 370, 415], 3, replace=False)
            chord = sum(np.sin(2 * np.pi * tone * at) for tone in tones) / 5
            noise = generator.standard_normal((2 * rate, 2)) * 0.02
            file.write(chord[:, None] * np.exp(-at)[:, None] + noise)
    return path


if __name__ == "__main__":
    main()

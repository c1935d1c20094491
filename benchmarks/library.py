"""Measure a library of 100,000 tracks: time, memory and size of every command, and a scan of unchanged files.

    python benchmarks/library.py [--tracks N] [--files N]

Logits and embeddings of the tracks are random, with the mean and covariance that the bundled model states for logits;
every measurement is a new process on one core. Prints a Markdown table.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import moodfield
from moodfield.decoding.metadata import Metadata
from moodfield.library import database, models, scan, similarity
from moodfield.library.analysis import SPANS, STEPS, Analysis
from moodfield.library.scan import FileState
from moodfield.tagger import Tagger

CHANNELS, FACTORS = 256, 24
"""of synthetic embeddings, and how many independent components they mostly have"""
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
GOALS = {"similar": 1.5}
"""seconds that commands may take"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db, music = Path(folder, "library.db"), Path(folder, "music")
        fill(db, synthetic_files(options.tracks), moodfield.load())
        track = "/music/artist 7/album 0/00007.flac"
        out = Path(folder, "out")
        commands = {
            "list": ["library", "list"],
            "list --json": ["library", "list", "--json"],
            "find": ["library", "find", "calm", "--not", "dark", "--limit", "50"],
            "show": ["library", "show", track],
            "stats": ["library", "stats"],
            "similar": ["library", "similar", track],
            "playlist": ["playlist", "--mood", "calm", "--not", "dark", "-o", f"{out}.m3u8"],
            "playlist, journey": [
                "playlist",
                "--from",
                track,
                "--to",
                "/music/artist 9/album 2/00009.flac",
                "-o",
                f"{out}.m3u8",
            ],
            "export, JSON Lines": ["library", "export", "-o", f"{out}.jsonl"],
            "export, CSV": ["library", "export", "-o", f"{out}.csv"],
            "export, Parquet": ["library", "export", "-o", f"{out}.parquet"],
            "check": ["library", "check", "--quick"],
        }
        size = database.size(db)
        print(f"## A library of {options.tracks:,} tracks, one core\n")
        print(f"The database has {size / 1e6:,.0f} MB, {size / options.tracks / 1000:.2f} kB a track.\n")
        print("| command | s | of the processor | peak memory, MB | goal, s |\n|---|---|---|---|---|")
        for name, words in commands.items():
            print_row(name, *measure(words, db), GOALS.get(name))
        small = Path(folder, "small.db")
        fill(small, write_files(music, options.files), moodfield.load())
        print_row(f"scan of {options.files:,} unchanged files", *measure(["library", "scan", str(music)], small), 5.0)
        print(f"\nThe search alone, once embeddings are loaded: {time_search(db):.3f} s (goal 0.1 s).")


def synthetic_files(count: int) -> list[FileState]:
    """Files of many artists, none of which exists."""
    names = (f"/music/artist {n % 997}/album {n % 7}/{n:05}.flac" for n in range(count))
    return [FileState(Path(name), 25_000_000 + number, 10**18) for number, name in enumerate(names)]


def write_files(folder: Path, count: int) -> list[FileState]:
    """Files that exist, of a few bytes."""
    files = []
    for number in range(count):
        path = folder / f"{number // 10}" / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
        status = path.stat()
        files.append(FileState(path, status.st_size, status.st_mtime_ns))
    return files


def fill(db: Path, files: list[FileState], tagger: Tagger) -> None:
    """Make a library of these files with random outputs of the model."""
    drawn = np.random.default_rng(0)
    usual = tagger.statistics
    assert usual is not None
    directions = drawn.normal(size=(FACTORS, CHANNELS)).astype(np.float32)
    with database.write(db) as connection:
        model = models.store(connection, tagger)
        connection.execute("BEGIN")
        for number, state in enumerate(files):
            logits = (usual.mean + usual.std * drawn.normal(size=len(usual.mean))).astype(np.float32)
            embedding = drawn.normal(size=FACTORS).astype(np.float32) @ directions + drawn.normal(size=CHANNELS)
            curves = np.repeat(np.round(12 * logits)[:, None], STEPS, axis=1) + drawn.integers(
                -9, 9, (len(logits), STEPS)
            )
            names = Metadata(
                f"artist {number % 997}", f"album {number % 7_001}", f"title {number}", "jazz", 1960 + number % 60
            )
            result = Analysis(
                digest=number.to_bytes(32, "big"),
                metadata=names,
                duration=float(drawn.uniform(120, 400)),
                logits=logits,
                embedding=embedding.astype(np.float16),
                curves=np.clip(curves, -127, 127).astype(np.int8),
                envelope=drawn.integers(0, 255, SPANS).astype(np.uint8),
            )
            scan.store(connection, state, model, result)
        connection.execute("COMMIT")


def measure(words: list[str], db: Path) -> tuple[float, float, float]:
    """Seconds, those of the processor, and the peak memory in MB, of a command in a new process."""
    code = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss)\nsys.exit(code)"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", code, sys.executable, "-m", "moodfield", *words, "--db", str(db)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ONE_CORE})
    scale = 1_000 if sys.platform == "linux" else 1_000_000
    processor, memory = done.stdout.split()
    return time.perf_counter() - start, float(processor), int(memory) / scale


def print_row(name: str, seconds: float, processor: float, memory: float, goal: float | None) -> None:
    print(
        f"| {name} | {seconds:.2f} | {processor:.2f} | {memory:,.0f} | {'' if goal is None else f'{goal:g}'} |",
        flush=True,
    )


def time_search(db: Path) -> float:
    """Seconds of one search, the fastest of five."""
    with database.read(db) as connection:
        embeddings = similarity.read(connection, models.choose(connection))
    times = []
    for track in embeddings.ids[:5].tolist():
        start = time.perf_counter()
        similarity.nearest(embeddings, track, limit=20)
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()

"""Measure `write-tags`: rate, memory and size of the journal for many files, and the time for one file by format.

    python benchmarks/write_tags.py [--files N]

The files are copies of tones, encoded by ffmpeg; the library has random logits for them. Every command is a new process
on one core. Prints Markdown tables.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import moodfield
from moodfield.decoding.metadata import Metadata
from moodfield.file_tags import fields, journal, plan, writing
from moodfield.library import database, models, scan
from moodfield.library.analysis import SPANS, STEPS, Analysis
from moodfield.library.scan import FileState

ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
FORMATS = {
    "mp3": [],
    "flac": [],
    "ogg": ["-c:a", "libvorbis"],
    "opus": [],
    "m4a": [],
    "wma": [],
    "wav": [],
    "aiff": [],
    "wv": [],
}
MINUTES = 4
"""duration of one file by format"""
VALUES = {fields.MOOD: plan.Wanted(("calm", "dark")), fields.THEME: plan.Wanted(("film",))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    if not shutil.which("ffmpeg"):
        sys.exit("ffmpeg is not installed; it makes the files")
    with tempfile.TemporaryDirectory() as folder:
        print("| files | command | s | files/s | peak memory, MB | journal, kB a file |\n|---|---|---|---|---|---|")
        for count in (options.files // 10, options.files):
            measure_many(Path(folder, str(count)), count)
        print(f"\n| {MINUTES} min | MB | s | checked by | delta, bytes |\n|---|---|---|---|---|")
        for suffix, codec in FORMATS.items():
            measure_format(Path(folder), suffix, codec)


def encode(path: Path, seconds: float, codec: list[str]) -> None:
    """Encode noise with tags."""
    source = f"anoisesrc=d={seconds}:r=44100:a=0.1[a];sine=440:d={seconds}:r=44100[b];[a][b]amerge"
    words = ["ffmpeg", "-v", "error", "-filter_complex", source, "-metadata", "title=A title", *codec, str(path)]
    subprocess.run(words, check=True)


def fill(db: Path, paths: list[Path]) -> None:
    """A library in which all files are tagged, at random."""
    tagger, drawn = moodfield.load(), np.random.default_rng(1)
    with database.write(db) as connection:
        model = models.store(connection, tagger)
        for path in paths:
            status = path.stat()
            logits = drawn.normal(-3, 1.5, len(tagger.vocabulary)).astype(np.float32)
            curves, envelope = np.zeros((len(logits), STEPS), np.int8), np.zeros(SPANS, np.uint8)
            result = Analysis(drawn.bytes(32), Metadata(), 2.0, logits, None, curves, envelope)
            with database.transaction(connection):
                scan.store(connection, FileState(path, status.st_size, status.st_mtime_ns), model, result)


def measure_many(folder: Path, count: int) -> None:
    """Plan, write and undo tags of many short files."""
    music, db = folder / "music", folder / "library.db"
    music.mkdir(parents=True)
    encode(folder / "one.mp3", 2.0, [])
    paths = [Path(shutil.copy(folder / "one.mp3", music / f"{number:05}.mp3")) for number in range(count)]
    fill(db, paths)
    for words in ([], ["--apply"], ["--undo", "--apply"]):
        seconds, megabytes = run(["write-tags", str(music), "--db", str(db), "--jobs", "1", *words])
        size = sum(path.stat().st_size for path in folder.glob(f"{journal.default_path(db).name}*")) / count / 1000
        cells = f"{seconds:.1f} | {count / seconds:.0f} | {megabytes:.0f} | {size:.2f}"
        print(f"| {count:,} | write-tags {' '.join(words)} | {cells} |", flush=True)
    shutil.rmtree(folder)


def run(words: list[str]) -> tuple[float, float]:
    """The seconds and the peak memory in MB of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "moodfield", *words],
        env=os.environ | ONE_CORE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, message = process.communicate()
    if process.returncode:
        sys.exit(message.decode())
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def measure_format(folder: Path, suffix: str, codec: list[str]) -> None:
    """Write tags into one long file, the best of three."""
    path, db = folder / f"long.{suffix}", folder / "journal.db"
    encode(path, 60 * MINUTES, codec)
    original, size = path.read_bytes(), path.stat().st_size / 1e6
    seconds, deltas = [], []
    decodes = False
    for run in range(3):
        path.write_bytes(original)
        start = time.perf_counter()
        writing.write_file(path, VALUES, writing.Job(plan.WriteConfig(), db, run))
        seconds.append(time.perf_counter() - start)
        with journal.connect(db) as connection:
            run_of_file = journal.last_run(connection, [path])
            assert run_of_file is not None
            (number,) = run_of_file.numbers
            entry = journal.read(connection, number)
            deltas.append(len(entry.delta))
    from moodfield.file_tags import verification

    (folder / "copy").write_bytes(original)
    decodes = verification._encoded(folder / "copy") != verification._encoded(path)
    kind = "samples" if decodes else "encoded bytes"
    print(f"| {suffix} | {size:.1f} | {min(seconds):.2f} | {kind} | {max(deltas):,} |", flush=True)
    path.unlink()


if __name__ == "__main__":
    main()

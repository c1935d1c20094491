"""Measure the page that tags in the browser: time of one core, and memory, for tracks of several lengths in Chromium.

    python benchmarks/browser.py [MUSIC]

The files repeat the given music, or chords. Times and memory are those of the process of the page, without the browser
around it. Prints a Markdown table.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import Page, sync_playwright

import moodfield
from moodfield import audio
from moodfield.browser import folder
from startup import make_song

LENGTHS = {"4 min": 240, "1 h": 3_600}
KINDS = (".flac", ".ogg", ".mp3")
"""suffixes of files of the first length; the others are FLAC"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as tools:
        root = Path(name)
        music = Path(sys.argv[1]) if len(sys.argv) > 1 else make_song(root / "chords.flac")
        folder.write("default", root / "moods")
        size = sum(path.stat().st_size for path in (root / "moods").iterdir())
        print(f"## In the browser: {size / 1e6:.1f} MB are transferred, at most\n")
        print("| file | × real time of one core | peak MB of the page | largest difference of a score |")
        print("|---|---|---|---|")
        chromium = tools.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        for length, seconds in LENGTHS.items():
            for suffix in KINDS if length == "4 min" else KINDS[:1]:
                path = _make(root / f"track{suffix}", music, seconds)
                page = chromium.new_page()
                page.goto((root / "moods" / "index.html").as_uri())
                _tag(page, _make(root / "short.flac", music, 2))  # loads the model
                before = _renderer()[1]
                scores = _tag(page, path)
                peak, after = _renderer()
                expected = moodfield.load().tag(path).scores
                print(
                    f"| {length} {suffix} | {seconds / (after - before):.0f} | {peak:.0f} "
                    f"| {np.abs(expected - scores).max():.1e} |"
                )
                page.close()
        chromium.close()


def _tag(page: Page, path: Path) -> np.ndarray:
    """Scores of a file."""
    page.set_input_files("input[type=file]", path)
    page.wait_for_selector(".summary button:has-text('Clear')", timeout=1_200_000)
    with page.expect_download() as download:
        page.click("text=Save JSON")
    page.click("text=Clear")
    return np.array(list(json.loads(Path(download.value.path()).read_text())["scores"].values()))


def _renderer() -> tuple[float, float]:
    """Peak memory in MB and processor time in seconds of the busiest process of a page."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if b"--type=renderer" not in (process / "cmdline").read_bytes():
                continue
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            status = (process / "status").read_text()
        except OSError:  # it is no process, or it has ended
            continue
        peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        found.append(((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak))
    seconds, peak = max(found)
    return peak, seconds


def _make(path: Path, music: Path, seconds: float) -> Path:
    """A stereo file of a length that repeats music; in pieces, since libvorbis crashes on long ones."""
    samples = audio.read(music, sample_rate=44_100).samples
    with soundfile.SoundFile(path, "w", 44_100, 2) as file:
        for start in range(0, round(seconds * 44_100), 2**15):
            count = min(2**15, round(seconds * 44_100) - start)
            piece = np.take(samples, np.arange(start, start + count), mode="wrap")
            file.write(np.stack([piece, piece * 0.8], axis=1))
    return path


if __name__ == "__main__":
    main()

"""Prints how many hours of music the manifest has, by kind and by licence; `--update` writes them into the README.

.venv/bin/python music/summary.py [--update]
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from moodfield.distillation import manifest
from moodfield.distillation.manifest import KINDS, Music

HERE = Path(__file__).parent
MARKS = "<!-- hours, by summary.py -->", "<!-- end of hours -->"


def main() -> None:
    """Print the tables, or write them into the README."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write them into README.md")
    text = "\n".join(tables(manifest.read_manifest(HERE / "manifest.tsv")))
    if not parser.parse_args().update:
        sys.stdout.write(f"{text}\n")
        return
    readme = HERE / "README.md"
    before, after = MARKS
    pattern = f"(?s)(?<={re.escape(before)}\n).*(?=\n{re.escape(after)})"
    readme.write_text(re.sub(pattern, lambda _: text, readme.read_text(encoding="utf-8")), encoding="utf-8")


def tables(music: Music) -> Iterator[str]:
    """Lines of two Markdown tables: hours by kind and split, and by licence and source."""
    train, heldout = (f"{len(split.tracks)} tracks" for split in (music.train, music.heldout))
    yield f"| Kind | Training: {train} | Held out: {heldout} |"
    yield "|---|--:|--:|"
    hours = music.hours("kind", "split")
    for kind in sorted({kind for kind, _ in hours}, key=[*KINDS, manifest.UNKNOWN].index):
        yield f"| {kind} | {hours.get((kind, 'train'), 0):.2f} h | {hours.get((kind, 'heldout'), 0):.2f} h |"
    total = music.hours("split")
    yield f"| all | {total['train',]:.2f} h | {total['heldout',]:.2f} h |"
    yield ""
    yield "| Licence | Hours |"
    yield "|---|--:|"
    licences: dict[str, float] = {}
    for (licence,), of_licence in music.hours("licence").items():
        name = licence.removesuffix(" (package-wide statement)")
        licences[name] = licences.get(name, 0) + of_licence
    for licence, of_licence in sorted(licences.items(), key=lambda item: -item[1]):
        yield f"| {licence} | {of_licence:.2f} |"


if __name__ == "__main__":
    main()

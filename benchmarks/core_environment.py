"""Measure the size on disk of an environment with moodfield without extras, and tag a song in it.

    python benchmarks/core_environment.py

Installs the package into a temporary virtual environment, checks that torch and SciPy are absent, and prints sizes as a
Markdown table.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from startup import make_song

ROOT = Path(__file__).parent.parent
ABSENT = "import importlib.util as u; print([n for n in ('torch', 'scipy', 'librosa') if u.find_spec(n)])"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = str(folder / "venv" / "bin" / "python")
        _run([sys.executable, "-m", "venv", str(folder / "venv")])
        empty = _megabytes(folder / "venv")
        _run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", str(ROOT)])
        present = _run([python, "-c", ABSENT])
        if present.strip() != "[]":
            raise SystemExit(f"the core environment contains {present}")
        tagged = _run([python, "-m", "moodfield", "tag", str(make_song(folder / "chords.flac"))])
        print("## The core environment\n")
        print("| package | MB |\n|---|---|")
        for package in sorted((folder / "venv").glob("lib/python*/site-packages/*"), key=_megabytes, reverse=True)[:8]:
            print(f"| {package.name} | {_megabytes(package):.0f} |")
        print(f"| an empty environment | {empty:.0f} |")
        print(f"| **total** (goal: at most 300) | **{_megabytes(folder / 'venv'):.0f}** |")
        print("\nA song tagged without torch and SciPy:\n\n```\n" + tagged.rstrip() + "\n```")


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd="/").stdout


def _megabytes(path: Path) -> float:
    """Size on disk of a file or folder in MB; links are not followed."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_blocks * 512 for file in files if file.is_symlink() or file.is_file()) / 1e6


if __name__ == "__main__":
    main()

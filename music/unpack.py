"""Copies the manifest's music from unpacked Debian packages into one folder and verifies the SHA-1 of each file.

    python3 music/unpack.py [--from .cache/unpacked] [--to .cache/music] [PACKAGE ...]

Each PACKAGE (all of the manifest, if none is named) must lie unpacked under `--from`, as `dpkg -x` leaves it. Its files
go to `--to`/PACKAGE/path; a path that begins with `_name/` lies inside the archive `name.zip` or `name.pk3` of the
package. What is already there and right is left alone, so with nothing unpacked this only checks. Exit code 1 says that
a file is missing or is not the one the manifest means; all of them are listed.
"""

import argparse
import csv
import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MANIFEST = Path(__file__).with_name("manifest.tsv")


def main() -> int:
    """Unpack the packages named on the command line, and print faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--from", dest="source", type=Path, default=Path(".cache/unpacked"))
    parser.add_argument("--to", dest="target", type=Path, default=Path(".cache/music"))
    wanted = parser.parse_args()
    rows = read_manifest()
    known = list(dict.fromkeys(row["package"] for row in rows))
    if strangers := [name for name in wanted.packages if name not in known]:
        parser.error(f"not in {MANIFEST}: {', '.join(strangers)}; known: {', '.join(known)}")
    faults: list[str] = []
    for package in wanted.packages or known:
        mine = [row for row in rows if row["package"] == package]
        wrong = unpack(mine, wanted.source / package, wanted.target / package)
        print(f"{package}: {len(mine) - len(wrong)} of {len(mine)} files")
        faults += [f"{package}: {fault}" for fault in wrong]
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


def read_manifest() -> list[dict[str, str]]:
    """The rows of `manifest.tsv`, in file order."""
    with MANIFEST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def unpack(rows: list[dict[str, str]], source: Path, target: Path) -> list[str]:
    """Copy every file of one package to `target`; returns descriptions of faults."""
    faults = []
    for row in rows:
        goal = target / row["path"]
        if goal.is_file() and sha1_of(goal) == row["sha1"]:
            continue
        try:
            with opened(source, row["path"]) as stream:
                fault = write(stream, goal, row["sha1"])
        except FileNotFoundError as absent:
            fault = str(absent)
        if fault:
            faults.append(f"{row['path']}: {fault}")
    notice = Path("usr/share/doc") / target.name / "copyright"
    if not faults and (source / notice).is_file():
        (target / notice).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / notice, target / notice)
    return faults


@contextmanager
def opened(source: Path, path: str) -> Iterator[IO[bytes]]:
    """One file of a package, in the package itself or in an archive within it."""
    first, _, inner = path.partition("/")
    if not first.startswith("_"):
        if not (source / path).is_file():
            raise FileNotFoundError(f"missing (not in {source})")
        with (source / path).open("rb") as stream:
            yield stream
        return
    archives = [found for end in ("zip", "pk3") for found in source.rglob(f"{first[1:]}.{end}")]
    if not archives:
        raise FileNotFoundError(f"missing (no archive {first[1:]}.zip or .pk3 in {source})")
    with zipfile.ZipFile(archives[0]) as archive:
        if inner not in archive.NameToInfo:
            raise FileNotFoundError(f"missing (not in {archives[0]})")
        with archive.open(inner) as stream:
            yield stream


def write(stream: IO[bytes], goal: Path, sha1: str) -> str:
    """Write a file atomically if its SHA-1 is right; returns the fault or nothing."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = goal.with_name(f".{goal.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        found = sha1_of(part)
        if found != sha1:
            return f"another file (SHA-1 {found}, wanted {sha1})"
        os.replace(part, goal)  # noqa: PTH105 (the call is atomic)
        return ""
    finally:
        part.unlink(missing_ok=True)


def sha1_of(path: Path) -> str:
    """The SHA-1 of a file, used for identity only."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


if __name__ == "__main__":
    sys.exit(main())

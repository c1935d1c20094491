"""Copies the music of the manifest from unpacked Debian packages into one folder, and checks its SHA-1.

    python3 music/unpack.py [--from .cache/unpacked] [--to .cache/music] [PACKAGE ...]

Each PACKAGE (by default all of the manifest) must be unpacked below `--from`, as by `dpkg -x`. Its files are copied to
`--to`/PACKAGE/path; a path that begins with `_name/` is in the archive `name.zip` or `name.pk3` of the package. Files
that exist and have the right checksum are kept, so with nothing unpacked this only checks. The exit code is 1 if a file
is missing or has another checksum; all of them are listed.
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
    """Copy the music of the packages on the command line, and print all faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--from", dest="source", type=Path, default=Path(".cache/unpacked"))
    parser.add_argument("--to", dest="target", type=Path, default=Path(".cache/music"))
    options = parser.parse_args()
    rows = read_manifest()
    packages = list(dict.fromkeys(row["package"] for row in rows))
    if unknown := [name for name in options.packages if name not in packages]:
        parser.error(f"not in {MANIFEST}: {', '.join(unknown)}; expected: {', '.join(packages)}")
    faults: list[str] = []
    for package in options.packages or packages:
        package_rows = [row for row in rows if row["package"] == package]
        package_faults = unpack(package_rows, options.source / package, options.target / package)
        print(f"{package}: {len(package_rows) - len(package_faults)} of {len(package_rows)} files")
        faults += [f"{package}: {fault}" for fault in package_faults]
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


def read_manifest() -> list[dict[str, str]]:
    """The rows of `manifest.tsv`, in file order."""
    with MANIFEST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def unpack(rows: list[dict[str, str]], source: Path, target: Path) -> list[str]:
    """Copy every file of one package to `target`; returns a message for each file that failed."""
    faults = []
    for row in rows:
        target_path = target / row["path"]
        if target_path.is_file() and sha1_of(target_path) == row["sha1"]:
            continue
        try:
            with open_member(source, row["path"]) as stream:
                fault = write(stream, target_path, row["sha1"])
        except FileNotFoundError as error:
            fault = str(error)
        if fault:
            faults.append(f"{row['path']}: {fault}")
    notice = Path("usr/share/doc") / target.name / "copyright"
    if not faults and (source / notice).is_file():
        (target / notice).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / notice, target / notice)
    return faults


@contextmanager
def open_member(source: Path, path: str) -> Iterator[IO[bytes]]:
    """Open a file of a package: in the package itself, or in an archive within it."""
    first, _, inner = path.partition("/")
    if not first.startswith("_"):
        if not (source / path).is_file():
            raise FileNotFoundError(f"missing (not in {source})")
        with (source / path).open("rb") as stream:
            yield stream
        return
    archives = [path for suffix in ("zip", "pk3") for path in source.rglob(f"{first[1:]}.{suffix}")]
    if not archives:
        raise FileNotFoundError(f"missing (no archive {first[1:]}.zip or .pk3 in {source})")
    with zipfile.ZipFile(archives[0]) as archive:
        if inner not in archive.NameToInfo:
            raise FileNotFoundError(f"missing (not in {archives[0]})")
        with archive.open(inner) as stream:
            yield stream


def write(stream: IO[bytes], target_path: Path, sha1: str) -> str:
    """Write a file atomically if its checksum is right; returns a message if it is not."""
    target_path.parent.mkdir(parents=True, exist_ok=True)
    part = target_path.with_name(f".{target_path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        if (digest := sha1_of(part)) != sha1:
            return f"another file (SHA-1 {digest}, expected {sha1})"
        os.replace(part, target_path)  # noqa: PTH105 (documented as atomic)
        return ""
    finally:
        part.unlink(missing_ok=True)


def sha1_of(path: Path) -> str:
    """The SHA-1 of a file, for identity only."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


if __name__ == "__main__":
    sys.exit(main())

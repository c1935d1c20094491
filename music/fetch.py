"""Brings the music of the manifest into one folder, and checks the SHA-256 of every file.

    .venv/bin/python music/fetch.py [--to .cache/music] [--local FOLDER …] [PACKAGE …]

Each PACKAGE (by default all of the manifest) gets its files at `--to`/PACKAGE/path: from a folder on this machine that
has them at the same place (`--local`, and `more-music` in the folder that MOODFIELD_DATA names), from a Debian package,
or over HTTPS from the repository in the column `source`. Files that exist and are right are kept, downloads resume, and
a file with another checksum is never kept. The exit code is 1 if a file is missing; all of them are listed, and the
others are there.
"""

import argparse
import hashlib
import os
import re
import shutil
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import debian
import mix

from moodfield import files
from moodfield.datasets import download
from moodfield.distillation import manifest
from moodfield.distillation.manifest import Piece
from moodfield.errors import MoodfieldError

MANIFEST = Path(__file__).with_name("manifest.tsv")
GITHUB = "https://raw.githubusercontent.com"
"""where files of repositories are downloaded"""
REPOSITORY = re.compile(r"github:([A-Za-z0-9._-]+/[A-Za-z0-9._-]+)@([0-9a-f]{40}):(.+)")
"""source of a file: repository, commit, path"""
MAX_BYTES = 2**28
"""largest file that is downloaded"""


@dataclass(frozen=True)
class Places:
    """Where files come from, and where they go."""

    target: Path = Path(".cache/music")
    """folder of the music"""
    cache: Path = Path(".cache")
    """folder of .deb files, unpacked packages and scores"""
    local: tuple[Path, ...] = ()
    """folders that may have the files, as PACKAGE/path"""
    github: str = GITHUB
    """base URL of files of repositories"""
    retry: download.RetryPolicy = field(default_factory=lambda: download.RetryPolicy(attempts=3))
    """how often a download is attempted"""


def main() -> int:
    """Bring the music of the packages on the command line, and print all faults."""
    places, packages = _parse()
    faults = 0
    for package, pieces in packages.items():
        messages = fetch(package, pieces, places)
        print(f"{package}: {len(pieces) - len(messages)} of {len(pieces)} files", flush=True)
        for message in messages:
            print(f"{package}/{message}", file=sys.stderr, flush=True)
        faults += len(messages)
    if faults:
        print(f"{faults} files are missing; the same command tries them again", file=sys.stderr)
    return 1 if faults else 0


def _parse() -> tuple[Places, dict[str, list[Piece]]]:
    """The places and the chosen packages of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--to", type=Path, default=Path(".cache/music"), help="folder of the music")
    parser.add_argument("--local", type=Path, action="append", default=[], help="a folder that may have PACKAGE/path")
    parser.add_argument("--github", default=GITHUB, help="base URL of files of repositories, a mirror")
    options = parser.parse_args()
    if not re.match(r"https://|http://127\.0\.0\.1[:/]", options.github):
        parser.error(f"--github {options.github} is not encrypted; expected https://")
    packages: dict[str, list[Piece]] = {}
    for piece in manifest.read_manifest(MANIFEST).pieces:
        packages.setdefault(piece.package, []).append(piece)
    if unknown := [name for name in options.packages if name not in packages]:
        parser.error(f"not in {MANIFEST}: {', '.join(unknown)}; expected: {', '.join(packages)}")
    shared = [Path(folder) / "more-music"] if (folder := os.environ.get("MOODFIELD_DATA")) else []
    places = Places(options.to, options.to.parent, (*options.local, *shared), options.github)
    return places, {name: packages[name] for name in options.packages or packages}


def fetch(package: str, pieces: Sequence[Piece], places: Places) -> list[str]:
    """Bring the files of one package; returns a message for each file that failed."""
    missing = [piece for piece in pieces if not _is_complete(places.target / piece.id, piece)]
    missing = [
        piece for piece in missing if _is_made(piece) or not _copy_local(piece, places.target / piece.id, places)
    ]
    faults: dict[str, str] = {}
    folder, package_fault = None, ""
    if any(_is_in_package(piece) for piece in missing):
        try:
            folder = debian.unpack(package, places.cache)
        except OSError as error:
            package_fault = str(error)
    for piece in missing:
        try:
            fault = (_is_in_package(piece) and package_fault) or _fetch_piece(piece, folder, places)
        except (MoodfieldError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: of a score
            fault = str(error)
        if fault:
            faults[piece.path] = fault
    if folder is not None:
        debian.copy_notice(folder, places.target / package)
        shutil.rmtree(folder)
    return [f"{path}: {fault}" for path, fault in faults.items()]


def _is_in_package(piece: Piece) -> bool:
    """Whether the file, its stems or its score are in the Debian package."""
    return piece.source == "debian" or piece.source.startswith(("mix:", "render:debian:"))


def _is_made(piece: Piece) -> bool:
    """Whether the file is made from others: mixed or rendered."""
    return piece.source.startswith(("mix:", "render:"))


def _copy_local(piece: Piece, target: Path, places: Places) -> bool:
    """Copy a file from the first local folder that has the right one; returns whether one has."""
    for folder in places.local:
        if (folder / piece.id).is_file():
            with (folder / piece.id).open("rb") as stream:
                if not _write(stream, target, piece.sha256):
                    return True
    return False


def _fetch_piece(piece: Piece, folder: Path | None, places: Places) -> str:
    """Bring one file; returns a message if it failed."""
    target = places.target / piece.id
    scheme, _, rest = piece.source.partition(":")
    if scheme == "mix" and folder:
        return _make(target, piece, [folder / path for path in rest.split(" + ")], mix.mix)
    if scheme == "render":
        return _render(piece, rest, folder, places)
    return _fetch_file(piece, piece.source, target, folder, places)


def _fetch_file(piece: Piece, source: str, target: Path, folder: Path | None, places: Places) -> str:
    """Bring one file from the unpacked package or a repository; returns a message if it failed."""
    scheme, _, path = source.partition(":")
    if scheme == "debian" and folder:
        with debian.open_member(folder, path or piece.path) as stream:
            return _write(stream, target, piece.sha256)
    if match := REPOSITORY.fullmatch(source):
        url = f"{places.github}/{match[1]}/{match[2]}/{urllib.parse.quote(match[3])}"
        download.fetch(target, [url], sha256=piece.sha256, max_bytes=MAX_BYTES, retry=places.retry)
        return ""
    return f"the source {source!r} is not known; expected debian, github:OWNER/NAME@COMMIT:PATH, mix: or render:"


def _render(piece: Piece, source: str, folder: Path | None, places: Places) -> str:
    """Render the score of a piece; returns a message if it failed."""
    import render

    suffix = Path(source).suffix
    score = places.cache / "scores" / f"{piece.id}{suffix}"
    if fault := _fetch_file(piece, source, score, folder, places):
        return fault
    return _make(places.target / piece.id, piece, [score], lambda paths, target: render.render(paths[0], target))


def _make(target: Path, piece: Piece, sources: Sequence[Path], make: Callable[[Sequence[Path], Path], object]) -> str:
    """Make a file from sources with the right checksum, complete or absent; returns a message if it failed."""
    digest = hashlib.sha256()
    for source in sources:
        with source.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    if digest.hexdigest() != piece.sha256:
        return f"other sources (SHA-256 {digest.hexdigest()}, expected {piece.sha256})"
    target.parent.mkdir(parents=True, exist_ok=True)
    _record(target).unlink(missing_ok=True)
    part = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        make(sources, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    _record(target).write_text(piece.sha256, encoding="ascii")
    return ""


def _is_complete(target: Path, piece: Piece) -> bool:
    """Whether the right file exists; one that is made from others has their checksum beside it."""
    if not target.is_file():
        return False
    if _is_made(piece):
        record = _record(target)
        return record.is_file() and record.read_text(encoding="ascii") == piece.sha256
    return files.sha256(target) == piece.sha256


def _record(target: Path) -> Path:
    """The file that has the checksum of what a file was made from."""
    return target.with_name(f".{target.name}.sha256")


def _write(stream: IO[bytes], target: Path, sha256: str) -> str:
    """Write a file atomically if its checksum is right; returns a message if it is not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        if (digest := files.sha256(part)) != sha256:
            return f"another file (SHA-256 {digest}, expected {sha256})"
        part.replace(target)
        return ""
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())

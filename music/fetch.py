"""Brings the music of the manifest into one folder, and checks the SHA-256 of every file.

    .venv/bin/python music/fetch.py [--to .cache/music] [--local FOLDER …] [PACKAGE …]

Each PACKAGE (by default all of the manifest) gets its files at `--to`/PACKAGE/path: from a folder on this machine that
has them at the same place (`--local`, and `more-music` in the folder that MOODFIELD_DATA names), from a Debian package,
or over HTTPS from the repository in the column `source`. Files that exist and are right are kept, downloads resume, and
a file with another checksum is never kept. The exit code is 1 if a file is missing; all of them are listed, and the
others are there. Pieces that are rendered from scores are left out, with one message, where the programs are not
installed.
"""

import argparse
import contextlib
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
import render
from faults import MusicError

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
FAULTS = (MusicError, MoodfieldError, OSError)
"""errors of one piece or package, after which the others are brought"""
VERSIONS = {"mix": mix.VERSION, "render": render.VERSION}
"""version of what makes files, by the scheme of the source"""


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
    left_out = _without_programs(packages, places)
    faults = 0
    for package, pieces in packages.items():
        wanted = [piece for piece in pieces if piece.id not in left_out]
        messages = fetch(package, wanted, places)
        print(f"{package}: {len(wanted)} files, {len(messages)} faults", flush=True)
        for message in messages:
            print(f"{package}/{message}", file=sys.stderr, flush=True)
        faults += len(messages)
    if faults:
        print(f"{faults} files are missing; the same command tries them again", file=sys.stderr)
    return 1 if faults else 0


def _without_programs(packages: dict[str, list[Piece]], places: Places) -> set[str]:
    """The pieces that have to be rendered and cannot be, after one message about them."""
    if not (absent := " ".join(render.missing_packages())):
        return set()
    scores = [piece for pieces in packages.values() for piece in pieces if piece.source.startswith("render:")]
    left_out = {piece.id for piece in scores if not _is_complete(places.target / piece.id, piece)}
    if left_out:
        message = f"{len(left_out)} pieces are left out, which are rendered from scores: that needs {absent}"
        print(f"{message}; as root: apt-get install {absent}", file=sys.stderr, flush=True)
    return left_out


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
    """Bring the files of one package, and its copyright file; returns a message for each that failed."""
    missing = [piece for piece in pieces if not _is_complete(places.target / piece.id, piece)]
    if not missing and not _lacks_notice(package, pieces, places):
        return []
    try:
        with files.lock(places.cache / "unpacked" / f"{package}.lock", what=f"the package {package}"):
            _remove_partial_files(places.target / package)
            missing = [piece for piece in missing if _is_made(piece) or not _copy_local(piece, places)]
            _copy_local_notice(package, places)
            return _fetch_missing(package, missing, places, lacks_notice=_lacks_notice(package, pieces, places))
    except FAULTS as error:
        return [f"{path}: {error}" for path in [piece.path for piece in missing] or [debian.notice(package)]]


def _fetch_missing(package: str, missing: Sequence[Piece], places: Places, *, lacks_notice: bool) -> list[str]:
    """Bring what no local folder has; returns a message for each file that failed."""
    folder, package_fault, faults = None, "", []
    if lacks_notice or any(map(_is_in_package, missing)):
        try:
            folder = debian.unpack(package, places.cache)
        except FAULTS as error:
            package_fault = str(error)
    for piece in missing:
        try:
            if _is_in_package(piece) and not folder:
                raise MusicError(package_fault)
            _fetch_piece(piece, folder, places)
        except FAULTS as error:
            faults.append(f"{piece.path}: {error}")
    if lacks_notice:
        try:
            if not folder:
                raise MusicError(package_fault)
            debian.copy_notice(package, folder, places.target / package)
        except FAULTS as error:
            faults.append(f"{debian.notice(package)}: {error}")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return faults


def _is_in_package(piece: Piece) -> bool:
    """Whether the file, its stems or its score are in the Debian package."""
    return piece.source == "debian" or piece.source.startswith(("mix:", "render:debian:"))


def _is_made(piece: Piece) -> bool:
    """Whether the file is made from others: mixed or rendered."""
    return piece.source.startswith(("mix:", "render:"))


def _lacks_notice(package: str, pieces: Sequence[Piece], places: Places) -> bool:
    """Whether the pieces are from a Debian package whose copyright file is not beside them."""
    return any(map(_is_in_package, pieces)) and not (places.target / package / debian.notice(package)).is_file()


def _remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left behind in a folder and those below it."""
    for each in (folder, *folder.rglob("*")):
        if each.is_dir():
            files.remove_partial_files(each)


def _copy_local(piece: Piece, places: Places) -> bool:
    """Copy a file from the first local folder that has the right one; returns whether one has."""
    for folder in places.local:
        with contextlib.suppress(MusicError, OSError), (folder / piece.id).open("rb") as stream:
            _write(stream, places.target / piece.id, piece.sha256)
            return True
    return False


def _copy_local_notice(package: str, places: Places) -> None:
    """Copy the copyright file of a package from the first local folder that has it."""
    for folder in places.local:
        if (folder / package / debian.notice(package)).is_file():
            debian.copy_notice(package, folder / package, places.target / package)
            return


def _fetch_piece(piece: Piece, folder: Path | None, places: Places) -> None:
    """Bring one file, from the unpacked package if it is there."""
    target = places.target / piece.id
    scheme, _, source = piece.source.partition(":")
    if scheme == "mix" and folder:
        _make(target, piece, [folder / path for path in source.split(" + ")], mix.mix)
    elif scheme == "render":
        score = places.cache / "scores" / f"{piece.id}{Path(source).suffix}"
        _fetch_file(piece, source, score, folder, places)
        _make(target, piece, [score], lambda paths, partial: render.render(paths[0], partial))
    else:
        _fetch_file(piece, piece.source, target, folder, places)


def _fetch_file(piece: Piece, source: str, target: Path, folder: Path | None, places: Places) -> None:
    """Bring one file from the unpacked package or a repository."""
    scheme, _, path = source.partition(":")
    if scheme == "debian" and folder:
        with debian.open_member(folder, path or piece.path) as stream:
            _write(stream, target, piece.sha256)
    elif match := REPOSITORY.fullmatch(source):
        url = f"{places.github}/{match[1]}/{match[2]}/{urllib.parse.quote(match[3])}"
        download.fetch(target, [url], sha256=piece.sha256, max_bytes=MAX_BYTES, retry=places.retry)
    else:
        raise MusicError(
            f"the source {source!r} is not known; expected debian, github:OWNER/NAME@COMMIT:PATH, mix: or render:"
        )


def _make(target: Path, piece: Piece, sources: Sequence[Path], make: Callable[[Sequence[Path], Path], object]) -> None:
    """Make a file from sources with the right checksum, complete or absent."""
    digest = hashlib.sha256()
    for source in sources:
        with source.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    if digest.hexdigest() != piece.sha256:
        raise MusicError(f"other sources (SHA-256 {digest.hexdigest()}, expected {piece.sha256})")
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(target) as partial:
        make(sources, partial)
    files.write(_record(target), _made(target, piece).encode())


def _is_complete(target: Path, piece: Piece) -> bool:
    """Whether the right file exists; one that is made from others has a record beside it, which must be true."""
    try:
        if not target.is_file():
            return False
        if _is_made(piece):
            return _record(target).read_bytes() == _made(target, piece).encode()
        return files.sha256(target) == piece.sha256
    except OSError:
        return False


def _record(target: Path) -> Path:
    """The file that describes a file which was made from others."""
    return target.with_name(f".{target.name}.sha256")


def _made(target: Path, piece: Piece) -> str:
    """The content of the record: SHA-256 of the sources, SHA-256 of the result, version of what made it."""
    return f"{piece.sha256} {files.sha256(target)} {VERSIONS[piece.source.partition(':')[0]]}\n"


def _write(stream: IO[bytes], target: Path, sha256: str) -> None:
    """Write a file atomically if its checksum is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(target) as partial:
        with partial.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        if (digest := files.sha256(partial)) != sha256:
            raise MusicError(f"another file (SHA-256 {digest}, expected {sha256})")


if __name__ == "__main__":
    sys.exit(main())

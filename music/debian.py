"""Files of Debian packages: a package is downloaded and opened, never installed."""

import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from faults import ARCHIVE_ERRORS, MusicError

from moodfield import files

ARCHIVES = ("zip", "pk3", "love")
"""suffixes of archives of files; all are ZIP"""


def unpack(package: str, cache: Path) -> Path:
    """Extract a package into `cache`/unpacked/PACKAGE, after `apt-get download` unless `cache`/debs has it.

    A download is complete or absent; a .deb that cannot be extracted is downloaded again. Package lists are updated
    only if apt does not know the package. No other process may be unpacking the same one.

    Raises:
        MusicError: The package cannot be downloaded or extracted.
        OSError: There is no apt-get or dpkg, or the disk is full.

    """
    debs, folder, fault = cache / "debs", cache / "unpacked" / package, ""
    found = max(debs.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime, default=None)
    if found:
        try:
            return _extract(found, folder)
        except MusicError as error:
            fault = f"{error}; "
    try:
        downloaded = _download(package, debs)
    except MusicError as error:
        raise MusicError(f"{fault}{error}") from error
    if found and found != downloaded:
        found.unlink(missing_ok=True)
    return _extract(downloaded, folder)


@contextmanager
def open_member(folder: Path, path: str) -> Iterator[IO[bytes]]:
    """Open a file of an unpacked package; if its path begins with `_name/`, it is in an archive there.

    Raises:
        MusicError: The package has no such file, or its archive is damaged.

    """
    first, _, inner = path.partition("/")
    if not first.startswith("_"):
        if not (folder / path).is_file():
            raise MusicError(f"missing (not in {folder})")
        with (folder / path).open("rb") as stream:
            yield stream
        return
    archives = [path for suffix in ARCHIVES for path in folder.rglob(f"{first[1:]}.{suffix}")]
    if not archives:
        raise MusicError(f"missing (no archive {first[1:]}.{', .'.join(ARCHIVES)} in {folder})")
    try:
        with zipfile.ZipFile(archives[0]) as archive:
            if inner not in archive.NameToInfo:
                raise MusicError(f"missing (not in {archives[0]})")
            with archive.open(inner) as stream:
                yield stream
    except ARCHIVE_ERRORS as error:
        raise MusicError(f"{archives[0]} is damaged: {error}") from error


def notice(package: str) -> Path:
    """Where a package has its copyright file."""
    return Path("usr/share/doc") / package / "copyright"


def copy_notice(package: str, folder: Path, target: Path) -> None:
    """Copy the copyright file of a package from a folder to the same place below `target`.

    Raises:
        OSError: There is none, or it cannot be written.

    """
    path = target / notice(package)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(path) as partial:
        shutil.copyfile(folder / notice(package), partial)


def _extract(deb: Path, folder: Path) -> Path:
    """Extract a .deb into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run(["dpkg", "-x", str(deb), str(folder)])
    return folder


def _download(package: str, debs: Path) -> Path:
    """Download the .deb of a package into `debs`."""
    command = ["apt-get", "download", package]
    debs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"part.{package}.", dir=debs) as name:
        try:
            _run(command, Path(name))
        except MusicError:
            _run(["apt-get", "update"])
            _run(command, Path(name))
        for path in Path(name).glob(f"{package}_*.deb"):
            return path.replace(debs / path.name)
    raise MusicError(f"{' '.join(command)} brought no {package}_*.deb")


def _run(command: list[str], folder: Path | None = None) -> None:
    """Run a command; raises `MusicError` with its last line if it fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines() or [f"exit code {result.returncode}"]
        raise MusicError(f"{' '.join(command)} failed: {lines[-1]}")

"""Files of Debian packages: a package is downloaded and opened, never installed."""

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ARCHIVES = ("zip", "pk3", "love")
"""suffixes of archives of files; all are ZIP"""


def unpack(package: str, cache: Path) -> Path:
    """Extract a package into `cache`/unpacked/PACKAGE, after `apt-get download` unless `cache`/debs has it.

    A download is complete or absent. Package lists are updated only if apt does not know the package.

    Raises:
        OSError: There is no apt-get or dpkg, the package cannot be downloaded, or the disk is full.

    """
    debs, folder = cache / "debs", cache / "unpacked" / package
    if not list(debs.glob(f"{package}_*.deb")):
        part = debs / f"part.{package}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _download(package, part)
            for path in part.glob(f"{package}_*.deb"):
                path.replace(debs / path.name)
        finally:
            shutil.rmtree(part)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run(["dpkg", "-x", str(max(debs.glob(f"{package}_*.deb"))), str(folder)])
    return folder


@contextmanager
def open_member(folder: Path, path: str) -> Iterator[IO[bytes]]:
    """Open a file of an unpacked package; if its path begins with `_name/`, it is in an archive there.

    Raises:
        FileNotFoundError: The package has no such file.

    """
    first, _, inner = path.partition("/")
    if not first.startswith("_"):
        if not (folder / path).is_file():
            raise FileNotFoundError(f"missing (not in {folder})")
        with (folder / path).open("rb") as stream:
            yield stream
        return
    archives = [path for suffix in ARCHIVES for path in folder.rglob(f"{first[1:]}.{suffix}")]
    if not archives:
        raise FileNotFoundError(f"missing (no archive {first[1:]}.{', .'.join(ARCHIVES)} in {folder})")
    with zipfile.ZipFile(archives[0]) as archive:
        if inner not in archive.NameToInfo:
            raise FileNotFoundError(f"missing (not in {archives[0]})")
        with archive.open(inner) as stream:
            yield stream


def copy_notice(folder: Path, target: Path) -> None:
    """Copy the copyright file of an unpacked package to the same place below `target`."""
    notice = Path("usr/share/doc") / folder.name / "copyright"
    if (folder / notice).is_file():
        (target / notice).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / notice, target / notice)


def _download(package: str, folder: Path) -> None:
    """Download the .deb of a package into a folder."""
    command = ["apt-get", "download", package]
    try:
        _run(command, folder)
    except ChildProcessError:
        _run(["apt-get", "update"])
        _run(command, folder)


def _run(command: list[str], folder: Path | None = None) -> None:
    """Run a command; raises `ChildProcessError`, which is an `OSError`, with its last line if it fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines() or [f"exit code {result.returncode}"]
        raise ChildProcessError(f"{' '.join(command)} failed: {lines[-1]}")

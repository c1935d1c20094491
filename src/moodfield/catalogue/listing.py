"""List the audio files of folders and globs, on local disks, in object storage and on servers."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moodfield import audio
from moodfield.catalogue import storage
from moodfield.errors import CatalogueError

GLOB = frozenset("*?[")


@dataclass(frozen=True)
class StoredFile:
    """A file as a listing describes it."""

    source: str
    """URI; of a local file its absolute path"""
    size: int | None = None
    """bytes; None if unknown"""
    etag: str | None = None
    """entity tag, which changes with the content; None if unknown"""
    mtime: int | None = None
    """time of the last change, in nanoseconds since 1970; None if unknown"""


def find(source: str) -> Iterator[StoredFile]:
    """Find audio files: those below a folder or of a glob, or one file; hidden files and folders are left out.

    Local folders are listed lazily. fsspec lists a folder of other storage, or a glob, as a whole.

    Raises:
        CatalogueError: There is no such folder or file, or it cannot be listed.
    """
    path = storage.local_path(source)
    try:
        with storage.named_errors(source, "listed", passed=(FileNotFoundError,)):
            yield from _find_remote(source) if path is None else map(describe, _find_local(path))
    except FileNotFoundError as error:
        name = storage.public_name(source)
        raise CatalogueError(f"{name} does not exist; name a folder, a glob, a manifest or an audio file") from error


def describe(path: Path) -> StoredFile:
    """A local file; one that cannot be looked at has an unknown size, and fails when it is read."""
    try:
        status = path.stat()
    except OSError:
        return StoredFile(storage.local_source(path))
    return StoredFile(storage.local_source(path), status.st_size, None, status.st_mtime_ns)


def _find_local(path: Path) -> Iterator[Path]:
    """The audio files below a local folder, or of a glob; one file as it is."""
    if os.path.lexists(path):
        yield from _find_in(path, set())
        return
    matches = Path(path.anchor).glob(str(path.relative_to(path.anchor))) if GLOB & set(str(path)) else iter(())
    if (first := next(matches, None)) is None:
        raise FileNotFoundError(path)
    start, visited = _first_pattern(path.parts), set[str]()
    for match in itertools.chain([first], matches):
        if not _is_hidden(match.parts[start:]) and (_is_audio(match.name) or os.path.isdir(match)):  # noqa: PTH112
            yield from _find_in(match, visited)


def _find_in(top: Path, visited: set[str]) -> Iterator[Path]:
    """The files that `audio.find` finds below a folder, without a list of them; a file as it is.

    Args:
        top: A folder or file.
        visited: Real paths of folders that are left out; those of new ones are added.
    """
    if not os.path.isdir(top):  # noqa: PTH112 (Path.is_dir would raise where it may not look)
        yield top
        return
    folders = [str(top)]
    while folders:
        folder = folders.pop()
        if (real := os.path.realpath(folder)) in visited:
            continue
        visited.add(real)
        below = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        below.append(entry.path)
                    elif _is_audio(entry.name):
                        yield Path(entry.path)
        except OSError:
            if folder == str(top):
                raise
            yield Path(folder)  # reading it raises the reason
        folders += sorted(below, reverse=True)


def _find_remote(source: str) -> Iterator[StoredFile]:
    """The audio files below a folder of other storage, or of a glob; one file as it is."""
    system, path = storage.file_system(source)
    is_web = source.startswith("http")
    name = path.partition("?")[0] if is_web else path

    def listed() -> Iterator[tuple[str, dict[str, Any]]]:
        if _is_audio(name) and system.isfile(path):
            yield path, system.info(path)
        elif GLOB & set(name) and (is_web or not system.isdir(path)):
            start = _first_pattern(path.split("/"))
            for match, entry in system.glob(path, detail=True).items():
                if _is_audio(match) and not _is_hidden(match.split("/")[start:]):
                    yield match, entry
        else:
            for _, folders, entries in system.walk(path, detail=True, on_error="raise"):
                for hidden in filter(_is_hidden_name, list(folders)):
                    del folders[hidden]  # is not searched
                for last, entry in entries.items():
                    if _is_audio(last) and not _is_hidden_name(last):
                        yield str(entry["name"]), entry

    for match, entry in listed():
        if entry.get("type") == "file":
            yield _remote_file(system.unstrip_protocol(match), entry)


def _first_pattern(names: Sequence[str]) -> int:
    """The index of the first part of a glob that is no plain name."""
    return next(index for index, name in enumerate(names) if GLOB & set(name))


def _is_hidden(names: Sequence[str]) -> bool:
    return any(map(_is_hidden_name, names))


def _is_hidden_name(name: str) -> bool:
    return name.startswith(".")


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in audio.SUFFIXES  # noqa: PTH122 (there are millions)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # as os.walk does
        return False


def _remote_file(uri: str, entry: dict[str, Any]) -> StoredFile:
    """A file by what a file system of fsspec lists of it."""
    etag = entry.get("ETag") or entry.get("etag")
    changed = entry.get("LastModified") or entry.get("updated") or entry.get("mtime")
    mtime = int(changed.timestamp() * 1e9) if isinstance(changed, datetime) else None
    size = entry.get("size")
    return StoredFile(uri, None if size is None else int(size), str(etag).strip('"') if etag else None, mtime)

"""Files of a catalogue: on local disks, or by fsspec in object storage and on servers."""

import errno
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

from moodfield import audio, files
from moodfield.errors import AudioError, CatalogueError, MoodfieldError, UsageError

Result = TypeVar("Result")

OBJECT_STORES = frozenset("s3 s3a gs gcs az abfs abfss adl oss oci r2".split())
"""protocols whose files appear as a whole when they have been written"""
TRIES = 4
"""times that storage is asked for a file; fsspec's own tries come on top"""
FIRST_PAUSE = 1.0
"""seconds before the second try; it doubles with every further one"""
STORAGE = "storage"
"""`AudioError.reason` of files that storage has not delivered; they are tried again in the next run"""
GLOB = frozenset("*?[")
POLL = 0.1
"""seconds between two checks whether a call is to be stopped"""
USER = re.compile(r"(?:(?<=http://)|(?<=https://))[^/\s]*@|(?<=://)[^/\s]*:[^/\s]*@")
"""user name and password of a URI; `abfs://container@account` has none"""
QUERY = re.compile(r"(https?://.*?)\?\S*", re.DOTALL)
"""an address of the web with its query string, which may hold a signature"""


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


def local_path(uri: str) -> Path | None:
    """The path of a local file, absolute; None for a URI of other storage.

    >>> local_path("file:///a%20b.mp3").as_posix(), local_path("s3://bucket/a.mp3")
    ('/a b.mp3', None)
    """
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
    return None if "://" in uri else Path(os.path.abspath(uri))  # noqa: PTH100 (Path.absolute keeps ..)


def local_source(path: Path) -> str:
    """The name of a local file in a catalogue: its absolute path, or a file URI if that is no UTF-8."""
    name = os.path.abspath(path)  # noqa: PTH100
    try:
        name.encode()
    except UnicodeEncodeError:
        return Path(name).as_uri()
    return name


def absolute(source: str) -> str:
    """A source as it is from any folder: a relative path becomes absolute.

    >>> absolute("s3://bucket/music")
    's3://bucket/music'
    """
    return source if "://" in source else os.path.abspath(source)  # noqa: PTH100


def join(uri: str, *names: str) -> str:
    """A URI or path with further parts."""
    return "/".join([uri.rstrip("/") or "/", *names])


def public_name(text: str) -> str:
    """A URI, or a text with URIs, as messages have it: without passwords and query strings.

    >>> public_name("https://me:secret@host/a.mp3?X-Amz-Signature=6f"), public_name("s3://bucket/why?.mp3")
    ('https://host/a.mp3', 's3://bucket/why?.mp3')
    """
    return QUERY.sub(r"\1", USER.sub("", text))


def file_system(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it; credentials are what fsspec finds.

    Raises:
        UsageError: The protocol is unknown, or a package for it is missing.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        hint = " (for s3:// pip install s3fs, for gs:// gcsfs, for az:// adlfs, for https:// aiohttp)"
        raise UsageError(f"{uri} cannot be opened: {error}{hint}") from error


def find(source: str) -> Iterator[StoredFile]:
    """Find audio files: those below a folder or of a glob, or one file; hidden files are left out.

    Memory is that of the largest folder in the source, except for a glob.

    Raises:
        CatalogueError: There is no such folder or file, or it cannot be listed.
    """
    if path := local_path(source):
        is_glob = bool(GLOB & set(str(path))) and not os.path.lexists(path)
        paths = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if is_glob else [path]
        if not paths or not os.path.lexists(paths[0]):
            raise CatalogueError(f"{source} does not exist; name a folder, a glob, a manifest or an audio file")
        with _listing_errors(source):
            for file in itertools.chain.from_iterable(map(_find_local, paths)):
                yield describe(file)
        return
    system, path_in = file_system(source)

    def listed() -> Iterator[tuple[str, dict[str, Any]]]:
        if GLOB & set(path_in.partition("?")[0] if source.startswith("http") else path_in):
            yield from system.glob(path_in, detail=True).items()
        elif Path(path_in).suffix.lower() in audio.SUFFIXES and system.isfile(path_in):
            yield path_in, system.info(path_in)
        else:
            for _, _, entries in system.walk(path_in, detail=True, on_error="raise"):
                yield from ((str(entry["name"]), entry) for entry in entries.values())

    with _listing_errors(source):
        for name, entry in listed():
            last = name.rpartition("/")[2]
            if entry.get("type") == "file" and not last.startswith(".") and _is_audio(last):
                yield _remote_file(system.unstrip_protocol(name), entry)


def fetch(source: str, target: Path, stop: threading.Event) -> Path:
    """Copy a file to a local path; the path of the copy, or of a local file its own path.

    When `stop` is set it ends at once, with an error; what storage is still doing ends with the program.

    Raises:
        AudioError: It does not exist (`missing`), may not be read (`no-permission`), or storage does not deliver it in
            `TRIES` tries (`storage`).
    """
    if path := local_path(source):
        return path

    def copy() -> None:
        system, path_in = file_system(source)
        system.get_file(path_in, str(target))

    name = public_name(source)
    try:
        retry(lambda: _call(copy, stop), stop)
    except FileNotFoundError as error:
        raise AudioError("missing", f"{name} does not exist: check its name") from error
    except PermissionError as error:
        raise AudioError("no-permission", f"{name} may not be read: check credentials") from error
    except CatalogueError as error:
        raise AudioError(STORAGE, f"{name} was not delivered: {error}; run the command again later") from error
    return target


def read(uri: str) -> bytes:
    """The content of a small file; raises `FileNotFoundError`, or `CatalogueError` if it cannot be read."""
    if path := local_path(uri):
        return path.read_bytes()
    system, path_in = file_system(uri)
    return retry(lambda: bytes(system.cat_file(path_in)))


def open_file(uri: str) -> Any:
    """A file object of fsspec or of the system, open for reading bytes, with random access."""
    if path := local_path(uri):
        return path.open("rb")
    system, path_in = file_system(uri)
    return retry(lambda: system.open(path_in, "rb"))


def write(uri: str, content: bytes) -> None:
    """Write a file, which appears as a whole or not at all; raises `CatalogueError`."""
    if path := local_path(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content)
        return
    system, path_in = file_system(uri)
    if uri.partition("://")[0] in OBJECT_STORES:
        retry(lambda: system.pipe_file(path_in, content))
        return
    partial = f"{path_in}.{os.urandom(8).hex()}.part"
    retry(lambda: (system.makedirs(system._parent(path_in), exist_ok=True), system.pipe_file(partial, content)))
    retry(lambda: system.mv(partial, path_in))


def create(uri: str, content: bytes) -> bool:
    """Write a file unless it exists; whether it was written. Of several machines at once one succeeds.

    That holds on local disks, NFS, and object storage with conditional writes (S3, Google Cloud Storage).
    """
    if path := local_path(uri):
        return _create_local(path, content)
    system, path_in = file_system(uri)
    if uri.partition("://")[0] not in OBJECT_STORES:
        if system.exists(path_in):
            return False
        write(uri, content)
        return True
    try:
        retry(lambda: system.pipe_file(path_in, content, mode="create"))
    except FileExistsError:
        return False
    return True


def names(uri: str) -> set[str]:
    """The names of the files in a folder; none if it does not exist."""
    if path := local_path(uri):
        return {file.name for file in path.iterdir()} if path.is_dir() else set()
    system, path_in = file_system(uri)
    try:
        return {str(name).rpartition("/")[2] for name in retry(lambda: system.ls(path_in, detail=False))}
    except FileNotFoundError:
        return set()


def remove(uri: str) -> None:
    """Remove a file."""
    if path := local_path(uri):
        path.unlink(missing_ok=True)
        return
    system, path_in = file_system(uri)
    retry(lambda: system.rm_file(path_in))


def retry(call: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Call a function of storage, several times if it fails for a reason that may pass.

    Raises:
        FileNotFoundError, FileExistsError, PermissionError: At once.
        CatalogueError: It failed `TRIES` times, the disk is full, or `stop` was set.
    """
    stop = stop or threading.Event()
    pause = FIRST_PAUSE
    for number in range(TRIES):
        try:
            return call()
        except (FileNotFoundError, FileExistsError, PermissionError, UsageError):
            raise
        except Exception as error:  # every file system of fsspec has exceptions of its own
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or number == TRIES - 1 or stop.wait(pause):
                raise CatalogueError(public_name(f"{type(error).__name__}: {error}")) from error
            pause *= 2
    raise AssertionError("unreachable")


def _call(call: Callable[[], None], stop: threading.Event) -> None:
    """Call a function in a thread that ends with the program; raises `InterruptedError` when `stop` is set."""
    future: futures.Future[None] = futures.Future()

    def run() -> None:
        try:
            call()
            future.set_result(None)
        except BaseException as error:  # noqa: BLE001 (the caller raises it)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not futures.wait([future], POLL).done:
        if stop.is_set():
            raise InterruptedError("it was stopped")
    future.result()


@contextmanager
def _listing_errors(source: str) -> Iterator[None]:
    """Raise the errors of a listing as `CatalogueError`."""
    try:
        yield
    except MoodfieldError:
        raise
    except FileNotFoundError as error:
        raise CatalogueError(f"{source} does not exist; name a folder, a glob, a manifest or an audio file") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CatalogueError(f"{source} cannot be listed ({reason}); check its name and credentials") from error


def _create_local(path: Path, content: bytes) -> bool:
    """Write a file under another name, and link it to its own, unless that exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.urandom(8).hex()}.part")
    try:
        partial.write_bytes(content)
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in audio.SUFFIXES  # noqa: PTH122 (there are millions)


def _find_local(path: Path) -> Iterator[Path]:
    """The audio files below a folder, one folder in it after the other; a file as it is."""
    if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir would raise where it may not look)
        yield path
        return
    for entry in sorted(path.iterdir()):
        if not entry.name.startswith(".") and (os.path.isdir(entry) or _is_audio(entry.name)):  # noqa: PTH112
            yield from audio.find(entry)


def describe(path: Path) -> StoredFile:
    """A local file; one that cannot be looked at has an unknown size, and fails when it is read."""
    try:
        status = path.stat()
    except OSError:
        return StoredFile(local_source(path))
    return StoredFile(local_source(path), status.st_size, None, status.st_mtime_ns)


def _remote_file(uri: str, entry: dict[str, Any]) -> StoredFile:
    """A file by what a file system of fsspec lists of it."""
    etag = entry.get("ETag") or entry.get("etag")
    changed = entry.get("LastModified") or entry.get("updated") or entry.get("mtime")
    mtime = int(changed.timestamp() * 1e9) if isinstance(changed, datetime) else None
    size = entry.get("size")
    return StoredFile(uri, None if size is None else int(size), str(etag).strip('"') if etag else None, mtime)

"""Files of a catalogue: on local disks, or by fsspec in object storage and on servers."""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

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
POLL = 0.1
"""seconds between two checks whether a call is to be stopped"""
USER = re.compile(r"(?:(?<=http://)|(?<=https://))[^/\s]*@|(?<=://)[^/\s]*:[^/\s]*@")
"""user name and password of a URI; `abfs://container@account` has none"""
QUERY = re.compile(r"(https?://.*?)\?\S*", re.DOTALL)
"""an address of the web with its query string, which may hold a signature"""


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


def check_name(uri: str) -> None:
    """Raise `CatalogueError` for a URI with a password, which would be stored with the catalogue."""
    if USER.search(uri):
        raise CatalogueError(
            f"{public_name(uri)} is named with a user name and password, which are not stored; leave them out, "
            "and give them to fsspec in its configuration, or as the storage's environment variables"
        )


@cache
def check_protocol(protocol: str) -> None:
    """Raise `UsageError` if fsspec does not know the protocol of a URI, or a package for it is missing."""
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        hint = " (for s3:// pip install s3fs, for gs:// gcsfs, for az:// adlfs, for https:// aiohttp)"
        raise UsageError(f"{protocol}:// cannot be opened: {error}{hint}") from error


def file_system(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it; credentials are what fsspec finds.

    Raises:
        UsageError: The protocol is unknown, or a package for it is missing.
    """
    import fsspec

    protocol, _, path = uri.partition("://")
    check_protocol(protocol)
    try:  # of the host or bucket alone: url_to_fs would split a file name at "::"
        system, _ = fsspec.core.url_to_fs(f"{protocol}://{path.partition('/')[0]}/", use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise UsageError(public_name(f"{uri} cannot be opened: {error}")) from error
    return system, system._strip_protocol(uri)


@contextmanager
def named_errors(
    name: str,
    verb: str,
    remedy: str = "check its name and credentials",
    *,
    passed: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """A context that raises errors as `CatalogueError` with the name of a file, except those of this package.

    Args:
        name: The URI.
        verb: What cannot be done: "read", "written".
        remedy: What to do.
        passed: Errors that are raised as they are.
    """
    try:
        yield
    except Exception as error:  # every file system of fsspec has exceptions of its own
        if isinstance(error, (MoodfieldError, *passed)):
            raise
        cause = f"{type(error).__name__}: {error}"
        raise CatalogueError(public_name(f"{name} cannot be {verb} ({cause}); {remedy}")) from error


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
    except UsageError:
        raise
    except Exception as error:
        cause = public_name(f"{type(error).__name__}: {error}")
        raise AudioError(STORAGE, f"{name} was not delivered: {cause}; run the command again later") from error
    return target


def read(uri: str) -> bytes:
    """The content of a small file; raises `FileNotFoundError`, or `CatalogueError` if it cannot be read."""
    with named_errors(uri, "read", passed=(FileNotFoundError,)):
        if path := local_path(uri):
            return path.read_bytes()
        system, path_in = file_system(uri)
        return retry(lambda: bytes(system.cat_file(path_in)))


def open_file(uri: str) -> Any:
    """A file object of fsspec or of the system, open for reading bytes, with random access; raises as `read` does."""
    with named_errors(uri, "read", passed=(FileNotFoundError,)):
        if path := local_path(uri):
            return path.open("rb")
        system, path_in = file_system(uri)
        return retry(lambda: system.open(path_in, "rb"))


def write(uri: str, content: bytes) -> None:
    """Write a file, which appears as a whole or not at all; raises `CatalogueError`."""
    with named_errors(uri, "written"):
        if path := local_path(uri):
            with _partial_file(path, content) as written:
                written.replace(path)
            return
        system, path_in = file_system(uri)
        if uri.partition("://")[0] in OBJECT_STORES:
            retry(lambda: system.pipe_file(path_in, content))
            return
        folder, _, name = path_in.rpartition("/")
        partial = f"{folder}/{_partial_name(name)}"
        retry(lambda: (system.makedirs(folder, exist_ok=True), system.pipe_file(partial, content)))
        retry(lambda: system.mv(partial, path_in))


def create(uri: str, content: bytes) -> bool:
    """Write a file unless it exists; whether it was written. Of several machines at once one succeeds.

    That holds on local disks, NFS, and object storage with conditional writes (S3, Google Cloud Storage).

    Raises:
        CatalogueError: It cannot be written.
    """
    with named_errors(uri, "written"):
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
    """The names of the files in a folder; none if it does not exist. Raises `CatalogueError`."""
    try:
        with named_errors(uri, "listed", passed=(FileNotFoundError,)):
            if path := local_path(uri):
                return {file.name for file in path.iterdir()}
            system, path_in = file_system(uri)
            return {str(name).rpartition("/")[2] for name in retry(lambda: system.ls(path_in, detail=False))}
    except FileNotFoundError:
        return set()


def remove(uri: str) -> None:
    """Remove a file; raises `CatalogueError`."""
    with named_errors(uri, "removed"):
        if path := local_path(uri):
            path.unlink(missing_ok=True)
            return
        system, path_in = file_system(uri)
        retry(lambda: system.rm_file(path_in))


def retry(call: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Call a function of storage, several times if it fails for a reason that may pass.

    Raises what it has raised: at once if the file does not exist, exists, or may not be used, if the disk is full or
    `stop` is set, else after `TRIES` times.
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
                raise
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


def _create_local(path: Path, content: bytes) -> bool:
    """Link a file of another name to its own, unless that exists."""
    with _partial_file(path, content) as written:
        try:
            path.hardlink_to(written)
        except FileExistsError:
            return False
    return True


@contextmanager
def _partial_file(path: Path, content: bytes) -> Iterator[Path]:
    """A context with a file beside a path that has the content, and is removed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(_partial_name(path.name))
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _partial_name(name: str) -> str:
    """A name that no reader of datasets takes for a part, if a killed process leaves the file behind."""
    return f".{name}.{os.urandom(8).hex()}.part"

"""Files: which may be replaced, atomic writes, locks, checksums, and JSON read safely."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from moodfield.errors import LockedError, MoodfieldError, MoodfieldWarning, OutputError, RunError

HTML, PNG, SVG, PDF = (b"<!doctype html", b"<html"), (b"\x89png",), (b"<svg",), (b"%pdf-",)
NPY = (b"\x93numpy",)
"""how files of a kind begin, in lower case and without leading blanks; XML declarations may stand before SVG"""
HEAD_BYTES = 1024
"""bytes of a file that are compared with them"""
MAX_NAME_BYTES = 200
"""bytes of a file name that its partial file repeats: file systems allow 255"""
UNLOCKABLE = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
"""error numbers of file systems without locks, or of folders: NFS locks what is open for writing (EBADF)"""
PARTIAL = re.compile(r".+\.[0-9a-f]{16}\.part")
"""names of the partial files of `atomic_path`, which a killed process leaves behind"""
LOCK_START = '{"pid": '
"""how lock files begin that are not empty"""
MAX_LINKS = 40
"""symbolic links that are followed, as in Linux"""
STREAMS = ("/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/")
"""beginnings of paths of open files, which are written to and never replaced"""
MAX_JSON_BYTES = 2**28
"""size of the largest JSON file that is read; the log of a long run has a thousandth of it"""
Error = Callable[[str], MoodfieldError]
BLANKS = b"\xef\xbb\xbf \t\r\n"
"""bytes before the text of a file: a byte order mark, and white space"""


def check_output(path: str | Path, *, kind: Sequence[bytes], inputs: Iterable[str | Path] = ()) -> None:
    """Check, before any work is done, that a path may be written; raises `OutputError` otherwise.

    Allowed are a new file in an existing folder, an existing file that is empty or of the same `kind` (`HTML`, `NPY`:
    its first bytes), a link to either, a FIFO and a character device. Not allowed are folders, any of the `inputs`
    (however it is spelled or linked), files of another kind, missing permissions, and a name that looks like an option.
    """
    path = Path(path)
    check_name(path)
    if any(is_same(path, Path(file)) for file in inputs):
        raise OutputError(f"{path} is an input of this command and is not overwritten; name another output")
    try:
        status = path.stat()
    except FileNotFoundError:
        _check_parent(_target(path))
        return
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be written ({error}); name another file") from error
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{path} is a folder; name a file in it")
    if stat.S_ISSOCK(status.st_mode) or stat.S_ISBLK(status.st_mode):
        raise OutputError(f"{path} is a socket or a block device; name a file")
    if _is_stream(path):
        return
    if not os.access(path, os.W_OK):
        raise OutputError(f"{path} is write-protected; name another file, or change its permissions")
    _check_parent(_target(path))
    if status.st_size and not _is_kind(_head(path).lstrip(BLANKS).lower(), kind):
        raise OutputError(f"{path} is a file of another kind, so not replaced; name another file, or remove it first")


def check_name(path: str | Path) -> None:
    """Raise `OutputError` for a path that begins with `-`: the value of an option was probably forgotten."""
    if str(path).startswith("-"):
        raise OutputError(f"the output is named {path}, like an option; give the name of a file or folder")


def write(path: Path, content: bytes) -> None:
    """Write a file atomically; after an `OSError` the previous file is unchanged."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_output(path: Path, content: bytes, *, kind: Sequence[bytes]) -> None:
    """Write a file atomically; raises `OutputError` as `check_output` does, or if the disk is full."""
    check_output(path, kind=kind)
    try:
        write(path, content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); name another file") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A context with the path of a partial file, which is renamed to `path` at the end, or removed after an exception.

    The partial file lies beside its target under a unique name; it is synced to the disk before it is renamed.
    Symbolic links are followed, the mode of an existing file is kept. A FIFO or device receives the bytes.
    """
    if _is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            partial = Path(folder) / "partial"
            yield partial
            with partial.open("rb") as source, path.open("ab") as stream:  # /dev/stdout may be a file that has content
                shutil.copyfileobj(source, stream)
        return
    target = _target(path)
    stem = os.fsencode(target.name)[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    partial = target.with_name(f"{stem}.{secrets.token_hex(8)}.part")
    try:
        yield partial
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


@contextmanager
def partial_directory(target: Path, *, names: Collection[str]) -> Iterator[Path]:
    """A context with an empty folder beside `target`, to be filled and given to `replace_directory`.

    At the end it is removed, if it was not renamed. It is locked as long as its process lives; those that killed
    processes left for the same target are removed first.

    Args:
        target: The folder that it becomes.
        names: Files that it may hold. A folder with others is never removed by a later process.
    """
    for path in sorted(target.parent.iterdir()) if target.parent.is_dir() else ():
        if re.fullmatch(re.escape(target.name) + r"\.[0-9a-f]{16}\.part", path.name):
            _remove_abandoned(path, names)
    folder = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
    folder.mkdir(parents=True)
    try:
        with lock_directory(folder, wait=True):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_directory(folder: Path, target: Path) -> Path:
    """Rename `folder` to `target`; a folder that exists there is removed afterwards.

    Between two renames no folder has the name. A process that is killed there leaves the old folder under another
    name, which `restore_directory` finds.
    """
    if not os.path.lexists(target):
        return folder.replace(target)
    before = target.with_name(f"{target.name}.{secrets.token_hex(8)}.before")
    target.replace(before)
    try:
        folder.replace(target)
    except OSError:
        before.replace(target)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(before)
    return target


def restore_directory(target: Path) -> None:
    """Finish or undo a `replace_directory` whose process was killed; no other process may be replacing the folder.

    The old folder gets its name back if no new one has it, else it is removed.
    """
    if not target.parent.is_dir():
        return
    name = re.compile(re.escape(target.name) + r"\.[0-9a-f]{16}\.before")
    for path in sorted(target.parent.iterdir()):
        if not name.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        if os.path.lexists(target):
            shutil.rmtree(path)
        else:
            path.replace(target)


def remove_partial_files(folder: Path) -> None:
    """Remove the partial files of killed processes from a folder; no other process may be writing to it."""
    for path in folder.iterdir():
        if PARTIAL.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, *, what: str) -> Iterator[None]:
    """A context that holds the lock file `path`.

    It ends with its process; the file of a killed one locks nothing. Nothing is locked on Windows, and without `flock`.

    Args:
        path: The lock file, which is removed at the end.
        what: What is locked.

    Raises:
        LockedError: Another process holds the lock; the message names it.
        OutputError: The file is not a lock file, or cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise OutputError(f"{what} cannot be written ({path}: {error.strerror}); name another one") from error
    if sys.platform == "win32":
        yield
        return
    import fcntl

    while True:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(f"{what} is in use by {_holder(path)}; wait until it ends, or stop it") from error
            except OSError as error:
                if error.errno not in UNLOCKABLE:
                    raise
                note = f"{what} cannot be locked ({error.strerror}): let no other process write there"
                warnings.warn(note, MoodfieldWarning, stacklevel=2)
            if not os.fstat(file.fileno()).st_nlink:
                continue  # the holder removed the file after it was opened here
            file.seek(0)
            if file.read(len(LOCK_START)) not in ("", LOCK_START):
                raise OutputError(f"{path} is kept: it is no lock file of moodfield; move it, or name another folder")
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "command": shlex.join(sys.argv)}))
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, kind: type | tuple[type, ...], *, remedy: str, error: Error = RunError) -> Any:
    """The value in a JSON file, which must be of type `kind`; raises `error` for any other file.

    `remedy` ends the message: what to do about a damaged file. NaN and infinity are rejected, too.
    """
    return _json(_text(path, remedy, error), kind, str(path), remedy, error)


def read_json_lines(path: Path, *, remedy: str) -> list[dict[str, Any]]:
    """The objects in a JSON Lines file; raises as `read_json` does. An incomplete last line is left out."""
    *lines, _ = _text(path, remedy, RunError).split("\n")
    return [
        _json(line, dict, f"{path}, line {number},", remedy, RunError) for number, line in enumerate(lines, start=1)
    ]


def is_same(first: Path, second: Path) -> bool:
    """Whether two paths lead to the same file."""
    try:
        return first.samefile(second)
    except (OSError, ValueError):  # one of them does not exist
        return False


def _check_parent(path: Path) -> None:
    """Raise `OutputError` if no file can be created in the folder of a path."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"the folder of {path} does not exist; make {parent} first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: {parent} is write-protected; name another folder")


def _is_kind(head: bytes, kind: Sequence[bytes]) -> bool:
    """Whether a file with these first bytes is of a kind."""
    if head.startswith(b"<?xml") and kind == SVG:
        return SVG[0] in head
    return head.startswith(tuple(kind))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise OutputError(f"{path} exists and cannot be read ({error.strerror}); name another file") from error


def _target(path: Path) -> Path:
    """The path with all symbolic links followed."""
    return Path(os.path.realpath(path))


def _is_stream(path: Path) -> bool:
    """Whether a path is a FIFO, a device, or an open file such as /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return True
    for _ in range(MAX_LINKS):
        if str(path.absolute()).startswith(STREAMS):
            return True
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return False


def _remove_abandoned(folder: Path, names: Collection[str]) -> None:
    """Remove a partial folder whose process has ended, if it has files, and none but these.

    An empty one may have been created just before it is locked.
    """
    with contextlib.suppress(OSError), lock_directory(folder, wait=False) as is_locked:  # OSError: not ours to remove
        paths = list(folder.iterdir())
        are_ours = (
            stat.S_ISREG(path.lstat().st_mode) and (path.name in names or PARTIAL.fullmatch(path.name))
            for path in paths
        )
        if is_locked and paths and all(are_ours):
            shutil.rmtree(folder)


@contextmanager
def lock_directory(folder: Path, *, wait: bool) -> Iterator[bool]:
    """A context that locks a folder, and whether it could; raises `BlockingIOError` if another process did."""
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    is_locked = True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNLOCKABLE:
                raise
            is_locked = False
        yield is_locked
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Sync a rename to the disk, where folders can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _holder(path: Path) -> str:
    """The process that holds a lock, from its lock file."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} ({holder['command']})"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"


def _text(path: Path, remedy: str, error: Error) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES} bytes")
        return content.decode("utf-8")
    except (OSError, ValueError) as fault:
        raise error(f"{path} cannot be read: {fault}; {remedy}") from fault


def _json(text: str, kind: type | tuple[type, ...], name: str, remedy: str, error: Error) -> Any:
    def reject(number: str) -> NoReturn:
        raise ValueError(f"{number} is not a JSON number")

    try:
        value = json.loads(text, parse_constant=reject)
    except (ValueError, RecursionError) as fault:
        raise error(f"{name} cannot be read as JSON: {fault}; {remedy}") from fault
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise error(f"{name} holds a {type(value).__name__}, expected {expected}; {remedy}")
    return value

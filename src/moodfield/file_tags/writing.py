"""Write tags into files atomically: copy, change the copy, verify it, add to the journal, replace."""

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moodfield import audio, files
from moodfield.errors import AudioError, FileTagsError
from moodfield.file_tags import delta, fields, formats, journal, plan, verification
from moodfield.file_tags.fields import Field
from moodfield.file_tags.journal import Entry
from moodfield.file_tags.plan import Change, WriteConfig

PARTIAL = re.compile(r".+(\.\w+)\.[0-9a-f]{16}\.part")
"""partial files of killed processes, with the suffix of what they were to become"""


@dataclass(frozen=True)
class Written:
    """What was done to a file, or would be."""

    changes: tuple[Change, ...]
    """its fields, before and after"""
    other_links: int = 0
    """number of its other hard links, which keep the file as it was"""
    before: os.stat_result | None = None
    """its state before it was replaced; None if it was not"""
    after: bytes = b""
    """SHA-256 of its content, if it was replaced"""

    @property
    def is_change(self) -> bool:
        """Whether any field is written."""
        return any(change.is_change for change in self.changes)


def plan_file(path: Path, values: Mapping[Field, Sequence[str]], config: WriteConfig) -> Written:
    """The changes of the fields of a file; nothing is written.

    Args:
        path: The file.
        values: New values by field.
        config: What happens to values that it has.

    Raises:
        FileTagsError: Its tags cannot be read, or it is write-protected.
    """
    tags = formats.open_file(path)
    changes = tuple(plan.change(field, tags.read(field), new, config) for field, new in values.items())
    result = Written(changes, _status(path).st_nlink - 1)
    if result.is_change:
        _check_writable(path)
    return result


@dataclass(frozen=True)
class Job:
    """How a command writes files."""

    config: WriteConfig
    """what happens to values that files have"""
    journal: Path | None = None
    """the journal, for `undo_file`; None: changes are planned, and nothing is written"""
    run: int = 0
    """number of the command in the journal"""


def write_file(path: Path, values: Mapping[Field, Sequence[str]], job: Job) -> Written:
    """Write fields of a file as `plan_file` plans them: the file then has its old content or the new one.

    Symbolic links stay, and what they lead to is replaced. Mode, owner and extended attributes are kept; the time of
    the last change is new, since players look for it. Other hard links keep the old content.

    Args:
        path: The file.
        values: New values by field.
        job: How to write.

    Raises:
        FileTagsError: The file cannot be read, written or verified, or has changed meanwhile; it is as it was.
    """
    result = plan_file(path, values, job.config)
    if not result.is_change or job.journal is None:
        return result
    changes = tuple(change for change in result.changes if change.is_change)
    before = _status(path)
    with _replaced(path) as partial:
        _copy(path, partial)
        _change(path, partial, changes)
        verification.check_same_audio(path, partial)
        digest = bytes.fromhex(files.sha256(partial))
        entry = Entry(_absolute(path), bytes.fromhex(files.sha256(path)), digest, delta.diff(path, partial), changes)
        if (old := _status(path)).st_mtime_ns != before.st_mtime_ns or old.st_size != before.st_size:
            raise FileTagsError(f"{path} was changed by another program meanwhile; run the command again")
        with journal.connect(job.journal) as connection:
            journal.add(connection, job.run, entry)
    return Written(result.changes, result.other_links, before, digest)


def undo_file(entry: Entry, *, apply: bool = True) -> Written:
    """Restore what a file was before an entry of the journal.

    If it is as it was written, its bytes are restored exactly. If another program has changed it since, those fields
    get their old texts that still have the new ones.

    Args:
        entry: The entry.
        apply: Whether it is done, and not only planned.

    Raises:
        FileTagsError: The file has gone, cannot be written, or its fields have other texts now.
    """
    path = entry.path
    before = _status(path)
    present = bytes.fromhex(files.sha256(path))
    changes = tuple(Change(change.field, change.new, change.old) for change in entry.changes)
    if present == entry.before:
        return Written(())
    _check_writable(path)
    if present != entry.after:
        changes = _unchanged(path, changes)
    if not apply:
        return Written(changes, before.st_nlink - 1)
    with _replaced(path) as partial:
        _copy(path, partial)
        if present == entry.after:
            delta.apply(path, entry.delta, partial)
            restored = bytes.fromhex(files.sha256(partial))
            if restored != entry.before:
                raise FileTagsError(f"{path} cannot be restored: the journal is damaged; it is as it was")
        else:
            _change(path, partial, changes)
            verification.check_same_audio(path, partial)
            restored = bytes.fromhex(files.sha256(partial))
    return Written(changes, before.st_nlink - 1, before, restored)


def remove_partial_files(folder: Path) -> None:
    """Remove partial copies of audio files that killed processes have left in a folder, if it can be changed."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = PARTIAL.fullmatch(path.name)
            if match and match[1].lower() in audio.SUFFIXES and path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)


def _change(path: Path, partial: Path, changes: Sequence[Change]) -> None:
    """Change the fields of a copy, and verify that it has them, and everything else as before."""
    changed = [fields.FIELDS[change.field] for change in changes]
    tags = formats.open_file(partial)
    if lost := tags.lost():
        raise FileTagsError(f"{path} has damaged tags ({lost}), which would be lost; it is as it was")
    others = tags.others(changed)
    with formats.errors(path, "written"):
        for field, change in zip(changed, changes, strict=True):
            tags.change(field, change.new)
        tags.save()
    after = formats.open_file(partial)
    if after.others(changed) != others:
        raise FileTagsError(f"other tags of {path} would change; the file is as it was")
    for field, change in zip(changed, changes, strict=True):
        if fields.values(field, after.read(field)) != fields.values(field, change.new):
            raise FileTagsError(f"{field.name} of {path} cannot be written; the file is as it was")


def _unchanged(path: Path, changes: Sequence[Change]) -> tuple[Change, ...]:
    """The changes of fields that still have their texts; raises `FileTagsError` if there are none."""
    tags = formats.open_file(path)
    rest = tuple(change for change in changes if tags.read(fields.FIELDS[change.field]) == change.old)
    if not rest:
        raise FileTagsError(f"{path} was changed since its tags were written, and has others now; it is as it was")
    return rest


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A context with a partial file that replaces a path at its end; raises `FileTagsError`."""
    try:
        with files.atomic_path(path) as partial:
            yield partial
    except AudioError as error:
        raise FileTagsError(str(error)) from error
    except OSError as error:
        raise FileTagsError(f"{path} cannot be replaced ({error.strerror or error}); it is as it was") from error


def _copy(path: Path, partial: Path) -> None:
    """Copy a file with its mode, owner and extended attributes."""
    shutil.copy2(path, partial)
    os.utime(partial)
    status, own = path.stat(), partial.stat()
    if hasattr(os, "chown") and (status.st_uid, status.st_gid) != (own.st_uid, own.st_gid):
        os.chown(partial, status.st_uid, status.st_gid)
        partial.chmod(stat.S_IMODE(status.st_mode))  # chown clears set-id bits


def _check_writable(path: Path) -> None:
    """Raise `FileTagsError` for a file without any permission to write, which nobody expects to be replaced."""
    if not _status(path).st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(path, os.W_OK):
        raise FileTagsError(f"{path} is write-protected; change its permissions to tag it")


def _status(path: Path) -> os.stat_result:
    """The state of a file; raises `FileTagsError` if it has gone."""
    try:
        return path.stat()
    except OSError as error:
        raise FileTagsError(f"{path} cannot be read ({error.strerror})") from error


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps ..)

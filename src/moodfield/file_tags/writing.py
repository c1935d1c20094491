"""Write tags into files atomically: copy, change the copy, verify it, add to the journal, replace."""

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from moodfield import audio, files
from moodfield.errors import AudioError, FileTagsError
from moodfield.file_tags import delta, fields, formats, journal, plan, verification
from moodfield.file_tags.fields import Field
from moodfield.file_tags.journal import Entry
from moodfield.file_tags.plan import Change, Wanted, WriteConfig
from moodfield.file_tags.tag_file import TagFile

PARTIAL = re.compile(r".+\.[0-9a-f]{16}\.part")
"""partial files, also of killed processes"""
ABANDONED_SECONDS = 3600
"""time without a change after which a partial file belongs to no process"""


@dataclass(frozen=True)
class Written:
    """What was done to a file, or would be."""

    changes: tuple[Change, ...]
    """its fields, before and after"""
    before: os.stat_result
    """its state before"""
    after: os.stat_result | None = None
    """its state after; None if it was not replaced"""
    digest: bytes = b""
    """SHA-256 of its content, if it was replaced"""
    kept: tuple[str, ...] = ()
    """fields that an undo does not restore, since another program has changed them"""

    @property
    def is_change(self) -> bool:
        """Whether any field is written."""
        return any(change.is_change for change in self.changes)


@dataclass(frozen=True)
class Job:
    """How a command writes files."""

    config: WriteConfig
    """what happens to values that files have"""
    journal: Path | None = None
    """the journal, for `undo_file`; None: changes are planned, and nothing is written"""
    run: int = 0
    """number of the command in the journal"""


def write_file(path: Path, values: Mapping[Field, Wanted], job: Job) -> Written:
    """Write fields of a file, or plan it: the file then has its old content or the new one.

    Symbolic links stay, and what they lead to is replaced. Mode, owner and extended attributes are kept; the time of
    the last change is new, since players look for it. Other hard links keep the old content.

    Args:
        path: The file.
        values: What its fields should have.
        job: How to write.

    Raises:
        FileTagsError: The file cannot be read, written or verified, or has changed meanwhile; it is as it was.
    """
    before = _status(path)
    tags = formats.open_file(path)
    changes = tuple(
        plan.change(field, tags.read(field), wanted, job.config, joins=tags.joins) for field, wanted in values.items()
    )
    result = Written(changes, before)
    if not result.is_change:
        return result
    _check_writable(path)
    if job.journal is None:
        return result
    changed = tuple(change for change in changes if change.is_change)
    with _replaced(path, before) as partial:
        _copy(path, partial)
        _change(tags, partial, changed)
        verification.check_same_audio(path, partial)
        after, digest = partial.stat(), bytes.fromhex(files.sha256(partial))
        entry = Entry(_absolute(path), bytes.fromhex(files.sha256(path)), digest, delta.diff(path, partial), changed)
        journal.add(job.journal, job.run, entry)
    return replace(result, after=after, digest=digest)


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
    if present == entry.before:
        return Written((), before)
    _check_writable(path)
    tags = None if present == entry.after else formats.open_file(path)
    changes = tuple(Change(change.field, change.new, change.old) for change in entry.changes)
    kept = [change.field for change in changes if tags and tags.read(fields.FIELDS[change.field]) != change.old]
    result = Written(tuple(change for change in changes if change.field not in kept), before, kept=tuple(kept))
    if not result.changes:
        raise FileTagsError(f"{path} was changed since its tags were written, and has others now; it is as it was")
    if not apply:
        return result
    with _replaced(path, before) as partial:
        _copy(path, partial)
        if tags is None:
            delta.apply(path, entry.delta, partial)
        else:
            _change(tags, partial, result.changes)
            verification.check_same_audio(path, partial)
        after, digest = partial.stat(), bytes.fromhex(files.sha256(partial))
        if tags is None and digest != entry.before:
            raise FileTagsError(f"{path} cannot be restored: the journal is damaged; it is as it was")
    return replace(result, after=after, digest=digest)


def remove_partial_files(path: Path) -> None:
    """Remove partial copies of audio files that killed processes have left beside a file, if that can be done."""
    with contextlib.suppress(OSError):
        for name in path.resolve().parent.iterdir():
            if not PARTIAL.fullmatch(name.name) or name.is_symlink() or not name.is_file():
                continue
            suffixes = {suffix.lower() for suffix in name.suffixes[-3:-2]} or {""}
            is_cut = len(os.fsencode(name.name)) >= files.MAX_NAME_BYTES
            if (suffixes <= audio.SUFFIXES or is_cut) and time.time() - name.stat().st_mtime > ABANDONED_SECONDS:
                name.unlink(missing_ok=True)


def _change(tags: TagFile, partial: Path, changes: Sequence[Change]) -> None:
    """Change the fields of a copy of a file, and verify that it has them, and everything else as before."""
    path = tags.path
    changed = [fields.FIELDS[change.field] for change in changes]
    with formats.errors(path, "written"):
        copy = tags.reopen(partial)
        others = copy.others(changed)
        for field, change in zip(changed, changes, strict=True):
            copy.change(field, change.new)
        copy.save()
        after = tags.reopen(partial)
        if after.others(changed) != others:
            raise FileTagsError(f"other tags of {path} would change; the file is as it was")
        for field, change in zip(changed, changes, strict=True):
            if after.read(field) != change.new:
                raise FileTagsError(f"{field.name} of {path} cannot be written; the file is as it was")


@contextmanager
def _replaced(path: Path, before: os.stat_result) -> Iterator[Path]:
    """A context with a partial file that replaces a path at its end, unless that has changed since `before`.

    Raises:
        FileTagsError: It has, or it cannot be replaced.
    """
    try:
        with files.atomic_path(path) as partial:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # which takes time, so before the comparison
            if _state(_status(path)) != _state(before):
                raise FileTagsError(f"{path} was changed by another program meanwhile; run the command again")
    except AudioError as error:
        raise FileTagsError(str(error)) from error
    except OSError as error:
        raise FileTagsError(f"{path} cannot be replaced ({error.strerror or error}); it is as it was") from error


def _state(status: os.stat_result) -> tuple[int, ...]:
    """What differs after a file has changed."""
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


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

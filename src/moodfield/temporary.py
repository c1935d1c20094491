"""Folders of temporary files; those that killed processes left are removed."""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moodfield import files

PREFIX = "moodfield-temporary-"
"""how names of these folders begin"""
NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
"""names that `tempfile` makes with it"""


@contextmanager
def folder() -> Iterator[Path]:
    """A context with an empty folder below TMPDIR, which is removed at its end.

    It is locked as long as its process lives; folders without a lock are those of killed processes, and are removed
    first, if this user owns them.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    with ExitStack() as stack:
        path: Path | None = None
        while path is None or not path.is_dir():  # a process that starts meanwhile removes it before it is locked
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
            with contextlib.suppress(FileNotFoundError):
                stack.enter_context(files.lock_directory(path, wait=True))
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        yield path


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of killed processes of this user, where folders can be locked."""
    if sys.platform == "win32":
        return
    paths: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that may be written to need not be readable
        paths = [path for path in parent.iterdir() if NAME.fullmatch(path.name)]
    for path in paths:
        with contextlib.suppress(OSError), files.lock_directory(path, wait=False) as is_locked:  # OSError: it is in use
            if is_locked and path.lstat().st_uid == os.getuid():
                shutil.rmtree(path)

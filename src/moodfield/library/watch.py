"""Watch folders of music for changes, by the notifications of the operating system."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from moodfield import audio

QUIET, LONGEST = 2_000, 30_000
"""milliseconds without a change after which changes are handled, and after which they are in any case: files that are
being copied change again and again"""
TIMEOUT = 1_000
"""milliseconds after which the watch has begun for certain"""


def changes(folders: Sequence[Path], database: Path) -> Iterator[list[Path]]:
    """Watch folders until a signal stops the process; needs watchfiles.

    Args:
        folders: Folders of music.
        database: The library; changes of its own files do not count.

    Yields:
        All folders once the watch has begun, so that nothing is missed in between; then, after every change, the
        folders in which music has changed.
    """
    import watchfiles

    logging.getLogger("watchfiles").setLevel(logging.ERROR)  # it warns of the signal that ends the watch
    has_begun = False
    for batch in watchfiles.watch(
        *folders, step=QUIET, debounce=LONGEST, rust_timeout=TIMEOUT, yield_on_timeout=True, raise_interrupt=False
    ):
        if not has_begun:
            has_begun = True
            yield list(folders)
        elif changed := {_existing(path, folders) for _, path in batch if is_music(path, database)}:
            yield sorted(changed)


def is_music(path: str, database: Path) -> bool:
    """Whether a path may be of music: an audio file, or a folder, which may have just gone."""
    name = Path(path)
    if name.parent == database.absolute().parent and name.name.startswith(database.name):
        return False  # the database, its log, its lock
    return not name.name.startswith(".") and (name.suffix.lower() in audio.SUFFIXES or not name.is_file())


def _existing(path: str, folders: Sequence[Path]) -> Path:
    """The nearest folder above a path that exists, within the watched ones; a watched folder itself stays."""
    if Path(path) in folders:
        return Path(path)
    parent = Path(path).parent
    while not os.path.isdir(parent) and parent not in folders and parent != parent.parent:  # noqa: PTH112
        parent = parent.parent
    return parent

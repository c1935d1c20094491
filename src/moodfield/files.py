"""A file that is there whole or not at all.

In: a path, and what is to be there. Out: the complete file, or the one that was there before.
Knows nothing of: what is in it.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put these bytes at `path`; an `OSError` leaves what was there before."""
    with whole(path) as half:
        half.write_bytes(content)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path) -> None:
    """Remove the halves that killed processes left in a folder; for one that no other process writes to now."""
    for half in folder.glob("*.part"):
        half.unlink(missing_ok=True)


def succeed(folder: Path, place: Path) -> Path:
    """Let a folder take the place of another, if there is one, which is removed when the new one stands there."""
    before = place.with_name(f"{place.name}.{secrets.token_hex(8)}.before")
    if not place.exists():
        return folder.replace(place)
    place.replace(before)
    try:
        folder.replace(place)
    except OSError:
        before.replace(place)
        raise
    shutil.rmtree(before)
    return place


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what is to be at `path`: a name beside it that nobody else has, on this machine or another.

    At the end what was written is brought to the disk and takes its name; if anything fails before, it is gone.
    """
    half = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield half
        with half.open("rb") as file:
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)

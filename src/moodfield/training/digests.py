"""The SHA-256 of audio files, computed once and remembered with the size and times of each file.

In: a folder of audio and the paths of tracks below it. Out: the digest of every file, without reading what is known.
Knows nothing of: what is computed from the audio.
"""

import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from moodfield import audio, files
from moodfield.datasets import mtg_jamendo
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import AudioError, DatasetError, LockedError, MoodfieldError

FOLDER = "digests"
"""where they are remembered, below the folder of a cache"""
PATIENCE = 10.0
"""seconds that are waited for another process that writes the same file"""

Times = tuple[int, int, int]
"""size in bytes, time of the last change of the content and of the last change at all, in nanoseconds"""


@dataclass(frozen=True)
class AudioFile:
    """The file of a track."""

    path: Path
    """where it is"""
    digest: str | None
    """its SHA-256, if it is remembered and the file has not changed since"""


@dataclass(frozen=True)
class Digest:
    """The content of a file, and when it was that."""

    sha256: str
    """in hexadecimal digits"""
    times: Times
    """of the file when it was read"""


class Digests:
    """The digests of the audio of one folder, kept below the folder of a cache.

    They are remembered by absolute path, so that another dataset with the same names is not taken for this one; a
    dataset that was moved is read once.
    """

    def __init__(self, cache: str | Path, music: str | Path) -> None:
        self._music = Path(music).absolute()
        name = hashlib.sha256(str(Path(music).resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self._path = Path(cache) / FOLDER / f"{name}.json"
        self._known: dict[str, Digest] = _read(self._path)
        self._new: dict[str, Digest] = {}

    def look(self, track: Track) -> AudioFile:
        """The file of a track, with its digest if that is known; the file is not opened."""
        path = mtg_jamendo.locate(self._music, track.path)
        known = self._known.get(self._name(path))
        with contextlib.suppress(OSError, ValueError):
            if known and known.times == _times(path):
                return AudioFile(path, known.sha256)
        return AudioFile(path, None)

    def of(self, track: Track) -> str:
        """The remembered digest of a track; refuses a track whose audio was not read, or has changed since."""
        digest = self.look(track).digest
        if digest is None:
            raise DatasetError(f"the audio of {track.id} is new, has changed, or is gone; give the same command again")
        return digest

    def add(self, path: Path, digest: Digest) -> None:
        """Remember the digest of a file."""
        self._known[self._name(path)] = self._new[self._name(path)] = digest

    def save(self) -> None:
        """Write down what is new, beside what other processes have written meanwhile.

        Digests only save time: if another process writes for long, they are left out and computed again next time.
        """
        if not self._new:
            return
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with files.lock(self._path.with_suffix(".lock"), what=str(self._path)):
                    known = _read(self._path) | self._new
                    values = {name: [*digest.times, digest.sha256] for name, digest in known.items()}
                    content = {"folder": _printable(str(self._music)), "files": values}
                    files.write(self._path, json.dumps(content).encode())
                self._new.clear()
            except LockedError:
                if time.monotonic() < until:
                    time.sleep(0.05)
                    continue
            return

    def _name(self, path: Path) -> str:
        """What a file is called in the list: its path below the folder."""
        return _printable(path.relative_to(self._music).as_posix())


def compute(path: Path) -> Digest:
    """The digest of a file; refuses with `AudioError` one that cannot be read, or that changes while it is."""
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError(f"{path} is no file")
        before = _times(path)
        found = Digest(files.sha256(path), before)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    check_unchanged(path, found)
    return found


def check_unchanged(path: Path, digest: Digest) -> None:
    """Refuse with `AudioError` a file that has changed since its digest was computed."""
    try:
        now: Times | None = _times(path)
    except OSError:
        now = None
    if now != digest.times:
        raise AudioError("unreadable", f"{path} is being written to; wait until it is complete, and start again")


def _times(path: Path) -> Times:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _refusal(path: Path, error: Exception) -> AudioError:
    """Why a file cannot be read, in the words of the module that reads audio."""
    try:
        for _ in audio.blocks(path, sample_rate=audio.RATES[0]):
            break
    except AudioError as refusal:
        return refusal
    return AudioError("unreadable", f"{path} cannot be read: {error}")


def _printable(name: str) -> str:
    """A name as JSON can have it; bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(path: Path) -> dict[str, Digest]:
    """What is remembered; nothing if the file is missing or damaged, since all of it can be computed again."""
    if not path.is_file():
        return {}
    try:
        listed = files.read_json(path, dict, remedy="remove it").get("files")
    except MoodfieldError:
        return {}
    entries = listed.items() if isinstance(listed, dict) else ()
    return {name: Digest(each[3], (each[0], each[1], each[2])) for name, each in entries if _fits(each)}


def _fits(value: object) -> bool:
    """Whether a value of the list is a size, two times and a SHA-256."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    *times, sha256 = value
    whole = all(type(each) is int for each in times)
    return whole and isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None

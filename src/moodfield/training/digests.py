"""SHA-256 digests of audio files, computed once and kept with the size and times of each file."""

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
"""folder of the digests, below that of a cache"""
LOCK_TIMEOUT = 10.0
"""seconds to wait for another process that writes the same file"""

Times = tuple[int, int, int]
"""size in bytes, and times of the last change of the content and of the last change at all, in nanoseconds"""


@dataclass(frozen=True)
class AudioFile:
    """The file of a track."""

    path: Path
    """its path"""
    digest: str | None
    """its SHA-256; None if it is new or has changed"""


@dataclass(frozen=True)
class Digest:
    """The content of a file, and its times when it was read."""

    sha256: str
    """hexadecimal"""
    times: Times
    """size and times of the file"""


class Digests:
    """The digests of the audio in one folder, stored below the folder of a cache.

    They are stored by absolute path of the audio folder, so that another dataset with the same file names has its own;
    a dataset that was moved is read once.
    """

    def __init__(self, cache_dir: str | Path, audio_dir: str | Path) -> None:
        self._audio_dir = Path(audio_dir).absolute()
        resolved = str(Path(audio_dir).resolve()).encode("utf-8", "surrogateescape")
        self._path = Path(cache_dir) / FOLDER / f"{hashlib.sha256(resolved).hexdigest()[:16]}.json"
        self._digests: dict[str, Digest] = _read(self._path)
        self._unsaved: dict[str, Digest] = {}

    def look_up(self, track: Track) -> AudioFile:
        """The file of a track, with its digest if that is stored and the file has not changed; it is not opened."""
        path = mtg_jamendo.locate(self._audio_dir, track.path)
        digest = self._digests.get(self._key(path))
        with contextlib.suppress(OSError, ValueError):
            if digest and digest.times == _times(path):
                return AudioFile(path, digest.sha256)
        return AudioFile(path, None)

    def sha256(self, track: Track) -> str:
        """The stored digest of a track.

        Raises:
            DatasetError: the audio is new, has changed, or is missing.
        """
        digest = self.look_up(track).digest
        if digest is None:
            raise DatasetError(f"the audio of {track.id} is new, has changed, or is gone; give the same command again")
        return digest

    def add(self, path: Path, digest: Digest) -> None:
        """Add the digest of a file; `save` writes it."""
        self._digests[self._key(path)] = self._unsaved[self._key(path)] = digest

    def save(self) -> None:
        """Write new digests, beside what other processes have written meanwhile.

        Digests only save time: if another process holds the lock for long, they are dropped and computed again later.
        """
        if not self._unsaved:
            return
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                with files.lock(self._path.with_suffix(".lock"), what=str(self._path)):
                    digests = _read(self._path) | self._unsaved
                    values = {name: [*digest.times, digest.sha256] for name, digest in digests.items()}
                    content = {"folder": _printable(str(self._audio_dir)), "files": values}
                    files.write(self._path, json.dumps(content).encode())
                self._unsaved.clear()
            except LockedError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
            return

    def _key(self, path: Path) -> str:
        return _printable(path.relative_to(self._audio_dir).as_posix())


def compute(path: Path) -> Digest:
    """The digest of a file.

    Raises:
        AudioError: the file cannot be read, or changes meanwhile.
    """
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError(f"{path} is not a file")
        before = _times(path)
        digest = Digest(files.sha256(path), before)
    except (OSError, ValueError) as error:
        raise _audio_error(path, error) from error
    check_unchanged(path, digest)
    return digest


def check_unchanged(path: Path, digest: Digest) -> None:
    """Raise `AudioError` if a file has changed since its digest was computed."""
    try:
        now: Times | None = _times(path)
    except OSError:
        now = None
    if now != digest.times:
        raise AudioError("unreadable", f"{path} is being written to; wait until it is complete, and start again")


def _times(path: Path) -> Times:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _audio_error(path: Path, error: Exception) -> AudioError:
    """The error of a file that cannot be read, as `audio` raises it."""
    try:
        for _ in audio.blocks(path, sample_rate=audio.RATES[0]):
            break
    except AudioError as audio_error:
        return audio_error
    return AudioError("unreadable", f"{path} cannot be read: {error}")


def _printable(name: str) -> str:
    """A name that JSON can hold; bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(path: Path) -> dict[str, Digest]:
    """The digests in a file; none if it is missing or damaged, since they can be computed again."""
    if not path.is_file():
        return {}
    try:
        entries = files.read_json(path, dict, remedy="remove it").get("files")
    except MoodfieldError:
        return {}
    stored = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        match entry:
            case [int(size), int(modified), int(changed), str(sha256)] if re.fullmatch("[0-9a-f]{64}", sha256):
                stored[name] = Digest(sha256, (size, modified, changed))
    return stored

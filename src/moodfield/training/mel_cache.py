"""The mel cache: one float16 array per audio file, mapped into memory, and statistics of the bands.

Everything lies under a digest of the mel's config, so mels of different configs never meet, and a mel under the digest
of its audio (docs/decisions/0028).
"""

import contextlib
import errno
import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, Float64

from moodfield import arrays, audio, files, mel, parallel
from moodfield.audio import Waveform
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, MoodfieldError
from moodfield.mel import MelConfig
from moodfield.parallel import Backend
from moodfield.training import digests
from moodfield.training.digests import AudioFile, Digest, Digests

VERSION = 1
"""of the computation and the format of mels; mels of another version are not found"""
SAVE_INTERVAL = 60.0
"""seconds between saves of new digests, in long extractions"""
StoredMel = Float16[np.ndarray, "frames bands"]
MAX_OPEN_FILES = 2**16, 10_240
"""requested limits of open files: enough for any dataset, and what every Mac grants"""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every band over all frames of some tracks."""

    mean: Float64[np.ndarray, "bands"]
    """mean"""
    std: Float64[np.ndarray, "bands"]
    """standard deviation, unbiased"""


@runtime_checkable
class AudioTransform(Protocol):
    """A change of the audio before its mel is computed."""

    def settings(self) -> dict[str, Any]:
        """All that determines the change besides the audio, for JSON."""

    def apply(self, path: Path, sha256: str) -> Waveform:
        """The changed audio of a file, whose SHA-256 is given."""


class MelCache:
    """The mels of one config in one cache folder, for the audio of one folder.

    A mel is stored under the SHA-256 of its audio: it is found wherever the audio lies, and never confused with that of
    other audio with the same name. Mels of audio that a transform changes have a folder of their own.
    """

    def __init__(
        self, cache_dir: str | Path, config: MelConfig, audio_dir: str | Path, transform: AudioTransform | None = None
    ) -> None:
        self.config, self.transform = config, transform
        self._settings = asdict(config) | ({"transform": transform.settings()} if transform else {})
        text = json.dumps(self._settings | {"version": VERSION}, sort_keys=True)
        self.folder = Path(cache_dir) / f"mel-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self._digests = Digests(cache_dir, audio_dir)

    def extract(
        self, tracks: Sequence[Track], *, jobs: int = 1, backend: Backend = Backend.LOCAL
    ) -> Iterator[tuple[Track, Path | MoodfieldError]]:
        """Compute the mels that are missing; every track comes with the path of its mel or its error.

        A mel counts if it is complete and of this very audio: audio that has changed gets a new one, and a damaged mel
        is computed again. It can be interrupted at any moment and goes on where it stopped.

        Raises:
            DatasetError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write(self.folder / "config.json", json.dumps(self._settings, indent=2).encode())
            is_complete = partial(arrays.shape, dtype=np.float16, expected=(None, self.config.n_mels))
            entries = Entries(self.folder.absolute(), is_complete, partial(_write_mel, self.config, self.transform))
            yield from compute_missing(tracks, self._digests, entries, jobs=jobs, backend=backend)
        except OSError as error:
            raise DatasetError(f"cannot write {self.folder}: {error}; free space, or name another folder") from error

    def open(self, track: Track) -> StoredMel:
        """The mel of a track, mapped into memory; it takes one open file.

        Raises:
            DatasetError: the mel was not extracted, or too many files are open.
        """
        _raise_open_file_limit()
        path = entry_path(self.folder, self._digests.sha256(track))
        try:
            return arrays.memory_map(path, np.float16, (None, self.config.n_mels))
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise DatasetError(
                    f"the mel of {track.id} is one open file too many: a run keeps every mel open; "
                    "raise the system's hard limit of open files (shown by ulimit -Hn), or train on fewer tracks"
                ) from error
            raise DatasetError(f"the mel of {track.id} is not in {self.folder} ({error}); extract it again") from error

    def statistics(self, tracks: Sequence[Track]) -> Statistics:
        """Mean and standard deviation of the bands over all frames of the tracks, computed once (§2.1)."""
        return statistics([(self, tracks)])

    def digests(self, tracks: Sequence[Track]) -> list[str]:
        """The SHA-256 of the audio of every track; raises `DatasetError` for audio that is new or has changed."""
        return [self._digests.sha256(track) for track in tracks]


def statistics(parts: Sequence[tuple[MelCache, Sequence[Track]]]) -> Statistics:
    """Mean and standard deviation of the bands over tracks of several audio folders, whose mels have one config."""
    first = parts[0][0]
    lines = (  # transformed audio has the digest of the audio that it was made from
        digest if cache.transform is None else f"{digest} {cache.folder.name}"
        for cache, tracks in parts
        for digest in cache.digests(tracks)
    )
    listing = "\n".join(lines)
    path = first.folder / f"statistics-{hashlib.sha256(listing.encode()).hexdigest()[:16]}.json"
    if (stored := _read_statistics(path, first.config.n_mels)) is not None:
        return stored
    computed = _compute_statistics(cache.open(track) for cache, tracks in parts for track in tracks)
    files.write(path, json.dumps({"mean": computed.mean.tolist(), "std": computed.std.tolist()}).encode())
    return computed


def entry_path(folder: Path, digest: str, suffix: str = ".npy") -> Path:
    """Path in a cache of what was computed from audio with this SHA-256; entries are spread over 256 folders.

    Example:
        >>> entry_path(Path("cache"), "ab12cd").as_posix()
        'cache/ab/12cd.npy'
    """
    return folder / digest[:2] / f"{digest[2:]}{suffix}"


@dataclass(frozen=True)
class Entries:
    """Files of one kind in a cache, each computed from the audio of a track."""

    folder: Path
    """the folder of the cache"""
    is_complete: Callable[[Path], object]
    """whether a file is there and complete"""
    write: Callable[[Path, Digest, Path], None]
    """computes the file of some audio with this digest, and writes it to a path"""
    suffix: str = ".npy"
    """suffix of the files"""

    def find(self, digest: str) -> Path | None:
        """The complete file of the audio with a digest, if there is one."""
        path = entry_path(self.folder, digest, self.suffix)
        return path if self.is_complete(path) else None

    def compute(self, source: AudioFile) -> tuple[Path, Digest]:
        """The file of some audio, computed unless it is complete, and the digest of the audio."""
        digest = digests.compute(source.path)
        path = entry_path(self.folder, digest.sha256, self.suffix)
        if not self.is_complete(path):
            self.write(source.path, digest, path)
        return path, digest


def compute_missing(
    tracks: Sequence[Track], stored: Digests, entries: Entries, *, jobs: int = 1, backend: Backend = Backend.LOCAL
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """For every track the file computed from its audio, or the error; only missing files are computed.

    Args:
        tracks: the tracks.
        stored: digests of their audio; new ones are added and saved.
        entries: the files.
        jobs: number of processes.
        backend: where they run.
    """
    audio_files = [stored.look_up(track) for track in tracks]
    paths = [entries.find(file.digest) if file.digest else None for file in audio_files]
    missing = [file for file, path in zip(audio_files, paths, strict=True) if path is None]
    results = parallel.map(entries.compute, missing, jobs=jobs, backend=backend)
    saved = time.monotonic()
    try:
        for track, path in zip(tracks, paths, strict=True):
            if path is not None:
                yield track, path
                continue
            file, result = next(results)
            if isinstance(result, MoodfieldError):
                yield track, result
                continue
            stored.add(file.path, result[1])
            if time.monotonic() - saved > SAVE_INTERVAL:
                stored.save()
                saved = time.monotonic()
            yield track, result[0]
    finally:
        stored.save()


def blocks(stored: StoredMel, frames: int = 2_048) -> Iterator[Float32[np.ndarray, "bands frames"]]:
    """A stored mel in blocks, bands first, as `Tagger.predict` takes it."""
    for start in range(0, len(stored), frames):
        yield np.ascontiguousarray(stored[start : start + frames].T, np.float32)


def excerpts(stored: StoredMel, frames: int, step: int) -> Iterator[Float32[np.ndarray, "bands frames"]]:
    """Excerpts of `frames` frames, one from the middle of every `step` frames; one from the middle of a shorter mel."""
    first = max(0, min(step, len(stored)) - frames) // 2
    for start in range(first, max(first + 1, len(stored) - frames + 1), step):
        yield np.ascontiguousarray(stored[start : start + frames].T, np.float32)


@cache
def _raise_open_file_limit() -> None:
    """Raise this process's limit of open files: shells start it with 1,024, fewer than datasets have tracks."""
    if importlib.util.find_spec("resource"):  # other systems have no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for limit in sorted(limit if hard == resource.RLIM_INFINITY else min(limit, hard) for limit in MAX_OPEN_FILES):
            if soft != resource.RLIM_INFINITY and soft < limit:
                with contextlib.suppress(ValueError):  # kernels may grant less than their limit; `open` reports it
                    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _write_mel(config: MelConfig, transform: AudioTransform | None, source: Path, digest: Digest, target: Path) -> None:
    changed = source if transform is None else transform.apply(source, digest.sha256)
    stream = mel.stream(audio.Reader(changed, sample_rate=config.sample_rate), config)
    stored = np.concatenate([block.T.astype(np.float16) for block in stream])
    digests.check_unchanged(source, digest)
    arrays.write(target, stored)


def _read_statistics(path: Path, n_mels: int) -> Statistics | None:
    """The statistics in a file; None if it is missing or damaged, since they can be computed again."""
    try:
        values = files.read_json(path, dict, remedy="remove it")
        stored = Statistics(*(np.array(values[name], np.float64) for name in ("mean", "std")))
    except (MoodfieldError, LookupError, TypeError, ValueError):
        return None
    fits = stored.mean.shape == stored.std.shape == (n_mels,)
    return stored if fits and np.isfinite([stored.mean, stored.std]).all() and (stored.std >= 0).all() else None


def _compute_statistics(mels: Iterator[StoredMel]) -> Statistics:
    """One pass: the sums of every track, merged around the mean so far, so that nothing cancels (Chan et al.)."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for stored in mels:
        values = np.asarray(stored, np.float32)
        track_mean = values.mean(axis=0, dtype=np.float64)
        track_squares = np.square(values - track_mean).sum(axis=0, dtype=np.float64)
        total = count + len(values)
        delta = track_mean - mean
        squares = squares + track_squares + delta**2 * (count * len(values) / total)
        mean = mean + delta * (len(values) / total)
        count = total
    if count < 2:
        raise DatasetError("statistics need at least two frames; add tracks to the training set")
    return Statistics(mean, np.sqrt(squares / (count - 1)))

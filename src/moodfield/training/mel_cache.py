"""Mels on disk, written once, mapped into memory.

In: tracks and the folder of their audio. Out: one float16 array per track, frames first, and statistics of the bands.
Knows nothing of: truth, clips, networks.

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

import numpy as np
from jaxtyping import Float16, Float32, Float64

from moodfield import arrays, audio, files, mel, parallel
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, MoodfieldError
from moodfield.mel import MelConfig
from moodfield.parallel import Backend
from moodfield.training import digests
from moodfield.training.digests import AudioFile, Digest, Digests

VERSION = 1
"""of how mels are computed and kept; mels of another version are not found"""
SAVE_EVERY = 60.0
"""seconds from one time that new digests are written down to the next, in long extractions"""
StoredMel = Float16[np.ndarray, "frames bands"]
MOST_OPEN = 2**16, 10_240
"""files that are asked for at once: enough for any dataset, and what every Mac grants"""


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of every band over all frames of some tracks."""

    mean: Float64[np.ndarray, "bands"]
    """mean"""
    std: Float64[np.ndarray, "bands"]
    """standard deviation, unbiased"""


class MelCache:
    """The mels of one config in one folder, for the audio of one folder.

    A mel is filed under the SHA-256 of its audio: it is found wherever the audio lies, and never taken for that of
    other audio with the same name.
    """

    def __init__(self, folder: str | Path, config: MelConfig, music: str | Path) -> None:
        self.config = config
        text = json.dumps(asdict(config) | {"version": VERSION}, sort_keys=True)
        self.folder = Path(folder) / f"mel-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self._digests = Digests(folder, music)

    def extract(
        self, tracks: Sequence[Track], *, jobs: int = 1, backend: Backend = Backend.LOCAL
    ) -> Iterator[tuple[Track, Path | MoodfieldError]]:
        """Write the mel of every track that has none yet; a track that cannot be read comes with its error.

        A mel is there if that of this very audio is, and is complete: audio that has changed gets another one, and a
        damaged mel is made again. It can be interrupted at any moment and goes on where it stopped. Refuses a folder
        that cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write(self.folder / "config.json", json.dumps(asdict(self.config), indent=2).encode())
            work = partial(_extract, self.folder.absolute(), self.config)
            yield from compute_missing(tracks, self._digests, self._is_complete, work, jobs=jobs, backend=backend)
        except OSError as error:
            raise DatasetError(f"mels cannot be kept in {self.folder}: {error}; make room, or name another") from error

    def open(self, track: Track) -> StoredMel:
        """The mel of a track, mapped into memory, where it takes one open file; refuses one that was not extracted."""
        _let_many_be_open()
        path = entry_path(self.folder, self._digests.of(track))
        try:
            stored: StoredMel = arrays.memory_map(path, np.float16, (None, self.config.n_mels))
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise DatasetError(
                    f"the mel of {track.id} is one open file too many: a run keeps every mel open; "
                    "raise the system's hard limit of open files (ulimit -Hn says it), or train on fewer tracks"
                ) from error
            raise DatasetError(f"the mel of {track.id} is not in {self.folder} ({error}); extract it again") from error
        return stored

    def statistics(self, tracks: Sequence[Track]) -> Statistics:
        """Mean and spread of the bands over all frames of the tracks, computed once (§2.1); long tracks weigh more."""
        return statistics([(self, tracks)])

    def digests(self, tracks: Sequence[Track]) -> list[str]:
        """The SHA-256 of the audio of every track; refuses audio that was not read, or has changed since."""
        return [self._digests.of(track) for track in tracks]

    def _is_complete(self, digest: str) -> Path | None:
        path = entry_path(self.folder, digest)
        return path if arrays.shape(path, np.float16, (None, self.config.n_mels)) else None


def statistics(parts: Sequence[tuple[MelCache, Sequence[Track]]]) -> Statistics:
    """Mean and spread of the bands over the tracks of several folders of audio, whose mels are of one config."""
    listed = "\n".join(digest for mels, tracks in parts for digest in mels.digests(tracks))
    first = parts[0][0]
    path = first.folder / f"statistics-{hashlib.sha256(listed.encode()).hexdigest()[:16]}.json"
    if (kept := _kept_statistics(path, first.config.n_mels)) is not None:
        return kept
    found = _statistics(mels.open(track) for mels, tracks in parts for track in tracks)
    files.write(path, json.dumps({"mean": found.mean.tolist(), "spread": found.std.tolist()}).encode())
    return found


def entry_path(folder: Path, digest: str, suffix: str = ".npy") -> Path:
    """Where a cache keeps what was computed from audio with this SHA-256; no folder has too many files."""
    return folder / digest[:2] / f"{digest[2:]}{suffix}"


def compute_missing(
    tracks: Sequence[Track],
    known: Digests,
    complete: Callable[[str], Path | None],
    work: Callable[[AudioFile], tuple[Path, Digest]],
    *,
    jobs: int = 1,
    backend: Backend = Backend.LOCAL,
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """For every track the file that is computed from its audio, or the error; what is `complete` is left alone.

    `complete` gives the finished file for a digest, if there is one, and is asked here; `work` makes it, maybe in
    another process, and gives the digest of what it read.
    """
    looked = [known.look(track) for track in tracks]
    there = [complete(found.digest) if found.digest else None for found in looked]
    rest = [found for found, path in zip(looked, there, strict=True) if path is None]
    done = parallel.map(work, rest, jobs=jobs, backend=backend) if rest else iter(())
    saved = time.monotonic()
    try:
        for track, path in zip(tracks, there, strict=True):
            if path is not None:
                yield track, path
                continue
            source, result = next(done)
            if isinstance(result, MoodfieldError):
                yield track, result
                continue
            known.add(source.path, result[1])
            if time.monotonic() - saved > SAVE_EVERY:
                known.save()
                saved = time.monotonic()
            yield track, result[0]
    finally:
        known.save()


def blocks(stored: StoredMel, frames: int = 2_048) -> Iterator[Float32[np.ndarray, "bands frames"]]:
    """A stored mel in pieces, bands first, as a tagger wants it."""
    for start in range(0, len(stored), frames):
        yield np.ascontiguousarray(stored[start : start + frames].T, np.float32)


def excerpts(stored: StoredMel, frames: int, step: int) -> Iterator[Float32[np.ndarray, "bands frames"]]:
    """So many frames from the middle of every `step` of a stored mel; of a shorter one, from its own middle."""
    first = max(0, min(step, len(stored)) - frames) // 2
    for start in range(first, max(first + 1, len(stored) - frames + 1), step):
        yield np.ascontiguousarray(stored[start : start + frames].T, np.float32)


@cache
def _let_many_be_open() -> None:
    """Ask for as many open files as this process may have: shells start it with 1,024, fewer than datasets have."""
    if importlib.util.find_spec("resource"):  # no such limit elsewhere
        import resource

        allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        for wanted in sorted(each if most == resource.RLIM_INFINITY else min(each, most) for each in MOST_OPEN):
            if allowed != resource.RLIM_INFINITY and allowed < wanted:
                with contextlib.suppress(ValueError):  # kernels may grant less than they say; `open` tells of the rest
                    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _extract(folder: Path, config: MelConfig, source: AudioFile) -> tuple[Path, Digest]:
    """Write the mel of a file, unless there is one; computing the digest takes a hundredth of the time."""
    digest = digests.compute(source.path)
    target = entry_path(folder, digest.sha256)
    if arrays.shape(target, np.float16, (None, config.n_mels)):
        return target, digest
    stream = mel.stream(audio.Reader(source.path, sample_rate=config.sample_rate), config)
    stored = np.concatenate([piece.T.astype(np.float16) for piece in stream])
    digests.check_unchanged(source.path, digest)
    arrays.write(target, stored)
    return target, digest


def _kept_statistics(path: Path, bands: int) -> Statistics | None:
    """The statistics in a file; None if it is missing or damaged, since they can be computed again."""
    try:
        kept = files.read_json(path, dict, remedy="remove it")
        found = Statistics(*(np.array(kept[name], np.float64) for name in ("mean", "spread")))
    except (MoodfieldError, LookupError, TypeError, ValueError):
        return None
    fits = found.mean.shape == found.std.shape == (bands,)
    return found if fits and np.isfinite([found.mean, found.std]).all() and (found.std >= 0).all() else None


def _statistics(mels: Iterator[StoredMel]) -> Statistics:
    """One pass over the frames: every track's own sums, merged around the mean so far, so that nothing cancels."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for stored in mels:
        values = np.asarray(stored, np.float32)
        own_mean = values.mean(axis=0, dtype=np.float64)
        own_squares = np.square(values - own_mean).sum(axis=0, dtype=np.float64)
        both = count + len(values)
        apart = own_mean - mean
        squares = squares + own_squares + apart**2 * (count * len(values) / both)
        mean = mean + apart * (len(values) / both)
        count = both
    if count < 2:
        raise DatasetError("statistics want at least two frames; give the training set tracks")
    return Statistics(mean, np.sqrt(squares / (count - 1)))

"""Mels on disk, written once, mapped into memory.

In: tracks and the folder of their audio. Out: one float16 array per track, frames first, and statistics of the bands.
Knows nothing of: truth, clips, networks.

Everything lies under a digest of the mel's config, so mels of different configs never meet.
"""

import contextlib
import errno
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, Float64

from moodfield import audio, files, fleet, jamendo, mel
from moodfield.errors import BadDataset, MoodfieldError
from moodfield.fleet import Where
from moodfield.jamendo import Track
from moodfield.mel import MelConfig

StoredMel = Float16[np.ndarray, "frames bands"]
MOST_OPEN = 2**16, 10_240
"""files that are asked for at once: enough for any dataset, and what every Mac grants"""


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of every band over all frames of some tracks."""

    mean: Float64[np.ndarray, "bands"]
    """mean"""
    spread: Float64[np.ndarray, "bands"]
    """standard deviation, unbiased"""


class Store:
    """The mels of one config in one folder."""

    def __init__(self, folder: str | Path, config: MelConfig) -> None:
        self.config = config
        digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"mel-{digest}"

    def extract(
        self, tracks: Sequence[Track], music: str | Path, *, jobs: int = 1, on: Where = Where.HERE
    ) -> Iterator[tuple[Track, Path | MoodfieldError]]:
        """Write the mel of every track that has none yet; a track that cannot be read comes with its error.

        It can be interrupted at any moment and goes on where it stopped: a mel is there whole or not at all. Refuses a
        folder that cannot be written.
        """
        work = [(jamendo.locate(music, track.path).absolute(), self._path(track).absolute()) for track in tracks]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write(self.folder / "config.json", json.dumps(asdict(self.config), indent=2).encode())
            done = fleet.each(partial(_extract, self.config), work, jobs=jobs, on=on)
            for track, (_, result) in zip(tracks, done, strict=True):
                yield track, result
        except OSError as error:
            raise BadDataset(f"mels cannot be kept in {self.folder}: {error}; make room, or name another") from error

    def open(self, track: Track) -> StoredMel:
        """The mel of a track, mapped into memory, where it takes one open file; refuses one that was not extracted."""
        _let_many_be_open()
        try:
            stored: StoredMel = np.lib.format.open_memmap(self._path(track), mode="r")
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise BadDataset(
                    f"the mel of {track.id} is one open file too many: a run keeps every mel open; "
                    "raise the system's hard limit of open files (ulimit -Hn says it), or train on fewer tracks"
                ) from error
            raise BadDataset(f"the mel of {track.id} is not in {self.folder} ({error}); extract it again") from error
        return stored

    def statistics(self, tracks: Sequence[Track]) -> Statistics:
        """Mean and spread of the bands over all frames of the tracks, computed once (§2.1); long tracks weigh more."""
        names = hashlib.sha256("\n".join(track.path for track in tracks).encode()).hexdigest()[:12]
        path = self.folder / f"statistics-{names}.json"
        if path.is_file():
            kept = json.loads(path.read_text())
            return Statistics(np.array(kept["mean"]), np.array(kept["spread"]))
        found = _statistics(self.open(track) for track in tracks)
        files.write(path, json.dumps({"mean": found.mean.tolist(), "spread": found.spread.tolist()}).encode())
        return found

    def _path(self, track: Track) -> Path:
        return self.folder / f"{track.path}.npy"


def pieces(stored: StoredMel, frames: int = 2_048) -> Iterator[Float32[np.ndarray, "bands frames"]]:
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


def _extract(config: MelConfig, work: tuple[Path, Path]) -> Path:
    source, target = work
    if not target.is_file():
        stream = mel.stream(partial(audio.blocks, source, rate=config.rate), config)
        stored = np.concatenate([piece.T.astype(np.float16) for piece in stream])
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_path(target) as half, half.open("wb") as file:
            # np.save would lose the end of a small mel on a full disk without a word
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(stored))
            file.write(stored.data)
    return target


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
        raise BadDataset("statistics want at least two frames; give the training set tracks")
    return Statistics(mean, np.sqrt(squares / (count - 1)))

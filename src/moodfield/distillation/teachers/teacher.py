"""A teacher: a published network; its outputs for windows of music are computed once and cached.

Outputs are cached under a digest of checkpoint and windows, and the SHA-256 of the audio.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from moodfield import arrays, files
from moodfield.clips import Clip, Cutter, FixedLength
from moodfield.datasets.mtg_jamendo import Track
from moodfield.errors import DatasetError, ModelError, MoodfieldError
from moodfield.training import digests, mel_cache
from moodfield.training.digests import Digest, Digests
from moodfield.training.mel_cache import Entries

TINY = 1e-6
"""overlap in seconds that windows have at least, so that a weight is never 0 / 0"""
VERSION = 1
"""of the computation and the format of outputs; those of another version are not found"""
BATCH = 8
"""windows per call of a network"""


@runtime_checkable
class Architecture(Protocol):
    """What a teacher's network takes and returns, and how it is built from a checkpoint."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the first outputs, which are logits."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs: logits, and after them an embedding if there is one."""

    @property
    def lengths(self) -> FixedLength:
        """Windows, in frames of `blocks`."""

    @property
    def frame_rate(self) -> float:
        """Frames of `blocks` per second."""

    @property
    def precision(self) -> str:
        """Number format of the computation on this processor; it changes outputs slightly."""

    def blocks(self, path: Path) -> Iterator[Float32[np.ndarray, "bands frames"]]:
        """The network's input for a track, in blocks."""

    def load(self, checkpoint: Path) -> Callable[[Float[Tensor, "batch bands frames"]], Float[Tensor, "batch _"]]:
        """Build the network from a checkpoint; raises `ModelError` for any other file."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of a network for the windows of a track."""

    starts: Float32[np.ndarray, "clips"]
    """start of every window in seconds"""
    seconds: float
    """length of the windows"""
    values: Float32[np.ndarray, "clips _"]
    """outputs of every window"""

    def at(self, starts: Float32[np.ndarray, "_clips"], seconds: float) -> Float32[np.ndarray, "_clips _"]:
        """Outputs for windows of another length: means of those that overlap each of them, weighted by the overlap.

        Example:
            >>> outputs = Outputs(np.array([0, 2], np.float32), 2.0, np.array([[1], [3]], np.float32))
            >>> outputs.at(np.array([0, 1], np.float32), 2.0).tolist()
            [[1.0], [2.0]]
        """
        ends = np.minimum(self.starts + self.seconds, starts[:, None] + seconds)
        overlap = ends - np.maximum(self.starts, starts[:, None])
        weights = np.where(overlap > TINY, overlap, TINY * (overlap == overlap.max(axis=1, keepdims=True)))
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32) @ self.values


@dataclass(frozen=True)
class Teacher:
    """A published network and its checkpoint."""

    name: str
    """short name, such as `vggish`"""
    checkpoint: Path
    """file of the weights"""
    architecture: Architecture = field(compare=False)
    """the network; the name stands for it"""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the first outputs, which are logits; further outputs are an embedding."""
        return self.architecture.vocabulary

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the checkpoint; raises `ModelError` if it cannot be read."""
        try:
            return files.sha256(self.checkpoint)
        except OSError as error:
            raise ModelError(f"the teacher {self.checkpoint} cannot be read: {error.strerror}") from error

    def check(self) -> None:
        """Raise `ModelError` if the checkpoint cannot be read, or is another network's."""
        if self.sha256:
            _network(self)

    def predict(self, path: Path) -> Outputs:
        """Run the network on every window of an audio file.

        The last window ends with the track, and a shorter track is repeated to fill one.

        Raises:
            AudioError: The file cannot be read.
            ModelError: The checkpoint cannot be read, or is another network's.
        """
        lengths, rate = self.architecture.lengths, self.architecture.frame_rate
        network, cutter = _network(self), Cutter(lengths)
        frames, rows, waiting = 0, list[np.ndarray](), list[Clip]()
        for block in self.architecture.blocks(path):
            frames += block.shape[1]
            waiting += cutter.push(block)
            while len(waiting) >= BATCH:
                rows.append(_run(network, waiting[:BATCH]))
                del waiting[:BATCH]
        if waiting := waiting + cutter.finish():
            rows.append(_run(network, waiting))
        values = np.concatenate(rows)
        starts = np.minimum(np.arange(len(values)) * lengths.stride, max(frames - lengths.frames, 0)) / rate
        return Outputs(starts.astype(np.float32), lengths.frames / rate, values)

    def cache_folder(self, cache_dir: str | Path) -> Path:
        """Folder of the cached outputs, below that of the cache."""
        lengths = self.architecture.lengths
        key = f"{VERSION} {self.sha256} {lengths.frames} {lengths.stride} {self.architecture.precision}"
        return Path(cache_dir) / f"teacher-{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def compute(
    teacher: Teacher, tracks: Sequence[Track], audio_dir: str | Path, cache_dir: str | Path, *, jobs: int = 1
) -> Iterator[tuple[Track, Path | MoodfieldError]]:
    """Compute a teacher's outputs for every window of every track, unless they are cached.

    Changed audio and damaged files are computed anew. It can be interrupted, and goes on where it stopped.

    Args:
        teacher: The teacher.
        tracks: Tracks to compute.
        audio_dir: Folder that their paths are relative to.
        cache_dir: Folder of the cache.
        jobs: Number of processes; each uses one core.

    Yields:
        Every track with the file of its outputs, or the error if it failed.
    """
    is_complete = partial(arrays.shape, dtype=np.float32, expected=_shape(teacher))
    entries = Entries(teacher.cache_folder(cache_dir).absolute(), is_complete, partial(_write, teacher))
    yield from mel_cache.compute_missing(tracks, Digests(cache_dir, audio_dir), entries, jobs=jobs)


def load(teacher: Teacher, tracks: Sequence[Track], audio_dir: str | Path, cache_dir: str | Path) -> Iterator[Outputs]:
    """Load the cached outputs of tracks.

    Raises:
        DatasetError: Outputs are missing or damaged.
    """
    audio_digests, folder = Digests(cache_dir, audio_dir), teacher.cache_folder(cache_dir)
    seconds = teacher.architecture.lengths.frames / teacher.architecture.frame_rate
    for track in tracks:
        path = mel_cache.entry_path(folder, audio_digests.sha256(track))
        remedy = f"run the same command again: the outputs for {track.id} are computed anew"
        array = arrays.read(path, np.float32, _shape(teacher), remedy=remedy, error=DatasetError)
        yield Outputs(array[:, 0], seconds, array[:, 1:])


def _shape(teacher: Teacher) -> tuple[None, int]:
    """Shape of a cached array: every window has its start, then the outputs."""
    return None, 1 + teacher.architecture.n_outputs


def _run(network: Callable[[Tensor], Tensor], clips: Sequence[Clip]) -> Float32[np.ndarray, "batch _"]:
    with torch.inference_mode(), _one_core():
        return network(torch.from_numpy(np.stack([clip.mel for clip in clips]))).float().numpy()


def _write(teacher: Teacher, source: Path, digest: Digest, target: Path) -> None:
    outputs = teacher.predict(source)
    digests.check_unchanged(source, digest)
    arrays.write(target, np.column_stack([outputs.starts, outputs.values]))


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Run on one core: other processes use the others, and a training that follows in this process uses all."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=8)
def _network(teacher: Teacher) -> Callable[[Tensor], Tensor]:
    """The network of a teacher, loaded once in every process."""
    return teacher.architecture.load(teacher.checkpoint)

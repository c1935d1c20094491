"""Random clips with truth, in batches.

In: mapped mels, their truth, and a generator. Out: batches of clips, each with its truth.
Knows nothing of: files, networks, augmentation.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor

from moodfield.errors import DatasetError

StoredMel = Float16[np.ndarray, "_frames bands"]  # with the underscore, since tracks differ in length
Thing = TypeVar("Thing")
Row = Float32[np.ndarray, "tags"]


@runtime_checkable
class Targets(Protocol):
    """What is true of tracks, or of parts of them."""

    def __len__(self) -> int:
        """How many clips an epoch has."""

    def draw(
        self, index: int, frames: Sequence[int], clip: int, generator: np.random.Generator
    ) -> tuple[int, int, Row]:
        """Track, first frame and truth of a clip of so many frames, given how many frames the tracks have."""

    def per_track(self) -> Float32[np.ndarray, "tracks tags"]:
        """What is true of whole tracks."""


@dataclass(frozen=True)
class TrackTargets:
    """One row for a whole track: 0 or 1, or something between; an epoch has one random clip of every track."""

    rows: Float32[np.ndarray, "tracks tags"]
    """truth"""

    def __len__(self) -> int:
        """One clip a track."""
        return len(self.rows)

    def draw(
        self, index: int, frames: Sequence[int], clip: int, generator: np.random.Generator
    ) -> tuple[int, int, Row]:
        """A random clip of track `index`."""
        return index, int(generator.integers(max(frames[index] - clip, 0), endpoint=True)), self.rows[index]

    def per_track(self) -> Float32[np.ndarray, "tracks tags"]:
        """The rows."""
        return self.rows


@dataclass(frozen=True)
class WindowTargets:
    """One row for every window of a track, the last of which ends with it; an epoch has every window once."""

    windows: tuple[Float32[np.ndarray, "_clips tags"], ...]
    """truth of every track's windows"""
    step: float
    """frames from one window to the next"""

    def __len__(self) -> int:
        """One clip a window."""
        return sum(map(len, self.windows))

    def draw(
        self, index: int, frames: Sequence[int], clip: int, generator: np.random.Generator
    ) -> tuple[int, int, Row]:
        """Window number `index` of all tracks' windows, in a row."""
        ends = np.cumsum([len(rows) for rows in self.windows])
        track = int(np.searchsorted(ends, index, side="right"))
        window = index - int(ends[track]) + len(self.windows[track])
        start = min(round(window * self.step), max(frames[track] - clip, 0))
        return track, start, self.windows[track][window]

    def per_track(self) -> Float32[np.ndarray, "tracks tags"]:
        """The mean over each track's windows."""
        return np.stack([rows.mean(axis=0) for rows in self.windows])


@dataclass(frozen=True)
class ClipDataset:
    """Tracks to learn from or to be judged by."""

    mels: tuple[StoredMel, ...]
    """the mel of every track"""
    targets: Targets
    """what is true of them"""

    def __post_init__(self) -> None:
        rows = len(self.targets.per_track())
        if not self.mels or rows != len(self.mels):
            raise DatasetError(
                f"{len(self.mels)} mels and truth of {rows} tracks came; both are wanted for every track"
            )


def epoch(
    material: ClipDataset,
    *,
    clip_frames: int,
    size: int,
    fill: Float32[np.ndarray, "bands"],
    generator: np.random.Generator,
) -> Iterator[tuple[Float[Tensor, "batch bands frames"], Float[Tensor, "batch tags"]]]:
    """All clips once, in random order, in batches; the last one is dropped when it is smaller than the others.

    A track shorter than a clip is followed by `fill`, which is the mean of every band: zero once it is standardised.
    """
    order = generator.permutation(len(material.targets))
    frames = [len(stored) for stored in material.mels]
    size = min(size, len(order))
    for first in range(0, len(order) - size + 1, size):
        clips = np.empty((size, clip_frames, len(fill)), np.float32)
        rows = []
        for place, index in enumerate(order[first : first + size]):
            track, start, row = material.targets.draw(int(index), frames, clip_frames, generator)
            found = material.mels[track][start : start + clip_frames]
            clips[place, : len(found)] = found
            clips[place, len(found) :] = fill
            rows.append(row)
        yield torch.from_numpy(clips).transpose(1, 2).contiguous(), torch.from_numpy(np.stack(rows))


def ahead(made: Iterator[Thing]) -> Iterator[Thing]:
    """The same things in the same order; while one is used, the next is made."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, made, None)
        while (thing := coming.result()) is not None:
            coming = pool.submit(next, made, None)
            yield thing

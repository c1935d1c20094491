"""Batches of random clips with their targets."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor

from moodfield.errors import DatasetError

StoredMel = Float16[np.ndarray, "_frames bands"]  # with the underscore, since tracks differ in length
Item = TypeVar("Item")
Row = Float32[np.ndarray, "tags"]


@runtime_checkable
class Targets(Protocol):
    """Targets of tracks, or of windows of tracks."""

    def __len__(self) -> int:
        """Clips in an epoch."""

    def draw(
        self, index: int, frames: Sequence[int], clip_frames: int, generator: np.random.Generator
    ) -> tuple[int, int, Row]:
        """Draw a clip.

        Args:
            index: number of the clip, from 0.
            frames: length of every track.
            clip_frames: length of the clip.
            generator: of random positions.

        Returns:
            Track, first frame and targets of the clip.
        """

    def per_track(self) -> Float32[np.ndarray, "tracks tags"]:
        """Targets of whole tracks."""


@dataclass(frozen=True)
class TrackTargets:
    """One row of targets for a whole track; an epoch has one random clip of every track."""

    rows: Float32[np.ndarray, "tracks tags"]
    """targets, 0 … 1 or logits"""

    def __len__(self) -> int:
        """One clip a track."""
        return len(self.rows)

    def draw(
        self, index: int, frames: Sequence[int], clip_frames: int, generator: np.random.Generator
    ) -> tuple[int, int, Row]:
        """A random clip of track `index`."""
        return index, int(generator.integers(max(frames[index] - clip_frames, 0), endpoint=True)), self.rows[index]

    def per_track(self) -> Float32[np.ndarray, "tracks tags"]:
        """The rows."""
        return self.rows


@dataclass(frozen=True)
class WindowTargets:
    """One row of targets for every window of a track; an epoch has every window once. The last one ends the track."""

    windows: tuple[Float32[np.ndarray, "_clips tags"], ...]
    """targets of the windows of every track"""
    step: float
    """frames from one window to the next"""

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(rows) for rows in self.windows])

    def __len__(self) -> int:
        """One clip a window."""
        return int(self._ends[-1]) if self.windows else 0

    def draw(
        self, index: int, frames: Sequence[int], clip_frames: int, generator: np.random.Generator
    ) -> tuple[int, int, Row]:
        """Window number `index` of the windows of all tracks, one track after the other."""
        track = int(np.searchsorted(self._ends, index, side="right"))
        window = index - int(self._ends[track]) + len(self.windows[track])
        start = min(round(window * self.step), max(frames[track] - clip_frames, 0))
        return track, start, self.windows[track][window]

    def per_track(self) -> Float32[np.ndarray, "tracks tags"]:
        """The mean over each track's windows."""
        return np.stack([rows.mean(axis=0) for rows in self.windows])


@dataclass(frozen=True)
class ClipDataset:
    """Mels of tracks, and their targets."""

    mels: tuple[StoredMel, ...]
    """the mel of every track"""
    targets: Targets
    """their targets"""

    def __post_init__(self) -> None:
        rows = len(self.targets.per_track())
        if not self.mels or rows != len(self.mels):
            raise DatasetError(f"{len(self.mels)} mels and targets of {rows} tracks; every track needs both")


def epoch(
    dataset: ClipDataset,
    *,
    clip_frames: int,
    size: int,
    fill: Float32[np.ndarray, "bands"],
    generator: np.random.Generator,
) -> Iterator[tuple[Float[Tensor, "batch bands frames"], Float[Tensor, "batch tags"]]]:
    """All clips once, in random order, in batches with their targets.

    Args:
        dataset: mels and targets.
        clip_frames: frames of a clip.
        size: clips in a batch; a smaller batch at the end is dropped, unless it is the only one.
        fill: what follows a track shorter than a clip: the mean of every band, which is zero once standardized.
        generator: of the order and the positions of clips.
    """
    order = generator.permutation(len(dataset.targets))
    frames = [len(mel) for mel in dataset.mels]
    size = min(size, len(order))
    for first in range(0, len(order) - size + 1, size):
        clips = np.empty((size, clip_frames, len(fill)), np.float32)
        targets = []
        for clip, index in zip(clips, order[first : first + size], strict=True):
            track, start, row = dataset.targets.draw(int(index), frames, clip_frames, generator)
            cut = dataset.mels[track][start : start + clip_frames]
            clip[: len(cut)] = cut
            clip[len(cut) :] = fill
            targets.append(row)
        yield torch.from_numpy(clips).transpose(1, 2).contiguous(), torch.from_numpy(np.stack(targets))


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order, each computed in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, None)
        while (item := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield item

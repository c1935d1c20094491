"""A mel becomes clips; clip logits become track logits.

In: a mel, whole or in pieces; the lengths a network takes. Out: clips, and which of their logits count for the track.
Knows nothing of: networks, files, or tags.

A network that takes any length is fed overlapping clips, and the logits that could see a clip's edge are dropped: the
rest are those that the network would give for the whole track. Of one that judges whole tracks, what it hears is cut in
the same way. One that takes a fixed length sees sliding windows.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from moodfield.errors import AudioError, ConfigError

CLIP_FRAMES = 2_048
"""frames of a clip cut for a network that takes any length"""
MAX_FRAMES = 2**20
"""most frames that a network may want at once: a stranger's card is not to fill the memory"""


@dataclass(frozen=True)
class _Sliding:
    """A network whose map is as long as its input."""

    min_frames: int
    """fewest frames that give an output"""
    stride: int
    """frames from one output to the next"""
    receptive_field: int
    """frames that one output sees"""
    start: int
    """first frame that output 0 sees; negative when it sees padding"""

    def __post_init__(self) -> None:
        if min(self.min_frames, self.stride, self.receptive_field) < 1 or self.start > 0:
            raise ConfigError(f"{self}: min_frames, stride and receptive_field are at least 1, start at most 0")
        if max(self.min_frames, self.stride, self.receptive_field, -self.start) > MAX_FRAMES:
            raise ConfigError(f"{self}: nothing is beyond {MAX_FRAMES} frames")


@dataclass(frozen=True)
class AnyLength(_Sliding):
    """A network that takes any length: fully convolutional, and its outputs are logits."""

    kind: Literal["any"] = "any"
    """what the card calls it"""


@dataclass(frozen=True)
class WholeTrack(_Sliding):
    """A network that judges a whole track at once: its outputs are features, and a second part summarises them all."""

    kind: Literal["whole"] = "whole"
    """what the card calls it"""


@dataclass(frozen=True)
class FixedLength:
    """A network that takes windows of one length and gives one output for each."""

    frames: int
    """frames of a window"""
    stride: int
    """frames from one window to the next"""
    kind: Literal["fixed"] = "fixed"
    """what the card calls it"""

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.frames <= MAX_FRAMES:
            raise ConfigError(f"{self}: the step is between 1 and the window's frames, those at most {MAX_FRAMES}")


Lengths = AnyLength | WholeTrack | FixedLength
Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True)
class Clip:
    """Some frames of a mel, and which of the network's outputs for them count."""

    mel: Mel
    """the frames"""
    keep: slice
    """outputs that count for the track; the others see the edge of the clip, and another clip has them"""


_Cutting = Generator[list[Clip], Mel | None, None]


class Cutter:
    """Cuts the pieces of one mel into clips; memory is bounded by the clip, not the track."""

    def __init__(self, lengths: Lengths, *, clip_frames: int = CLIP_FRAMES) -> None:
        self._cut = _cut_fixed(lengths) if isinstance(lengths, FixedLength) else _cut_any(lengths, clip_frames)
        next(self._cut)

    def push(self, piece: Mel) -> list[Clip]:
        """The clips that this next piece of the mel completes."""
        return self._cut.send(piece)

    def finish(self) -> list[Clip]:
        """The last clips; refuses a mel too short for the network."""
        return self._cut.send(None)


def cut(mel: Mel, lengths: Lengths, *, clip_frames: int = CLIP_FRAMES) -> list[Clip]:
    """The clips of a whole mel."""
    cutter = Cutter(lengths, clip_frames=clip_frames)
    return cutter.push(mel) + cutter.finish()


def pool(logits: Float32[np.ndarray, "tags time"]) -> Float32[np.ndarray, "tags"]:
    """Logits of a track: the mean of its map over time, which weighs clips by their length."""
    return logits.mean(axis=1, dtype=np.float64).astype(np.float32)


def centres(count: int, frames: int, lengths: Lengths) -> Float32[np.ndarray, "time"]:
    """The frame in the middle of what each of a track's `count` outputs sees, within its `frames`."""
    if isinstance(lengths, WholeTrack):
        middle = np.full(count, (frames - 1) / 2)
    elif isinstance(lengths, AnyLength):
        middle = np.arange(count) * lengths.stride + lengths.start + (lengths.receptive_field - 1) / 2
    else:
        middle = (
            np.minimum(np.arange(count) * lengths.stride, max(frames - lengths.frames, 0))
            + (min(lengths.frames, frames) - 1) / 2
        )
    return np.clip(middle, 0, frames - 1).astype(np.float32)


def _cut_any(lengths: _Sliding, clip_frames: int) -> _Cutting:
    """Clips that start at multiples of the stride, so that every output sees what it would see in the whole mel."""
    stride = lengths.stride
    before = -(lengths.start // stride) + 1
    """outputs at the start of a clip that see its edge, and one more, so that the last clip is never too short"""
    clean = (clip_frames - lengths.start - lengths.receptive_field) // stride + 1
    """outputs of a clip up to the last that does not see its far edge"""
    step = (clean - before) * stride
    if step <= 0:
        raise ConfigError(
            f"clips of {clip_frames} frames came, outputs see {lengths.receptive_field}; cut longer clips"
        )
    waiting: list[Mel] = []
    ready: list[Clip] = []
    length = first = 0
    while (piece := (yield ready)) is not None:
        ready = []
        waiting.append(piece)
        length += piece.shape[1]
        if length <= clip_frames:
            continue
        mel = np.concatenate(waiting, axis=1)
        while mel.shape[1] > clip_frames:
            ready.append(Clip(mel[:, :clip_frames], slice(first, clean)))
            mel, first = mel[:, step:], before
        waiting, length = [mel], mel.shape[1]
    if length < lengths.min_frames:
        raise AudioError(
            "too-short", f"{length} frames came, the network wants {lengths.min_frames} or more; use longer audio"
        )
    yield [Clip(np.concatenate(waiting, axis=1), slice(first, None))]


def _cut_fixed(lengths: FixedLength) -> _Cutting:
    """Windows every `step` frames; the last one ends with the mel, and a shorter mel is repeated to fill one."""
    size, step = lengths.frames, lengths.stride
    ready: list[Clip] = []
    mel: Mel | None = None
    """frames from the next window's start on, and before them those that the last window may need"""
    position = 0
    while (piece := (yield ready)) is not None:
        ready = []
        mel = piece if mel is None else np.concatenate([mel, piece], axis=1)
        while mel.shape[1] - position >= size:
            ready.append(Clip(mel[:, position : position + size], slice(None)))
            position += step
        if position > size:
            mel, position = mel[:, position - size :], size
    if mel is None or not mel.shape[1]:
        raise AudioError("too-short", "no frames came; use longer audio")
    if mel.shape[1] < size:
        yield [Clip(np.take(mel, np.arange(size) % mel.shape[1], axis=1), slice(None))]
    elif position - step + size < mel.shape[1]:
        yield [Clip(mel[:, -size:], slice(None))]
    else:
        yield []

"""Cut a mel into clips, and pool the logits of clips to those of the track.

A network that takes any length gets overlapping clips, and outputs whose receptive field reaches beyond a clip are
dropped: the others equal those of the network for the whole mel. The body of a network that summarises whole tracks
gets the same clips. A network of fixed length gets sliding windows.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

from moodfield.errors import AudioError, ConfigError

CLIP_FRAMES = 2_048
"""frames of a clip cut for a network that takes any length"""
MAX_FRAMES = 2**20
"""most frames of one input: an untrusted card must not exhaust the memory"""


@dataclass(frozen=True)
class _VariableLength:
    """Input of a network whose output grows with its input."""

    min_frames: int
    """fewest frames with an output"""
    stride: int
    """frames from one output to the next"""
    receptive_field: int
    """frames that one output depends on"""
    start: int
    """first frame that output 0 depends on; negative when it is padding"""

    def __post_init__(self) -> None:
        if min(self.min_frames, self.stride, self.receptive_field) < 1 or self.start > 0:
            raise ConfigError(f"{self}: expected min_frames, stride and receptive_field ≥ 1, start ≤ 0")
        if max(self.min_frames, self.stride, self.receptive_field, -self.start) > MAX_FRAMES:
            raise ConfigError(f"{self}: expected at most {MAX_FRAMES} frames")


@dataclass(frozen=True)
class AnyLength(_VariableLength):
    """Input of a fully convolutional network: any length; its outputs are logits."""

    kind: Literal["any"] = "any"
    """its name in a card"""


@dataclass(frozen=True)
class WholeTrack(_VariableLength):
    """Input of a network of whole tracks: its body computes features, its head summarises the features of all clips."""

    kind: Literal["whole"] = "whole"
    """its name in a card"""


@dataclass(frozen=True)
class FixedLength:
    """Input of a network that takes windows of one length and returns one output for each."""

    frames: int
    """frames of a window"""
    stride: int
    """frames from one window to the next"""
    kind: Literal["fixed"] = "fixed"
    """its name in a card"""

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.frames <= MAX_FRAMES:
            raise ConfigError(f"{self}: expected 1 ≤ stride ≤ frames ≤ {MAX_FRAMES}")


Lengths = AnyLength | WholeTrack | FixedLength
Mel = Float32[np.ndarray, "bands frames"]


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of a mel, and which outputs of the network for them belong to the track."""

    mel: Mel
    """the frames"""
    keep: slice
    """outputs of the track; the others depend on frames beyond the clip, and are computed from another clip"""


_Cutting = Generator[list[Clip], Mel | None, None]


class Cutter:
    """Cuts a mel that is passed in blocks into clips; memory grows with the clip, not with the track."""

    def __init__(self, lengths: Lengths, *, clip_frames: int = CLIP_FRAMES) -> None:
        self._cut = _cut_fixed(lengths) if isinstance(lengths, FixedLength) else _cut_any(lengths, clip_frames)
        next(self._cut)

    def push(self, block: Mel) -> list[Clip]:
        """Add the next block of the mel; returns the clips that it completes."""
        return self._cut.send(block)

    def finish(self) -> list[Clip]:
        """The last clips; raises `AudioError` if the mel is too short for the network."""
        return self._cut.send(None)


def cut(mel: Mel, lengths: Lengths, *, clip_frames: int = CLIP_FRAMES) -> list[Clip]:
    """Cut a whole mel into clips.

    Args:
        mel: Shape (bands, frames).
        lengths: The input lengths of the network.
        clip_frames: Frames of a clip for networks that take any length.

    Raises:
        AudioError: The mel is too short for the network.
        ConfigError: `clip_frames` is too small for the receptive field.

    Example:
        >>> mel = np.zeros((256, 1_000), np.float32)
        >>> [clip.mel.shape for clip in cut(mel, FixedLength(frames=400, stride=300))]
        [(256, 400), (256, 400), (256, 400)]
    """
    cutter = Cutter(lengths, clip_frames=clip_frames)
    return cutter.push(mel) + cutter.finish()


def pool(outputs: Float32[np.ndarray, "channels time"]) -> Float32[np.ndarray, "channels"]:
    """Pool logits (§3.3) or features of a track over time: their mean, in float32.

    >>> pool(np.array([[1, 2, 3], [0, 0, 3]], np.float32)).tolist()
    [2.0, 1.0]
    """
    return outputs.mean(axis=1, dtype=np.float64).astype(np.float32)


def centres(count: int, frames: int, lengths: Lengths) -> Float32[np.ndarray, "time"]:
    """The frame at the centre of the receptive field of each of a track's `count` outputs, within its `frames`."""
    if isinstance(lengths, WholeTrack):
        middle = np.full(count, (frames - 1) / 2)
    elif isinstance(lengths, AnyLength):
        middle = np.arange(count) * lengths.stride + lengths.start + (lengths.receptive_field - 1) / 2
    else:
        starts = np.minimum(np.arange(count) * lengths.stride, max(frames - lengths.frames, 0))
        middle = starts + (min(lengths.frames, frames) - 1) / 2
    return np.clip(middle, 0, frames - 1).astype(np.float32)


class Overlap(NamedTuple):
    """How clips of a network that takes any length overlap."""

    before: int
    """outputs at the start of a clip that reach beyond it, and one more, so that the last clip is never too short"""
    clean: int
    """outputs of a clip up to the last that does not reach beyond its end"""
    step: int
    """frames from one clip to the next: a multiple of the stride, so that outputs equal those for the whole mel"""


def overlap(lengths: AnyLength | WholeTrack, clip_frames: int = CLIP_FRAMES) -> Overlap:
    """The overlap of clips of `clip_frames`; raises `ConfigError` if they are too short for the receptive field."""
    stride, field = lengths.stride, lengths.receptive_field
    before = -(lengths.start // stride) + 1
    clean = (clip_frames - lengths.start - field) // stride + 1
    step = (clean - before) * stride
    if step <= 0:
        raise ConfigError(f"clip_frames={clip_frames} is too small for a receptive field of {field}; cut longer clips")
    return Overlap(before, clean, step)


def _cut_any(lengths: AnyLength | WholeTrack, clip_frames: int) -> _Cutting:
    """Overlapping clips, whose outputs equal those for the whole mel."""
    before, clean, step = overlap(lengths, clip_frames)
    waiting: list[Mel] = []
    ready: list[Clip] = []
    length = first = 0
    while (block := (yield ready)) is not None:
        ready = []
        waiting.append(block)
        length += block.shape[1]
        if length <= clip_frames:
            continue
        mel = np.concatenate(waiting, axis=1)
        while mel.shape[1] > clip_frames:
            ready.append(Clip(mel[:, :clip_frames], slice(first, clean)))
            mel, first = mel[:, step:], before
        waiting, length = [mel], mel.shape[1]
    if length < lengths.min_frames:
        raise AudioError("too-short", f"the mel has {length} frames, expected {lengths.min_frames}; use longer audio")
    yield [Clip(np.concatenate(waiting, axis=1), slice(first, None))]


def _cut_fixed(lengths: FixedLength) -> _Cutting:
    """Windows every `stride` frames; the last one ends with the mel, and a shorter mel is repeated to fill one."""
    size, stride = lengths.frames, lengths.stride
    ready: list[Clip] = []
    mel: Mel | None = None
    """frames from the start of the next window on, and before them those that the last window may need"""
    position = 0
    while (block := (yield ready)) is not None:
        ready = []
        mel = block if mel is None else np.concatenate([mel, block], axis=1)
        while mel.shape[1] - position >= size:
            ready.append(Clip(mel[:, position : position + size], slice(None)))
            position += stride
        if position > size:
            mel, position = mel[:, position - size :], size
    if mel is None or not mel.shape[1]:
        raise AudioError("too-short", "the mel has no frames; use longer audio")
    if mel.shape[1] < size:
        yield [Clip(np.take(mel, np.arange(size) % mel.shape[1], axis=1), slice(None))]
    elif position - stride + size < mel.shape[1]:
        yield [Clip(mel[:, -size:], slice(None))]
    else:
        yield []

"""The published networks that serve as teachers, and where their checkpoints lie below one folder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from moodfield import audio, errors, mel, nets, tags
from moodfield.clips import FixedLength
from moodfield.distillation.teachers import front_end, jamendo, msd_musicnn
from moodfield.distillation.teachers.teacher import Architecture, Teacher

VGGISH = "vggish"
"""name of the organisers' baseline"""
CHECKPOINTS: Mapping[str, str] = MappingProxyType(
    {
        VGGISH: "vggish/best_model.pth",
        "jamendo_fcn": "teachers/jamendo_fcn.pth",
        "jamendo_crnn": "teachers/jamendo_crnn.pth",
        "jamendo_musicnn": "teachers/jamendo_musicnn.pth",
        "msd_musicnn": "teachers/msd_musicnn.safetensors",
    }
)
"""teacher → file of its checkpoint, below the folder of checkpoints"""


@dataclass(frozen=True)
class MelNetwork:
    """An `Architecture` on the mel of the organisers: their baseline."""

    vocabulary = tags.MOODS_AND_THEMES
    n_outputs = len(tags.MOODS_AND_THEMES)
    lengths = FixedLength(nets.VGGConfig().frames, nets.VGGConfig().frames // 2)
    frame_rate = mel.ORGANISERS.frames_per_second

    @property
    def precision(self) -> str:
        """The `native_precision` of this processor."""
        return native_precision()

    def blocks(self, path: Path) -> Iterator[Float32[np.ndarray, "bands frames"]]:
        """The mel of a track, in blocks."""
        return mel.stream(audio.Reader(path, sample_rate=mel.ORGANISERS.sample_rate), mel.ORGANISERS)

    def load(self, checkpoint: Path) -> Callable[[Float[Tensor, "batch bands frames"]], Float[Tensor, "batch _"]]:
        """Build the network from the published checkpoint."""
        return _fastest(nets.load_pretrained(checkpoint))


@dataclass(frozen=True)
class WaveformNetwork:
    """An `Architecture` on the waveform at 16 kHz, as one band."""

    vocabulary: tuple[str, ...]
    """names of the logits"""
    n_outputs: int
    """number of logits and of the numbers of the embedding"""
    load_network: Callable[[Path], nn.Module]
    """builds the network from a checkpoint"""
    seconds: float
    """length of a window: what the network was trained on"""
    step: float
    """seconds from one window to the next"""
    frame_rate = float(front_end.SAMPLE_RATE)

    @property
    def precision(self) -> str:
        """The `native_precision` of this processor."""
        return native_precision()

    @property
    def lengths(self) -> FixedLength:
        """Windows in samples."""
        return FixedLength(round(self.seconds * self.frame_rate), round(self.step * self.frame_rate))

    def blocks(self, path: Path) -> Iterator[Float32[np.ndarray, "bands frames"]]:
        """The waveform of a track, in blocks."""
        return (block[None] for block in audio.blocks(path, sample_rate=front_end.SAMPLE_RATE))

    def load(self, checkpoint: Path) -> Callable[[Float[Tensor, "batch bands frames"]], Float[Tensor, "batch _"]]:
        """Build the network from its checkpoint."""
        run = _fastest(self.load_network(checkpoint))
        return lambda waveforms: run(waveforms[:, 0])


def native_precision() -> str:
    """The number format that this processor computes networks in fastest."""
    return "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16") else "float32"


def _fastest(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network in the memory format and the precision that this processor runs fastest."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks it
    bfloat16 = native_precision() == "bfloat16"

    def run(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs: Tensor = network(inputs)
        return outputs

    return run


def _jamendo(kind: str, *, seconds: float, step: float) -> WaveformNetwork:
    load = partial(jamendo.load, kind=kind)
    return WaveformNetwork(jamendo.VOCABULARY, len(jamendo.VOCABULARY), load, seconds, step)


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        VGGISH: MelNetwork(),
        "jamendo_fcn": _jamendo("fcn", seconds=29.0, step=29.0),
        "jamendo_crnn": _jamendo("crnn", seconds=29.0, step=29.0),
        "jamendo_musicnn": _jamendo("musicnn", seconds=3.0, step=3.0),
        "msd_musicnn": WaveformNetwork(
            msd_musicnn.VOCABULARY,
            len(msd_musicnn.VOCABULARY) + msd_musicnn.EMBEDDING,
            msd_musicnn.load,
            seconds=msd_musicnn.PATCH_SECONDS,
            step=msd_musicnn.PATCH_SECONDS,
        ),
    }
)
"""teacher → its network"""


def teacher(name: str, checkpoint: str | Path) -> Teacher:
    """A published teacher from its checkpoint; raises `UnknownNameError` for another name."""
    return Teacher(name, Path(checkpoint), errors.get_or_suggest(ARCHITECTURES, name, what="teacher"))


def teachers(folder: str | Path) -> tuple[Teacher, ...]:
    """All published teachers; their checkpoints are the `CHECKPOINTS` below a folder."""
    return tuple(teacher(name, Path(folder) / file) for name, file in CHECKPOINTS.items())

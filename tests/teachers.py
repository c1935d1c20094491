"""Tiny teachers with random weights, whose outputs differ for different music."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from moodfield import nets, tags
from moodfield.distillation.teachers import jamendo, msd_musicnn, published
from moodfield.distillation.teachers.published import MelNetwork, WaveformNetwork
from moodfield.distillation.teachers.teacher import Teacher
from moodfield.nets import Net

FRAME = 800
"""samples of every spectrum"""
BANDS = 16
VOCABULARIES = {
    "jamendo_fcn": (jamendo.VOCABULARY, len(jamendo.VOCABULARY)),
    "jamendo_crnn": (jamendo.VOCABULARY, len(jamendo.VOCABULARY)),
    "jamendo_musicnn": (jamendo.VOCABULARY, len(jamendo.VOCABULARY)),
    "msd_musicnn": (msd_musicnn.VOCABULARY, len(msd_musicnn.VOCABULARY) + msd_musicnn.EMBEDDING),
}
"""published teacher on waveforms → its vocabulary, and the number of its outputs"""


def vgg() -> Net:
    """A tiny VGG-ish network with random weights."""
    torch.manual_seed(0)
    net = nets.VGGConfig(width=2).build(n_mels=96, n_tags=56).eval()
    net.standardize.set_statistics(torch.full((96,), -24.0), torch.full((96,), 16.0))
    return net


@dataclass(frozen=True)
class TinyMelNetwork(MelNetwork):
    """The windows of the organisers' baseline, a tiny network, and any checkpoint."""

    def load(self, checkpoint: Path) -> Callable[[Tensor], Tensor]:
        """The same network for every checkpoint."""
        return vgg()


class Spectra(nn.Module):
    """A linear layer on the mean spectrum of a waveform."""

    def __init__(self, n_outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(BANDS, n_outputs, generator=generator))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Outputs of waveforms, batch × outputs."""
        frames = waveforms[:, : waveforms.shape[1] // FRAME * FRAME].unflatten(1, (-1, FRAME))
        power = torch.fft.rfft(frames).abs().square().mean(dim=1)[:, : FRAME // 2]
        bands = torch.log10(power.unflatten(1, (BANDS, -1)).mean(dim=2) + 1e-4)
        return (bands.unsqueeze(2) * self.weight).sum(dim=1)  # no product of matrices, which bfloat16 would round


def build(checkpoint: Path, n_outputs: int, seed: int) -> nn.Module:
    """A tiny network on waveforms; any checkpoint is right."""
    return Spectra(n_outputs, seed)


def architecture(
    vocabulary: tuple[str, ...] = tags.MOODS_AND_THEMES, n_outputs: int | None = None, *, seed: int = 0,
    seconds: float = 2.0, step: float = 2.0,
) -> WaveformNetwork:  # fmt: skip
    """A tiny network on waveforms."""
    count = n_outputs or len(vocabulary)
    return WaveformNetwork(vocabulary, count, partial(build, n_outputs=count, seed=seed), seconds, step)


def write_checkpoint(path: Path, content: str = "weights") -> Path:
    """A file in the place of weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def tiny(folder: Path, name: str = "tiny", **changes: object) -> Teacher:
    """A tiny teacher on waveforms with a checkpoint of its own."""
    return Teacher(name, write_checkpoint(folder / f"{name}.pth", name), architecture(**changes))


def vggish(checkpoint: Path) -> Teacher:
    """A tiny teacher in the place of the organisers' baseline."""
    return Teacher(published.VGGISH, checkpoint, TinyMelNetwork())


def all_published(folder: Path) -> Iterator[Teacher]:
    """A tiny teacher in the place of every published one, with its vocabulary."""
    for seed, (name, file) in enumerate(published.CHECKPOINTS.items()):
        checkpoint = write_checkpoint(folder / file, name)
        if name == published.VGGISH:
            yield vggish(checkpoint)
        else:
            vocabulary, n_outputs = VOCABULARIES[name]
            seconds = published.ARCHITECTURES[name].seconds
            yield Teacher(
                name, checkpoint, architecture(vocabulary, n_outputs, seed=seed, seconds=seconds, step=seconds)
            )

"""CP-DenseNet: a DenseNet with the receptive field of CP-ResNet.

In: a config of numbers. Out: a network from clips to logits, and the layers its receptive field follows from.
Knows nothing of: how it is trained, or what the tags mean.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moodfield import clips, receptive
from moodfield.errors import BadConfig
from moodfield.nets import blocks
from moodfield.nets.blocks import DenseLayer, Mels, Net, Standardize
from moodfield.receptive import POOL, POOLED, STEM, Layer

NARROWED = (2, 4, 8, 16)
"""after so many convolutions the channels are halved"""


@dataclass(frozen=True)
class CPDenseNetConfig:
    """CP-DenseNet as numbers (§3.4, submission 3); the paper gives none, all of them are *chosen by us*."""

    rho_freq: int = 5
    """ρ along frequency, 0 … 22: how many of the convolutions look beyond one cell"""
    rho_time: int = 5
    """ρ along time, 0 … 22"""
    width: int = 128
    """channels of the stem"""
    growth: int = 64
    """channels that every dense layer adds"""
    frequency_aware: bool = False
    """whether every dense layer also sees its position on the frequency axis"""
    family: Literal["cp_densenet"] = "cp_densenet"
    """what files call networks of this kind"""

    def __post_init__(self) -> None:
        receptive.kernels(self.rho_freq), receptive.kernels(self.rho_time)
        if not 1 <= min(self.width, self.growth) <= max(self.width, self.growth) <= blocks.MOST_WIDTH:
            raise BadConfig(f"{self}: width and growth are at least 1 channel, and at most {blocks.MOST_WIDTH}")

    def layers(self, axis: Literal["freq", "time"]) -> tuple[Layer, ...]:
        """The layers that an output cell looks through along one axis, first to last."""
        return receptive.regularized(self.rho_freq if axis == "freq" else self.rho_time)

    def build(self, *, bands: int, tags: int) -> "CPDenseNet":
        """A network with fresh weights, drawn from torch's generator; 1 band means any number of them."""
        return CPDenseNet(self, bands=bands, tags=tags)


class CPDenseNet(Net):
    """CP-DenseNet: a stem, 24 dense layers with the kernels of CP-ResNet, and one map per tag whose mean is the logit.

    With fresh weights all logits are exactly 0.
    """

    def __init__(self, config: CPDenseNetConfig, *, bands: int, tags: int) -> None:
        super().__init__()
        self.config = config
        along_freq, along_time = config.layers("freq"), config.layers("time")
        if bands != 1 and not receptive.outputs(along_freq, bands):
            raise BadConfig(f"{bands} bands came, this network needs at least {receptive.least(along_freq)}")
        seen = receptive.field(along_time)
        self.lengths = clips.AnyLength(receptive.least(along_time), seen.stride, seen.size, seen.start)
        self.standardize = Standardize(bands)
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.width, STEM.kernel, STEM.stride, STEM.padding, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential()
        channels = config.width
        kernels = zip(receptive.kernels(config.rho_freq), receptive.kernels(config.rho_time), strict=True)
        for done, kernel in enumerate(kernels, start=1):
            self.blocks.append(DenseLayer(channels, config.growth, kernel, frequency_aware=config.frequency_aware))
            channels += config.growth
            if done in NARROWED:
                self.blocks.append(_narrow(channels, channels // 2))
                channels //= 2
            if done in POOLED:
                self.blocks.append(nn.AvgPool2d(POOL.kernel, POOL.stride))
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, tags, 1, bias=False),
            nn.BatchNorm2d(tags),
        )
        nn.init.kaiming_normal_(self.stem.get_parameter("0.weight"), mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.head.get_parameter("2.weight"))

    def over_time(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 16 frames: the mean over frequency of the map before it is pooled."""
        stem = self.stem(self.standardize(mels))
        return blocks.precise(self.head(blocks.through(self.blocks, stem, recompute=self.recompute))).mean(dim=2)

    @torch.no_grad()
    def expect(self, mean: Float[Tensor, "tags"], spread: Float[Tensor, "tags"]) -> None:
        """Begin with these logits: the batch norm of the head starts from their mean and spread."""
        self.head.get_parameter("3.bias").copy_(mean)
        self.head.get_parameter("3.weight").copy_(spread)


def _narrow(inputs: int, outputs: int) -> nn.Sequential:
    """Fewer channels for the dense layers that follow."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv)

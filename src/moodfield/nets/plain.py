"""Vanilla ResNet-18, 34 and 50.

In: a config of numbers. Out: a network from clips to logits, and the layers its receptive field follows from.
Knows nothing of: how it is trained, or what the tags mean.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield.errors import ConfigError
from moodfield.nets import blocks
from moodfield.nets.blocks import AnyMaps, Mels, Net
from moodfield.receptive_field import Layer

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""blocks of each of the four stages, by depth"""
STEM = Layer(kernel=7, stride=2, padding=3)
POOL = Layer(kernel=3, stride=2, padding=1)


@dataclass(frozen=True)
class PlainResNetConfig:
    """A vanilla ResNet as numbers (§4, submission 5)."""

    depth: int = 34
    """18, 34 or 50 layers; 34 was the best of them in validation (§4.1)"""
    width: int = 64
    """channels of the first stage; every stage has twice those of the one before (He et al., 2016)"""
    family: Literal["plain"] = "plain"
    """what files call networks of this kind"""

    def __post_init__(self) -> None:
        if self.depth not in STAGES or not 1 <= self.width <= blocks.MOST_WIDTH:
            raise ConfigError(f"{self}: the depth is {', '.join(map(str, STAGES))}, and the width at least 1 channel")

    @property
    def blocks(self) -> tuple[tuple[tuple[int, Layer], ...], ...]:
        """The residual blocks: channels and layer of every convolution; the first of a stage halves the map."""
        found: list[tuple[tuple[int, Layer], ...]] = []
        for stage, count in enumerate(STAGES[self.depth]):
            width = self.width * 2**stage
            for index in range(count):
                wide = Layer(3, stride=2 if stage and not index else 1, padding=1)
                if self.depth == 50:
                    found.append(((width, Layer(1)), (width, wide), (4 * width, Layer(1))))
                else:
                    found.append(((width, wide), (width, Layer(3, padding=1))))
        return tuple(found)

    def layers(self, axis: Literal["freq", "time"]) -> tuple[Layer, ...]:
        """The layers that an output cell looks through along either axis, first to last."""
        return (STEM, POOL, *(layer for block in self.blocks for _, layer in block))

    def build(self, *, bands: int, tags: int) -> "PlainResNet":
        """A network with fresh weights, drawn from torch's generator; 1 band means any number of them."""
        return PlainResNet(self, bands=bands, tags=tags)


class PlainResNet(Net):
    """A vanilla ResNet for one channel; its last layer is linear, so it may as well come before the mean over time."""

    def __init__(self, config: PlainResNetConfig, *, bands: int, tags: int) -> None:
        super().__init__(config, bands=bands)
        self.config = config
        self.stem = blocks.stem(config.width, STEM)
        self.stem.append(nn.MaxPool2d(POOL.kernel, POOL.stride, POOL.padding))
        self.blocks = nn.Sequential()
        channels = config.width
        for convs in config.blocks:
            self.blocks.append(_Block(channels, convs))
            channels = convs[-1][0]
        self.dense = nn.Linear(channels, tags)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 32 frames: those of the features' mean over frequency."""
        maps = self.forward_blocks(self.stem(self.standardize(mels)))
        features = blocks.precise(maps).mean(dim=2)
        return blocks.precisely(self.dense, features.transpose(1, 2)).transpose(1, 2)


class _Block(nn.Module):
    """Convolutions beside a shortcut, added and rectified."""

    def __init__(self, inputs: int, convs: tuple[tuple[int, Layer], ...]) -> None:
        super().__init__()
        self.residual = nn.Sequential()
        channels, stride = inputs, 1
        for outputs, layer in convs:
            if len(self.residual):
                self.residual.append(nn.ReLU(inplace=True))
            self.residual.append(nn.Conv2d(channels, outputs, layer.kernel, layer.stride, layer.padding, bias=False))
            self.residual.append(nn.BatchNorm2d(outputs))
            channels, stride = outputs, stride * layer.stride
        self.stride = stride
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != inputs:
            self.shortcut.append(nn.Conv2d(inputs, channels, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, maps: AnyMaps) -> AnyMaps:
        residual = self.residual(maps)
        # The shortcut's own stride, taken first: oneDNN's strided 1 × 1 kernels for AVX2 write where they must not.
        residual += self.shortcut(maps[:, :, :: self.stride, :: self.stride])
        return F.relu(residual, inplace=True)

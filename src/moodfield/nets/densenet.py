"""CP-DenseNet: a DenseNet with the receptive field of CP-ResNet.

In: a config of numbers. Out: a network from clips to logits, and the layers its receptive field follows from.
Knows nothing of: how it is trained, or what the tags mean.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from moodfield.errors import ConfigError
from moodfield.nets import blocks
from moodfield.nets.blocks import DenseLayer
from moodfield.nets.regularized import RegularizedConfig, RegularizedNet
from moodfield.receptive_field import POOL, POOL_AFTER

NARROWED = (2, 4, 8, 16)
"""after so many convolutions the channels are halved"""


@dataclass(frozen=True)
class CPDenseNetConfig(RegularizedConfig):
    """CP-DenseNet as numbers (§3.4, submission 3); the paper gives none, all of them are *chosen by us*."""

    growth: int = 64
    """channels that every dense layer adds; *chosen by us*, since the authors' DenseNet is unpublished"""
    family: Literal["cp_densenet"] = "cp_densenet"
    """what files call networks of this kind"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.growth <= blocks.MOST_WIDTH:
            raise ConfigError(f"a growth of {self.growth} channels came, 1 … {blocks.MOST_WIDTH} is possible")

    def build(self, *, bands: int, tags: int) -> "CPDenseNet":
        """A network with fresh weights, drawn from torch's generator; 1 band means any number of them."""
        return CPDenseNet(self, bands=bands, tags=tags)


class CPDenseNet(RegularizedNet):
    """CP-DenseNet: a stem, 24 dense layers with the kernels of CP-ResNet, and one map per tag whose mean is the logit.

    With fresh weights all logits are exactly 0.
    """

    def __init__(self, config: CPDenseNetConfig, *, bands: int, tags: int) -> None:
        super().__init__(config, bands=bands)
        self.config = config
        channels = config.width
        for done, kernel in enumerate(config.kernels, start=1):
            self.blocks.append(DenseLayer(channels, config.growth, kernel, frequency_aware=config.frequency_aware))
            channels += config.growth
            if done in NARROWED:
                self.blocks.append(_narrow(channels, channels // 2))
                channels //= 2
            if done in POOL_AFTER:
                self.blocks.append(nn.AvgPool2d(POOL.kernel, POOL.stride))
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, tags, 1, bias=False),
            nn.BatchNorm2d(tags),
        )
        self.reset_parameters()


def _narrow(inputs: int, outputs: int) -> nn.Sequential:
    """Fewer channels for the dense layers that follow."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv)

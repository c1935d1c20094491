"""CP-DenseNet: a DenseNet with the receptive field of CP-ResNet."""

from torch import nn

from moodfield.nets.blocks import DenseLayer
from moodfield.nets.configs import CPDenseNetConfig
from moodfield.nets.regularized import RegularizedNet
from moodfield.receptive_field import POOL, POOL_AFTER

NARROWED = (2, 4, 8, 16)
"""numbers of convolutions after which the channels are halved"""


class CPDenseNet(RegularizedNet):
    """CP-DenseNet: a stem, 24 dense layers with the kernels of CP-ResNet, and one map per tag whose mean is the logit.

    With fresh weights all logits are exactly 0.
    """

    def __init__(self, config: CPDenseNetConfig, *, n_mels: int, n_tags: int) -> None:
        super().__init__(config, n_mels=n_mels)
        self.config = config
        channels = config.width
        for count, kernel in enumerate(config.kernels, start=1):
            self.blocks.append(DenseLayer(channels, config.growth, kernel, frequency_aware=config.frequency_aware))
            channels += config.growth
            if count in NARROWED:
                self.blocks.append(_narrow(channels, channels // 2))
                channels //= 2
            if count in POOL_AFTER:
                self.blocks.append(nn.AvgPool2d(POOL.kernel, POOL.stride))
        conv = nn.Conv2d(channels, n_tags, 1, bias=False)
        self.head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv, nn.BatchNorm2d(n_tags))
        self.reset_parameters()


def _narrow(inputs: int, outputs: int) -> nn.Sequential:
    """A 1 × 1 convolution to fewer channels."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv)

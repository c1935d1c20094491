"""ResNet-18, 34 and 50 as they are for images."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield.nets import blocks
from moodfield.nets.blocks import AnyMaps, Mels, Net
from moodfield.nets.configs import PlainResNetConfig
from moodfield.receptive_field import Layer


class PlainResNet(Net):
    """A vanilla ResNet for one channel.

    Its last layer is linear, so it gives the same logits before the mean over time as after it.
    """

    def __init__(self, config: PlainResNetConfig, *, n_mels: int, n_tags: int) -> None:
        super().__init__(config, n_mels=n_mels)
        self.config = config
        self.stem = blocks.stem(config.width, config.STEM)
        pool = config.POOL
        self.stem.append(nn.MaxPool2d(pool.kernel, pool.stride, pool.padding))
        self.blocks = nn.Sequential()
        channels = config.width
        for convs in config.blocks:
            self.blocks.append(_Block(channels, convs))
            channels = convs[-1][0]
        self.dense = nn.Linear(channels, n_tags)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits every 32 frames, from the mean of the features over frequency."""
        maps = self.forward_blocks(self.stem(self.standardize(mels)))
        features = blocks.at_least_float32(maps).mean(dim=2)
        return blocks.apply_in_float32(self.dense, features.transpose(1, 2)).transpose(1, 2)


class _Block(nn.Module):
    """Convolutions and a shortcut, added, then ReLU."""

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
        # Striding before the shortcut's convolution: oneDNN's strided 1 × 1 kernels for AVX2 write out of bounds.
        residual += self.shortcut(maps[:, :, :: self.stride, :: self.stride])
        return F.relu(residual, inplace=True)

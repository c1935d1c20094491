"""Standardiser, frequency-aware convolution, residual block, initialisation.

In: feature maps, batch × channels × freq × time. Out: the same, one layer on.
Knows nothing of: which network is built from it, or of training.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from moodfield.clips import Lengths
from moodfield.errors import BadConfig

Mels = Float[Tensor, "batch bands frames"]
Maps = Float[Tensor, "batch _channels freq time"]  # with the underscore, since a layer may change their number


class Net(nn.Module, ABC):
    """Clips become logits: what every network of the zoo is."""

    lengths: Lengths
    """what lengths of mel it takes"""

    standardize: "Standardize"
    """its first layer"""

    @abstractmethod
    def over_time(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits at every step of time, before they are pooled: a small receptive field makes them sharp."""

    @abstractmethod
    def expect(self, mean: Float[Tensor, "tags"], spread: Float[Tensor, "tags"]) -> None:
        """Begin with these logits, and with features that change them by about so much."""

    def forward(self, mels: Mels) -> Float[Tensor, "batch tags"]:
        """Logits of a clip: the mean of its map over time."""
        return self.over_time(mels).mean(dim=-1)


class Standardize(nn.Module):
    """Every band with mean 0 and spread 1 over the training set; mean and spread travel with the weights (§2.1).

    With one band it standardises all bands alike, however many there are.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("spread", torch.ones(bands))

    def fill(self, mean: Float[Tensor, "bands"], spread: Float[Tensor, "bands"]) -> None:
        """Take the mean and spread of every band; refuses a spread that is not above 0."""
        if not bool((spread > 0).all()):
            raise BadConfig(
                "some band never changes in the training set: it has no spread; use fewer bands or more music"
            )
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def forward(self, mels: Mels) -> Float[Tensor, "batch 1 bands frames"]:
        """The standardised mel, with the axis of channels that convolutions want."""
        if len(self.mean) not in (1, mels.shape[1]):
            raise BadConfig(f"a mel of {mels.shape[1]} bands came, this network was made for {len(self.mean)}")
        return ((mels - self.mean[:, None]) / self.spread[:, None]).unsqueeze(1)


class FrequencyAwareConv2d(nn.Conv2d):
    """A convolution that also sees where on the frequency axis it is (§3.2).

    It is the convolution of its input with one more channel, `2i/H − 1` in row `i` of `H`, placed last and zero-padded
    like the others. That channel is constant over batch and time, so its share of the result is a small map that is
    added instead of concatenated: the middle columns are all alike, the first and the last see padding.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__(inputs + 1, outputs, kernel, padding=_same(kernel), bias=False)

    def forward(self, maps: Maps) -> Maps:
        """The convolution with the channel of positions."""
        seen = F.conv2d(maps, self.weight[:, :-1], padding=_same(self.kernel_size))
        return seen + self._position(maps.shape[2], maps.shape[3]).to(seen.dtype)

    def _position(self, freq: int, time: int | torch.SymInt) -> Float[Tensor, "1 channels freq time"]:
        """What the channel of positions adds, broadcast over time where the kernel is one frame long."""
        weight = self.weight[:, -1:]
        rows = (torch.arange(freq, device=weight.device, dtype=weight.dtype) * (2 / freq) - 1).view(1, 1, freq, 1)
        padding = (_same(self.kernel_size)[0], 0)
        everywhere = F.conv2d(rows, weight.sum(dim=3, keepdim=True), padding=padding)
        if weight.shape[3] == 1:
            return everywhere
        first = F.conv2d(rows, weight[..., :1], padding=padding)
        last = F.conv2d(rows, weight[..., -1:], padding=padding)
        middle = everywhere.expand(-1, -1, -1, time)
        at = torch.arange(middle.shape[3], device=weight.device)
        return middle - first * (at == 0) - last * (at == time - 1)


def convolution(inputs: int, outputs: int, kernel: tuple[int, int], *, frequency_aware: bool) -> nn.Conv2d:
    """A convolution that keeps the size of its map, frequency-aware or not; no bias, since batch norm follows."""
    if frequency_aware:
        return FrequencyAwareConv2d(inputs, outputs, kernel)
    return nn.Conv2d(inputs, outputs, kernel, padding=_same(kernel), bias=False)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, added and rectified."""

    def __init__(
        self, inputs: int, outputs: int, kernels: tuple[tuple[int, int], tuple[int, int]], *, frequency_aware: bool
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, kernels[0], frequency_aware=frequency_aware)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs, kernels[1], frequency_aware=frequency_aware)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, maps: Maps) -> Maps:
        """The map one block on, of the same size."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(residual + self.shortcut(maps))

    def reset_parameters(self, *, depth: int) -> None:
        """Start as the identity: small first convolution by the network's `depth` in blocks, second one zero."""
        for conv, scale in ((self.conv1, depth**-0.5), (getattr(self.shortcut, "conv", None), 1.0)):
            if conv is not None:
                rows, columns = conv.kernel_size
                nn.init.normal_(conv.weight, std=scale * math.sqrt(2 / (rows * columns * conv.out_channels)))
        nn.init.zeros_(self.conv2.weight)


def _same(kernel: tuple[int, ...]) -> tuple[int, int]:
    """Padding that keeps the size of a map, for kernels of 1 and 3."""
    return kernel[0] // 3, kernel[1] // 3

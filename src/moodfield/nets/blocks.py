"""Standardiser, frequency-aware convolution, shake-shake, residual and dense blocks, initialisation.

In: feature maps, batch × channels × freq × time. Out: the same, one layer on.
Knows nothing of: which network is built from it, or of training.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.checkpoint import checkpoint

from moodfield import receptive_field
from moodfield.clips import AnyLength, Lengths, WholeTrack
from moodfield.errors import ConfigError
from moodfield.nets.configs import Config
from moodfield.receptive_field import Layer

Mels = Float[Tensor, "batch bands frames"]
Maps = Float[Tensor, "batch _channels freq time"]  # with the underscore, since a layer may change their number
AnyMaps = Float[Tensor, "batch _channels _freq _time"]
AnyNet = TypeVar("AnyNet", bound="Net")


class Net(nn.Module, ABC):
    """Clips become logits: what every network of the zoo is."""

    lengths: Lengths
    """what lengths of mel it takes"""

    standardize: "Standardize"
    """its first layer"""

    recompute: bool = False
    """whether training keeps only what enters each block, and computes the rest again for the gradients: less memory,
    about a third more work, the same result bit for bit"""

    blocks: nn.Sequential
    """what lies between its first layers and its last"""

    def __init__(self, config: Config, *, n_mels: int, lengths: type[AnyLength] | type[WholeTrack] = AnyLength) -> None:
        super().__init__()
        along_freq, along_time = config.layers("freq"), config.layers("time")
        if n_mels != 1 and not receptive_field.outputs(along_freq, n_mels):
            least = receptive_field.min_input(along_freq)
            raise ConfigError(f"n_mels is {n_mels}, this network needs at least {least} bands")
        seen = receptive_field.field(along_time)
        self.lengths = lengths(receptive_field.min_input(along_time), seen.stride, seen.size, seen.start)
        self.standardize = Standardize(n_mels)

    @abstractmethod
    def frame_logits(self, mels: Mels) -> Float[Tensor, "batch tags time"]:
        """Logits at every step of time, before they are pooled: a small receptive field makes them sharp."""

    @torch.no_grad()
    def init_output_bias(self, mean: Float[Tensor, "tags"], spread: Float[Tensor, "tags"]) -> None:
        """Begin with these logits, and with features that change them by about so much.

        The last layer starts from the mean; a batch norm from the spread too, which a linear layer has to learn.
        """
        *_, last = (module for module in self.modules() if isinstance(module, nn.BatchNorm2d | nn.Linear))
        last.bias.copy_(mean)
        if isinstance(last, nn.BatchNorm2d):
            last.weight.copy_(spread)

    def forward(self, mels: Mels) -> Float[Tensor, "batch tags"]:
        """Logits of a clip: the mean of its map over time."""
        return self.frame_logits(mels).mean(dim=-1)

    def forward_features(self, mels: Mels) -> Float[Tensor, "batch _channels time"]:
        """What a clip of a longer track is worth keeping at every step of time, for `summarise`: mostly its logits."""
        return self.frame_logits(mels)

    def forward_head(self, heard: Float[Tensor, "batch _channels time"]) -> Float[Tensor, "batch tags _time"]:
        """Logits over time of a whole track, from what was kept of all its clips."""
        return heard

    def forward_blocks(self, maps: AnyMaps) -> AnyMaps:
        """The map after all blocks; to `recompute` is to keep what enters a block and forget what happens inside."""
        for block in self.blocks:
            if self.recompute and block.training and torch.is_grad_enabled():
                maps = checkpoint(block, maps, use_reentrant=False, context_fn=partial(_twice, block))
            else:
                maps = block(maps)
        return maps


class Standardize(nn.Module):
    """Every band with mean 0 and spread 1 over the training set; mean and spread travel with the weights (§2.1).

    With one band it standardises all bands alike, however many there are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))

    def set_statistics(self, mean: Float[Tensor, "bands"], spread: Float[Tensor, "bands"]) -> None:
        """Take the mean and spread of every band; refuses a spread that is not above 0."""
        if not bool((spread > 0).all()):
            raise ConfigError(
                "some band never changes in the training set: it has no spread; use fewer bands or more music"
            )
        self.mean.copy_(mean)
        self.std.copy_(spread)

    def forward(self, mels: Mels) -> Float[Tensor, "batch 1 bands frames"]:
        """The standardised mel, with the axis of channels that convolutions want."""
        if len(self.mean) not in (1, mels.shape[1]):
            raise ConfigError(f"a mel of {mels.shape[1]} bands came, this network was made for {len(self.mean)}")
        return (mels - self.mean[:, None]).div_(self.std[:, None]).unsqueeze(1)


class FrequencyAwareConv2d(nn.Conv2d):
    """A convolution that also sees where on the frequency axis it is (§3.2).

    It is the convolution of its input with one more channel, `2i/H − 1` in row `i` of `H`, placed last and zero-padded
    like the others. That channel is constant over batch and time, so its share of the result is a small map that is
    added instead of concatenated: the middle columns are all alike, the first and the last see padding. With groups,
    every group sees the channel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], *, groups: int = 1) -> None:
        super().__init__(inputs + groups, outputs, kernel, padding=_same(kernel), groups=groups, bias=False)

    def forward(self, maps: Maps) -> Maps:
        """The convolution with the channel of positions."""
        padding = _same(self.kernel_size)
        channels, rows = self.weight.shape[1] - 1, self._rows(maps)
        if torch.compiler.is_compiling():  # in the plainest of words: compilers and exporters fuse it themselves
            seen = F.conv2d(maps, self.weight[:, :channels], self.bias, padding=padding, groups=self.groups)
            rows = rows.to(maps).expand(maps.shape[0], 1, *maps.shape[2:])
            return seen + F.conv2d(rows, self.weight[:, channels:], padding=padding)
        weight, position = torch.split(self.weight, [channels, 1], dim=1)  # cheaper backwards than two slices
        seen = F.conv2d(maps, weight, self.bias, padding=padding, groups=self.groups)
        with torch.autocast(maps.device.type, enabled=False):
            taps = F.conv2d(rows, position.to(rows.dtype), padding=(padding[0], position.shape[3] - 1))
            found: Tensor = _AddPositions.apply(seen, taps)  # type: ignore[no-untyped-call]
            return found

    def _rows(self, maps: Maps) -> Float[Tensor, "1 1 freq 1"]:
        """The channel of positions for a map, one column of it."""
        freq = maps.shape[2]
        precise = torch.promote_types(self.weight.dtype, torch.float32)
        return (torch.arange(freq, device=maps.device, dtype=precise) * (2 / freq) - 1).view(1, 1, freq, 1)


class _AddPositions(torch.autograd.Function):
    """Adds what the channel of positions gives, in place: a map is read and written once, whatever its kernel.

    `taps` is the convolution of one column alone, so its columns are the kernel's, from the last to the first. Each of
    them counts everywhere, but for the first and the last column of the map, which see padding.
    """

    @staticmethod
    def forward(ctx: Any, maps: Maps, taps: Float[Tensor, "1 _channels freq _time"]) -> Maps:
        ctx.mark_dirty(maps)
        ctx.taps, ctx.dtype = taps.shape[3], taps.dtype
        everywhere = taps.sum(dim=3, keepdim=True).to(maps.dtype)
        maps += everywhere.contiguous(memory_format=torch.channels_last)  # as the map lies in memory
        if ctx.taps > 1:
            maps[..., 0] -= taps[..., -1].to(maps.dtype)
            maps[..., -1] -= taps[..., 0].to(maps.dtype)
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Maps) -> tuple[Maps, Float[Tensor, "1 _channels freq _time"]]:
        columns = gradient.shape[3]
        over_time = F.avg_pool2d(gradient, (1, columns)).to(ctx.dtype).sum(dim=0, keepdim=True) * columns
        taps = over_time.repeat(1, 1, 1, ctx.taps)
        if ctx.taps > 1:
            taps[..., -1] -= gradient[..., 0].to(ctx.dtype).sum(dim=0)
            taps[..., 0] -= gradient[..., -1].to(ctx.dtype).sum(dim=0)
        return gradient, taps


def convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], *, frequency_aware: bool, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the size of its map, frequency-aware or not; no bias, since batch norm is near."""
    if frequency_aware:
        return FrequencyAwareConv2d(inputs, outputs, kernel, groups=groups)
    return nn.Conv2d(inputs, outputs, kernel, padding=_same(kernel), groups=groups, bias=False)


class ShakeShake(torch.autograd.Function):
    """Two branches mixed at random, and their gradients mixed at random too, otherwise (§3.3).

    Every sample of the batch has its own share forwards and another, independent one backwards.
    """

    @staticmethod
    def forward(ctx: Any, one: Maps, other: Maps) -> Maps:
        """The mix; its share is uniform in 0 … 1."""
        return torch.lerp(other, one, _shares(one))

    @staticmethod
    def backward(ctx: Any, gradient: Maps) -> tuple[Maps, Maps]:
        """The gradient of both branches; their shares add up to 1."""
        first = gradient * _shares(gradient)
        return first, gradient - first


def stem(width: int, layer: Layer) -> nn.Sequential:
    """The first convolution, with its norm and rectifier: the standardised mel becomes `width` channels."""
    conv = nn.Conv2d(1, width, layer.kernel, layer.stride, layer.padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, added and rectified; shaken, there are two such branches, mixed.

    The branches are the two halves of one stack of channels: both are computed in one pass.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernels: tuple[tuple[int, int], tuple[int, int]],
        *,
        frequency_aware: bool,
        shake: bool = False,
    ) -> None:
        super().__init__()
        branches = 2 if shake else 1
        stack = branches * outputs
        self.shake = shake
        self.conv1 = convolution(inputs, stack, kernels[0], frequency_aware=frequency_aware)
        self.bn1 = nn.BatchNorm2d(stack)
        self.conv2 = convolution(stack, stack, kernels[1], frequency_aware=frequency_aware, groups=branches)
        self.bn2 = nn.BatchNorm2d(stack)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, maps: Maps) -> Maps:
        """The map one block on, of the same size."""
        inner = F.relu(self.bn1(self.conv1(maps)), inplace=True)  # in place: nobody needs what was there before
        residual = self.bn2(self.conv2(inner))
        if self.shake:
            one, other = residual.chunk(2, dim=1)
            residual = _shaken(one, other) if self.training else (one + other) / 2
        residual += self.shortcut(maps)
        return F.relu(residual, inplace=True)

    def reset_parameters(self, *, depth: int) -> None:
        """Start as the identity: small first convolution by the network's `depth` in blocks, second one zero."""
        branches = 2 if self.shake else 1
        shortcut = getattr(self.shortcut, "conv", None)
        for conv, stacked, scale in ((self.conv1, branches, depth**-0.5), (shortcut, 1, 1.0)):
            if conv is not None:
                rows, columns = conv.kernel_size
                nn.init.normal_(conv.weight, std=scale * math.sqrt(2 * stacked / (rows * columns * conv.out_channels)))
        nn.init.zeros_(self.conv2.weight)


class DenseLayer(nn.Module):
    """Norm, rectifier and convolution, whose result is placed beside what came in."""

    def __init__(self, inputs: int, growth: int, kernel: tuple[int, int], *, frequency_aware: bool) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = convolution(inputs, growth, kernel, frequency_aware=frequency_aware)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, maps: Maps) -> Maps:
        """The map with `growth` more channels."""
        return torch.cat([maps, self.conv(F.relu(self.bn(maps), inplace=True))], dim=1)


def _shaken(one: Maps, other: Maps) -> Maps:
    """The mix of two branches."""
    mixed: Tensor = ShakeShake.apply(one, other)  # type: ignore[no-untyped-call]
    return mixed


def precisely(layer: nn.Module, array: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """What a last layer says in single precision at least, whatever the layers before it were computed in."""
    with torch.autocast(array.device.type, enabled=False):
        found: Tensor = layer(precise(array))
        return found


def precise(array: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same numbers in single precision at least."""
    return array.to(torch.promote_types(array.dtype, torch.float32))


def folded(net: AnyNet) -> AnyNet:
    """A copy for evaluation whose batch norms are part of the convolutions before them: the same logits, less work.

    In every module a norm that stands right behind a convolution is taken to hear that convolution alone.
    """
    copy = deepcopy(net)
    copy.eval()
    for parent in copy.modules():
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                heard = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, *heard, norm.eps, norm.weight, norm.bias
                )
                setattr(parent, name, nn.Identity())
    return copy


def _twice(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds a block the first time, and the second."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms count what they hear once, not again when it is computed again."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, heard) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(heard)


def _shares(maps: Maps) -> Float[Tensor, "batch 1 1 1"]:
    """A number in 0 … 1 for every sample."""
    return torch.rand(len(maps), 1, 1, 1, device=maps.device, dtype=maps.dtype)


def _same(kernel: tuple[int, ...]) -> tuple[int, int]:
    """Padding that keeps the size of a map, for kernels of 1 and 3."""
    return kernel[0] // 3, kernel[1] // 3
